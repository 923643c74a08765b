//! What all plugins of a process share: the engine with its settings, the ticker, the imports, the compile cache, and one thread
//! that makes spare instances.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Weak};

use wasmtime::component::Linker;
use wasmtime::{Config, Engine};

use super::cache::{self, Cache};
use super::journal::{Rate, lock};
use super::load::{self, LoadError, Plugin};
use super::state::{self, State};
use super::ticker::Ticker;
use crate::config::model::{Limits, STACK_BYTES_MAX};

/// The stack of a guest's call, where nobody says otherwise.
pub const STACK_BYTES: usize = 1 << 20;
/// The stack of a thread that calls guests: theirs is a part of it, and the host's imports need some, too. What isn't used takes
/// no memory.
pub const THREAD_STACK_BYTES: usize = STACK_BYTES_MAX + (1 << 20);
/// Of a trap; a recursion would fill pages.
const FRAMES_MAX: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// How to set the runtime up.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Where compiled plugins are kept, so that a restart doesn't compile them again. Made if it isn't there. None: they
    /// aren't kept.
    pub cache_directory: Option<PathBuf>,
    /// The stack of a guest's call, at most [`STACK_BYTES_MAX`]. Where it is larger than [`STACK_BYTES`], whatever calls guests
    /// has a thread with [`THREAD_STACK_BYTES`].
    pub stack_bytes: usize,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { cache_directory: None, stack_bytes: STACK_BYTES }
    }
}

/// Why plugins can't be run at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks what the engine needs.
    #[error("the WebAssembly engine can't be set up on this machine")]
    Engine(#[source] wasmtime::Error),
    /// No threads.
    #[error("a thread of the WebAssembly engine can't be started")]
    Thread(#[source] std::io::Error),
    /// The folder of the compile cache.
    #[error("the compile cache can't use the folder `{}`", .path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl From<cache::Error> for Error {
    fn from(error: cache::Error) -> Self {
        Self::Cache { path: error.path, source: error.source }
    }
}

/// Loads plugins. Cheap to clone; all clones share everything.
#[derive(Clone)]
pub struct Runtime {
    pub(super) shared: Arc<Shared>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) linker: Linker<State>,
    pub(super) ticker: Ticker,
    pub(super) cache: Option<Cache>,
    background: Mutex<Sender<Job>>,
    rates: Mutex<Rates>,
}

/// The rates at which plugins may log, by plugin and bytes a second: however many routes and configs one has, it has one.
type Rates = BTreeMap<(Arc<str>, usize), Weak<Rate>>;

/// Something to do apart from the shards.
pub(super) type Job = Box<dyn FnOnce() + Send>;

impl Runtime {
    /// Sets the engine up and starts its threads.
    ///
    /// # Errors
    /// Where the machine or the cache folder doesn't allow it.
    pub fn new(options: RuntimeOptions) -> Result<Self, Error> {
        let engine = Engine::new(&engine_config(options.stack_bytes)).map_err(Error::Engine)?;
        let mut linker = Linker::new(&engine);
        state::link(&mut linker).map_err(Error::Engine)?;
        let cache = options.cache_directory.map(|path| Cache::open(path, &engine)).transpose()?;
        let ticker = Ticker::start(engine.clone()).map_err(Error::Thread)?;
        let (background, jobs) = channel::<Job>();
        // It ends when the last runtime, plugin and job are gone; nobody waits for it.
        std::thread::Builder::new()
            .name("plugin-spares".into())
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || jobs.into_iter().for_each(|job| job()))
            .map_err(Error::Thread)?;
        let (background, rates) = (Mutex::new(background), Mutex::default());
        let shared = Shared { engine, linker, ticker, cache, background, rates };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Verifies, compiles and describes a plugin, in that order. Takes from a millisecond (cached) to seconds (a large one
    /// that isn't); never to be called on a shard's thread.
    ///
    /// # Errors
    /// Whatever isn't a plugin that this host can run is refused, with the path to the mismatch and what to do.
    pub fn load(&self, name: &str, bytes: &[u8], limits: Limits) -> Result<Arc<Plugin>, LoadError> {
        load::load(&self.shared, name, bytes, limits)
    }
}

impl Shared {
    /// The rate at which a plugin may log: the one that its instances have already, where there are any.
    pub(super) fn rate(&self, plugin: &Arc<str>, bytes_per_second: usize) -> Arc<Rate> {
        let mut rates = lock(&self.rates);
        rates.retain(|_, rate| rate.strong_count() > 0);
        let rate = rates.entry((Arc::clone(plugin), bytes_per_second)).or_default();
        rate.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Rate::new(Arc::clone(plugin), bytes_per_second));
            *rate = Arc::downgrade(&new);
            new
        })
    }

    pub(super) fn in_background(&self, job: Job) {
        // The thread lives as long as this sender.
        let _ = lock(&self.background).send(job);
    }
}

/// Instances come from the heap, not from a pool: they live long (one is made at the start, at a swap, after a trap, in 13 to
/// 23 µs against 6 to 8 of a pool), while a pool reserves as many slots of the largest size as there could ever be, and a host
/// whose plugins outnumber them fails.
fn engine_config(stack_bytes: usize) -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // 360 ns a call, for what no plugin of 0.2 can use.
        .concurrency_support(false)
        .max_wasm_stack(stack_bytes.min(STACK_BYTES_MAX))
        // Of fibers, of which there are none: it has to be larger.
        .async_stack_size(THREAD_STACK_BYTES)
        .wasm_backtrace_max_frames(Some(FRAMES_MAX))
        // A plugin is a function of its events, on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_one_rate() {
        let shared = Runtime::new(RuntimeOptions::default()).expect("a runtime").shared;
        let [one, other]: [Arc<str>; 2] = ["one".into(), "other".into()];
        let rate = shared.rate(&one, 10);
        assert!(Arc::ptr_eq(&rate, &shared.rate(&one, 10)));
        for others in [shared.rate(&one, 20), shared.rate(&other, 10)] {
            assert!(!Arc::ptr_eq(&rate, &others));
        }
    }

    #[test]
    fn everything_links_once() {
        Runtime::new(RuntimeOptions::default()).expect("an engine, its imports and its threads");
    }
}
