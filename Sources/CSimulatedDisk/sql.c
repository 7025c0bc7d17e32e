// The thin SQL handle of the disk's own tests.

#include "simulated_disk.h"
#include <sqlite3.h>
#include <stdio.h>

struct sd_sql; // an sqlite3 under another name, so that the public header needs no sqlite3.h

sd_sql *sd_sql_open(const char *path, int *code) {
    sqlite3 *database = NULL;
    *code = sqlite3_open_v2(path, &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (*code == SQLITE_OK) {
        sqlite3_extended_result_codes(database, 1);
        return (sd_sql *)database;
    }
    *code = sqlite3_extended_errcode(database);
    sqlite3_close_v2(database);
    return NULL;
}

typedef struct {
    char *at;
    size_t left;
} output;

static int row(void *to, int count, char **values, char **names) {
    output *out = to;
    (void)names;
    for (int i = 0; i < count; i++) {
        int length = snprintf(out->at, out->left, "%s%s", values[i] ? values[i] : "NULL", i + 1 < count ? "|" : "\n");
        size_t used = (size_t)length < out->left ? (size_t)length : out->left;
        out->at += used;
        out->left -= used;
    }
    return 0;
}

int sd_sql_run(sd_sql *database, const char *statements, char *out, size_t size) {
    output to = {.at = out, .left = size};
    if (size) *out = 0;
    return sqlite3_exec((sqlite3 *)database, statements, row, &to, NULL);
}

void sd_sql_close(sd_sql *database) { sqlite3_close_v2((sqlite3 *)database); }
