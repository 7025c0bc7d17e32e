/* Opens connections from one address, so many a second for so long, and gives each up as soon as it is answered, or after a moment.
 *
 *     connects PORT SOURCE RATE SECONDS [idle]
 *
 * One line at the end: attempts, how many of them were connected, how many the peer ended, how many could not be begun for want of ports.
 * With `idle` it only takes time that nobody else wants, as if it were on another machine. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PENDING_MAX = 4000, HOLD_MS = 50 };

struct attempt {
    int descriptor;
    double began;
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

/* In the order in which they began. */
static struct attempt ring[PENDING_MAX];
static unsigned first, last;
static long attempts, connected, ended, failed;

/* A reset: no port waits for its time to pass. */
static void give_up(int descriptor) {
    struct linger off = {1, 0};
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &off, sizeof off);
    close(descriptor);
}

static void finish_oldest(void) {
    struct attempt *oldest = &ring[first++ % PENDING_MAX];
    if (oldest->descriptor < 0) return;
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    char byte;
    if (getpeername(oldest->descriptor, (struct sockaddr *)&peer, &size) == 0) {
        connected++;
        ssize_t got = recv(oldest->descriptor, &byte, 1, MSG_DONTWAIT);
        if (got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) ended++;
    } else {
        /* Reset already, or never there. */
        ended++;
    }
    give_up(oldest->descriptor);
}

int main(int count, char **words) {
    if (count < 5) {
        fprintf(stderr, "connects PORT SOURCE RATE SECONDS [idle]\n");
        return 2;
    }
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < PENDING_MAX + 50) {
        fprintf(stderr, "connects: %d descriptors are needed\n", PENDING_MAX + 50);
        return 1;
    }
    if (count > 5) {
        struct sched_param none = {0};
        sched_setscheduler(0, SCHED_IDLE, &none);
    }
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(words[1]))};
    struct sockaddr_in source = {.sin_family = AF_INET};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (inet_pton(AF_INET, words[2], &source.sin_addr) != 1) return 2;
    double rate = atof(words[3]), seconds = atof(words[4]), began = now(), time;
    while ((time = now() - began) < seconds) {
        while (first != last && (last - first == PENDING_MAX || now() - ring[first % PENDING_MAX].began > HOLD_MS / 1e3)) finish_oldest();
        long due = (long)(time * rate) + 1;
        /* What was missed is made up for, unless it is more than a second of them. */
        if (due - attempts > (long)rate) due = attempts + (long)rate;
        for (int burst = 0; attempts < due && burst < 200; burst++, attempts++) {
            if (last - first == PENDING_MAX) finish_oldest();
            int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
            if (descriptor < 0) {
                failed++;
                continue;
            }
            setsockopt(descriptor, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &on, sizeof on);
            bind(descriptor, (struct sockaddr *)&source, sizeof source);
            if (connect(descriptor, (struct sockaddr *)&server, sizeof server) != 0 && errno != EINPROGRESS) {
                failed++;
                close(descriptor);
                continue;
            }
            ring[last++ % PENDING_MAX] = (struct attempt){descriptor, now()};
        }
        if (attempts >= due) {
            struct timespec pause = {0, 500000};
            nanosleep(&pause, NULL);
        }
    }
    while (first != last) finish_oldest();
    printf("{\"attempts\":%ld,\"connected\":%ld,\"ended\":%ld,\"failed\":%ld,\"seconds\":%.2f}\n", attempts, connected, ended, failed,
           now() - began);
    return 0;
}
