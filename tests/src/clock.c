/* The time of the day as a test sets it, for one process: loaded before the C library, whose functions it stands in for. The
 * clocks that nobody can set are left alone. See clock.rs. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

/* How far the clock is ahead, in nanoseconds: a file of the test's, which writes to it. */
static const volatile int64_t *ahead;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MIDPLANE_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *memory = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    /* A test that only seems to set the clock shows nothing. */
    if (memory == MAP_FAILED) abort();
    close(file);
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    ahead = memory;
}

static struct timespec of(int64_t time) {
    struct timespec spec = {time / SECOND, time % SECOND};
    return spec;
}

static int gettime(clockid_t clock, struct timespec *time) {
    return real_gettime ? real_gettime(clock, time) : (int)syscall(SYS_clock_gettime, clock, time);
}

static int64_t read_clock(clockid_t clock) {
    struct timespec time = {0, 0};
    gettime(clock, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static int64_t now(clockid_t clock) { return read_clock(clock) + (ahead ? *ahead : 0); }

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) return gettime(clock, time);
    *time = of(now(clock));
    return 0;
}

int gettimeofday(struct timeval *time, void *zone) {
    (void)zone;
    int64_t micros = now(CLOCK_REALTIME) / 1000;
    time->tv_sec = micros / 1000000;
    time->tv_usec = micros % 1000000;
    return 0;
}

time_t time(time_t *out) {
    time_t seconds = now(CLOCK_REALTIME) / SECOND;
    if (out) *out = seconds;
    return seconds;
}

int timespec_get(struct timespec *time, int base) {
    if (base != TIME_UTC) return 0;
    *time = of(now(CLOCK_REALTIME));
    return base;
}

/* Waits until a time of the day, as the kernel does: who waits goes on waiting where the clock was set back meanwhile. Where it
 * was set ahead, the kernel wakes them at once, and this when as much has passed as there was left. */
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    int64_t end = until->tv_sec * SECOND + until->tv_nsec;
    for (;;) {
        int64_t left = end - now(CLOCK_REALTIME);
        struct timespec look = of(read_clock(CLOCK_MONOTONIC) + (left > 0 ? left : 0));
        int outcome = pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &look);
        if (outcome != ETIMEDOUT || now(CLOCK_REALTIME) >= end) return outcome;
    }
}

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until) {
    switch (pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until)) {
        case 0: return thrd_success;
        case ETIMEDOUT: return thrd_timedout;
        default: return thrd_error;
    }
}
