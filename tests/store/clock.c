// Sets the wall clock of one process forward and back, as far as it can see; the monotonic clock goes on.
// Loaded with LD_PRELOAD; told by how many seconds through clock_jump, which the program calls by ctypes.
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset;

void clock_jump(long seconds) { __atomic_store_n(&offset, seconds, __ATOMIC_SEQ_CST); }

int clock_gettime(clockid_t clock, struct timespec *found) {
    int result = (int)syscall(SYS_clock_gettime, clock, found);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        found->tv_sec += __atomic_load_n(&offset, __ATOMIC_SEQ_CST);
    return result;
}
int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    found->tv_sec = now.tv_sec, found->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}
