//! The thread that advances the engine's epoch while guests run, and sleeps while none does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};

use wasmtime::Engine;

use super::deadline::TICK;

/// So many ticks without a guest, and the thread goes to sleep: one second, so that a busy host never wakes it.
const IDLE_TICKS: u32 = 200;

/// The ticker of an engine; it ends with the last of its clones.
#[derive(Clone)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    _owner: Arc<Owner>,
}

struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// Stops the thread when it is dropped.
struct Owner {
    shared: Arc<Shared>,
    thread: Thread,
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let ticking = Arc::clone(&shared);
        let handle = thread::Builder::new().name("plugin-ticker".into()).spawn(move || tick(&ticking, &engine))?;
        let thread = handle.thread().clone();
        let owner = Arc::new(Owner { shared: Arc::clone(&shared), thread: thread.clone() });
        Ok(Self { shared, thread, _owner: owner })
    }

    /// Ticks at least until the guard is dropped.
    pub(super) fn run(&self) -> Running {
        self.shared.running.fetch_add(1, SeqCst);
        if self.shared.asleep.load(SeqCst) {
            self.thread.unpark();
        }
        Running { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.thread.unpark();
    }
}

/// A guest runs.
pub(super) struct Running {
    shared: Arc<Shared>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.running.fetch_sub(1, SeqCst);
    }
}

fn tick(shared: &Shared, engine: &Engine) {
    let mut idle = 0;
    while !shared.stop.load(SeqCst) {
        if shared.running.load(SeqCst) > 0 {
            idle = 0;
        } else if idle < IDLE_TICKS {
            idle += 1;
        } else {
            // Whoever counts itself in after `asleep` is set wakes the thread, whoever did before is seen here.
            shared.asleep.store(true, SeqCst);
            if shared.running.load(SeqCst) == 0 && !shared.stop.load(SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, SeqCst);
            continue;
        }
        thread::sleep(TICK);
        engine.increment_epoch();
    }
}
