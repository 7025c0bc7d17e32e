#include <errno.h>
#include <sys/epoll.h>
#include <sys/prctl.h>

// Swift's Glibc module has neither epoll nor prctl. The call with nanoseconds is of Linux 5.11; a kernel without it waits for whole
// milliseconds.
static inline int tocsin_epoll_wait(int epoll, struct epoll_event *events, int events_max, long long nanoseconds) {
    struct timespec wait = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    int count = epoll_pwait2(epoll, events, events_max, &wait, 0);
    if (count < 0 && errno == ENOSYS) {
        count = epoll_wait(epoll, events, events_max, (int)(nanoseconds / 1000000));
    }
    return count;
}

// prctl(2) takes a variable number of arguments. By default the kernel may wake a thread 50 us late.
static inline int tocsin_set_timer_slack(unsigned long nanoseconds) {
    return prctl(PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0);
}
