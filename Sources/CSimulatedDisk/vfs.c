// The VFS "simulated": SQLite's methods over the disk of disk.c, and the way through to the former default VFS.

#include "disk.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static sqlite3_vfs *wrapped;

// Locks; a handle that is dead or on a stopped disk says no to everything but letting go.
static bool enter(sd_handle *handle) {
    sd_lock();
    sd_enter(handle->disk);
    return handle->disk && !handle->disk->stopped;
}

static int leave(int code) {
    sd_unlock();
    return code;
}

// MARK: Contents

static int file_read(sqlite3_file *base, void *to, int length, sqlite3_int64 offset) {
    sd_handle *handle = (sd_handle *)base;
    if (!enter(handle)) return leave(SQLITE_IOERR);
    int code = sd_gate(handle->disk, SD_READ);
    if (code != SQLITE_OK) return leave(code);
    sd_bytes *bytes = &handle->file->current;
    size_t there = (size_t)offset < bytes->size ? bytes->size - offset : 0;
    if (there > (size_t)length) there = length;
    if (there) memcpy(to, bytes->at + offset, there);
    memset((uint8_t *)to + there, 0, length - there);
    return leave(there == (size_t)length ? SQLITE_OK : SQLITE_IOERR_SHORT_READ);
}

static int file_write(sqlite3_file *base, const void *data, int length, sqlite3_int64 offset) {
    return leave(enter((sd_handle *)base) ? sd_write((sd_handle *)base, data, length, offset) : SQLITE_IOERR);
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size) {
    return leave(enter((sd_handle *)base) ? sd_truncate((sd_handle *)base, size) : SQLITE_IOERR);
}

static int file_sync(sqlite3_file *base, int flags) {
    (void)flags;
    return leave(enter((sd_handle *)base) ? sd_sync((sd_handle *)base) : SQLITE_IOERR);
}

static int file_size(sqlite3_file *base, sqlite3_int64 *size) {
    sd_handle *handle = (sd_handle *)base;
    if (!enter(handle)) return leave(SQLITE_IOERR);
    *size = handle->file->current.size;
    return leave(SQLITE_OK);
}

// MARK: Locks on the file, after os_unix.c

static int file_lock(sqlite3_file *base, int level) {
    sd_handle *handle = (sd_handle *)base;
    sd_file *file = handle->file;
    if (!enter(handle)) return leave(SQLITE_IOERR);
    if (handle->lock >= level) return leave(SQLITE_OK);
    bool others_exclude = handle->lock != file->lock && (file->lock >= SQLITE_LOCK_PENDING || level > SQLITE_LOCK_SHARED);
    if (others_exclude) return leave(SQLITE_BUSY);
    if (level == SQLITE_LOCK_SHARED) {
        file->sharing++;
        handle->lock = SQLITE_LOCK_SHARED;
        if (file->lock < SQLITE_LOCK_SHARED) file->lock = SQLITE_LOCK_SHARED;
        return leave(SQLITE_OK);
    }
    // Readers are still there: keep new ones out, and let the caller ask again.
    bool waits = level == SQLITE_LOCK_EXCLUSIVE && file->sharing > 1;
    handle->lock = file->lock = waits ? SQLITE_LOCK_PENDING : level;
    return leave(waits ? SQLITE_BUSY : SQLITE_OK);
}

static void let_go(sd_handle *handle, int level) {
    sd_file *file = handle->file;
    if (!handle->disk || handle->lock <= level) return;
    if (handle->lock > SQLITE_LOCK_SHARED) file->lock = SQLITE_LOCK_SHARED;
    if (level == SQLITE_LOCK_NONE && --file->sharing == 0) file->lock = SQLITE_LOCK_NONE;
    handle->lock = level;
}

static int file_unlock(sqlite3_file *base, int level) {
    enter((sd_handle *)base);
    let_go((sd_handle *)base, level);
    return leave(SQLITE_OK);
}

static int file_check_reserved_lock(sqlite3_file *base, int *reserved) {
    sd_handle *handle = (sd_handle *)base;
    if (!enter(handle)) return leave(SQLITE_IOERR);
    *reserved = handle->file->lock > SQLITE_LOCK_SHARED;
    return leave(SQLITE_OK);
}

// MARK: The wal-index

static int shm_map(sqlite3_file *base, int region, int size, int extend, void volatile **to) {
    sd_handle *handle = (sd_handle *)base;
    *to = NULL;
    if (!enter(handle)) return leave(SQLITE_IOERR);
    sd_file *file = handle->file;
    if (!handle->shm) {
        if (!file->shm) {
            // As where the -shm file cannot be created.
            if (handle->disk->read_only) return leave(SQLITE_CANTOPEN);
            file->shm = calloc(1, sizeof(sd_shm));
            if (!file->shm) abort();
        }
        handle->shm = file->shm;
        handle->shm->handles++;
    }
    sd_shm *shm = handle->shm;
    while (extend && shm->count <= region) {
        shm->regions = realloc(shm->regions, (shm->count + 1) * sizeof(void *));
        if (!shm->regions) abort();
        shm->regions[shm->count] = calloc(1, size);
        if (!shm->regions[shm->count++]) abort();
    }
    if (region < shm->count) *to = shm->regions[region];
    return leave(SQLITE_OK);
}

static int shm_lock(sqlite3_file *base, int first, int count, int flags) {
    sd_handle *handle = (sd_handle *)base;
    sd_shm *shm = handle->shm;
    uint16_t mask = (1 << (first + count)) - (1 << first);
    bool alive = enter(handle);
    if (flags & SQLITE_SHM_UNLOCK) {
        for (int i = first; shm && i < first + count; i++) {
            if (handle->exclusive & (1 << i)) shm->slots[i] = 0;
            if (handle->shared & (1 << i)) shm->slots[i]--;
        }
        handle->exclusive &= ~mask;
        handle->shared &= ~mask;
        return leave(SQLITE_OK);
    }
    if (!alive || !shm) return leave(SQLITE_IOERR);
    bool exclusive = flags & SQLITE_SHM_EXCLUSIVE;
    if (((exclusive ? handle->exclusive : handle->shared) & mask) == mask) return leave(SQLITE_OK);
    for (int i = first; i < first + count; i++) {
        if (exclusive ? shm->slots[i] != 0 : shm->slots[i] < 0) return leave(SQLITE_BUSY);
    }
    for (int i = first; i < first + count; i++) shm->slots[i] = exclusive ? -1 : shm->slots[i] + 1;
    if (exclusive) {
        handle->exclusive |= mask;
    } else {
        handle->shared |= mask;
    }
    return leave(SQLITE_OK);
}

static void shm_barrier(sqlite3_file *base) {
    (void)base;
    __sync_synchronize();
    sd_lock();
    sd_unlock();
}

static int shm_unmap(sqlite3_file *base, int delete) {
    (void)delete; // there is no file to delete; the last one to leave frees the memory
    enter((sd_handle *)base);
    sd_leave_shm((sd_handle *)base);
    return leave(SQLITE_OK);
}

// MARK: The rest of a file

static int file_control(sqlite3_file *base, int operation, void *argument) {
    sd_handle *handle = (sd_handle *)base;
    int code = SQLITE_OK;
    bool alive = enter(handle);
    if (operation == SQLITE_FCNTL_PERSIST_WAL) {
        int *wish = argument;
        if (*wish >= 0) handle->persist_wal = *wish;
        *wish = handle->persist_wal;
    } else if (operation == SQLITE_FCNTL_HAS_MOVED) {
        *(int *)argument = alive && !sd_is_linked(handle->disk, handle->file);
    } else {
        code = SQLITE_NOTFOUND;
    }
    return leave(code);
}

// Both as the unix VFS has them on a common file system.
static int sector_size(sqlite3_file *base) {
    (void)base;
    return 4096;
}

static int device_characteristics(sqlite3_file *base) {
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int file_close(sqlite3_file *base) {
    sd_handle *handle = (sd_handle *)base;
    enter(handle);
    let_go(handle, SQLITE_LOCK_NONE);
    sd_leave_shm(handle);
    if (handle->disk) {
        sd_handle **link = &handle->disk->handles;
        while (*link != handle) link = &(*link)->next;
        *link = handle->next;
    }
    sd_release(handle->file);
    return leave(SQLITE_OK);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, // shared memory, no memory map
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_check_reserved_lock,
    .xFileControl = file_control,
    .xSectorSize = sector_size,
    .xDeviceCharacteristics = device_characteristics,
    .xShmMap = shm_map,
    .xShmLock = shm_lock,
    .xShmBarrier = shm_barrier,
    .xShmUnmap = shm_unmap,
};

// MARK: Paths

static bool is_simulated(const char *path) { return path && !strncmp(path, "/simulated/", 11); }

// Locks; NULL where the path has no disk or the disk is stopped.
static sd_disk *enter_path(const char *path, const char **name) {
    sd_lock();
    sd_disk *disk = sd_find(path, name);
    sd_enter(disk);
    return disk && !disk->stopped ? disk : NULL;
}

static int open_file(sd_handle *handle, const char *path, int flags, int *out_flags) {
    const char *name;
    sd_disk *disk = enter_path(path, &name);
    if (!disk) return SQLITE_IOERR;
    int code = sd_gate(disk, SD_OPEN);
    if (code != SQLITE_OK) return code;
    sd_file *file = sd_lookup(disk, name);
    if (disk->read_only && (flags & SQLITE_OPEN_READWRITE)) {
        flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
    }
    bool create = flags & SQLITE_OPEN_CREATE;
    if (file ? create && (flags & SQLITE_OPEN_EXCLUSIVE) : !create) return SQLITE_CANTOPEN;
    if (!file) file = sd_link(disk, name);
    file->references++;
    *handle = (sd_handle){
        .base.pMethods = &methods,
        .disk = disk,
        .file = file,
        .read_only = flags & SQLITE_OPEN_READONLY,
        // As in os_unix.c. Without it the journal that was deleted before the change to WAL mode could come back and undo it.
        .sync_folder = create && (flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL | SQLITE_OPEN_WAL)),
        .next = disk->handles,
    };
    disk->handles = handle;
    if (out_flags) *out_flags = flags;
    return SQLITE_OK;
}

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *out_flags) {
    (void)vfs;
    base->pMethods = NULL; // SQLite closes what has methods, also after a failed open
    if (is_simulated(path)) return leave(open_file((sd_handle *)base, path, flags, out_flags));
    // A temporary file takes its name from sqlite3_randomness, and is no reason to leave the thread's disk.
    if (path) sd_enter(NULL);
    return wrapped->xOpen(wrapped, path, base, flags, out_flags);
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync) {
    (void)vfs;
    if (!is_simulated(path)) return wrapped->xDelete(wrapped, path, sync);
    const char *name;
    sd_disk *disk = enter_path(path, &name);
    if (!disk) return leave(SQLITE_IOERR);
    int code = sd_gate(disk, SD_DELETE);
    if (code == SQLITE_OK && disk->read_only) code = SQLITE_IOERR_DELETE;
    if (code == SQLITE_OK && !sd_unlink(disk, name)) code = SQLITE_IOERR_DELETE_NOENT;
    if (code == SQLITE_OK && sync) sd_sync_folder(disk);
    return leave(code);
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *result) {
    (void)vfs;
    if (!is_simulated(path)) return wrapped->xAccess(wrapped, path, flags, result);
    const char *name;
    *result = 0;
    sd_disk *disk = enter_path(path, &name);
    if (!disk) return leave(SQLITE_IOERR);
    sd_file *file = sd_lookup(disk, name);
    // An empty file does not exist, says os_unix.c: an empty journal is none.
    if (flags == SQLITE_ACCESS_EXISTS) *result = file && file->current.size;
    if (flags == SQLITE_ACCESS_READ) *result = file != NULL;
    if (flags == SQLITE_ACCESS_READWRITE) *result = file && !disk->read_only;
    return leave(SQLITE_OK);
}

static int vfs_full_pathname(sqlite3_vfs *vfs, const char *path, int size, char *out) {
    (void)vfs;
    if (!is_simulated(path)) return wrapped->xFullPathname(wrapped, path, size, out);
    if (strlen(path) >= (size_t)size) return SQLITE_CANTOPEN;
    strcpy(out, path);
    return SQLITE_OK;
}

// MARK: What is not a file's

static int vfs_randomness(sqlite3_vfs *vfs, int length, char *out) {
    (void)vfs;
    sd_random(out, length);
    return length;
}

static void *vfs_dl_open(sqlite3_vfs *vfs, const char *path) {
    (void)vfs;
    return wrapped->xDlOpen(wrapped, path);
}

static void vfs_dl_error(sqlite3_vfs *vfs, int size, char *out) {
    (void)vfs;
    wrapped->xDlError(wrapped, size, out);
}

static void (*vfs_dl_sym(sqlite3_vfs *vfs, void *library, const char *symbol))(void) {
    (void)vfs;
    return wrapped->xDlSym(wrapped, library, symbol);
}

static void vfs_dl_close(sqlite3_vfs *vfs, void *library) {
    (void)vfs;
    wrapped->xDlClose(wrapped, library);
}

static int vfs_sleep(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    return wrapped->xSleep(wrapped, microseconds);
}

static int vfs_current_time(sqlite3_vfs *vfs, double *time) {
    (void)vfs;
    return wrapped->xCurrentTime(wrapped, time);
}

static int vfs_current_time_int64(sqlite3_vfs *vfs, sqlite3_int64 *time) {
    (void)vfs;
    return wrapped->xCurrentTimeInt64(wrapped, time);
}

static int vfs_last_error(sqlite3_vfs *vfs, int size, char *out) {
    (void)vfs;
    return wrapped->xGetLastError ? wrapped->xGetLastError(wrapped, size, out) : 0;
}

static sqlite3_vfs vfs = {
    .iVersion = 2,
    .zName = "simulated",
    .xOpen = vfs_open,
    .xDelete = vfs_delete,
    .xAccess = vfs_access,
    .xFullPathname = vfs_full_pathname,
    .xDlOpen = vfs_dl_open,
    .xDlError = vfs_dl_error,
    .xDlSym = vfs_dl_sym,
    .xDlClose = vfs_dl_close,
    .xRandomness = vfs_randomness,
    .xSleep = vfs_sleep,
    .xCurrentTime = vfs_current_time,
    .xGetLastError = vfs_last_error,
    .xCurrentTimeInt64 = vfs_current_time_int64,
};

static int registered;

static void do_register(void) {
    wrapped = sqlite3_vfs_find(NULL);
    if (!wrapped || wrapped->iVersion < 2) {
        registered = SQLITE_ERROR;
        return;
    }
    vfs.szOsFile = wrapped->szOsFile > (int)sizeof(sd_handle) ? wrapped->szOsFile : (int)sizeof(sd_handle);
    vfs.mxPathname = wrapped->mxPathname;
    registered = sqlite3_vfs_register(&vfs, 1);
}

int sd_register(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, do_register);
    return registered;
}
