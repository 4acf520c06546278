// Makes chosen system calls fail, and writes down in which order calls were made.
// Loaded with LD_PRELOAD; told what to do through fault_set and fault_log, which the program calls by ctypes.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WRITE, FDATASYNC, FSYNC, RENAME, CALLS };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int chosen = -1, every, error_number, shorten, log_descriptor = -1;
static long seen, hits;
static char wanted[256];

void fault_set(int call, int nth, int error, int short_write, const char *part) {
    pthread_mutex_lock(&lock);
    chosen = call, every = nth, error_number = error, shorten = short_write;
    seen = hits = 0;
    snprintf(wanted, sizeof wanted, "%s", part);
    pthread_mutex_unlock(&lock);
}
long fault_hits(void) { return hits; }
void fault_log(int descriptor) { log_descriptor = descriptor; }

static int path_of(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    path[length < 0 ? 0 : length] = 0;
    return length >= 0 && strstr(path, wanted) != NULL;
}
static int due(int call, int fd) {
    char path[4096];
    int hit = 0;
    if (chosen != call || every == 0) return 0;
    if (fd >= 0 && !path_of(fd, path, sizeof path)) return 0;
    pthread_mutex_lock(&lock);
    if (++seen % every == 0) hit = 1, hits++;
    pthread_mutex_unlock(&lock);
    return hit;
}
static void note(const char *what, int fd, const char *detail, int length, long size, int result) {
    char path[4096], line[8192];
    if (log_descriptor < 0 || fd == log_descriptor) return;
    path_of(fd, path, sizeof path);
    int made = snprintf(line, sizeof line, "%s\t%s\t%ld\t%d\t%.*s\n", what, path, size, result, length, detail);
    syscall(SYS_write, log_descriptor, line, made);
}

ssize_t write(int fd, const void *data, size_t length) {
    if (due(WRITE, fd)) {
        if (!shorten) { errno = error_number; return -1; }
        return syscall(SYS_write, fd, data, length * 2 / 3);
    }
    return syscall(SYS_write, fd, data, length);
}
int fdatasync(int fd) {
    struct stat now;
    fstat(fd, &now);
    int result = due(FDATASYNC, fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
    if (result) errno = error_number;
    note("sync", fd, "", 0, (long)now.st_size, result);
    if (result) errno = error_number;
    return result;
}
int fsync(int fd) {
    if (due(FSYNC, fd)) { errno = error_number; return -1; }
    return (int)syscall(SYS_fsync, fd);
}
int rename(const char *from, const char *to) {
    if (due(RENAME, -1)) { errno = error_number; return -1; }
    return (int)syscall(SYS_rename, from, to);
}
ssize_t send(int fd, const void *data, size_t length, int flags) {
    note("send", fd, data, (int)length, 0, 0);
    return syscall(SYS_sendto, fd, data, length, flags, NULL, 0);
}
