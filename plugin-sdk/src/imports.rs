//! What the host gives a plugin: in WebAssembly the component's imports, natively the test harness. It never interprets
//! what passes.

#[cfg(target_family = "wasm")]
mod guest {
    use crate::bindings::midplane::plugin::log::{self, Level as WitLevel};
    use crate::bindings::midplane::plugin::results::{self, Failure as WitFailure};
    use crate::log::Level;
    use crate::{Failure, FailureKind};

    pub(crate) fn push(rows: &[u32], bytes: &[u8]) {
        results::push(rows, bytes);
    }

    pub(crate) fn fail(event: u32, failure: Failure) {
        let message = failure.message().to_owned();
        let failure = match failure.kind() {
            FailureKind::Transient => WitFailure::Transient(message),
            FailureKind::Permanent => WitFailure::Permanent(message),
        };
        results::fail(event, &failure);
    }

    pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
        let level = match level {
            Level::Trace => WitLevel::Trace,
            Level::Debug => WitLevel::Debug,
            Level::Info => WitLevel::Info,
            Level::Warn => WitLevel::Warn,
            Level::Error => WitLevel::Error,
        };
        log::log(level, message, fields);
    }
}

#[cfg(target_family = "wasm")]
pub(crate) use guest::{fail, log, push};

#[cfg(not(target_family = "wasm"))]
pub(crate) use crate::test::imports::{fail, log, push};
