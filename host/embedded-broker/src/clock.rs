//! The time, for all that is counted from it: that of the day when the broker started, and what has passed since. Setting the
//! machine's clock ends no transaction, and makes no record old. It never asks what it is asked for.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Tells the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    started_at: SystemTime,
}

impl Clock {
    /// One that begins now.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), started_at: SystemTime::now() }
    }

    /// The time.
    pub(crate) fn now(&self) -> SystemTime {
        self.started_at + self.started.elapsed()
    }

    /// When it is so late.
    pub(crate) fn instant(&self, at: SystemTime) -> Instant {
        self.started + at.duration_since(self.started_at).unwrap_or_default()
    }

    /// The time before which everything is older than this, by this clock, and by the machine's, too, which may have been wrong
    /// when this one started, and been set right since.
    pub(crate) fn ago(&self, age: Duration) -> Option<SystemTime> {
        self.now().min(SystemTime::now()).checked_sub(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn it_goes_on_by_itself() {
        let mut clock = Clock::start();
        // Whatever the machine's clock says.
        clock.started_at -= 24 * HOUR;
        let now = clock.now();
        assert!(now >= clock.started_at && now < clock.started_at + HOUR, "{clock:?} {now:?}");
        assert_eq!(clock.instant(clock.started_at + HOUR), clock.started + HOUR);
        assert_eq!(clock.instant(clock.started_at - HOUR), clock.started, "that was before");
    }

    #[test]
    fn what_is_old_is_so_by_both_clocks() {
        let now = SystemTime::now();
        let check = |started_at: SystemTime, expected: SystemTime| {
            let ago = Clock { started: Instant::now(), started_at }.ago(HOUR).unwrap();
            assert!(ago >= expected && ago < expected + HOUR, "{ago:?} {expected:?}");
        };
        check(now, now - HOUR);
        // The machine's clock was set ahead since: by the other, little time has passed.
        check(now - 24 * HOUR, now - 25 * HOUR);
        // It was ahead at the start, and has been set right since.
        check(now + 24 * HOUR, now - HOUR);
    }
}
