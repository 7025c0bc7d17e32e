// The disk as the VFS sees it. Everything here is called with the one lock held.

#ifndef DISK_H
#define DISK_H

#include "simulated_disk.h"
#include <sqlite3.h>

typedef struct {
    uint8_t *at;
    size_t size, room;
} sd_bytes;

// A write, or (data == NULL) a truncation to the offset.
typedef struct {
    uint8_t *data;
    uint64_t offset;
    size_t length;
} sd_change;

// The wal-index. It outlives the crash for dead connections, which read it without a call.
typedef struct {
    int handles;
    void **regions;
    int count;
    int slots[SQLITE_SHM_NLOCK]; // -1: exclusive; else how many share it
} sd_shm;

typedef struct {
    int references;
    sd_bytes current, durable;
    sd_change *unsynced;
    size_t count, room;
    int lock, sharing; // the highest lock held on the file, and how many handles hold one
    sd_shm *shm;
} sd_file;

// A name keeps at most this many undecided links; an older one is then taken as durable.
// Without syncs (synchronous=OFF) each transaction links and unlinks its journal, forever.
#define PENDING_MAX 64

// What a name means now, what it means for sure after a power cut, and what it came to mean in between, in order (NULL: no file).
typedef struct {
    char *name;
    sd_file *current, *durable, *pending[PENDING_MAX];
    int count;
} sd_entry;

typedef struct {
    uint32_t kinds;
    uint64_t after, times;
    int code;
} sd_rule;

#define RULES_MAX 16
#define KINDS 6

typedef struct sd_disk {
    int id;
    uint32_t options;
    uint64_t fault_seed, random_seed, capacity, stop_after, counts[KINDS], bytes_written;
    bool read_only, stopped;
    sd_entry *entries;
    int entry_count;
    sd_rule rules[RULES_MAX];
    int rule_count;
    struct sd_handle *handles;
    struct sd_disk *next;
} sd_disk;

// SQLite's file object. Dead when disk is NULL: it then touches nothing but its own memory and what it has a reference to.
typedef struct sd_handle {
    sqlite3_file base;
    sd_disk *disk;
    sd_file *file;
    sd_shm *shm;
    int lock;
    uint16_t shared, exclusive; // slots of the wal-index held
    bool read_only, persist_wal, sync_folder;
    struct sd_handle *next;
} sd_handle;

void sd_lock(void);
void sd_unlock(void);
// The disk and the name in it of a simulated path; NULL for a path that names no live disk's file.
sd_disk *sd_find(const char *path, const char **name);
// Notes whose randomness the thread's next sqlite3_randomness is. NULL: nobody's.
void sd_enter(sd_disk *disk);
// Counts a call on a disk that is not stopped, and says how it fails, or SQLITE_OK.
int sd_gate(sd_disk *disk, uint32_t kind);
void sd_random(void *to, size_t length);

sd_file *sd_lookup(sd_disk *disk, const char *name);
sd_file *sd_link(sd_disk *disk, const char *name);
bool sd_unlink(sd_disk *disk, const char *name);
void sd_sync_folder(sd_disk *disk);
bool sd_is_linked(sd_disk *disk, sd_file *file);
void sd_release(sd_file *file);
void sd_leave_shm(sd_handle *handle);

// Calls on a live handle of a disk that is not stopped.
int sd_write(sd_handle *handle, const uint8_t *data, size_t length, uint64_t offset);
int sd_truncate(sd_handle *handle, uint64_t size);
int sd_sync(sd_handle *handle);

#endif
