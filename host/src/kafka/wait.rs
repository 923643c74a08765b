//! How the client waits: by a clock that nobody sets. Owns one function of the C library's, which librdkafka finds here instead;
//! no code of Midplane's calls it.
//!
//! librdkafka's threads wait until a time of the day, in `cnd_timedwait`. Where the machine's clock is set back by an hour
//! meanwhile, each of them would stand still for that hour, or until something wakes it: no heartbeats, no timers, and a shard
//! that doesn't come back from its poll.

use std::ffi::c_int;
use std::time::Duration;

use libc::{CLOCK_MONOTONIC, CLOCK_REALTIME, clockid_t, pthread_cond_t, pthread_mutex_t, timespec};

/// What C's `threads.h` calls its outcomes.
const SUCCESS: c_int = 0;
const ERROR: c_int = 2;
const TIMED_OUT: c_int = 4;

/// The longest wait. The time of the day may be set between the moment at which somebody adds a timeout to it and the one at
/// which it is subtracted again; librdkafka looks at the other clock when it is told that the time is over, and waits again.
const WAIT_MAX: Duration = Duration::from_secs(1);

unsafe extern "C" {
    /// The GNU C library's own, since 2.30: waits until a time of any clock.
    fn pthread_cond_clockwait(
        condition: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
}

/// Waits for a condition until a time of the day, by the clock that isn't set. In place of the C library's: a program's own
/// functions come first, also for the libraries that are linked into it.
///
/// # Safety
/// As C says: the condition and the mutex are live and made by the C library's functions, the caller has locked the mutex, and
/// the time can be read. The library's own conditions and mutexes of `threads.h` are those of `pthread.h`.
// SAFETY: the name is the C library's, and so are the type and what the function does.
#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: the caller promised it.
    let until = since_start(unsafe { *until });
    let wait = until.saturating_sub(now(CLOCK_REALTIME)).min(WAIT_MAX);
    let end = now(CLOCK_MONOTONIC) + wait;
    let end = timespec { tv_sec: end.as_secs() as _, tv_nsec: end.subsec_nanos() as _ };
    // SAFETY: the caller promised it.
    match unsafe { pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &end) } {
        0 => SUCCESS,
        libc::ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}

/// What a clock shows, since its own beginning.
fn now(clock: clockid_t) -> Duration {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time may be written to. Both clocks are there on every Linux: nothing fails.
    unsafe { libc::clock_gettime(clock, &mut time) };
    since_start(time)
}

/// A time as it is counted from its clock's beginning; none is before it.
fn since_start(time: timespec) -> Duration {
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// As librdkafka's waits do: through the name that C gives it. Gives the outcome, and how long it took.
    fn wait(until: Duration) -> (c_int, Duration) {
        let mut condition = libc::PTHREAD_COND_INITIALIZER;
        let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
        let until = timespec { tv_sec: until.as_secs() as _, tv_nsec: until.subsec_nanos() as _ };
        let begun = Instant::now();
        // SAFETY: both are made as C says, live for the calls, and used by this thread alone.
        let outcome = unsafe {
            libc::pthread_mutex_lock(&mut mutex);
            let outcome = cnd_timedwait(&mut condition, &mut mutex, &until);
            libc::pthread_mutex_unlock(&mut mutex);
            outcome
        };
        (outcome, begun.elapsed())
    }

    #[test]
    fn a_wait_ends_when_its_time_has_passed_and_never_long_after() {
        let time = now(CLOCK_REALTIME);
        assert_eq!(wait(time - Duration::from_secs(60)).0, TIMED_OUT, "what is over is not waited for");
        let short = Duration::from_millis(20);
        let (outcome, took) = wait(now(CLOCK_REALTIME) + short);
        assert_eq!(outcome, TIMED_OUT);
        assert!(took >= short - Duration::from_millis(5), "{took:?}");
        // As a clock that was set back an hour leaves it.
        let (outcome, took) = wait(now(CLOCK_REALTIME) + Duration::from_secs(3600));
        assert_eq!(outcome, TIMED_OUT);
        assert!(took >= WAIT_MAX, "{took:?}");
    }
}
