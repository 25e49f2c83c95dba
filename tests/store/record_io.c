/* Preloaded into a test's child process: writes down what it does to files under one folder, and
 * lets chosen calls fail. The record is what a power cut is replayed from.
 *
 * SELFHEAL_RECORD_UNDER  only files whose path begins with this
 * SELFHEAL_RECORD_TO     the record; one entry a call, see below
 * SELFHEAL_FAIL_AT       number of the call (from 1) from which on writes fail, and
 * SELFHEAL_FAIL_WITH     with which errno; SELFHEAL_FAIL_FOR how many calls (default: all)
 * SELFHEAL_FAIL_WHILE    they fail, too, while there is a file of this name
 *
 * Entry: u8 kind, u32 file, u64 offset, u32 length, then the bytes. Kinds: 'O' open (bytes: path),
 * 'W' write, 'T' truncate to offset, 'S' synchronise, 'U' unlink (bytes: path), 'R' rename (bytes:
 * from NUL to), 'D' synchronise a folder. A file's number is its inode.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
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
#include <sys/types.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int record = -1;
static long calls, fail_at = -1, fail_for = -1;
static int fail_with;
static const char *fail_while;
static const char *under;

static void begin(void) {
  static int done;
  if (done) return;
  done = 1;
  under = getenv("SELFHEAL_RECORD_UNDER");
  const char *to = getenv("SELFHEAL_RECORD_TO");
  if (to) record = REAL(open)(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  fail_while = getenv("SELFHEAL_FAIL_WHILE");
  if (getenv("SELFHEAL_FAIL_AT")) fail_at = atol(getenv("SELFHEAL_FAIL_AT"));
  if (getenv("SELFHEAL_FAIL_WITH")) fail_with = atoi(getenv("SELFHEAL_FAIL_WITH"));
  if (getenv("SELFHEAL_FAIL_FOR")) fail_for = atol(getenv("SELFHEAL_FAIL_FOR"));
}

/* Counts calls anew, of which so many fail from one on: for a program that lives several lives. */
void selfheal_fail(long at, int with, long how_many) {
  begin();
  calls = 0;
  fail_at = at;
  fail_with = with;
  fail_for = how_many;
}

static int path_of(int fd, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, path, PATH_MAX - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return 1;
}

static int ours(const char *path) {
  begin();
  return under && strncmp(path, under, strlen(under)) == 0;
}

static int is_ours(int fd, uint32_t *file, int *folder) {
  char path[PATH_MAX];
  struct stat found;
  begin();
  if (!under || !path_of(fd, path) || !ours(path) || fstat(fd, &found)) return 0;
  *file = (uint32_t)found.st_ino;
  *folder = S_ISDIR(found.st_mode);
  return 1;
}

static void enter(char kind, uint32_t file, uint64_t offset, const void *data, uint32_t length) {
  unsigned char head[17];
  if (record < 0) return;
  head[0] = (unsigned char)kind;
  memcpy(head + 1, &file, 4);
  memcpy(head + 5, &offset, 8);
  memcpy(head + 13, &length, 4);
  pthread_mutex_lock(&mutex);
  if (REAL(write)(record, head, 17) != 17 || REAL(write)(record, data, length) != (ssize_t)length)
    abort();
  pthread_mutex_unlock(&mutex);
}

static int fails(void) {
  const long n = __sync_add_and_fetch(&calls, 1);
  if (fail_while && REAL(access)(fail_while, F_OK) == 0) {
    errno = fail_with;
    return 1;
  }
  if (fail_at < 0 || n < fail_at || (fail_for >= 0 && n >= fail_at + fail_for)) return 0;
  errno = fail_with;
  return 1;
}

static void opened(int fd, const char *path) {
  uint32_t file;
  int folder;
  const int kept = errno;
  if (fd >= 0 && is_ours(fd, &file, &folder) && !folder)
    enter('O', file, 0, path, (uint32_t)strlen(path));
  errno = kept;
}

#define OPEN(name)                                          \
  int name(const char *path, int flags, ...) {              \
    mode_t mode = 0;                                        \
    if (flags & (O_CREAT | __O_TMPFILE)) {                  \
      va_list rest;                                         \
      va_start(rest, flags);                                \
      mode = va_arg(rest, mode_t);                          \
      va_end(rest);                                         \
    }                                                       \
    if ((flags & O_CREAT) && ours(path) && fails()) return -1; \
    const int fd = REAL(name)(path, flags, mode);           \
    if (flags & (O_WRONLY | O_RDWR)) opened(fd, path);      \
    return fd;                                              \
  }
OPEN(open)
OPEN(open64)

#define PWRITE(name, offset_type)                                                     \
  ssize_t name(int fd, const void *data, size_t length, offset_type offset) {         \
    uint32_t file;                                                                    \
    int folder;                                                                       \
    const int mine = is_ours(fd, &file, &folder);                                     \
    if (mine && fails()) return -1;                                                   \
    const ssize_t n = REAL(name)(fd, data, length, offset);                           \
    if (mine && n > 0) enter('W', file, (uint64_t)offset, data, (uint32_t)n);         \
    return n;                                                                         \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *data, size_t length) {
  uint32_t file;
  int folder;
  const int mine = is_ours(fd, &file, &folder);
  const off_t offset = mine ? lseek(fd, 0, SEEK_CUR) : 0;
  if (mine && fails()) return -1;
  const ssize_t n = REAL(write)(fd, data, length);
  if (mine && n > 0) enter('W', file, (uint64_t)offset, data, (uint32_t)n);
  return n;
}

#define TRUNCATE(name, offset_type)                              \
  int name(int fd, offset_type length) {                         \
    uint32_t file;                                               \
    int folder;                                                  \
    const int mine = is_ours(fd, &file, &folder);                \
    if (mine && fails()) return -1;                              \
    const int result = REAL(name)(fd, length);                   \
    if (mine && !result) enter('T', file, (uint64_t)length, "", 0); \
    return result;                                               \
  }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                             \
  int name(int fd) {                                           \
    uint32_t file;                                             \
    int folder;                                                \
    const int mine = is_ours(fd, &file, &folder);              \
    if (mine && fails()) return -1;                            \
    const int result = REAL(name)(fd);                         \
    if (mine && !result) enter(folder ? 'D' : 'S', file, 0, "", 0); \
    return result;                                             \
  }
SYNC(fsync)
SYNC(fdatasync)

int unlink(const char *path) {
  if (ours(path) && fails()) return -1;
  const int result = REAL(unlink)(path);
  if (!result && ours(path)) enter('U', 0, 0, path, (uint32_t)strlen(path));
  return result;
}

int rename(const char *from, const char *to) {
  char both[2 * PATH_MAX];
  if (ours(to) && fails()) return -1;
  const int result = REAL(rename)(from, to);
  if (!result && ours(to)) {
    const size_t one = strlen(from) + 1, other = strlen(to);
    memcpy(both, from, one);
    memcpy(both + one, to, other);
    enter('R', 0, 0, both, (uint32_t)(one + other));
  }
  return result;
}
