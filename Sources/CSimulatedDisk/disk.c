// The disk: contents and names that a power cut can take back, faults, and the functions of the public header.

#define _GNU_SOURCE
#include "disk.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sd_disk *disks;
static int last_id;
static _Thread_local int thread_disk;
static _Thread_local uint64_t thread_seed;

void sd_lock(void) { pthread_mutex_lock(&mutex); }
void sd_unlock(void) { pthread_mutex_unlock(&mutex); }

static void *grow(void *at, size_t bytes) {
    void *result = realloc(at, bytes);
    if (!result) abort();
    return result;
}

// MARK: Randomness

// splitmix64: any seed is a good one, also 0 and neighbours.
static uint64_t next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t *state, uint64_t bound) { return next(state) % bound; }

static sd_disk *find(int id) {
    for (sd_disk *disk = disks; disk; disk = disk->next) {
        if (disk->id == id) return disk;
    }
    return NULL;
}

void sd_enter(sd_disk *disk) { thread_disk = disk ? disk->id : 0; }

void sd_random(void *to, size_t length) {
    sd_lock();
    sd_disk *disk = thread_disk ? find(thread_disk) : NULL;
    uint64_t *state = disk ? &disk->random_seed : thread_seed ? &thread_seed : NULL;
    for (size_t i = 0; state && i < length; i += 8) {
        uint64_t word = next(state);
        memcpy((uint8_t *)to + i, &word, length - i < 8 ? length - i : 8);
    }
    sd_unlock();
    // Not more than SQLite asks for at once, so one call always gives all of it.
    for (size_t i = 0; !state && i < length; i += 256) {
        size_t part = length - i < 256 ? length - i : 256;
        if (getrandom((uint8_t *)to + i, part, 0) != (ssize_t)part) abort();
    }
}

// SQLite calls its own function through the dynamic linker's table, where a definition in the executable comes first.
// Weak, so that an executable that holds SQLite itself still links; its randomness then comes once for the process from xRandomness.
__attribute__((weak)) void sqlite3_randomness(int length, void *to) {
    if (length > 0 && to) sd_random(to, (size_t)length);
}

void sd_seed_randomness(uint64_t seed) {
    sd_lock();
    thread_seed = seed;
    thread_disk = 0;
    sd_unlock();
    sqlite3_randomness(0, NULL); // only of use where the function above is not the one called: SQLite then seeds itself anew
}

// MARK: Contents

static void put(sd_bytes *bytes, const uint8_t *data, size_t length, uint64_t offset) {
    size_t end = offset + length;
    if (end > bytes->room) {
        bytes->room = end > bytes->room * 2 ? end : bytes->room * 2;
        bytes->at = grow(bytes->at, bytes->room);
    }
    if (offset > bytes->size) memset(bytes->at + bytes->size, 0, offset - bytes->size);
    memcpy(bytes->at + offset, data, length);
    if (end > bytes->size) bytes->size = end;
}

static void apply(sd_bytes *bytes, const sd_change *change) {
    if (change->data) {
        put(bytes, change->data, change->length, change->offset);
    } else if (change->offset < bytes->size) {
        bytes->size = change->offset;
    }
}

static void note(sd_file *file, const uint8_t *data, size_t length, uint64_t offset) {
    if (data && !length) return;
    if (file->count == file->room) {
        file->room = file->room ? file->room * 2 : 16;
        file->unsynced = grow(file->unsynced, file->room * sizeof(sd_change));
    }
    sd_change *change = &file->unsynced[file->count++];
    *change = (sd_change){.data = data ? grow(NULL, length) : NULL, .offset = offset, .length = length};
    if (data) memcpy(change->data, data, length);
    apply(&file->current, change);
}

static void forget_changes(sd_file *file) {
    for (size_t i = 0; i < file->count; i++) free(file->unsynced[i].data);
    file->count = 0;
}

static sd_file *retain(sd_file *file) {
    if (file) file->references++;
    return file;
}

void sd_release(sd_file *file) {
    if (!file || --file->references) return;
    forget_changes(file);
    free(file->unsynced);
    free(file->current.at);
    free(file->durable.at);
    free(file);
}

// A part of a write whose cut lies on a multiple of 512 bytes in the file: usually its head, as sectors go out in order, else its tail.
static void apply_torn(sd_bytes *bytes, const sd_change *change, uint64_t *seed) {
    uint64_t first = change->offset / 512 + 1, last = (change->offset + change->length - 1) / 512;
    if (last < first) return apply(bytes, change);
    size_t cut = (first + below(seed, last - first + 1)) * 512 - change->offset;
    sd_change part = *change;
    if (below(seed, 4)) {
        part.length = cut;
    } else {
        part = (sd_change){.data = change->data + cut, .offset = change->offset + cut, .length = change->length - cut};
    }
    apply(bytes, &part);
}

// What a power cut leaves of a file.
static void settle(sd_file *file, uint64_t *seed) {
    if (!file) return;
    size_t count = file->count;
    bool subset = below(seed, 4) == 0;
    // All and nothing are as likely as any other prefix of a few; in a long list they would otherwise never happen.
    uint64_t way = below(seed, 8);
    size_t prefix = way == 0 ? 0 : way == 1 ? count : below(seed, count + 1);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(subset ? below(seed, 2) : i < prefix)) {
            free(file->unsynced[i].data);
        } else {
            file->unsynced[kept++] = file->unsynced[i];
        }
    }
    file->count = kept;
    bool torn = below(seed, 2);
    for (size_t i = 0; i < kept; i++) {
        if (i == kept - 1 && torn && file->unsynced[i].data) {
            apply_torn(&file->durable, &file->unsynced[i], seed);
        } else {
            apply(&file->durable, &file->unsynced[i]);
        }
    }
    forget_changes(file);
    file->current.size = 0;
    if (file->durable.size) put(&file->current, file->durable.at, file->durable.size, 0);
}

// MARK: Names

static sd_entry *entry(sd_disk *disk, const char *name) {
    for (int i = 0; i < disk->entry_count; i++) {
        if (!strcmp(disk->entries[i].name, name)) return &disk->entries[i];
    }
    return NULL;
}

// Makes the first `count` pending meanings of a name durable.
static void decide(sd_entry *entry, int count) {
    if (!count) return;
    sd_release(entry->durable);
    entry->durable = retain(entry->pending[count - 1]);
    for (int i = 0; i < count; i++) sd_release(entry->pending[i]);
    entry->count -= count;
    memmove(entry->pending, entry->pending + count, entry->count * sizeof(sd_file *));
}

static void mean(sd_entry *entry, sd_file *file) {
    if (entry->count == PENDING_MAX) decide(entry, 1);
    entry->pending[entry->count++] = retain(file);
    sd_release(entry->current);
    entry->current = retain(file);
}

sd_file *sd_lookup(sd_disk *disk, const char *name) {
    sd_entry *found = entry(disk, name);
    return found ? found->current : NULL;
}

sd_file *sd_link(sd_disk *disk, const char *name) {
    sd_entry *found = entry(disk, name);
    if (!found) {
        disk->entries = grow(disk->entries, (disk->entry_count + 1) * sizeof(sd_entry));
        found = &disk->entries[disk->entry_count++];
        *found = (sd_entry){.name = strdup(name)};
    }
    sd_file *file = memset(grow(NULL, sizeof(sd_file)), 0, sizeof(sd_file));
    mean(found, file);
    return file;
}

bool sd_unlink(sd_disk *disk, const char *name) {
    sd_entry *found = entry(disk, name);
    bool existed = found && found->current;
    if (existed) mean(found, NULL);
    return existed;
}

void sd_sync_folder(sd_disk *disk) {
    for (int i = 0; i < disk->entry_count; i++) decide(&disk->entries[i], disk->entries[i].count);
}

bool sd_is_linked(sd_disk *disk, sd_file *file) {
    for (int i = 0; i < disk->entry_count; i++) {
        if (disk->entries[i].current == file) return true;
    }
    return false;
}

// MARK: Calls

static int index_of(uint32_t kind) { return __builtin_ctz(kind); }

int sd_gate(sd_disk *disk, uint32_t kind) {
    disk->counts[index_of(kind)]++;
    // This call still runs: the crash comes after it.
    if ((kind & SD_MUTATING) && disk->stop_after != UINT64_MAX && --disk->stop_after == 0) disk->stopped = true;
    int code = SQLITE_OK;
    for (int i = 0; i < disk->rule_count; i++) {
        sd_rule *rule = &disk->rules[i];
        if (!(rule->kinds & kind)) continue;
        if (rule->after) {
            rule->after--;
        } else if (rule->times && code == SQLITE_OK) {
            if (rule->times != UINT64_MAX) rule->times--;
            code = rule->code;
        }
    }
    return code;
}

static uint64_t total_size(sd_disk *disk) {
    uint64_t sum = 0;
    for (int i = 0; i < disk->entry_count; i++) sum += disk->entries[i].current ? disk->entries[i].current->current.size : 0;
    return sum;
}

int sd_write(sd_handle *handle, const uint8_t *data, size_t length, uint64_t offset) {
    sd_disk *disk = handle->disk;
    sd_file *file = handle->file;
    int code = sd_gate(disk, SD_WRITE);
    size_t written = length;
    if (code == SQLITE_OK && disk->read_only) {
        code = handle->read_only ? SQLITE_READONLY : SQLITE_IOERR_WRITE;
        written = 0;
    } else if (code != SQLITE_OK) {
        written = below(&disk->fault_seed, 2) ? below(&disk->fault_seed, length + 1) : 0;
    }
    if (disk->capacity && offset + written > file->current.size) {
        uint64_t total = total_size(disk);
        uint64_t end = file->current.size + (total < disk->capacity ? disk->capacity - total : 0);
        if (offset + written > end) {
            if (code == SQLITE_OK) code = SQLITE_FULL;
            written = end > offset && below(&disk->fault_seed, 2) ? end - offset : 0;
        }
    }
    note(file, data, written, offset);
    disk->bytes_written += written;
    return code;
}

int sd_truncate(sd_handle *handle, uint64_t size) {
    int code = sd_gate(handle->disk, SD_TRUNCATE);
    if (code == SQLITE_OK && (handle->disk->read_only || handle->read_only)) code = SQLITE_IOERR_TRUNCATE;
    if (code == SQLITE_OK && size < handle->file->current.size) note(handle->file, NULL, 0, size);
    return code;
}

int sd_sync(sd_handle *handle) {
    sd_disk *disk = handle->disk;
    sd_file *file = handle->file;
    int code = sd_gate(disk, SD_SYNC);
    if (code != SQLITE_OK) {
        size_t kept = 0;
        for (size_t i = 0; i < file->count; i++) {
            bool lost = (disk->options & SD_LOSE_AFTER_FAILED_SYNC) && file->unsynced[i].data && below(&disk->fault_seed, 2);
            if (lost) {
                free(file->unsynced[i].data);
            } else {
                file->unsynced[kept++] = file->unsynced[i];
            }
        }
        file->count = kept;
        return code;
    }
    for (size_t i = 0; i < file->count; i++) apply(&file->durable, &file->unsynced[i]);
    forget_changes(file);
    for (int i = 0; i < disk->entry_count; i++) {
        for (int j = disk->entries[i].count; j > 0; j--) {
            if (disk->entries[i].pending[j - 1] == file) {
                decide(&disk->entries[i], j);
                break;
            }
        }
    }
    if (handle->sync_folder) sd_sync_folder(disk);
    handle->sync_folder = false;
    return SQLITE_OK;
}

// MARK: Crashes

void sd_leave_shm(sd_handle *handle) {
    sd_shm *shm = handle->shm;
    if (!shm) return;
    for (int i = 0; i < SQLITE_SHM_NLOCK; i++) {
        if (handle->shared & (1 << i)) shm->slots[i]--;
        if (handle->exclusive & (1 << i)) shm->slots[i] = 0;
    }
    handle->shared = handle->exclusive = 0;
    handle->shm = NULL;
    if (--shm->handles) return;
    if (handle->file->shm == shm) handle->file->shm = NULL;
    for (int i = 0; i < shm->count; i++) free(shm->regions[i]);
    free(shm->regions);
    free(shm);
}

static void crash(sd_disk *disk) {
    for (sd_handle *handle = disk->handles; handle; handle = handle->next) {
        handle->disk = NULL;
        handle->file->lock = handle->file->sharing = 0;
        handle->file->shm = NULL;
    }
    disk->handles = NULL;
    disk->stopped = false;
    disk->stop_after = UINT64_MAX;
}

// Locks and gives the disk, which must be there.
static sd_disk *enter(int id) {
    sd_lock();
    sd_disk *disk = find(id);
    if (!disk) abort();
    return disk;
}

void sd_power_cut(int id, uint64_t seed) {
    sd_disk *disk = enter(id);
    crash(disk);
    for (int i = 0; i < disk->entry_count; i++) {
        sd_entry *entry = &disk->entries[i];
        decide(entry, below(&seed, 2) ? entry->count : (int)below(&seed, entry->count + 1));
        while (entry->count) sd_release(entry->pending[--entry->count]);
        sd_release(entry->current);
        entry->current = retain(entry->durable);
        settle(entry->current, &seed);
    }
    sd_unlock();
}

void sd_kill(int id) {
    crash(enter(id));
    sd_unlock();
}

// MARK: Disks

sd_disk *sd_find(const char *path, const char **name) {
    static const char prefix[] = "/simulated/";
    if (strncmp(path, prefix, sizeof(prefix) - 1)) return NULL;
    char *end;
    long id = strtol(path + sizeof(prefix) - 1, &end, 10);
    if (*end != '/' || !end[1]) return NULL;
    *name = end + 1;
    return find((int)id);
}

int sd_create(uint64_t seed) {
    sd_disk *disk = memset(grow(NULL, sizeof(sd_disk)), 0, sizeof(sd_disk));
    disk->stop_after = UINT64_MAX;
    disk->fault_seed = next(&seed);
    disk->random_seed = next(&seed);
    sd_lock();
    int id = disk->id = ++last_id;
    disk->next = disks;
    disks = disk;
    sd_unlock();
    return id;
}

void sd_destroy(int id) {
    sd_disk *disk = enter(id);
    crash(disk);
    sd_disk **link = &disks;
    while (*link != disk) link = &(*link)->next;
    *link = disk->next;
    for (int i = 0; i < disk->entry_count; i++) {
        sd_entry *entry = &disk->entries[i];
        while (entry->count) sd_release(entry->pending[--entry->count]);
        sd_release(entry->current);
        sd_release(entry->durable);
        free(entry->name);
    }
    free(disk->entries);
    free(disk);
    sd_unlock();
}

void sd_set_options(int id, uint32_t options) {
    enter(id)->options = options;
    sd_unlock();
}

void sd_fail(int id, uint32_t kinds, uint64_t after, uint64_t times, int code) {
    sd_disk *disk = enter(id);
    // A rule that is used up makes room.
    int kept = 0;
    for (int i = 0; i < disk->rule_count; i++) {
        if (disk->rules[i].times) disk->rules[kept++] = disk->rules[i];
    }
    if (kept == RULES_MAX) abort();
    disk->rules[kept] = (sd_rule){.kinds = kinds, .after = after, .times = times, .code = code};
    disk->rule_count = kept + 1;
    sd_unlock();
}

void sd_heal(int id) {
    enter(id)->rule_count = 0;
    sd_unlock();
}

void sd_set_capacity(int id, uint64_t bytes) {
    enter(id)->capacity = bytes;
    sd_unlock();
}

void sd_set_read_only(int id, bool read_only) {
    enter(id)->read_only = read_only;
    sd_unlock();
}

void sd_stop_after(int id, uint64_t calls) {
    sd_disk *disk = enter(id);
    disk->stop_after = calls;
    disk->stopped |= calls == 0;
    sd_unlock();
}

bool sd_is_stopped(int id) {
    bool stopped = enter(id)->stopped;
    sd_unlock();
    return stopped;
}

uint64_t sd_count(int id, uint32_t kinds) {
    sd_disk *disk = enter(id);
    uint64_t sum = 0;
    for (int i = 0; i < KINDS; i++) sum += kinds & (1u << i) ? disk->counts[i] : 0;
    sd_unlock();
    return sum;
}

uint64_t sd_bytes_written(int id) {
    uint64_t bytes = enter(id)->bytes_written;
    sd_unlock();
    return bytes;
}

int sd_handle_count(int id) {
    int count = 0;
    for (sd_handle *handle = enter(id)->handles; handle; handle = handle->next) count++;
    sd_unlock();
    return count;
}

int sd_corrupt(int id, const char *name, uint64_t seed) {
    sd_file *file = sd_lookup(enter(id), name);
    int count = file && file->current.size ? 1 + (int)below(&seed, 16) : 0;
    for (int i = 0; i < count; i++) {
        size_t at = below(&seed, file->current.size);
        uint8_t flip = 1 + below(&seed, 255);
        file->current.at[at] ^= flip;
        if (at < file->durable.size) file->durable.at[at] ^= flip;
        // Else the next sync would undo it.
        for (size_t j = 0; j < file->count; j++) {
            sd_change *change = &file->unsynced[j];
            if (change->data && at >= change->offset && at - change->offset < change->length) change->data[at - change->offset] ^= flip;
        }
    }
    sd_unlock();
    return count;
}

int64_t sd_size(int id, const char *name) {
    sd_file *file = sd_lookup(enter(id), name);
    int64_t size = file ? (int64_t)file->current.size : -1;
    sd_unlock();
    return size;
}

size_t sd_copy(int id, const char *name, uint64_t offset, void *to, size_t length) {
    sd_file *file = sd_lookup(enter(id), name);
    size_t there = file && offset < file->current.size ? file->current.size - offset : 0;
    if (there > length) there = length;
    if (there) memcpy(to, file->current.at + offset, there);
    sd_unlock();
    return there;
}

// FNV-1a.
static uint64_t hash(uint64_t value, const uint8_t *at, size_t length) {
    for (size_t i = 0; i < length; i++) value = (value ^ at[i]) * 0x100000001b3u;
    return value;
}

uint64_t sd_digest(int id) {
    sd_disk *disk = enter(id);
    uint64_t value = 0xcbf29ce484222325u;
    for (int i = 0; i < disk->entry_count; i++) {
        sd_entry *entry = &disk->entries[i];
        if (!entry->current) continue;
        value = hash(value, (const uint8_t *)entry->name, strlen(entry->name) + 1);
        value = hash(value, (const uint8_t *)&entry->current->current.size, sizeof(size_t));
        value = hash(value, entry->current->current.at, entry->current->current.size);
    }
    sd_unlock();
    return value;
}
