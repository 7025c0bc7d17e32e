#include <spawn.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// prctl(2) takes a variable number of arguments. The calling process gets the signal when the thread that started it ends.
static inline int tocsin_signal_at_parents_end(int number) {
    return prctl(PR_SET_PDEATHSIG, number, 0, 0, 0);
}

// Memory that processes share. The C library declares memfd_create(2) only to those who ask for GNU's extensions.
static inline int tocsin_shared_memory(unsigned long bytes) {
    int descriptor = (int)syscall(SYS_memfd_create, "tocsin", 1u /* MFD_CLOEXEC */);
    if (descriptor >= 0 && ftruncate(descriptor, (off_t)bytes) != 0) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}

// glibc 2.34. Swift's Glibc module is made without it.
extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int from);
static inline int tocsin_close_from(posix_spawn_file_actions_t *actions, int from) {
    return posix_spawn_file_actions_addclosefrom_np(actions, from);
}

// accept4(2), too, is an extension of GNU's. The descriptor does not block, and is not inherited.
static inline int tocsin_accept(int listener, void *address, unsigned *bytes) {
    return (int)syscall(SYS_accept4, listener, address, bytes, 04000 | 02000000 /* SOCK_NONBLOCK | SOCK_CLOEXEC */);
}

// send(2) as the C library has it may be a point at which a thread is cancelled, which costs a little for each message.
static inline long tocsin_send(int descriptor, const void *bytes, unsigned long count, int flags) {
    return syscall(SYS_sendto, descriptor, bytes, count, flags, (void *)0, 0);
}

// Swift takes `struct stat` for Foundation's where that is in the same program, and for the C library's where it is not.
static inline int tocsin_is_readable_by_all(const char *path) {
    struct stat status;
    return stat(path, &status) != 0 || (status.st_mode & S_IROTH) != 0;
}
