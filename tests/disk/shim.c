/*
 * Stands between a program and the kernel, by LD_PRELOAD, and writes down every call that changes a
 * file or a name below one folder, and every call that syncs one: in the order in which they took
 * effect, with what was written. C, because a library that is preloaded can't be had in safe Rust.
 *
 *   SHIM_FOLDER   below it everything is written down; an absolute path without links
 *   SHIM_JOURNAL  where to; the format stands at `struct entry`, journal.rs reads it
 *   SHIM_SYNC_US  how long a sync takes, in microseconds (0)
 *   SHIM_FAULT    what fails: see `read_fault`
 *
 * The kernel is not asked to sync: the power that is cut here is the journal's, and the disk of
 * whoever runs the test has other work to do. What this library doesn't know of (a mapped file,
 * io_uring, a system call made by hand) shows when the journal is replayed and compared with the folder.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Changes of one file or directory are told apart by `inode`, names by `path`, relative to the folder. */
struct entry {
    uint32_t kind;
    uint32_t path_len; /* the path follows, and then the data */
    uint64_t inode;
    uint64_t at;   /* a write's place, a new length, a sync's number, when a fault was (Unix, ms) */
    uint64_t data_len; /* what was written; of a rename, the new path */
};

enum kind {
    CREATE = 1,
    WRITE = 2,
    SET_LENGTH = 3,
    RENAME = 4,
    UNLINK = 5,
    MAKE_DIRECTORY = 6,
    SYNC_BEGINS = 7,
    SYNC_ENDED = 8,
    FAULT = 9,
};

/* A disk takes its time until it says that something failed, and others wait for it by then. */
#define FAILURE_US 10000

/* Held while a change is made and written down, so that the journal has the order of the changes. */
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_len;
static int journal = -1;
static unsigned sync_us;
static uint64_t syncs_begun;

static struct {
    enum { NOTHING, CHANGES, SYNCS } what;
    uint64_t nth;
    int error;
    enum { ONCE, FROM_THEN_ON, SHORT } how;
    uint64_t changes, syncs;
    int happened;
} fault;

static void give_up(const char *why) {
    fprintf(stderr, "shim: %s: %s\n", why, strerror(errno));
    abort();
}

/* "change:17:28:on": the 17th change (from 0) and all after it fail with ENOSPC. "sync:…" counts the
 * syncs; one that fails with error 0 does nothing and says that it did. "…:once": only that one.
 * "…:short": half of it is done, and all after it fail. */
static void read_fault(const char *text) {
    char what[8], how[8];
    unsigned long nth;
    if (sscanf(text, "%7[a-z]:%lu:%d:%7s", what, &nth, &fault.error, how) != 4) give_up(text);
    fault.what = strcmp(what, "sync") == 0 ? SYNCS : CHANGES;
    fault.how = strcmp(how, "once") == 0 ? ONCE : strcmp(how, "short") == 0 ? SHORT : FROM_THEN_ON;
    fault.nth = nth;
}

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("SHIM_FOLDER"), *to = getenv("SHIM_JOURNAL");
    if (!path || !to) return;
    folder_len = (size_t)snprintf(folder, sizeof folder, "%s", path);
    journal = (int)syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (journal < 0) give_up(to);
    const char *us = getenv("SHIM_SYNC_US"), *text = getenv("SHIM_FAULT");
    sync_us = us ? (unsigned)atoi(us) : 0;
    if (text) read_fault(text);
}

/* --- the journal ------------------------------------------------------------------------------- */

static void note(enum kind kind, const char *path, uint64_t inode, uint64_t at, const struct iovec *data,
                 int pieces, size_t data_len) {
    struct entry entry = {kind, path ? (uint32_t)strlen(path) : 0, inode, at, data_len};
    struct iovec all[IOV_MAX] = {{&entry, sizeof entry}, {(void *)path, entry.path_len}};
    size_t left = data_len;
    int count = 2;
    for (int i = 0; i < pieces && left > 0; i++) {
        size_t len = data[i].iov_len < left ? data[i].iov_len : left;
        all[count++] = (struct iovec){data[i].iov_base, len};
        left -= len;
    }
    size_t total = sizeof entry + entry.path_len + data_len;
    if (syscall(SYS_writev, journal, all, count) != (long)total) give_up("the journal can't be written");
}

static void note_change(enum kind kind, const char *path, uint64_t inode, uint64_t at) {
    note(kind, path, inode, at, NULL, 0, 0);
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Whether the call that is about to be made fails; for a short one, 1 the first time. */
static int fails(int is_sync, int *shortened) {
    uint64_t number = is_sync ? fault.syncs++ : fault.changes++;
    *shortened = 0;
    if (fault.what != (is_sync ? SYNCS : CHANGES) || number < fault.nth) return 0;
    if (fault.how == SHORT && number == fault.nth) {
        *shortened = 1;
        return 0;
    }
    if (fault.how == ONCE && number != fault.nth) return 0;
    if (!fault.happened) note_change(FAULT, NULL, 0, now_ms());
    fault.happened = 1;
    errno = fault.error;
    return 1;
}

/* --- what belongs to the folder ------------------------------------------------------------------ */

/* The path relative to the folder, or NULL when it isn't below it. */
static const char *below(const char *path) {
    if (journal < 0 || strncmp(path, folder, folder_len) != 0) return NULL;
    return path[folder_len] == '/' ? path + folder_len + 1 : path[folder_len] == 0 ? "" : NULL;
}

static const char *named(int dir, const char *path, char *buffer) {
    if (journal < 0) return NULL;
    if (path[0] == '/') return below(path);
    char link[64], base[PATH_MAX];
    snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
    ssize_t len = readlink(link, base, sizeof base - 1);
    if (len < 0) return NULL;
    base[len] = 0;
    if (snprintf(buffer, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) give_up("a path is too long");
    return below(buffer);
}

/* Whether a descriptor is a file or a directory below the folder. */
static int ours(int fd, struct stat *stat) {
    if (journal < 0 || fd == journal) return 0;
    int before = errno, found = 0;
    char link[64], path[PATH_MAX];
    if (fstat(fd, stat) == 0 && (S_ISREG(stat->st_mode) || S_ISDIR(stat->st_mode))) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t len = readlink(link, path, sizeof path - 1);
        path[len < 0 ? 0 : len] = 0;
        found = below(path) != NULL;
    }
    errno = before;
    return found;
}

static uint64_t inode_at(int dir, const char *path) {
    struct stat stat;
    return fstatat(dir, path, &stat, AT_SYMLINK_NOFOLLOW) == 0 ? stat.st_ino : 0;
}

#define LOCKED(result, call)                                                                             \
    int shortened;                                                                                       \
    pthread_mutex_lock(&order);                                                                          \
    long result = fails(0, &shortened) ? -1 : (call);                                                    \
    int failure = errno;

#define UNLOCKED(result)                                                                                 \
    pthread_mutex_unlock(&order);                                                                        \
    if (result < 0) usleep(FAILURE_US);                                                                  \
    errno = failure;                                                                                     \
    return result;

/* --- names --------------------------------------------------------------------------------------- */

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    char buffer[PATH_MAX];
    const char *name = named(dir, path, buffer);
    if (!name || !(flags & (O_CREAT | O_TRUNC))) return (int)syscall(SYS_openat, dir, path, flags, mode);
    uint64_t before = inode_at(dir, path);
    if (before == 0 || (flags & O_TRUNC)) {
        LOCKED(fd, syscall(SYS_openat, dir, path, flags, mode))
        if (fd >= 0 && before == 0) note_change(CREATE, name, inode_at(dir, path), 0);
        if (fd >= 0 && before != 0) note_change(SET_LENGTH, name, before, 0);
        UNLOCKED((int)fd)
    }
    return (int)syscall(SYS_openat, dir, path, flags, mode);
}

#define OPEN(name, ...)                                                                                  \
    int name(__VA_ARGS__, int flags, ...) {                                                              \
        va_list rest;                                                                                    \
        va_start(rest, flags);                                                                           \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                          \
        va_end(rest);

OPEN(open, const char *path) return open_at(AT_FDCWD, path, flags, mode); }
OPEN(open64, const char *path) return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
OPEN(openat, int dir, const char *path) return open_at(dir, path, flags, mode); }
OPEN(openat64, int dir, const char *path) return open_at(dir, path, flags | O_LARGEFILE, mode); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char buffer[PATH_MAX], to_buffer[PATH_MAX];
    const char *name = named(from_dir, from, buffer), *new_name = named(to_dir, to, to_buffer);
    if (!name && !new_name) return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (!name || !new_name || flags) give_up("a rename of a kind that nobody writes down");
    LOCKED(done, syscall(SYS_renameat2, from_dir, from, to_dir, to, flags))
    struct iovec data = {(void *)new_name, strlen(new_name)};
    if (done == 0) note(RENAME, name, 0, 0, &data, 1, data.iov_len);
    UNLOCKED((int)done)
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renameat2(from_dir, from, to_dir, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int dir, const char *path, int flags) {
    char buffer[PATH_MAX];
    const char *name = named(dir, path, buffer);
    if (!name) return (int)syscall(SYS_unlinkat, dir, path, flags);
    LOCKED(done, syscall(SYS_unlinkat, dir, path, flags))
    if (done == 0) note_change(UNLINK, name, 0, 0);
    UNLOCKED((int)done)
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode) {
    char buffer[PATH_MAX];
    const char *name = named(dir, path, buffer);
    if (!name) return (int)syscall(SYS_mkdirat, dir, path, mode);
    LOCKED(done, syscall(SYS_mkdirat, dir, path, mode))
    if (done == 0) note_change(MAKE_DIRECTORY, name, inode_at(dir, path), 0);
    UNLOCKED((int)done)
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char buffer[PATH_MAX];
    if (named(to_dir, to, buffer)) give_up("a link, which nobody writes down");
    return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

/* --- data ---------------------------------------------------------------------------------------- */

/* `place` is negative for a write where the file stands. */
static ssize_t write_pieces(int fd, const struct iovec *pieces, int count, off_t place) {
    struct stat stat;
    if (!ours(fd, &stat)) {
        if (place < 0) return syscall(SYS_writev, fd, pieces, count);
        return syscall(SYS_pwritev, fd, pieces, count, place, 0);
    }
    if (syscall(SYS_fcntl, fd, F_GETFL) & O_APPEND) give_up("a file that is appended to");
    struct iovec half = {pieces[0].iov_base, pieces[0].iov_len / 2};
    off_t at = place < 0 ? (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR) : place;
    LOCKED(done, syscall(SYS_pwritev, fd, shortened ? &half : pieces, shortened ? 1 : count, at, 0))
    if (done > 0) {
        note(WRITE, NULL, stat.st_ino, (uint64_t)at, pieces, count, (size_t)done);
        if (place < 0) syscall(SYS_lseek, fd, at + done, SEEK_SET);
    }
    UNLOCKED(done)
}
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) {
    return write_pieces(fd, pieces, count, at);
}
ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off_t at) {
    return write_pieces(fd, pieces, count, at);
}
ssize_t writev(int fd, const struct iovec *pieces, int count) { return write_pieces(fd, pieces, count, -1); }
ssize_t pwrite(int fd, const void *data, size_t len, off_t at) {
    struct iovec piece = {(void *)data, len};
    return write_pieces(fd, &piece, 1, at);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off_t at) { return pwrite(fd, data, len, at); }
ssize_t write(int fd, const void *data, size_t len) {
    struct iovec piece = {(void *)data, len};
    return write_pieces(fd, &piece, 1, -1);
}

int ftruncate(int fd, off_t len) {
    struct stat stat;
    if (!ours(fd, &stat)) return (int)syscall(SYS_ftruncate, fd, len);
    LOCKED(done, syscall(SYS_ftruncate, fd, len))
    if (done == 0) note_change(SET_LENGTH, NULL, stat.st_ino, (uint64_t)len);
    UNLOCKED((int)done)
}
int ftruncate64(int fd, off_t len) { return ftruncate(fd, len); }

#define NOT_WRITTEN_DOWN(call)                                                                           \
    struct stat stat;                                                                                    \
    if (ours(fd, &stat)) give_up(#call ", which nobody writes down");

int fallocate(int fd, int mode, off_t at, off_t len) {
    NOT_WRITTEN_DOWN(fallocate)
    return (int)syscall(SYS_fallocate, fd, mode, at, len);
}
int fallocate64(int fd, int mode, off_t at, off_t len) { return fallocate(fd, mode, at, len); }
ssize_t copy_file_range(int from, off_t *from_at, int fd, off_t *at, size_t len, unsigned flags) {
    NOT_WRITTEN_DOWN(copy_file_range)
    return syscall(SYS_copy_file_range, from, from_at, fd, at, len, flags);
}
ssize_t sendfile(int fd, int from, off_t *at, size_t len) {
    NOT_WRITTEN_DOWN(sendfile)
    return syscall(SYS_sendfile, fd, from, at, len);
}
ssize_t sendfile64(int fd, int from, off_t *at, size_t len) { return sendfile(fd, from, at, len); }

/* --- syncs --------------------------------------------------------------------------------------- */

/* What was changed while a sync was under way may or may not be covered by it: so its beginning
 * counts. One that only starts writing out (`durable` is 0) never ends: it promises nothing. */
static int sync_file(int fd, int durable) {
    struct stat stat;
    if (!ours(fd, &stat)) return 2;
    int shortened;
    pthread_mutex_lock(&order);
    int failed = fails(1, &shortened) || shortened;
    uint64_t number = syncs_begun++;
    if (!failed) note_change(SYNC_BEGINS, NULL, stat.st_ino, number);
    pthread_mutex_unlock(&order);
    if (failed) {
        usleep(FAILURE_US);
        errno = fault.error;
        return fault.error ? -1 : 0;
    }
    if (durable && sync_us) usleep(sync_us);
    if (durable) {
        pthread_mutex_lock(&order);
        note_change(SYNC_ENDED, NULL, stat.st_ino, number);
        pthread_mutex_unlock(&order);
    }
    return 0;
}
int fsync(int fd) {
    int done = sync_file(fd, 1);
    return done == 2 ? (int)syscall(SYS_fsync, fd) : done;
}
int fdatasync(int fd) {
    int done = sync_file(fd, 1);
    return done == 2 ? (int)syscall(SYS_fdatasync, fd) : done;
}
int sync_file_range(int fd, off_t at, off_t len, unsigned flags) {
    int done = sync_file(fd, 0);
    return done == 2 ? (int)syscall(SYS_sync_file_range, fd, at, len, flags) : done;
}
