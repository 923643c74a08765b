//! Waiting for what is bound to happen: by looking, with a deadline, never by sleeping and hoping.

use std::time::{Duration, Instant};

/// For whatever should take well under a second, on a machine that does ten other things.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Looks until there is something.
///
/// # Panics
/// When there is nothing within the deadline: `what` says what was waited for.
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {deadline:?} in vain: {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

/// Looks until it is so.
///
/// # Panics
/// When it isn't so within the deadline: `what` says what was waited for.
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, deadline, || condition().then_some(()));
}
