// The least that a server can do: for each message that is published one send() to each subscriber, and no more.
//
//   floor --bytes N [--port P] [--seconds S] [--uring BATCH [--alternate]]
//
// It serves the load generator (`tocsin bench --profile Tests/Bench/profiles/floor.json`) with canned answers on one thread with epoll, and
// sends frames of N bytes, as many as the server that it is compared with sends for a message. The published payload is in them, so that
// loss and latency are measured as anywhere else. Of a request it reads the first letters of the path, the channel's number and where
// the head ends:
//
//   POST /p/7   publishes to channel 7; answered when all have been sent to
//   POST /b     publishes several: lines of channel, space, payload
//   GET /w/7    WebSocket: 101, then frames of RFC 6455: 0x81 126 length payload
//   GET /s/7    SSE: 200, then chunks of RFC 9112: size CRLF "data: " payload LF LF CRLF
//   GET /l/7    long-poll: the first one is answered at once, those after it with a message each
//
// There is no queue behind a socket: one that does not take a whole frame is closed, and the load generator sees that. It ends by itself
// after --seconds (600).
//
// --uring sends through io_uring, so many frames with one system call; with --alternate every second message only, and at the end (SIGTERM)
// a line of JSON says what processor time each way took. It is there when compiled with -DWITH_URING and -luring.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
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
#ifdef WITH_URING
#include <liburing.h>
#endif

enum kind { FREE, NEW, PUBLISHER, WEBSOCKET, EVENT_STREAM, LONG_POLL };

/// By its descriptor.
struct connection {
    enum kind kind;
    bool is_parked;
    int channel;
    /// Of a long-poll: the message that it gets next.
    uint64_t next;
    /// Of a publisher: the beginning of a request whose rest has not come yet.
    char *carried;
    size_t carried_bytes;
};

struct channel {
    int *subscribers;
    int count;
    int capacity;
    enum kind kind;
    /// Long-polls that wait.
    int *parked;
    int parked_count;
    /// Messages published, and the frames of the last of them, for polls that come too late for one.
    uint64_t head;
    char *frames;
};

/// A message as it goes over the wire. The payload's place is the same for all messages, only it is written anew.
struct frame {
    char *bytes;
    size_t payload_at;
    size_t payload_bytes;
};

struct options {
    int port;
    size_t bytes;
    unsigned seconds;
    int uring_batch;
    bool is_alternating;
};

static const char websocket_answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                       "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
static const char event_stream_answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char empty_answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
static const char published_answer[] = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

static const int descriptors_max = 1 << 20;
static const int channels_max = 1 << 16;
static const int events_max = 512;
static const size_t buffer_bytes = 256 << 10;
/// Frames that a channel of long-polls keeps.
static const size_t kept_frames = 64;

static struct options options = {.seconds = 600};
static struct connection *connections;
static struct channel *channels;
static struct frame frames[LONG_POLL + 1];
static char *buffer;
static int poller;
#ifdef WITH_URING
static struct io_uring ring;
/// Of each way to send, send() and the ring: processor time of all threads of the process, and frames.
static struct {
    uint64_t nanoseconds;
    uint64_t frames;
} spent[2];
static volatile sig_atomic_t is_ending;
#endif

// MARK: common

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    fputs("floor: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (error != 0) fprintf(stderr, ": %s", strerror(error));
    fputc('\n', stderr);
    exit(1);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) fail("no memory");
    return memory;
}

static int allow_all_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) fail("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) fail("setrlimit");
    return limit.rlim_max < (rlim_t)descriptors_max ? (int)limit.rlim_max : descriptors_max;
}

// MARK: subscribers

static void add_subscriber(struct channel *channel, int descriptor) {
    if (channel->count == channel->capacity) {
        channel->capacity = channel->capacity == 0 ? 8 : channel->capacity * 2;
        channel->subscribers = realloc(channel->subscribers, (size_t)channel->capacity * sizeof(int));
        channel->parked = realloc(channel->parked, (size_t)channel->capacity * sizeof(int));
        if (channel->subscribers == NULL || channel->parked == NULL) fail("no memory");
    }
    channel->subscribers[channel->count++] = descriptor;
}

static void take_out(int *list, int *count, int descriptor) {
    for (int i = 0; i < *count; i++) {
        if (list[i] != descriptor) continue;
        list[i] = list[--*count];
        return;
    }
}

static void close_connection(int descriptor) {
    struct connection *connection = &connections[descriptor];
    if (connection->kind >= WEBSOCKET) {
        struct channel *channel = &channels[connection->channel];
        take_out(channel->subscribers, &channel->count, descriptor);
        if (connection->is_parked) take_out(channel->parked, &channel->parked_count, descriptor);
    }
    free(connection->carried);
    *connection = (struct connection){.kind = FREE};
#ifdef WITH_URING
    int none = -1;
    if (options.uring_batch > 0) io_uring_register_files_update(&ring, (unsigned)descriptor, &none, 1);
#endif
    close(descriptor);
}

static bool send_whole(int descriptor, const char *bytes, size_t count) {
    return send(descriptor, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)count;
}

// MARK: frames

/// A frame of so many bytes with a place for the payload: `start`, payload, padding, `end`.
static void make_frame(enum kind kind, size_t payload_bytes) {
    char start[128];
    size_t total = options.bytes, start_bytes;
    const char *end = "";
    switch (kind) {
    case WEBSOCKET:
        if (total < 130 || total > 65535) fail("WebSocket frames have 130 to 65535 bytes here");
        memcpy(start, (char[]){(char)0x81, 126, (char)((total - 4) >> 8), (char)(total - 4)}, 4);
        start_bytes = 4;
        break;
    // Sizes have leading zeros, so that any total is possible.
    case EVENT_STREAM:
        start_bytes = (size_t)snprintf(start, sizeof start, "%04zx\r\ndata: ", total - 8);
        end = "\n\n\r\n";
        break;
    default: {
        static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: %05zu\r\n\r\n";
        size_t head_bytes = (size_t)snprintf(NULL, 0, head, total);
        start_bytes = (size_t)snprintf(start, sizeof start, head, total > head_bytes ? total - head_bytes : 0);
    }
    }
    if (start_bytes + payload_bytes + strlen(end) > total) fail("%zu bytes are too few for a payload of %zu", total, payload_bytes);
    struct frame *frame = &frames[kind];
    free(frame->bytes);
    *frame = (struct frame){.bytes = allocate(total, 1), .payload_at = start_bytes, .payload_bytes = payload_bytes};
    memset(frame->bytes, 'x', total);
    memcpy(frame->bytes, start, start_bytes);
    memcpy(frame->bytes + total - strlen(end), end, strlen(end));
}

static const char *frame_with(enum kind kind, const char *payload, size_t payload_bytes) {
    struct frame *frame = &frames[kind];
    if (frame->bytes == NULL || frame->payload_bytes != payload_bytes) make_frame(kind, payload_bytes);
    memcpy(frame->bytes + frame->payload_at, payload, payload_bytes);
    return frame->bytes;
}

// MARK: publishing

#ifdef WITH_URING
static uint64_t cpu_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/// The frames of a batch wait in the ring and go with one system call. Only what failed is reported.
static void send_through_ring(const struct channel *channel, const char *bytes) {
    for (int i = 0; i < channel->count; i++) {
        struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
        if (entry == NULL) fail("the ring is full");
        io_uring_prep_send(entry, channel->subscribers[i], bytes, options.bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        entry->flags |= IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
        entry->user_data = (uint64_t)channel->subscribers[i];
        if ((i + 1) % options.uring_batch != 0 && i + 1 < channel->count) continue;
        if (io_uring_submit(&ring) < 0) fail("io_uring_submit");
    }
    struct io_uring_cqe *failed;
    while (io_uring_peek_cqe(&ring, &failed) == 0) {
        int descriptor = (int)failed->user_data;
        io_uring_cqe_seen(&ring, failed);
        close_connection(descriptor);
    }
}

static void begin_to_end(int signal) { is_ending = signal; }

static void report_spent(void) {
    double us[2];
    for (int i = 0; i < 2; i++) us[i] = spent[i].frames == 0 ? 0 : (double)spent[i].nanoseconds / 1000 / (double)spent[i].frames;
    printf("{\"event\":\"spent\",\"send_us\":%.4f,\"ring_us\":%.4f}\n", us[0], us[1]);
    exit(0);
}

static void open_ring(int descriptors) {
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE, .cq_entries = 16384};
    errno = -io_uring_queue_init_params((unsigned)options.uring_batch, &ring, &parameters);
    if (errno != 0) fail("io_uring_queue_init_params");
    errno = -io_uring_register_files_sparse(&ring, (unsigned)descriptors);
    if (errno != 0) fail("io_uring_register_files_sparse");
    if (io_uring_register_ring_fd(&ring) != 1) fail("io_uring_register_ring_fd");
}
#endif

static void send_one_by_one(struct channel *channel, const char *bytes) {
    for (int i = 0; i < channel->count; i++) {
        if (send_whole(channel->subscribers[i], bytes, options.bytes)) continue;
        close_connection(channel->subscribers[i]);
        i--;
    }
}

static void send_to_subscribers(struct channel *channel, const char *bytes) {
#ifdef WITH_URING
    static uint64_t messages;
    bool is_ring = options.uring_batch > 0 && (!options.is_alternating || messages++ % 2 == 1);
    uint64_t start = cpu_nanoseconds();
    if (is_ring) send_through_ring(channel, bytes);
    else send_one_by_one(channel, bytes);
    spent[is_ring].nanoseconds += cpu_nanoseconds() - start;
    spent[is_ring].frames += (uint64_t)channel->count;
#else
    send_one_by_one(channel, bytes);
#endif
}

static void answer_parked(struct channel *channel, const char *bytes) {
    char *kept = channel->frames + channel->head % kept_frames * options.bytes;
    memcpy(kept, bytes, options.bytes);
    channel->head++;
    for (int i = 0; i < channel->parked_count; i++) {
        struct connection *connection = &connections[channel->parked[i]];
        connection->is_parked = false;
        connection->next = channel->head;
        // A refusal shows when the connection is read.
        send_whole(channel->parked[i], kept, options.bytes);
    }
    channel->parked_count = 0;
}

static void publish(struct channel *channel, const char *payload, size_t payload_bytes) {
    if (channel->count == 0) return;
    const char *bytes = frame_with(channel->kind, payload, payload_bytes);
    if (channel->kind == LONG_POLL) answer_parked(channel, bytes);
    else send_to_subscribers(channel, bytes);
}

static struct channel *channel_numbered(int number) {
    if (number < 0 || number >= channels_max) fail("there is no channel %d", number);
    return &channels[number];
}

static struct channel *channel_in(const char *request) {
    // The method, then "/p/" or another letter.
    return channel_numbered(atoi(strchr(request, '/') + 3));
}

static void publish_lines(const char *body, size_t count) {
    for (const char *line = body, *end = body + count; line < end;) {
        const char *line_end = memchr(line, '\n', (size_t)(end - line));
        const char *space = memchr(line, ' ', (size_t)(end - line));
        if (line_end == NULL || space == NULL || space > line_end) fail("a batch without lines");
        publish(channel_numbered(atoi(line)), space + 1, (size_t)(line_end - space - 1));
        line = line_end + 1;
    }
}

/// Takes the requests that are whole, and answers them together.
///
/// Returns how many bytes they had.
static size_t take_publications(int descriptor, char *bytes, size_t count) {
    static char answers[128 * sizeof published_answer];
    size_t at = 0, answer_bytes = 0;
    while (at < count) {
        char *head_end = memmem(bytes + at, count - at, "\r\n\r\n", 4);
        if (head_end == NULL) break;
        const char *length = memmem(bytes + at, (size_t)(head_end - bytes) - at, "Content-Length: ", 16);
        if (length == NULL) fail("a publication without Content-Length");
        size_t body_bytes = (size_t)atol(length + 16), body_at = (size_t)(head_end + 4 - bytes);
        if (body_at + body_bytes > count) break;
        if (strchr(bytes + at, '/')[1] == 'b') publish_lines(bytes + body_at, body_bytes);
        else publish(channel_in(bytes + at), bytes + body_at, body_bytes);
        at = body_at + body_bytes;
        memcpy(answers + answer_bytes, published_answer, sizeof published_answer - 1);
        answer_bytes += sizeof published_answer - 1;
        if (answer_bytes + sizeof published_answer < sizeof answers && at < count) continue;
        if (!send_whole(descriptor, answers, answer_bytes)) fail("the publisher does not read its answers");
        answer_bytes = 0;
    }
    if (answer_bytes > 0 && !send_whole(descriptor, answers, answer_bytes)) fail("the publisher does not read its answers");
    return at;
}

// MARK: connections

static void accept_all(int listener) {
    int descriptor;
    while ((descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        int on = 1;
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connections[descriptor] = (struct connection){.kind = NEW};
        struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event) != 0) fail("epoll_ctl");
#ifdef WITH_URING
        if (options.uring_batch > 0 && io_uring_register_files_update(&ring, (unsigned)descriptor, &descriptor, 1) != 1) fail("files");
#endif
    }
    if (errno != EAGAIN && errno != ECONNABORTED) fail("accept4");
}

static void subscribe(int descriptor, enum kind kind, const char *request) {
    struct channel *channel = channel_in(request);
    connections[descriptor].kind = kind;
    connections[descriptor].channel = (int)(channel - channels);
    connections[descriptor].next = channel->head;
    channel->kind = kind;
    if (kind == LONG_POLL && channel->frames == NULL) channel->frames = allocate(kept_frames, options.bytes);
    add_subscriber(channel, descriptor);
    const char *answer = kind == WEBSOCKET ? websocket_answer : kind == EVENT_STREAM ? event_stream_answer : empty_answer;
    if (!send_whole(descriptor, answer, strlen(answer))) close_connection(descriptor);
}

/// The next poll: parked, unless a message came since the last answer.
static void poll_again(int descriptor) {
    struct connection *connection = &connections[descriptor];
    struct channel *channel = &channels[connection->channel];
    if (connection->next == channel->head) {
        connection->is_parked = true;
        channel->parked[channel->parked_count++] = descriptor;
        return;
    }
    bool is_kept = channel->head - connection->next <= kept_frames;
    const char *kept = channel->frames + connection->next++ % kept_frames * options.bytes;
    if (!is_kept || !send_whole(descriptor, kept, options.bytes)) close_connection(descriptor);
}

/// The first bytes of a connection say what it is.
static void meet(int descriptor, const char *bytes) {
    const char *path = strchr(bytes, '/');
    if (path == NULL) fail("not a request");
    switch (path[1]) {
    case 'b':
    case 'p': connections[descriptor].kind = PUBLISHER; break;
    case 'w': subscribe(descriptor, WEBSOCKET, bytes); break;
    case 's': subscribe(descriptor, EVENT_STREAM, bytes); break;
    case 'l': subscribe(descriptor, LONG_POLL, bytes); break;
    default: fail("a path that is not known");
    }
}

static void on_readable(int descriptor) {
    struct connection *connection = &connections[descriptor];
    size_t before = connection->carried_bytes;
    if (before > 0) memcpy(buffer, connection->carried, before);
    ssize_t count = recv(descriptor, buffer + before, buffer_bytes - before, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        close_connection(descriptor);
        return;
    }
    size_t total = before + (size_t)count;
    buffer[total] = 0;
    bool has_head = memmem(buffer, total, "\r\n\r\n", 4) != NULL;
    if (connection->kind == NEW && has_head) {
        meet(descriptor, buffer);
        if (connection->kind != PUBLISHER) return;
    }
    switch (connection->kind) {
    case NEW:
        fail("a request in pieces");
    case LONG_POLL:
        if (has_head) poll_again(descriptor);
        break;
    case PUBLISHER: {
        size_t taken = take_publications(descriptor, buffer, total);
        connection->carried_bytes = total - taken;
        if (taken == total) break;
        if (connection->carried == NULL) connection->carried = allocate(buffer_bytes, 1);
        memcpy(connection->carried, buffer + taken, total - taken);
        break;
    }
    default: break;
    }
}

// MARK: start

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0) fail("socket");
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, length) != 0) fail("cannot bind port %d", port);
    if (listen(listener, 4096) != 0) fail("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &length) != 0) fail("getsockname");
    printf("{\"event\":\"listening\",\"port\":%d}\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

__attribute__((noreturn)) static void serve(int listener) {
    struct epoll_event events[events_max];
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) != 0) fail("epoll_ctl");
    for (;;) {
        int count = epoll_wait(poller, events, events_max, -1);
#ifdef WITH_URING
        if (is_ending) report_spent();
#endif
        if (count < 0 && errno != EINTR) fail("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener) accept_all(listener);
            else if (connections[events[i].data.fd].kind != FREE) on_readable(events[i].data.fd);
        }
    }
}

__attribute__((noreturn)) static void refuse_options(void) {
    fputs("usage: floor --bytes N [--port P] [--seconds S] [--uring BATCH [--alternate]]\n", stderr);
    exit(64);
}

static void read_options(int count, char **arguments) {
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},
        {"bytes", required_argument, NULL, 'b'},
        {"seconds", required_argument, NULL, 's'},
        {"uring", required_argument, NULL, 'u'},
        {"alternate", no_argument, NULL, 'a'},
        {NULL, 0, NULL, 0},
    };
    int option;
    while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) {
        switch (option) {
        case 'p': options.port = atoi(optarg); break;
        case 'b': options.bytes = (size_t)atol(optarg); break;
        case 's': options.seconds = (unsigned)atoi(optarg); break;
        case 'a': options.is_alternating = true; break;
        case 'u': options.uring_batch = atoi(optarg); break;
        default: refuse_options();
        }
    }
    if (options.bytes < 64 || options.bytes > 65535 || options.seconds == 0 || options.uring_batch < 0) refuse_options();
#ifndef WITH_URING
    if (options.uring_batch > 0) fail("this program was compiled without io_uring");
#endif
}

int main(int count, char **arguments) {
    read_options(count, arguments);
    alarm(options.seconds);
    int descriptors = allow_all_descriptors();
    connections = allocate((size_t)descriptors, sizeof *connections);
    channels = allocate((size_t)channels_max, sizeof *channels);
    buffer = allocate(buffer_bytes + 1, 1);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) fail("epoll_create1");
#ifdef WITH_URING
    if (options.uring_batch > 0) open_ring(descriptors);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = begin_to_end}, NULL);
#endif
    serve(listen_on(options.port));
}
