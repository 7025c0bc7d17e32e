// Both ends of the fan-out benchmark.
//
//   fanout floor   the least that a server can do: accepts subscribers, then only calls send() for each of them, message by message
//   fanout load    the subscribers: one epoll process that opens them all and checks that each gets every message once, in order
//
// Both speak JSON lines on standard output, so that a script can drive them:
//
//   floor   {"event":"listening","port":P}  {"event":"ready"}  then for each slice: waits for a line, {"event":"result",...}
//   load    {"event":"ready"}  then, when all has come or standard input ends: {"event":"result",...}
//
// What comes down a connection, after the head of the HTTP answer:
//
//   websocket   frames of RFC 6455, unmasked: FIN and opcode, length (7 bits, or 126 and 16 bits, or 127 and 64 bits), payload
//   sse         chunks of RFC 9112: size in hexadecimal CRLF data CRLF, each with whole events in it
//   raw         records of the same size, what `floor` sends
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum transport { RAW, WEBSOCKET, SSE };

static const char *const transport_names[] = {[RAW] = "raw", [WEBSOCKET] = "websocket", [SSE] = "sse"};

struct options {
    int port;
    int cpu;
    int subscribers;
    int messages;
    int slices;
    int bytes;
    double rate;
    enum transport transport;
    const char *channel;
    double pause_seconds;
    double patience_seconds;
};

// MARK: common

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    fputs("fanout: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (error != 0) fprintf(stderr, ": %s", strerror(error));
    fputc('\n', stderr);
    exit(1);
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static double seconds_of(struct timeval time) { return (double)time.tv_sec + (double)time.tv_usec / 1e6; }

static double now_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void sleep_until(double seconds) {
    struct timespec time = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) continue;
}

struct cpu_time {
    double user_seconds;
    double system_seconds;
};

static struct cpu_time cpu_time(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) fail("getrusage");
    return (struct cpu_time){seconds_of(usage.ru_utime), seconds_of(usage.ru_stime)};
}

static struct cpu_time cpu_time_since(struct cpu_time start) {
    struct cpu_time now = cpu_time();
    return (struct cpu_time){now.user_seconds - start.user_seconds, now.system_seconds - start.system_seconds};
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) fail("no memory");
    return memory;
}

static void pin_to(int cpu) {
    if (cpu < 0) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) fail("cannot run on processor %d", cpu);
}

static void allow_all_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) fail("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) fail("setrlimit");
}

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
}

static void set_option(int descriptor, int level, int name) {
    int on = 1;
    if (setsockopt(descriptor, level, name, &on, sizeof on) != 0) fail("setsockopt");
}

// MARK: floor

static const char greeting[] = "HTTP/1.1 200 OK\r\n\r\n";
// The only part of a record that differs from one message to the next; so `load` checks it like a notification.
static const char record_start[] = "\"sequence\":";

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) fail("socket");
    set_option(listener, SOL_SOCKET, SO_REUSEADDR);
    struct sockaddr_in address = loopback(port);
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) != 0) fail("cannot bind port %d", port);
    if (listen(listener, 1024) != 0) fail("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &length) != 0) fail("getsockname");
    say("{\"event\":\"listening\",\"port\":%d}", ntohs(address.sin_port));
    return listener;
}

/// Takes a subscriber and its request, whatever that is.
static int accept_one(int listener) {
    int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (peer < 0) fail("accept");
    set_option(peer, IPPROTO_TCP, TCP_NODELAY);
    char request[4096];
    if (recv(peer, request, sizeof request, 0) <= 0) fail("a subscriber left without a request");
    if (send(peer, greeting, sizeof greeting - 1, MSG_NOSIGNAL) < 0) fail("send");
    return peer;
}

static void wait_for_line(void) {
    int byte;
    do byte = getchar();
    while (byte != '\n' && byte != EOF);
}

/// Sends so many messages, after those that were sent before.
///
/// Returns how many calls did not take the whole message.
static long send_messages(const int *peers, char *record, int sent, int count, const struct options *options) {
    size_t size = (size_t)options->bytes;
    long refused = 0;
    double start = now_seconds();
    for (int message = 1; message <= count; message++) {
        sleep_until(start + message / options->rate);
        char number[32];
        int length = snprintf(number, sizeof number, "%s%010d,", record_start, sent + message);
        memcpy(record, number, (size_t)length);
        for (int i = 0; i < options->subscribers; i++) {
            if (send(peers[i], record, size, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)size) refused++;
        }
    }
    return refused;
}

/// One message that fills the caches, as another process had them before; then the phase that is measured.
static long run_slice(const int *peers, char *record, int sent, const struct options *options) {
    long refused_before = send_messages(peers, record, sent, 1, options);
    double start_seconds = now_seconds();
    struct cpu_time start = cpu_time();
    long refused = send_messages(peers, record, sent + 1, options->messages, options);
    struct cpu_time used = cpu_time_since(start);
    long delivered = (long)options->subscribers * options->messages - refused;
    double per_delivery = delivered > 0 ? 1e6 / (double)delivered : 0;
    say("{\"event\":\"result\",\"delivered\":%ld,\"refused\":%ld,\"seconds\":%.3f,\"cpu_seconds\":%.6f,"
        "\"cpu_us_per_message\":%.4f,\"user_us_per_message\":%.4f}",
        delivered, refused, now_seconds() - start_seconds, used.user_seconds + used.system_seconds,
        (used.user_seconds + used.system_seconds) * per_delivery, used.user_seconds * per_delivery);
    return refused_before + refused;
}

static int run_floor(const struct options *options) {
    if (options->bytes < 32) fail("a message has at least 32 bytes");
    int listener = listen_on(options->port);
    int *peers = allocate((size_t)options->subscribers, sizeof *peers);
    for (int i = 0; i < options->subscribers; i++) peers[i] = accept_one(listener);
    say("{\"event\":\"ready\"}");

    char *record = allocate((size_t)options->bytes, 1);
    memset(record, 'x', (size_t)options->bytes);
    long refused = 0;
    for (int slice = 0; slice < options->slices; slice++) {
        wait_for_line();
        refused += run_slice(peers, record, slice * (1 + options->messages), options);
    }
    // The subscribers may still be reading: whoever started us ends our input when they are through.
    wait_for_line();
    free(record);
    free(peers);
    return refused == 0 ? 0 : 1;
}

// MARK: load

enum state { OPENING, STREAMING, CLOSED };

struct connection {
    int descriptor;
    enum state state;
    /// The answer's head has been read.
    bool has_head;
    /// The sequence that is to come next.
    uint32_t expected;
    /// The beginning of something whose rest has not come yet.
    uint8_t *carried;
    size_t carried_bytes;
};

struct load {
    const struct options *options;
    int epoll;
    struct connection *connections;
    uint8_t *buffer;
    int opened;
    int closed;
    int streaming;
    long delivered;
    long lost;
    long repeated;
    long malformed;
    long message_bytes;
    double progress_seconds;
    bool is_told_to_end;
};

// So much is read at once: many messages, and more than any one of them.
static const size_t buffer_bytes = 256 << 10;
// Requests under way: less than the backlog of a listener, so that no connection attempt has to be repeated.
static const int opening_max = 256;
static const int events_max = 1024;

static void close_connection(struct load *load, struct connection *connection) {
    if (connection->state == CLOSED) return;
    if (connection->state == STREAMING) load->streaming--;
    // Without this tens of thousands of closed connections would linger for a minute in the kernel, and weigh on the next run.
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    setsockopt(connection->descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(connection->descriptor);
    free(connection->carried);
    connection->carried = NULL;
    connection->state = CLOSED;
}

static void break_connection(struct load *load, struct connection *connection) {
    load->malformed++;
    load->closed++;
    close_connection(load, connection);
}

static void begin_streaming(struct load *load, struct connection *connection) {
    if (connection->state != OPENING) return;
    connection->state = STREAMING;
    if (++load->streaming == load->options->subscribers) say("{\"event\":\"ready\"}");
}

static void check_sequence(struct load *load, struct connection *connection, uint32_t sequence, size_t wire_bytes) {
    if (sequence == 0) {
        break_connection(load, connection);
        return;
    }
    load->message_bytes += (long)wire_bytes;
    if (sequence < connection->expected) {
        load->repeated++;
        return;
    }
    load->lost += sequence - connection->expected;
    load->delivered++;
    connection->expected = sequence + 1;
}

/// The number behind `"sequence":`; 0 if there is none.
static uint32_t sequence_in(const uint8_t *text, size_t length) {
    static const size_t start_bytes = sizeof record_start - 1;
    const uint8_t *at = memmem(text, length, record_start, start_bytes);
    uint32_t number = 0;
    if (at == NULL) return 0;
    for (at += start_bytes; at < text + length && *at >= '0' && *at <= '9'; at++) number = number * 10 + (*at - '0');
    return number;
}

static bool starts_with(const uint8_t *text, size_t length, const char *start) {
    return length >= strlen(start) && memcmp(text, start, strlen(start)) == 0;
}

/// A JSON object: a notification, or a control message, of which `hello` says that the subscription stands.
static void take_object(struct load *load, struct connection *connection, const uint8_t *text, size_t length, size_t wire_bytes) {
    if (starts_with(text, length, "{\"type\":\"notification\"")) {
        check_sequence(load, connection, sequence_in(text, length), wire_bytes);
    } else if (starts_with(text, length, "{\"type\":\"hello\"")) {
        begin_streaming(load, connection);
    }
}

/// Answers a ping. Its mask is zero, so the payload goes back as it is.
static void answer_ping(struct connection *connection, const uint8_t *payload, size_t length) {
    uint8_t frame[6 + 125] = {0x8a, (uint8_t)(0x80 | length)};
    memcpy(frame + 6, payload, length);
    // If the socket is full, the server has heard enough from us lately.
    if (send(connection->descriptor, frame, 6 + length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) return;
}

/// Takes one frame.
///
/// Returns its size; 0 if it is not there in full.
static size_t take_frame(struct load *load, struct connection *connection, const uint8_t *bytes, size_t count) {
    if (count < 2) return 0;
    size_t header = bytes[1] < 126 ? 2 : bytes[1] == 126 ? 4 : 10;
    if (count < header) return 0;
    uint64_t length = header == 2 ? bytes[1] : 0;
    for (size_t i = 2; i < header; i++) length = length << 8 | bytes[i];
    if (bytes[1] > 127 || length > buffer_bytes / 2) {
        break_connection(load, connection);
        return 0;
    }
    size_t total = header + (size_t)length;
    if (count < total) return 0;
    switch (bytes[0]) {
    case 0x81: take_object(load, connection, bytes + header, (size_t)length, total); break;
    case 0x89:
        if (length <= 125) answer_ping(connection, bytes + header, (size_t)length);
        break;
    default: break_connection(load, connection);
    }
    return total;
}

/// The events of one chunk. Its size is spread over them: there is one, unless the server writes several at once.
static void take_events(struct load *load, struct connection *connection, const uint8_t *text, size_t length, size_t around) {
    const uint8_t *end = text + length;
    while (text < end) {
        const uint8_t *event_end = memmem(text, (size_t)(end - text), "\n\n", 2);
        if (event_end == NULL) {
            break_connection(load, connection);
            return;
        }
        const uint8_t *data = memmem(text, (size_t)(event_end - text), "data: ", 6);
        size_t wire_bytes = (size_t)(event_end + 2 - text) + around;
        if (data != NULL) take_object(load, connection, data + 6, (size_t)(event_end - data - 6), wire_bytes);
        around = 0;
        text = event_end + 2;
    }
}

static int hexadecimal(uint8_t byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/// Takes one chunk.
///
/// Returns its size; 0 if it is not there in full.
static size_t take_chunk(struct load *load, struct connection *connection, const uint8_t *bytes, size_t count) {
    size_t at = 0, length = 0;
    while (at < count && hexadecimal(bytes[at]) >= 0 && length < buffer_bytes / 2) length = length * 16 + (size_t)hexadecimal(bytes[at++]);
    if (at + 2 > count) return 0;
    size_t total = at + 2 + length + 2;
    if (at == 0 || length == 0 || length > buffer_bytes / 2 || bytes[at] != '\r') {
        break_connection(load, connection);
        return 0;
    }
    if (count < total) return 0;
    take_events(load, connection, bytes + at + 2, length, at + 4);
    return total;
}

static size_t take_record(struct load *load, struct connection *connection, const uint8_t *bytes, size_t count) {
    size_t size = (size_t)load->options->bytes;
    if (count < size) return 0;
    check_sequence(load, connection, sequence_in(bytes, size), size);
    return size;
}

/// Takes the head of the answer.
///
/// Returns its size; 0 if it is not there in full.
static size_t take_head(struct load *load, struct connection *connection, const uint8_t *bytes, size_t count) {
    const uint8_t *end = memmem(bytes, count, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    const char *wanted = load->options->transport == WEBSOCKET ? "HTTP/1.1 101 " : "HTTP/1.1 200 ";
    if (!starts_with(bytes, count, wanted)) {
        errno = 0;
        fail("a subscriber was refused: %.*s", (int)count, (const char *)bytes);
    }
    connection->has_head = true;
    if (load->options->transport == RAW) begin_streaming(load, connection);
    return (size_t)(end - bytes) + 4;
}

static size_t take(struct load *load, struct connection *connection, const uint8_t *bytes, size_t count) {
    if (!connection->has_head) return take_head(load, connection, bytes, count);
    switch (load->options->transport) {
    case WEBSOCKET: return take_frame(load, connection, bytes, count);
    case SSE: return take_chunk(load, connection, bytes, count);
    case RAW: return take_record(load, connection, bytes, count);
    }
    return 0;
}

/// Keeps what cannot be taken yet.
static void carry(struct connection *connection, const uint8_t *bytes, size_t count) {
    free(connection->carried);
    connection->carried = NULL;
    connection->carried_bytes = count;
    if (count == 0) return;
    connection->carried = allocate(count, 1);
    memcpy(connection->carried, bytes, count);
}

static void on_bytes(struct load *load, struct connection *connection, size_t count) {
    size_t at = 0;
    while (at < count && connection->state != CLOSED) {
        size_t taken = take(load, connection, load->buffer + at, count - at);
        if (taken == 0) break;
        at += taken;
    }
    if (connection->state != CLOSED) carry(connection, load->buffer + at, count - at);
}

static void on_readable(struct load *load, struct connection *connection) {
    while (connection->state != CLOSED) {
        size_t before = connection->carried_bytes;
        if (before > 0) memcpy(load->buffer, connection->carried, before);
        size_t room = buffer_bytes - before;
        ssize_t count = recv(connection->descriptor, load->buffer + before, room, MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (count <= 0) {
            load->closed++;
            close_connection(load, connection);
            return;
        }
        on_bytes(load, connection, before + (size_t)count);
        // A short read has emptied the socket: another one would only say so.
        if ((size_t)count < room) return;
    }
}

static int make_request(const struct options *options, char *request, size_t size) {
    static const char *const fields[] = {
        [RAW] = "",
        [SSE] = "Accept: text/event-stream\r\n",
        [WEBSOCKET] = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    };
    // The longest heartbeat: none falls into a run.
    int length = snprintf(request, size, "GET /v1/subscribe?channel=%s&heartbeat=300 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n",
                          options->channel, options->port, fields[options->transport]);
    if (length < 0 || (size_t)length >= size) fail("the channel is too long");
    return length;
}

static void open_next(struct load *load) {
    struct connection *connection = &load->connections[load->opened++];
    connection->expected = 1;
    connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->descriptor < 0) fail("socket %d", load->opened);
    struct sockaddr_in address = loopback(load->options->port);
    if (connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) != 0) fail("connection %d", load->opened);
    set_option(connection->descriptor, IPPROTO_TCP, TCP_NODELAY);
    char request[1024];
    int length = make_request(load->options, request, sizeof request);
    if (send(connection->descriptor, request, (size_t)length, MSG_NOSIGNAL) != length) fail("request %d", load->opened);
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = connection};
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->descriptor, &event) != 0) fail("epoll_ctl");
}

static void watch_input(struct load *load) {
    // A terminal or a pipe; a file cannot be watched and never ends a run.
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0 && errno != EPERM) fail("epoll_ctl");
}

static void on_input(struct load *load) {
    char ignored[256];
    if (read(STDIN_FILENO, ignored, sizeof ignored) <= 0) load->is_told_to_end = true;
}

static void turn(struct load *load) {
    struct epoll_event events[events_max];
    long received = load->delivered + load->repeated;
    int count = epoll_wait(load->epoll, events, events_max, 100);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == NULL) on_input(load);
        else on_readable(load, events[i].data.ptr);
    }
    if (load->delivered + load->repeated > received) load->progress_seconds = now_seconds();
}

static bool is_open(const struct load *load) {
    const struct options *options = load->options;
    if (load->is_told_to_end || load->closed == options->subscribers) return false;
    if (options->messages == 0) return true;
    if (load->delivered + load->lost >= (long)options->subscribers * options->messages) return false;
    // Before the first message there is nothing to be impatient about.
    return load->progress_seconds == 0 || now_seconds() - load->progress_seconds < options->patience_seconds;
}

/// What is missing at the end of each connection.
static long tail_lost(const struct load *load) {
    long lost = 0;
    for (int i = 0; i < load->options->subscribers; i++) {
        long missing = (long)load->options->messages + 1 - load->connections[i].expected;
        if (load->connections[i].expected > 0 && missing > 0) lost += missing;
    }
    return lost;
}

static int report(struct load *load, struct cpu_time used) {
    long lost = load->lost + tail_lost(load);
    long received = load->delivered + load->repeated;
    say("{\"event\":\"result\",\"transport\":\"%s\",\"subscribers\":%d,\"delivered\":%ld,\"lost\":%ld,\"repeated\":%ld,"
        "\"closed\":%d,\"malformed\":%ld,\"bytes_per_message\":%.3f,\"cpu_seconds\":%.6f}",
        transport_names[load->options->transport], load->streaming, load->delivered, lost, load->repeated, load->closed, load->malformed,
        received > 0 ? (double)load->message_bytes / (double)received : 0, used.user_seconds + used.system_seconds);
    return lost + load->repeated + load->malformed + load->closed == 0 ? 0 : 1;
}

static int run_load(const struct options *options) {
    if (options->transport == RAW && options->bytes < 32) fail("raw messages have at least 32 bytes");
    struct load load = {.options = options, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    if (load.epoll < 0) fail("epoll_create1");
    load.connections = allocate((size_t)options->subscribers, sizeof *load.connections);
    load.buffer = allocate(buffer_bytes, 1);
    watch_input(&load);
    while (load.streaming < options->subscribers && is_open(&load)) {
        while (load.opened < options->subscribers && load.opened - load.streaming - load.closed < opening_max) open_next(&load);
        turn(&load);
    }
    struct cpu_time start = cpu_time();
    while (is_open(&load)) {
        turn(&load);
        // Asleep here and not in epoll_wait, this process is not woken by the server's next send(): subscribers elsewhere are not, either.
        if (options->pause_seconds > 0) sleep_until(now_seconds() + options->pause_seconds);
    }
    int status = report(&load, cpu_time_since(start));
    for (int i = 0; i < load.opened; i++) close_connection(&load, &load.connections[i]);
    free(load.connections);
    free(load.buffer);
    return status;
}

// MARK: command line

static const char usage[] =
    "usage: fanout floor --port P --subscribers N --bytes B --messages M --rate R [--slices S] [--cpu K]\n"
    "       fanout load --port P --transport websocket|sse|raw --channel C --subscribers N --messages M\n"
    "                   [--bytes B] [--cpu K] [--pause MILLISECONDS] [--patience SECONDS]\n"
    "\n"
    "  --port      of floor: 0 for any free one\n"
    "  --bytes     of a message: what floor sends, what load --transport raw expects\n"
    "  --messages  of floor: measured in each slice, after one that is not\n"
    "              of load: in all; 0 holds the connections until standard input ends\n"
    "  --slices    so many times floor waits for a line, sends its messages and says what that took\n"
    "  --rate      messages a second, each to all subscribers\n"
    "  --cpu       the processor to run on\n"
    "  --pause     load sleeps so long between two looks at its sockets; 0 to be woken by each message\n"
    "  --patience  load gives up when nothing has come for so long\n";

static enum transport transport_named(const char *name) {
    for (enum transport transport = RAW; transport <= SSE; transport++) {
        if (strcmp(name, transport_names[transport]) == 0) return transport;
    }
    errno = 0;
    fail("no transport is called %s", name);
}

static void take_option(struct options *options, int option, const char *value) {
    switch (option) {
    case 'p': options->port = atoi(value); break;
    case 'k': options->cpu = atoi(value); break;
    case 'n': options->subscribers = atoi(value); break;
    case 'm': options->messages = atoi(value); break;
    case 'l': options->slices = atoi(value); break;
    case 'b': options->bytes = atoi(value); break;
    case 'r': options->rate = atof(value); break;
    case 't': options->transport = transport_named(value); break;
    case 'c': options->channel = value; break;
    case 's': options->pause_seconds = atof(value) / 1000; break;
    case 'w': options->patience_seconds = atof(value); break;
    default:
        fputs(usage, stderr);
        exit(64);
    }
}

static struct options read_options(int count, char **arguments) {
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},
        {"cpu", required_argument, NULL, 'k'},
        {"subscribers", required_argument, NULL, 'n'},
        {"messages", required_argument, NULL, 'm'},
        {"slices", required_argument, NULL, 'l'},
        {"bytes", required_argument, NULL, 'b'},
        {"rate", required_argument, NULL, 'r'},
        {"transport", required_argument, NULL, 't'},
        {"channel", required_argument, NULL, 'c'},
        {"pause", required_argument, NULL, 's'},
        {"patience", required_argument, NULL, 'w'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {
        .cpu = -1, .subscribers = 1, .messages = 1, .slices = 1, .bytes = 128, .rate = 1, .channel = "scores.bench", .patience_seconds = 5};
    int option;
    while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) take_option(&options, option, optarg);
    bool is_sane = options.port >= 0 && options.port <= 65535 && options.subscribers > 0 && options.messages >= 0 && options.rate > 0;
    if (!is_sane) take_option(&options, '?', NULL);
    return options;
}

int main(int count, char **arguments) {
    bool is_floor = count > 1 && strcmp(arguments[1], "floor") == 0;
    bool is_load = count > 1 && strcmp(arguments[1], "load") == 0;
    if (!is_floor && !is_load) {
        fputs(usage, stderr);
        return 64;
    }
    struct options options = read_options(count - 1, arguments + 1);
    pin_to(options.cpu);
    allow_all_descriptors();
    return is_floor ? run_floor(&options) : run_load(&options);
}
