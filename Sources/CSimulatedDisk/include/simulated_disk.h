// An SQLite VFS whose files live in memory on a simulated disk that can lose its power, fill up and fail.
//
// A path `/simulated/<id>/<name>` is the file <name> of the disk <id>; every other path goes to the VFS that was the default before.
// The VFS is the default one, because GRDB opens with a NULL VFS name.
//
// A file has a current content, which reads see, and a durable content, which a power cut cannot take away. Writes and truncations
// between the two are kept in order. xSync makes them durable; a power cut keeps those that its seed chooses.
// Names are likewise: a created file may be gone after a power cut until its first sync, and a deleted one may be back
// unless the folder was synced: by a delete that asks for it, or with the first sync of a journal or log opened to be created,
// as SQLite's unix VFS does. Temporary files without a name are not simulated: SQLite puts them in /tmp.
//
// All functions may be called on any thread. An id that is no disk's is a broken test and aborts.
// This header does not include sqlite3.h: GRDB imports that one as a module of its own. Codes are SQLite's (primary or extended).

#ifndef SIMULATED_DISK_H
#define SIMULATED_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Kinds of calls, for sd_fail and sd_count.
#define SD_WRITE 1u
#define SD_SYNC 2u
#define SD_TRUNCATE 4u
#define SD_OPEN 8u
#define SD_DELETE 16u
#define SD_READ 32u
// The kinds that change the disk: what sd_stop_after counts.
#define SD_MUTATING 23u

// An option: after a failed sync each unsynced write is, with probability 1/2, never written by a later sync (and lost in a power cut),
// as Linux marks pages clean whose writeback failed.
#define SD_LOSE_AFTER_FAILED_SYNC 1u

// Registers the VFS "simulated" as the default. Idempotent. Returns SQLite's code.
int sd_register(void);

// A new empty disk; its id is above 0. The seed decides partial writes, lost pages and the randomness that SQLite gets on it.
int sd_create(uint64_t seed);
// Frees a disk. Handles still open go dead.
void sd_destroy(int id);
// A mask of options; 0 at first.
void sd_set_options(int id, uint32_t options);

// Power is cut: every open handle is dead (its calls return SQLITE_IOERR; close, unlock and unmap succeed), shared memory is gone,
// and each file becomes what was durable plus those of the unsynced changes that the seed chooses: usually a prefix,
// sometimes (1/4) any subset; the last one may be torn at a multiple of 512 bytes. The disk is no longer stopped.
void sd_power_cut(int id, uint64_t seed);
// The process is killed and the machine lives: handles are dead, shared memory is gone, contents stay as they are, unsynced changes too.
// The disk is no longer stopped.
void sd_kill(int id);

// After `after` more calls of these kinds the next `times` ones (UINT64_MAX: all) fail with `code`. A failed write may have written
// a beginning of its bytes. Rules add up, at most 16 at a time; the first that fits decides.
void sd_fail(int id, uint32_t kinds, uint64_t after, uint64_t times, int code);
// Takes all rules of sd_fail away.
void sd_heal(int id);
// A write that would make the sizes of all files add up to more than this returns SQLITE_FULL (what fits may be written). 0: no bound.
void sd_set_capacity(int id, uint64_t bytes);
// Read-only: opens fall back to reading or fail with SQLITE_CANTOPEN, deletes fail, writes give SQLITE_READONLY on a handle opened so
// and SQLITE_IOERR_WRITE on an older one.
void sd_set_read_only(int id, bool read_only);

// After so many more mutating calls every call on the disk fails with SQLITE_IOERR, until sd_power_cut or sd_kill:
// a crash between any two calls. 0: at once. UINT64_MAX: never.
void sd_stop_after(int id, uint64_t calls);
bool sd_is_stopped(int id);

// Calls of these kinds (one or a mask) so far, failed ones too, those on dead handles or a stopped disk not.
uint64_t sd_count(int id, uint32_t kinds);
// Bytes written so far, also over each other.
uint64_t sd_bytes_written(int id);
// Live open handles.
int sd_handle_count(int id);

// Flips 1 to 16 bytes of a file, in the current and the durable content. Returns how many; 0 for no such file or an empty one.
int sd_corrupt(int id, const char *name, uint64_t seed);
// The size of a file's current content; -1 if there is no such file.
int64_t sd_size(int id, const char *name);
// Copies current bytes of a file to `to`; returns how many there were, at most `length`.
size_t sd_copy(int id, const char *name, uint64_t offset, void *to, size_t length);
// A hash over the names and current contents of all files: equal for equal disks.
uint64_t sd_digest(int id);

// SQLite's randomness (WAL salts, journal nonces, random()) comes from the disk that the thread called last, from its own generator.
// SQLite's generator is one for the process, so this library takes the place of sqlite3_randomness: that is what makes
// simulations on parallel threads reproducible. Elsewhere (an in-memory database, a file not simulated) randomness is real,
// unless it was seeded for the thread with this function; 0 makes it real again.
void sd_seed_randomness(uint64_t seed);

// A thin handle over a connection, for tests of the disk itself that want no other library.
typedef struct sd_sql sd_sql;
// Opens (and creates) a database. NULL on failure, with the extended code in *code.
sd_sql *sd_sql_open(const char *path, int *code);
// Runs statements to the first failure. Returns the extended code (0: all done) and in `out` the columns of all rows,
// one row a line, columns separated by '|', cut at `size`.
int sd_sql_run(sd_sql *database, const char *statements, char *out, size_t size);
void sd_sql_close(sd_sql *database);

#endif
