//! What the host keeps beside an instance: its limits, its time, its log, and the imports that it calls.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::component::{ComponentType, Lift, Linker, ResourceTable, WasmList, WasmStr};
use wasmtime::{OutOfMemory, ResourceLimiter, StoreContextMut, Trap, WasmBacktrace};
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};

use super::columnar::{self, Results};
use super::deadline::Budget;
use super::journal::{Journal, LogStream, Rate, Stream, clip, lock};
use super::wasi::{self, Clock, Random};
use crate::config::model::{Grants, Limits};
use crate::data::failure::{Failure, Kind};

/// Handles to resources of the host that an instance may hold at a time.
const RESOURCES_MAX: usize = 10_000;
/// Core instances, memories and tables in one component. Adapters and shims need a few of each.
const PARTS_MAX: usize = 100;
/// Fields of one line of log that are looked at.
const LOG_FIELDS_MAX: usize = 64;
/// Bytes of a failure's message.
pub(super) const MESSAGE_BYTES_MAX: usize = 2 << 10;

/// The data of a store.
pub(super) struct State {
    pub(super) table: ResourceTable,
    wasi: WasiCtx,
    pub(super) limiter: Limiter,
    pub(super) budget: Budget,
    pub(super) clock: Clock,
    pub(super) random: Random,
    journal: Arc<Mutex<Journal>>,
    /// Where a columnar plugin's answers go; only while it is called.
    pub(super) results: Option<Box<Results>>,
    /// The same between two calls. None: it never was configured.
    pub(super) spare_results: Option<Box<Results>>,
    /// What the host found wrong before it made the guest trap.
    fault: Option<Failure>,
}

impl State {
    pub(super) fn new(limits: &Limits, grants: &Grants, rate: Arc<Rate>, route: &str) -> Self {
        let journal = Arc::new(Mutex::new(Journal::new(rate, route)));
        let mut wasi = WasiCtx::builder();
        wasi.allow_tcp(false)
            .allow_udp(false)
            .stdout(LogStream::new(Stream::Stdout, Arc::clone(&journal)))
            .stderr(LogStream::new(Stream::Stderr, Arc::clone(&journal)));
        for name in &grants.env {
            if let Ok(value) = std::env::var(name) {
                wasi.env(name, value);
            }
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            table,
            wasi: wasi.build(),
            limiter: Limiter::new(limits),
            budget: Budget::default(),
            clock: Clock::new(grants.clock),
            random: Random::new(grants.random),
            journal,
            results: None,
            spare_results: None,
            fault: None,
        }
    }

    /// A call begins.
    pub(super) fn begin(&mut self, route: &str, deadline: Duration) {
        self.fault = None;
        (self.limiter.denied, self.limiter.failed) = (None, None);
        lock(&self.journal).begin(route);
        self.budget = Budget::start(deadline);
    }

    /// Notes what is wrong, and gives the error that makes the guest trap.
    pub(super) fn fault(&mut self, failure: Failure) -> wasmtime::Error {
        let error = wasmtime::Error::msg(failure.message.clone());
        self.fault.get_or_insert(failure);
        error
    }

    /// What a call that ended with an error means.
    pub(super) fn explain(&mut self, error: &wasmtime::Error) -> Failure {
        let mut failure = match self.fault.take() {
            Some(fault) => fault,
            None => self.explain_trap(error),
        };
        failure.message.truncate(failure.message.floor_char_boundary(MESSAGE_BYTES_MAX));
        failure
    }

    fn explain_trap(&mut self, error: &wasmtime::Error) -> Failure {
        if let Some(error) = self.limiter.failed.take() {
            return host_is_short(&error);
        }
        if let Some(denied) = self.limiter.denied.take() {
            return Failure::new(Kind::Memory, denied);
        }
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Failure::new(Kind::Trap, format!("the plugin called `exit({})`", exit.0));
        }
        let root = error.root_cause().to_string();
        // The library has no public type for this one; a test holds on to its text.
        if root.contains("fuel allocated for hostcalls has been exhausted") {
            return Failure::new(
                Kind::Output,
                "the outputs of one call exceed what the limits `output` and `outputs` allow",
            );
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::StackOverflow) => Failure::new(Kind::Stack, format!("stack overflow{}", frames(error))),
            Some(Trap::Interrupt) if !self.budget.is_used_up() => host_is_starved(&self.budget),
            Some(Trap::Interrupt) => {
                let (limit, spent) = (self.budget.limit(), self.budget.spent());
                let message = format!("no answer within its deadline of {limit:?} ({spent:?} of CPU time and waiting)");
                Failure::new(Kind::Deadline, message + &frames(error))
            }
            None if is_of_system(error) => host_is_short(&format!("{error:#}")),
            _ => {
                let mut journal = lock(&self.journal);
                journal.flush();
                let words = journal.last_words();
                let root = root.strip_prefix("wasm trap: ").unwrap_or(&root);
                let message = if words.is_empty() { root.to_owned() } else { format!("{words} ({root})") };
                Failure::new(Kind::Trap, message + &frames(error))
            }
        }
    }
}

/// Whether the system refused something to the host: memory, address space, a file. The engine's errors of this sort have no
/// public type, but each ends with its number.
fn is_of_system(error: &wasmtime::Error) -> bool {
    error.is::<OutOfMemory>() || error.chain().any(|cause| cause.to_string().contains("(os error "))
}

/// What the host couldn't have is no fault of the guest that needed it, nor of its event.
fn host_is_short(error: &str) -> Failure {
    let message = format!(
        "this host lacks what the plugin needs within its limits: {error}; see to the host's memory, its `ulimit -v` and the \
         system's `vm.max_map_count`"
    );
    Failure::new(Kind::Transient, message)
}

/// Nor is that it had no CPU.
fn host_is_starved(budget: &Budget) -> Failure {
    let (limit, spent, looked_at) = (budget.limit(), budget.spent(), budget.looked_at());
    let message = format!(
        "this host let the plugin have {spent:?} of CPU time in {looked_at:?} and more, which its deadline of {limit:?} allows: \
         see to the load of the host, and to whoever reads its log"
    );
    Failure::new(Kind::Transient, message)
}

/// Where the guest was, innermost first, as far as the plugin carries names.
fn frames(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let names = backtrace.frames().iter().filter_map(|frame| frame.func_name());
    let names = names.take(8).map(|name| clip(name, 120)).collect::<Vec<_>>();
    if names.is_empty() { String::new() } else { format!(", in {}", names.join(" < ")) }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// Counts the memory and the tables of an instance, all of them together, and remembers what it denied: the guest is only
/// told -1, and what it does then is mostly to trap.
pub(super) struct Limiter {
    memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements: usize,
    table_elements_max: usize,
    pub(super) denied: Option<String>,
    /// What was granted, and the host couldn't have.
    failed: Option<String>,
}

impl Limiter {
    fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: 0,
            memory_bytes_max: limits.memory_bytes,
            table_elements: 0,
            table_elements_max: limits.table_elements,
            denied: None,
            failed: None,
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            self.denied = Some(format!("the plugin's own maximum of memory is exceeded by growing to {desired} bytes"));
            return Ok(false);
        }
        let total = self.memory_bytes + (desired - current);
        if total > self.memory_bytes_max {
            let max = self.memory_bytes_max;
            self.denied =
                Some(format!("growing the memory to {total} bytes exceeds the limit `memory` of {max} bytes"));
            return Ok(false);
        }
        self.memory_bytes = total;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        if is_of_system(&error) {
            self.failed = Some(format!("{error:#}"));
        }
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements + (desired - current);
        if maximum.is_some_and(|maximum| desired > maximum) || total > self.table_elements_max {
            let max = self.table_elements_max;
            self.denied = Some(format!("growing a table to {total} elements exceeds the limit `table` of {max}"));
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS_MAX
    }

    fn tables(&self) -> usize {
        PARTS_MAX
    }

    fn memories(&self) -> usize {
        PARTS_MAX
    }
}

/// Adds every import that a plugin may have.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    wasi::link(linker)?;
    linker.instance("midplane:plugin/types@0.1.0")?;
    linker.instance("midplane:plugin/log@0.1.0")?.func_wrap("log", log)?;
    columnar::link(linker)
}

#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "values come from the guest alone, through the derived code")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => Self::TRACE,
            Level::Debug => Self::DEBUG,
            Level::Info => Self::INFO,
            Level::Warn => Self::WARN,
            Level::Error => Self::ERROR,
        }
    }
}

type LogLine = (Level, WasmStr, WasmList<(WasmStr, WasmStr)>);

/// The import `log`. Nothing of a line that is cut is kept, but for an error: it may be the last words before a trap.
fn log(mut store: StoreContextMut<'_, State>, (level, message, fields): LogLine) -> wasmtime::Result<()> {
    store.data_mut().budget.forgive_line();
    let journal = Arc::clone(&store.data().journal);
    let mut journal = lock(&journal);
    let admitted = journal.admits(message.to_str(&store)?.len());
    let last_words = matches!(level, Level::Error);
    if !admitted && !last_words {
        return Ok(());
    }
    let message = message.to_str(&store)?.into_owned();
    let mut texts = Vec::new();
    for index in 0..fields.len().min(LOG_FIELDS_MAX) {
        if let Some(field) = fields.get(&mut store, index) {
            let (name, value) = field?;
            texts.push((name.to_str(&store)?.into_owned(), value.to_str(&store)?.into_owned()));
        }
    }
    let fields = texts.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    journal.format(&message, fields);
    if last_words {
        journal.remember();
    }
    if admitted {
        journal.emit(level.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_grow_as_far_as_is_allowed_all_together() {
        let mut limiter = Limiter::new(&Limits { table_elements: 100, ..Limits::DEFAULT });
        for (current, desired) in [(0, 60), (0, 20), (60, 80)] {
            assert!(limiter.table_growing(current, desired, None).expect("no trap"), "{current} to {desired}");
        }
        assert_eq!(limiter.denied, None);
        assert!(!limiter.table_growing(20, 21, None).expect("no trap"));
        let denied = "growing a table to 101 elements exceeds the limit `table` of 100";
        assert_eq!(limiter.denied.as_deref(), Some(denied));
    }
}
