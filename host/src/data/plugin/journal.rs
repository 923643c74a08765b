//! What plugins write: the `log` import, stdout and stderr, as events of tracing, line by line and at a bounded rate.
//!
//! A line that exceeds the rate is counted and never formatted: a flood of a million lines costs about as much as a
//! million empty calls. What was cut is said once a second, and at the end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::{Level, event};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// A longer line is cut into several.
const LINE_BYTES_MAX: usize = 8 << 10;
/// What is kept to explain a trap: the last error, or the end of stderr.
const LAST_WORDS_BYTES: usize = 512;
/// What a stream takes in one write.
const WRITE_BYTES: usize = 64 << 10;

/// How much a plugin may write, over all of its instances.
pub(super) struct Rate {
    plugin: Arc<str>,
    bytes_per_second: usize,
    started: Instant,
    second: AtomicU64,
    used: AtomicUsize,
    cut: AtomicU64,
    /// Of this plugin, since the process began.
    bytes_cut: Arc<AtomicU64>,
}

/// By plugin, the bytes that were cut since the process began: numbers outlive generations.
static BYTES_CUT: Mutex<BTreeMap<Arc<str>, Arc<AtomicU64>>> = Mutex::new(BTreeMap::new());

/// By plugin, the bytes that it logged beyond its rate since the process began.
pub fn log_bytes_cut() -> Vec<(String, u64)> {
    let counted = BYTES_CUT.lock().unwrap_or_else(PoisonError::into_inner);
    counted.iter().map(|(plugin, bytes)| (plugin.to_string(), bytes.load(Relaxed))).collect()
}

impl Rate {
    pub(super) fn new(plugin: Arc<str>, bytes_per_second: usize) -> Self {
        let bytes_cut = {
            let mut counted = BYTES_CUT.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(counted.entry(Arc::clone(&plugin)).or_default())
        };
        Self {
            plugin,
            bytes_cut,
            bytes_per_second,
            started: Instant::now(),
            second: AtomicU64::new(0),
            used: AtomicUsize::new(0),
            cut: AtomicU64::new(0),
        }
    }

    /// Whether a line may be written. The first one of a second always may, whatever its length.
    fn admits(&self, bytes: usize) -> bool {
        self.turn();
        // A flood stops here, before anything is added: the counter can't run over.
        if self.used.load(Relaxed) >= self.bytes_per_second {
            return self.cut(bytes);
        }
        let before = self.used.fetch_add(bytes.max(1), Relaxed);
        if before > 0 && before + bytes > self.bytes_per_second {
            return self.cut(bytes);
        }
        true
    }

    /// Counts a line that isn't written.
    fn cut(&self, bytes: usize) -> bool {
        self.cut.fetch_add(1, Relaxed);
        self.bytes_cut.fetch_add(bytes as u64, Relaxed);
        false
    }

    /// Begins the next second, if it has come, and says what was cut in the last one.
    pub(super) fn turn(&self) {
        let second = self.started.elapsed().as_secs();
        if self.second.swap(second, Relaxed) != second {
            self.used.store(0, Relaxed);
            self.report();
        }
    }

    fn report(&self) {
        let lines = self.cut.swap(0, Relaxed);
        if lines > 0 {
            tracing::warn!(
                target: "plugin",
                plugin = &*self.plugin,
                lines,
                log_bytes_per_second = self.bytes_per_second,
                "Lines of the plugin's log were cut."
            );
        }
    }
}

impl Drop for Rate {
    fn drop(&mut self) {
        self.report();
    }
}

/// The log of one instance.
pub(super) struct Journal {
    rate: Arc<Rate>,
    route: String,
    last_words: String,
    line: String,
    /// What stdout and stderr hold beyond their last whole line.
    rests: [Vec<u8>; 2],
}

impl Journal {
    pub(super) fn new(rate: Arc<Rate>, route: &str) -> Self {
        Self {
            rate,
            route: route.to_owned(),
            last_words: String::new(),
            line: String::new(),
            rests: Default::default(),
        }
    }

    /// A call begins: what was said before explains nothing that follows.
    pub(super) fn begin(&mut self, route: &str) {
        self.flush();
        if self.route != route {
            self.route.clear();
            self.route.push_str(route);
        }
        self.last_words.clear();
    }

    /// Whether a line of so many bytes may be written; if not, it is counted as cut.
    pub(super) fn admits(&self, bytes: usize) -> bool {
        self.rate.admits(bytes)
    }

    /// Makes the line that [`Journal::emit`] writes and [`Journal::remember`] keeps.
    pub(super) fn format<'a>(&mut self, message: &str, fields: impl Iterator<Item = (&'a str, &'a str)>) {
        self.line.clear();
        self.line.push_str(clip(message, LINE_BYTES_MAX));
        for (name, value) in fields {
            if self.line.len() >= LINE_BYTES_MAX {
                break;
            }
            let _ = write!(self.line, " {}={:?}", clip(name, LINE_BYTES_MAX), clip(value, LINE_BYTES_MAX));
        }
    }

    /// Writes the line, which was admitted.
    pub(super) fn emit(&self, level: Level) {
        let (plugin, route, line) = (&*self.rate.plugin, self.route.as_str(), self.line.as_str());
        macro_rules! at {
            ($level:expr) => {
                event!(target: "plugin", $level, plugin, route, "{line}")
            };
        }
        match level {
            Level::TRACE => at!(Level::TRACE),
            Level::DEBUG => at!(Level::DEBUG),
            Level::INFO => at!(Level::INFO),
            Level::WARN => at!(Level::WARN),
            Level::ERROR => at!(Level::ERROR),
        }
    }

    /// Remembers the line, which may explain a trap that follows.
    pub(super) fn remember(&mut self) {
        self.last_words.clear();
        self.last_words.push_str(clip(&self.line, LAST_WORDS_BYTES));
    }

    /// What may explain a trap.
    pub(super) fn last_words(&self) -> &str {
        self.last_words.trim()
    }

    /// Takes what is written to a stream, line by line.
    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let mut rest = std::mem::take(&mut self.rests[stream as usize]);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(piece);
            if rest.ends_with(b"\n") || rest.len() >= LINE_BYTES_MAX {
                let line = rest.strip_suffix(b"\n").unwrap_or(&rest);
                self.line_of_stream(stream, line.strip_suffix(b"\r").unwrap_or(line));
                rest.clear();
            }
        }
        self.rests[stream as usize] = rest;
    }

    /// Writes lines that have no end as yet.
    pub(super) fn flush(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.rests[stream as usize].is_empty() {
                self.take(stream, b"\n");
            }
        }
    }

    fn line_of_stream(&mut self, stream: Stream, line: &[u8]) {
        let admitted = self.admits(line.len());
        if !admitted && stream == Stream::Stdout {
            return;
        }
        let text = String::from_utf8_lossy(line);
        if stream == Stream::Stderr && self.last_words.len() < LAST_WORDS_BYTES && !text.starts_with("note: ") {
            if !self.last_words.is_empty() {
                self.last_words.push(' ');
            }
            self.last_words.push_str(clip(&text, LAST_WORDS_BYTES));
        }
        if admitted {
            self.format(&text, std::iter::empty());
            self.emit(stream.level());
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.flush();
    }
}

/// At most so many bytes of a text, and whole characters.
pub(super) fn clip(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// One of the two that a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Logged at the level info.
    Stdout,
    /// Logged at the level warn.
    Stderr,
}

impl Stream {
    fn level(self) -> Level {
        match self {
            Stream::Stdout => Level::INFO,
            Stream::Stderr => Level::WARN,
        }
    }
}

/// Stdout or stderr of an instance.
#[derive(Clone)]
pub(super) struct LogStream {
    stream: Stream,
    journal: Arc<Mutex<Journal>>,
}

impl LogStream {
    pub(super) fn new(stream: Stream, journal: Arc<Mutex<Journal>>) -> Self {
        Self { stream, journal }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    /// Only WASI 0.1 and 0.3 ask for this one; neither is linked.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for LogStream {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        lock(&self.journal).take(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

/// A lock that is only ever held for a moment, by code that leaves nothing half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
