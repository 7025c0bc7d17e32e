// The readers of the replay benchmark: each asks for one channel from some position on, reads as fast as it can and sees that the
// sequences come one after the other.
//
// Prints one JSON line when the last reader has the last message, a reader was closed, or nothing has come for a while.
//
//   sse         chunks of RFC 9112, and in them lines; chunks need not end where events do
//   websocket   frames of RFC 6455, unmasked, one object each
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
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

enum { readers_max = 64, buffer_bytes = 4 * 1024 * 1024, receive_bytes = 256 * 1024, events_max = 64 };

struct reader {
    int descriptor;
    const char *after;
    long first;
    long expected;
    bool has_head;
    bool is_done;
    double seconds;
    // What has come and is not taken yet. With SSE: `text` of it is without the chunks' frames, the rest is as it came.
    uint8_t *buffer;
    size_t count;
    uint8_t *text;
    size_t text_count;
    // Of the chunk under way: bytes that are still to come; its line end belongs to them.
    size_t chunk_left;
};

struct options {
    int port;
    bool is_websocket;
    const char *channel;
    long last;
    double patience_seconds;
    int readers;
    struct reader reader[readers_max];
};

struct replay {
    struct options *options;
    int epoll;
    int open;
    double start;
    double progress;
    char prefix[512];
    size_t prefix_length;
    long messages;
    long bytes;
    long disordered;
    long gaps;
    long closed;
    long malformed;
    char first_fault[256];
};

// MARK: common

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    fputs("replay: ", stderr);
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

static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) fail("no memory");
    return memory;
}

static bool starts_with(const uint8_t *bytes, size_t count, const char *prefix) {
    size_t length = strlen(prefix);
    return count >= length && memcmp(bytes, prefix, length) == 0;
}

// MARK: faults

static void note_fault(struct replay *replay, const char *format, ...) {
    if (replay->first_fault[0] != 0) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(replay->first_fault, sizeof replay->first_fault, format, arguments);
    va_end(arguments);
    for (char *byte = replay->first_fault; *byte != 0; byte++) {
        if (*byte < ' ' || *byte == '"' || *byte == '\\') *byte = ' ';
    }
}

static void close_reader(struct replay *replay, struct reader *reader) {
    if (reader->descriptor < 0) return;
    close(reader->descriptor);
    reader->descriptor = -1;
    reader->seconds = now_seconds() - replay->start;
    replay->open--;
}

static void break_reader(struct replay *replay, struct reader *reader, const char *why) {
    replay->malformed++;
    note_fault(replay, "%s", why);
    close_reader(replay, reader);
}

// MARK: what comes

/// The digits of a notification's sequence; 0 if there are none.
static long sequence_in(const struct replay *replay, const uint8_t *object, size_t length) {
    const uint8_t *end = object + length, *digits;
    // The members may have any order, but it does not change, and this is the one that they have.
    bool is_as_usual = length > replay->prefix_length && memcmp(object, replay->prefix, replay->prefix_length) == 0;
    if (is_as_usual) digits = object + replay->prefix_length;
    else if ((digits = memmem(object, length, "\"sequence\":", 11)) != NULL) digits += 11;
    else return 0;
    long sequence = 0;
    while (digits < end && *digits >= '0' && *digits <= '9') sequence = sequence * 10 + (*digits++ - '0');
    return sequence;
}

static void take_object(struct replay *replay, struct reader *reader, const uint8_t *object, size_t length) {
    if (starts_with(object, length, "{\"type\":\"notification\"")) {
        long sequence = sequence_in(replay, object, length);
        if (sequence != reader->expected) {
            replay->disordered++;
            note_fault(replay, "%ld came where %ld was expected", sequence, reader->expected);
        }
        reader->expected = sequence + 1;
        replay->messages++;
        if (sequence >= replay->options->last) {
            reader->is_done = true;
            close_reader(replay, reader);
        }
    } else if (starts_with(object, length, "{\"type\":\"gap\"")) {
        replay->gaps++;
        note_fault(replay, "%.*s", (int)(length < 200 ? length : 200), (const char *)object);
    } else if (!starts_with(object, length, "{\"type\":\"hello\"")) {
        break_reader(replay, reader, "neither a notification nor hello nor a gap");
    }
}

/// Takes the lines that are there in full. Returns their size.
static size_t take_lines(struct replay *replay, struct reader *reader, const uint8_t *text, size_t count) {
    const uint8_t *line = text, *end = text + count, *line_end;
    while (reader->descriptor >= 0 && line < end && (line_end = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        size_t length = (size_t)(line_end - line);
        if (length > 6 && memcmp(line, "data: ", 6) == 0) take_object(replay, reader, line + 6, length - 6);
        line = line_end + 1;
    }
    return (size_t)(line - text);
}

static int hexadecimal(uint8_t byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/// The line before a chunk. Returns its size; 0 if it is not there in full.
static size_t take_chunk_size(struct replay *replay, struct reader *reader, const uint8_t *bytes, size_t count) {
    const uint8_t *line_end = memchr(bytes, '\n', count);
    if (line_end == NULL) return 0;
    size_t length = 0;
    for (const uint8_t *digit = bytes; hexadecimal(*digit) >= 0; digit++) length = length * 16 + (size_t)hexadecimal(*digit);
    if (length == 0) break_reader(replay, reader, "the stream ended, or has no chunk where one should be");
    reader->chunk_left = length + 2;
    return (size_t)(line_end + 1 - bytes);
}

/// Takes the frames of chunks away, then the lines.
static size_t take_chunks(struct replay *replay, struct reader *reader, const uint8_t *bytes, size_t count) {
    size_t at = 0;
    while (at < count && reader->descriptor >= 0) {
        if (reader->chunk_left == 0) {
            size_t taken = take_chunk_size(replay, reader, bytes + at, count - at);
            if (taken == 0) break;
            at += taken;
            continue;
        }
        size_t part = count - at < reader->chunk_left ? count - at : reader->chunk_left;
        // The last two bytes are the line end behind the chunk.
        size_t text = reader->chunk_left <= 2 ? 0 : part < reader->chunk_left - 2 ? part : reader->chunk_left - 2;
        if (reader->text_count + text > buffer_bytes) {
            break_reader(replay, reader, "a line that does not end");
            break;
        }
        memcpy(reader->text + reader->text_count, bytes + at, text);
        reader->text_count += text;
        reader->chunk_left -= part;
        at += part;
    }
    size_t taken = take_lines(replay, reader, reader->text, reader->text_count);
    memmove(reader->text, reader->text + taken, reader->text_count - taken);
    reader->text_count -= taken;
    return at;
}

/// Returns the size of what it took.
static size_t take_frames(struct replay *replay, struct reader *reader, const uint8_t *bytes, size_t count) {
    size_t at = 0;
    while (count - at >= 2 && reader->descriptor >= 0) {
        const uint8_t *frame = bytes + at;
        size_t header = frame[1] < 126 ? 2 : frame[1] == 126 ? 4 : 10;
        if (count - at < header) break;
        uint64_t length = header == 2 ? frame[1] : 0;
        for (size_t i = 2; i < header; i++) length = length << 8 | frame[i];
        if (frame[1] > 127 || length > buffer_bytes / 2) {
            break_reader(replay, reader, "a frame that is masked or very long");
            break;
        }
        if (count - at < header + length) break;
        // Heartbeats are 300 s apart, and a server that hears nothing waits for two of them: pings need no answer here.
        if (frame[0] == 0x81) take_object(replay, reader, frame + header, (size_t)length);
        else if (frame[0] != 0x89) break_reader(replay, reader, "a frame that is neither text nor ping");
        at += header + (size_t)length;
    }
    return at;
}

/// Returns the size of the answer's head; 0 if it is not there in full.
static size_t take_head(struct replay *replay, struct reader *reader) {
    const uint8_t *end = memmem(reader->buffer, reader->count, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    const char *wanted = replay->options->is_websocket ? "HTTP/1.1 101 " : "HTTP/1.1 200 ";
    if (!starts_with(reader->buffer, reader->count, wanted)) {
        errno = 0;
        fail("a subscriber was refused: %.*s", (int)reader->count, (const char *)reader->buffer);
    }
    reader->has_head = true;
    return (size_t)(end - reader->buffer) + 4;
}

static void on_readable(struct replay *replay, struct reader *reader) {
    ssize_t count = recv(reader->descriptor, reader->buffer + reader->count, receive_bytes, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        replay->closed++;
        note_fault(replay, "the server closed the connection of the reader that waits for %ld", reader->expected);
        close_reader(replay, reader);
        return;
    }
    reader->count += (size_t)count;
    replay->bytes += count;
    size_t taken = 0;
    if (!reader->has_head && (taken = take_head(replay, reader)) == 0) return;
    const uint8_t *bytes = reader->buffer + taken;
    size_t left = reader->count - taken;
    taken += replay->options->is_websocket ? take_frames(replay, reader, bytes, left) : take_chunks(replay, reader, bytes, left);
    memmove(reader->buffer, reader->buffer + taken, reader->count - taken);
    reader->count -= taken;
    if (reader->count + receive_bytes > buffer_bytes) break_reader(replay, reader, "a frame or a head that does not end");
}

// MARK: run

static void open_reader(struct replay *replay, struct reader *reader) {
    const struct options *options = replay->options;
    // One receive more than what is kept always fits.
    reader->buffer = allocate(buffer_bytes + receive_bytes);
    reader->text = allocate(buffer_bytes);
    reader->expected = reader->first;
    reader->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (reader->descriptor < 0) fail("socket");
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)options->port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    if (connect(reader->descriptor, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = reader};
    if (epoll_ctl(replay->epoll, EPOLL_CTL_ADD, reader->descriptor, &event) != 0) fail("epoll_ctl");
    replay->open++;
}

static void send_request(const struct options *options, const struct reader *reader) {
    static const char sse[] = "Accept: text/event-stream\r\n";
    static const char websocket[] = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    char request[2048];
    int length = snprintf(request, sizeof request,
                          "GET /v1/subscribe?channel=%s&after=%s&heartbeat=300 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s\r\n", options->channel,
                          reader->after, options->port, options->is_websocket ? websocket : sse);
    if (length < 0 || (size_t)length >= sizeof request) fail("the channel or the position is too long");
    if (send(reader->descriptor, request, (size_t)length, MSG_NOSIGNAL) != length) fail("send");
}

static void turn(struct replay *replay) {
    struct epoll_event events[events_max];
    long received = replay->bytes;
    int count = epoll_wait(replay->epoll, events, events_max, 100);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < count; i++) {
        struct reader *reader = events[i].data.ptr;
        if (reader->descriptor >= 0) on_readable(replay, reader);
    }
    if (replay->bytes > received) replay->progress = now_seconds();
}

static int report(struct replay *replay, double seconds, double cpu) {
    const struct options *options = replay->options;
    long missing = 0;
    printf("{\"event\":\"result\",\"reader_seconds\":[");
    for (int i = 0; i < options->readers; i++) {
        const struct reader *reader = &options->reader[i];
        if (!reader->is_done) missing += options->last + 1 - reader->expected;
        printf("%s%.3f", i == 0 ? "" : ",", reader->seconds);
    }
    printf("],\"seconds\":%.3f,\"messages\":%ld,\"messages_per_second\":%.1f,\"bytes\":%ld,\"bytes_per_message\":%.1f,"
           "\"cpu_seconds\":%.3f,\"missing\":%ld,\"disordered\":%ld,\"gaps\":%ld,\"closed\":%ld,\"malformed\":%ld,"
           "\"first_fault\":\"%s\"}\n",
           seconds, replay->messages, (double)replay->messages / seconds, replay->bytes,
           replay->messages > 0 ? (double)replay->bytes / (double)replay->messages : 0, cpu, missing, replay->disordered, replay->gaps,
           replay->closed, replay->malformed, replay->first_fault);
    return missing + replay->disordered + replay->gaps + replay->closed + replay->malformed == 0 ? 0 : 1;
}

static int run(struct options *options) {
    struct replay replay = {.options = options, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    if (replay.epoll < 0) fail("epoll_create1");
    int length = snprintf(replay.prefix, sizeof replay.prefix, "{\"type\":\"notification\",\"channel\":\"%s\",\"sequence\":",
                          options->channel);
    if (length < 0 || (size_t)length >= sizeof replay.prefix) fail("the channel is too long");
    replay.prefix_length = (size_t)length;
    for (int i = 0; i < options->readers; i++) open_reader(&replay, &options->reader[i]);
    double cpu_start = cpu_seconds();
    replay.start = replay.progress = now_seconds();
    for (int i = 0; i < options->readers; i++) send_request(options, &options->reader[i]);
    while (replay.open > 0 && now_seconds() - replay.progress < options->patience_seconds) turn(&replay);
    double end = replay.open > 0 ? replay.progress : now_seconds();
    return report(&replay, end - replay.start > 0 ? end - replay.start : 1e-9, cpu_seconds() - cpu_start);
}

// MARK: command line

static const char usage[] =
    "usage: replay --port P --channel C [--transport sse|websocket] [--last N] [--reader FIRST:AFTER]... [--patience S]\n"
    "\n"
    "  --last      the sequence at which a reader is done (1000000)\n"
    "  --reader    one that asks for what comes after AFTER, and expects FIRST first (1:earliest); may be repeated\n"
    "  --patience  gives up when nothing has come for so long (10)\n";

static void add_reader(struct options *options, const char *text) {
    const char *colon = strchr(text, ':');
    errno = 0;
    if (colon == NULL || options->readers == readers_max) fail("--reader has the form FIRST:AFTER, at most %d of them", readers_max);
    options->reader[options->readers++] = (struct reader){.first = atol(text), .after = colon + 1, .descriptor = -1};
}

static void take_option(struct options *options, int option, const char *value) {
    switch (option) {
    case 'p': options->port = atoi(value); break;
    case 'c': options->channel = value; break;
    case 't': options->is_websocket = strcmp(value, "websocket") == 0; break;
    case 'l': options->last = atol(value); break;
    case 'r': add_reader(options, value); break;
    case 'w': options->patience_seconds = atof(value); break;
    default:
        fputs(usage, stderr);
        exit(64);
    }
}

int main(int count, char **arguments) {
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'}, {"channel", required_argument, NULL, 'c'}, {"transport", required_argument, NULL, 't'},
        {"last", required_argument, NULL, 'l'}, {"reader", required_argument, NULL, 'r'},  {"patience", required_argument, NULL, 'w'},
        {NULL, 0, NULL, 0},
    };
    static struct options options = {.last = 1000000, .patience_seconds = 10};
    int option;
    while ((option = getopt_long(count, arguments, "", known, NULL)) != -1) take_option(&options, option, optarg);
    bool is_sane = options.port > 0 && options.port <= 65535 && options.channel != NULL && options.last > 0;
    if (!is_sane || optind < count) take_option(&options, '?', NULL);
    if (options.readers == 0) add_reader(&options, "1:earliest");
    return run(&options);
}
