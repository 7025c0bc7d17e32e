// The load of the publishing benchmark.
//
//   publish load   so many keep-alive connections of HTTP/1.1, each with one request under way: the next goes out when the answer is there
//   publish spin   a little loop of fixed length: how fast a core is just now
//
// Both print one JSON line. Only answers with 201 count. In an answer to a batch the results with a sequence are counted; that the numbers
// are right is for the driver to see, by asking for each channel's sequence afterwards: when `load` ends, nothing is under way any more.
//
// This process takes processor time away from the server that it measures, so requests are made once and answers are hardly looked at.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct options {
    int port;
    int connections;
    int channels;
    int batch;
    int bytes;
    long total;
    double warm_up_seconds;
    double seconds;
    double patience_seconds;
    const char *prefix;
};

struct request {
    char *bytes;
    size_t length;
    int messages;
};

struct connection {
    int descriptor;
    const struct request *request;
    size_t sent;
    double start;
    size_t received;
    // Of the answer under way: 0 until its head is there.
    size_t answer_bytes;
    char *buffer;
};

struct load {
    const struct options *options;
    int epoll;
    struct request *requests;
    struct connection *connections;
    int under_way;
    long issued_requests;
    long issued_messages;
    // Since the first request, with the warm-up and the end.
    long acknowledged_requests;
    long acknowledged_messages;
    // Between the end of the warm-up and the end of the time.
    long measured_requests;
    long measured_messages;
    long errors;
    long refused_messages;
    double measure_from;
    double measure_until;
    double progress;
    char first_error[256];
    // By microseconds; the last one is for all that took longer.
    uint32_t *latencies;
};

enum { buffer_bytes = 256 * 1024, latencies_max = 2000000, events_max = 256, batch_max = 1000 };

// MARK: common

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    fputs("publish: ", stderr);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (error != 0) fprintf(stderr, ": %s", strerror(error));
    fputc('\n', stderr);
    exit(1);
}

static double now_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double cpu_seconds(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) fail("getrusage");
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) fail("no memory");
    return memory;
}

// MARK: requests

/// JSON of so many bytes: an update of some members, and a text that fills it up.
static char *make_payload(int bytes, int number) {
    char *payload = allocate((size_t)bytes + 160, 1);
    int length = sprintf(payload, "{\"match\":\"m%d\",\"minute\":87,\"score\":[3,2],", number);
    length += sprintf(payload + length, "\"scorer\":{\"name\":\"Messi\",\"number\":10},");
    length += sprintf(payload + length, "\"text\":\"");
    // Fewer bytes than that: only a text.
    if (length + 2 > bytes) length = sprintf(payload, "{\"text\":\"");
    for (; length < bytes - 2; length++) payload[length] = (char)('a' + length % 23);
    strcpy(payload + length, "\"}");
    return payload;
}

static struct request make_request(const struct options *options, const char *target, const char *body, int messages) {
    struct request request = {.messages = messages};
    int length = asprintf(&request.bytes,
                          "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                          target, options->port, strlen(body), body);
    if (length < 0) fail("no memory");
    request.length = (size_t)length;
    return request;
}

/// One for each channel.
static struct request *make_singles(const struct options *options) {
    struct request *requests = allocate((size_t)options->channels, sizeof *requests);
    for (int i = 0; i < options->channels; i++) {
        char target[512];
        snprintf(target, sizeof target, "/v1/channels/%s%d", options->prefix, i);
        char *payload = make_payload(options->bytes, i);
        requests[i] = make_request(options, target, payload, 1);
        free(payload);
    }
    return requests;
}

/// An array of so many items that begins with the channel of this number; the items go round the channels.
static struct request make_batch(const struct options *options, int first, int messages) {
    char *body = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&body, &size);
    if (stream == NULL) fail("no memory");
    for (int i = 0; i < messages; i++) {
        int channel = (first + i) % options->channels;
        char *payload = make_payload(options->bytes, channel);
        fprintf(stream, "%c{\"channel\":\"%s%d\",\"data\":%s}", i == 0 ? '[' : ',', options->prefix, channel, payload);
        free(payload);
    }
    fputc(']', stream);
    if (fclose(stream) != 0) fail("no memory");
    struct request request = make_request(options, "/v1/publish", body, messages);
    free(body);
    return request;
}

static struct request *make_batches(const struct options *options) {
    struct request *requests = allocate((size_t)options->channels, sizeof *requests);
    for (int i = 0; i < options->channels; i++) requests[i] = make_batch(options, i, options->batch);
    return requests;
}

/// The next request, or none if it is time to end.
static const struct request *next_request(struct load *load, double now) {
    const struct options *options = load->options;
    if (now >= load->measure_until) return NULL;
    const struct request *request = &load->requests[load->issued_requests % options->channels];
    if (options->total > 0 && load->issued_messages >= options->total) return NULL;
    load->issued_requests++;
    load->issued_messages += request->messages;
    return request;
}

// MARK: connections

static void note_error(struct load *load, const char *text, size_t length) {
    if (load->errors++ > 0) return;
    size_t kept = length < sizeof load->first_error - 1 ? length : sizeof load->first_error - 1;
    for (size_t i = 0; i < kept; i++) load->first_error[i] = text[i] < ' ' || text[i] == '"' || text[i] == '\\' ? ' ' : text[i];
}

static void close_connection(struct load *load, struct connection *connection) {
    if (connection->descriptor < 0) return;
    if (connection->request != NULL) load->under_way--;
    connection->request = NULL;
    close(connection->descriptor);
    connection->descriptor = -1;
}

static void break_connection(struct load *load, struct connection *connection, const char *why) {
    note_error(load, why, strlen(why));
    close_connection(load, connection);
}

static void write_request(struct load *load, struct connection *connection) {
    const struct request *request = connection->request;
    while (connection->descriptor >= 0 && connection->sent < request->length) {
        ssize_t count = send(connection->descriptor, request->bytes + connection->sent, request->length - connection->sent,
                             MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) return;
        if (count < 0) break_connection(load, connection, "send failed");
        else connection->sent += (size_t)count;
    }
}

static void begin_request(struct load *load, struct connection *connection, double now) {
    connection->request = next_request(load, now);
    if (connection->request == NULL) return;
    load->under_way++;
    connection->sent = connection->received = connection->answer_bytes = 0;
    connection->start = now;
    write_request(load, connection);
}

/// How many results of a batch have a sequence.
static long sequences_in(const char *text, size_t length) {
    static const char member[] = "\"sequence\":";
    const char *end = text + length;
    long count = 0;
    while ((text = memmem(text, (size_t)(end - text), member, sizeof member - 1)) != NULL) {
        count++;
        text += sizeof member - 1;
    }
    return count;
}

static void take_answer(struct load *load, struct connection *connection, double now) {
    const struct request *request = connection->request;
    load->under_way--;
    load->progress = now;
    connection->request = NULL;
    if (memcmp(connection->buffer, "HTTP/1.1 201", 12) != 0) {
        note_error(load, connection->buffer, connection->answer_bytes);
        return;
    }
    long messages = request->messages;
    if (load->options->batch > 1) {
        messages = sequences_in(connection->buffer, connection->answer_bytes);
        load->refused_messages += request->messages - messages;
    }
    load->acknowledged_requests++;
    load->acknowledged_messages += messages;
    if (now < load->measure_from || now >= load->measure_until) return;
    load->measured_requests++;
    load->measured_messages += messages;
    double microseconds = (now - connection->start) * 1e6;
    load->latencies[microseconds < latencies_max - 1 ? (size_t)microseconds : latencies_max - 1]++;
}

/// The size of the answer with its head; 0 if that is not there in full.
static size_t answer_size(struct load *load, struct connection *connection) {
    const char *text = connection->buffer, *head_end = memmem(text, connection->received, "\r\n\r\n", 4);
    if (head_end == NULL) return 0;
    for (const char *line = text; line < head_end; line += 2) {
        if (strncasecmp(line, "content-length:", 15) == 0) {
            size_t size = (size_t)(head_end + 4 - text) + strtoul(line + 15, NULL, 10);
            if (size <= buffer_bytes) return size;
            break;
        }
        line = memmem(line, (size_t)(head_end + 2 - line), "\r\n", 2);
    }
    break_connection(load, connection, "an answer without a length, or a very long one");
    return 0;
}

static void on_readable(struct load *load, struct connection *connection) {
    while (connection->descriptor >= 0) {
        size_t room = buffer_bytes - connection->received;
        ssize_t count = recv(connection->descriptor, connection->buffer + connection->received, room, MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) return;
        if (count <= 0 || connection->request == NULL) {
            break_connection(load, connection, count <= 0 ? "the server closed a connection" : "bytes that nobody asked for");
            return;
        }
        connection->received += (size_t)count;
        if (connection->answer_bytes == 0) connection->answer_bytes = answer_size(load, connection);
        if (connection->answer_bytes == 0 || connection->received < connection->answer_bytes) {
            // A short read has emptied the socket: another one would only say so.
            if ((size_t)count < room) return;
            continue;
        }
        if (connection->received > connection->answer_bytes) {
            break_connection(load, connection, "more than one answer");
            return;
        }
        double now = now_seconds();
        take_answer(load, connection, now);
        begin_request(load, connection, now);
        // What follows is an answer to this request, and comes with an event of its own.
        return;
    }
}

static void open_connection(struct load *load, struct connection *connection) {
    connection->buffer = allocate(buffer_bytes, 1);
    connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->descriptor < 0) fail("socket");
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)load->options->port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    if (connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
    int on = 1;
    setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = connection};
    if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, connection->descriptor, &event) != 0) fail("epoll_ctl");
}

// MARK: run

static void turn(struct load *load) {
    struct epoll_event events[events_max];
    int count = epoll_wait(load->epoll, events, events_max, 100);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
        struct connection *connection = events[i].data.ptr;
        bool has_more = connection->request != NULL && connection->sent < connection->request->length;
        if (has_more) write_request(load, connection);
        if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) on_readable(load, connection);
    }
}

static double latency_at(const struct load *load, double share) {
    long wanted = (long)(share * (double)load->measured_requests), seen = 0;
    for (long i = 0; i < latencies_max; i++) {
        seen += load->latencies[i];
        if (seen > wanted) return (double)i;
    }
    return 0;
}

static int run_load(const struct options *options) {
    struct load load = {.options = options, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    if (load.epoll < 0) fail("epoll_create1");
    load.requests = options->batch > 1 ? make_batches(options) : make_singles(options);
    load.connections = allocate((size_t)options->connections, sizeof *load.connections);
    load.latencies = allocate(latencies_max, sizeof *load.latencies);
    for (int i = 0; i < options->connections; i++) open_connection(&load, &load.connections[i]);
    double start = now_seconds(), cpu_start = cpu_seconds();
    load.progress = start;
    // A total is measured from its first message to its last.
    load.measure_from = options->total > 0 ? start : start + options->warm_up_seconds;
    load.measure_until = options->total > 0 ? start + 3600 : load.measure_from + options->seconds;
    for (int i = 0; i < options->connections; i++) begin_request(&load, &load.connections[i], now_seconds());
    while (load.under_way > 0 && now_seconds() - load.progress < options->patience_seconds) turn(&load);
    double end = now_seconds(), cpu = cpu_seconds() - cpu_start;
    double seconds = (options->total > 0 || end < load.measure_until ? end : load.measure_until) - load.measure_from;
    if (seconds <= 0) seconds = 1e-9;
    printf("{\"event\":\"result\",\"seconds\":%.3f,\"requests_per_second\":%.1f,\"messages_per_second\":%.1f,\"p50_us\":%.0f,"
           "\"p99_us\":%.0f,\"acknowledged_requests\":%ld,\"acknowledged_messages\":%ld,\"refused_messages\":%ld,\"unanswered\":%d,"
           "\"errors\":%ld,\"first_error\":\"%s\",\"cpu_seconds\":%.3f,\"cpu_share\":%.3f}\n",
           seconds, (double)load.measured_requests / seconds, (double)load.measured_messages / seconds, latency_at(&load, 0.5),
           latency_at(&load, 0.99), load.acknowledged_requests, load.acknowledged_messages, load.refused_messages, load.under_way,
           load.errors, load.first_error, cpu, cpu / (end - start));
    return load.errors + load.under_way + load.refused_messages == 0 ? 0 : 1;
}

/// Multiplications that depend on each other, so that nothing but the clock of the core counts.
static int run_spin(void) {
    const long rounds = 100000000;
    double start = now_seconds(), cpu_start = cpu_seconds();
    uint64_t value = 88172645463325252u;
    for (long i = 0; i < rounds; i++) value = (value ^ value >> 29) * 0xbf58476d1ce4e5b9u + 1;
    double cpu = cpu_seconds() - cpu_start, seconds = now_seconds() - start;
    printf("{\"event\":\"result\",\"rounds\":%ld,\"seconds\":%.4f,\"cpu_seconds\":%.4f,\"millions_per_second\":%.1f,\"value\":%llu}\n",
           rounds, seconds, cpu, (double)rounds / seconds / 1e6, (unsigned long long)value);
    return 0;
}

// MARK: command line

static const char usage[] =
    "usage: publish load --port P [--connections C] [--channels K] [--batch B] [--bytes N] [--warm-up S] [--seconds S | --total M]\n"
    "                    [--prefix NAME] [--patience S]\n"
    "       publish spin\n"
    "\n"
    "  --batch     messages a request, through /v1/publish; 1 for /v1/channels/{channel}\n"
    "  --bytes     of each payload\n"
    "  --total     publishes so many messages, instead of for so many seconds; a multiple of --batch\n"
    "  --prefix    of the channels: they are called NAME0, NAME1, ...\n"
    "  --patience  gives up when no answer has come for so long\n";

static void take_option(struct options *options, int option, const char *value) {
    switch (option) {
    case 'p': options->port = atoi(value); break;
    case 'c': options->connections = atoi(value); break;
    case 'k': options->channels = atoi(value); break;
    case 'b': options->batch = atoi(value); break;
    case 'n': options->bytes = atoi(value); break;
    case 'w': options->warm_up_seconds = atof(value); break;
    case 's': options->seconds = atof(value); break;
    case 't': options->total = atol(value); break;
    case 'x': options->prefix = value; break;
    case 'y': options->patience_seconds = atof(value); break;
    default:
        fputs(usage, stderr);
        exit(64);
    }
}

static struct options read_options(int count, char **arguments) {
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},     {"connections", required_argument, NULL, 'c'},
        {"channels", required_argument, NULL, 'k'}, {"batch", required_argument, NULL, 'b'},
        {"bytes", required_argument, NULL, 'n'},    {"warm-up", required_argument, NULL, 'w'},
        {"seconds", required_argument, NULL, 's'},  {"total", required_argument, NULL, 't'},
        {"prefix", required_argument, NULL, 'x'},   {"patience", required_argument, NULL, 'y'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {.connections = 64, .channels = 8, .batch = 1, .bytes = 200, .warm_up_seconds = 1, .seconds = 5,
                              .prefix = "scores.c", .patience_seconds = 30};
    int option;
    while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) take_option(&options, option, optarg);
    bool is_sane = options.port > 0 && options.port <= 65535 && options.connections > 0 && options.channels > 0 && options.batch > 0 &&
                   options.batch <= batch_max && options.bytes >= 16 && options.bytes <= 65536 && strlen(options.prefix) < 200 &&
                   options.total % options.batch == 0;
    if (!is_sane) take_option(&options, '?', NULL);
    return options;
}

int main(int count, char **arguments) {
    if (count == 2 && strcmp(arguments[1], "spin") == 0) return run_spin();
    if (count < 2 || strcmp(arguments[1], "load") != 0) {
        fputs(usage, stderr);
        return 64;
    }
    struct options options = read_options(count - 1, arguments + 1);
    return run_load(&options);
}
