// Counts what a process asks of the disk: LD_PRELOAD it, and name a file in TOCSIN_COUNT_FILE.
//
// The file holds the counters themselves, mapped into the process, as 64-bit numbers in the order of `struct counters`: whoever reads it
// sees what has been counted up to that moment, and nothing has to be asked of the process.
//
// Of writes and reads only those of regular files count: sockets have more of them, and they are no business of the disk's.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct counters {
    // Not 0: the library was loaded.
    _Atomic uint64_t loaded;
    _Atomic uint64_t fsyncs;
    _Atomic uint64_t fdatasyncs;
    // That all of them took, and the longest one.
    _Atomic uint64_t sync_nanoseconds;
    _Atomic uint64_t longest_nanoseconds;
    _Atomic uint64_t writes;
    _Atomic uint64_t written_bytes;
    _Atomic uint64_t reads;
    _Atomic uint64_t read_bytes;
};

static struct counters uncounted;
static struct counters *counters = &uncounted;

enum kind { UNKNOWN, FILE_KIND, OTHER_KIND };
enum { kinds_max = 65536 };

// By descriptor, so that a write to a socket costs no fstat; close() makes it unknown again.
static _Atomic uint8_t kinds[kinds_max];

static struct {
    int (*fsync)(int);
    int (*fdatasync)(int);
    int (*close)(int);
    ssize_t (*write)(int, const void *, size_t);
    ssize_t (*pwrite)(int, const void *, size_t, off_t);
    ssize_t (*pwrite64)(int, const void *, size_t, off64_t);
    ssize_t (*writev)(int, const struct iovec *, int);
    ssize_t (*pwritev)(int, const struct iovec *, int, off_t);
    ssize_t (*read)(int, void *, size_t);
    ssize_t (*pread)(int, void *, size_t, off_t);
    ssize_t (*pread64)(int, void *, size_t, off64_t);
} next;

static void find_next(void) {
    if (next.pread64 != NULL) return;
#define FIND(name) next.name = (__typeof__(next.name))dlsym(RTLD_NEXT, #name)
    FIND(fsync), FIND(fdatasync), FIND(close), FIND(write), FIND(pwrite), FIND(pwrite64);
    FIND(writev), FIND(pwritev), FIND(read), FIND(pread), FIND(pread64);
#undef FIND
}

// Others may call these before the constructor has run.
#define NEXT(name) (find_next(), next.name)

__attribute__((constructor)) static void map_counters(void) {
    const char *path = getenv("TOCSIN_COUNT_FILE");
    if (path == NULL) return;
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    void *memory = MAP_FAILED;
    if (descriptor >= 0 && ftruncate(descriptor, sizeof *counters) == 0) {
        memory = mmap(NULL, sizeof *counters, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    }
    if (memory == MAP_FAILED) {
        perror("countsync: TOCSIN_COUNT_FILE");
        _exit(1);
    }
    NEXT(close)(descriptor);
    counters = memory;
    atomic_store(&counters->loaded, 1);
}

static void count(_Atomic uint64_t *counter, uint64_t by) { atomic_fetch_add_explicit(counter, by, memory_order_relaxed); }

static int is_file(int descriptor) {
    if (descriptor < 0 || descriptor >= kinds_max) return 0;
    uint8_t kind = atomic_load_explicit(&kinds[descriptor], memory_order_relaxed);
    if (kind == UNKNOWN) {
        struct stat status;
        int error = errno;
        kind = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) ? FILE_KIND : OTHER_KIND;
        errno = error;
        atomic_store_explicit(&kinds[descriptor], kind, memory_order_relaxed);
    }
    return kind == FILE_KIND;
}

static ssize_t count_write(int descriptor, ssize_t result) {
    if (result < 0 || !is_file(descriptor)) return result;
    count(&counters->writes, 1);
    count(&counters->written_bytes, (uint64_t)result);
    return result;
}

static ssize_t count_read(int descriptor, ssize_t result) {
    if (result < 0 || !is_file(descriptor)) return result;
    count(&counters->reads, 1);
    count(&counters->read_bytes, (uint64_t)result);
    return result;
}

static uint64_t now_nanoseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/// Counted when it is done, and only if it was: what failed made nothing durable.
static int count_sync(_Atomic uint64_t *counter, int (*sync)(int), int descriptor) {
    uint64_t start = now_nanoseconds();
    int result = sync(descriptor);
    uint64_t spent = now_nanoseconds() - start;
    if (result != 0) return result;
    count(counter, 1);
    count(&counters->sync_nanoseconds, spent);
    uint64_t longest = atomic_load(&counters->longest_nanoseconds);
    while (spent > longest && !atomic_compare_exchange_weak(&counters->longest_nanoseconds, &longest, spent)) continue;
    return result;
}

int fsync(int descriptor) { return count_sync(&counters->fsyncs, NEXT(fsync), descriptor); }

int fdatasync(int descriptor) { return count_sync(&counters->fdatasyncs, NEXT(fdatasync), descriptor); }

int close(int descriptor) {
    if (descriptor >= 0 && descriptor < kinds_max) atomic_store_explicit(&kinds[descriptor], UNKNOWN, memory_order_relaxed);
    return NEXT(close)(descriptor);
}

ssize_t write(int descriptor, const void *bytes, size_t size) { return count_write(descriptor, NEXT(write)(descriptor, bytes, size)); }

ssize_t pwrite(int descriptor, const void *bytes, size_t size, off_t at) {
    return count_write(descriptor, NEXT(pwrite)(descriptor, bytes, size, at));
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t at) {
    return count_write(descriptor, NEXT(pwrite64)(descriptor, bytes, size, at));
}

ssize_t writev(int descriptor, const struct iovec *parts, int many) {
    return count_write(descriptor, NEXT(writev)(descriptor, parts, many));
}

ssize_t pwritev(int descriptor, const struct iovec *parts, int many, off_t at) {
    return count_write(descriptor, NEXT(pwritev)(descriptor, parts, many, at));
}

ssize_t read(int descriptor, void *bytes, size_t size) { return count_read(descriptor, NEXT(read)(descriptor, bytes, size)); }

ssize_t pread(int descriptor, void *bytes, size_t size, off_t at) {
    return count_read(descriptor, NEXT(pread)(descriptor, bytes, size, at));
}

ssize_t pread64(int descriptor, void *bytes, size_t size, off64_t at) {
    return count_read(descriptor, NEXT(pread64)(descriptor, bytes, size, at));
}
