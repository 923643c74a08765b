//! The imports of a plugin that runs natively: they keep what they are given, for the harness of the same thread.

use std::cell::RefCell;

use crate::Failure;
use crate::log::Level;

/// A line of the plugin's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// The message.
    pub message: String,
    /// Names and values.
    pub fields: Vec<(String, String)>,
}

/// What a batch's calls brought.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Rows and bytes of each `push`.
    pub(crate) pushed: Vec<(Vec<u32>, Vec<u8>)>,
    /// Events and failures of each `fail`.
    pub(crate) failures: Vec<(u32, Failure)>,
}

thread_local! {
    static RESULTS: RefCell<Option<Results>> = const { RefCell::new(None) };
    static LOGS: RefCell<Vec<LogLine>> = const { RefCell::new(Vec::new()) };
}

/// Begins to keep results.
pub(crate) fn begin() {
    RESULTS.set(Some(Results::default()));
}

/// Ends it, and gives them back.
pub(crate) fn end() -> Results {
    RESULTS.take().expect("`begin` comes before `end`")
}

pub(crate) fn take_logs() -> Vec<LogLine> {
    LOGS.take()
}

pub(crate) fn push(rows: &[u32], bytes: &[u8]) {
    with_results(|results| results.pushed.push((rows.to_vec(), bytes.to_vec())));
}

pub(crate) fn fail(event: u32, failure: Failure) {
    with_results(|results| results.failures.push((event, failure)));
}

fn with_results(keep: impl FnOnce(&mut Results)) {
    RESULTS.with_borrow_mut(|results| keep(results.as_mut().expect("results belong to a batch")));
}

pub(crate) fn log(level: Level, message: &str, fields: &[(String, String)]) {
    // The test runner shows this for tests that fail.
    eprintln!("{level:?}: {message} {fields:?}");
    LOGS.with_borrow_mut(|logs| logs.push(LogLine { level, message: message.to_owned(), fields: fields.to_vec() }));
}
