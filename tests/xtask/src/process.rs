//! Processes that this one starts: watched, stopped by their id, never left behind, on Ctrl-C neither.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::Failure;

/// Between two looks at a process.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Whether this process was asked to stop.
#[derive(Debug, Clone)]
pub struct Interrupt {
    raised: Arc<AtomicBool>,
    is_watched: bool,
}

impl Interrupt {
    /// For processes that don't watch for signals, and are ended by them.
    pub fn never() -> Self {
        Self { raised: Arc::default(), is_watched: false }
    }

    /// From now on SIGINT and SIGTERM are noted rather than fatal.
    pub fn watch() -> io::Result<Self> {
        let raised = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&raised))?;
        }
        Ok(Self { raised, is_watched: true })
    }

    /// Whether one came.
    pub fn raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Fails when one came.
    pub fn check(&self) -> Result<(), Failure> {
        if self.raised() { Err("interrupted".to_owned()) } else { Ok(()) }
    }
}

/// A running process of ours and whatever it starts. Dropped, it is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    name: String,
    has_group: bool,
}

impl Running {
    /// Starts it as a process group of its own, so that all of it can be stopped, and so that a Ctrl-C reaches this process
    /// alone, which decides what ends when.
    pub fn start(name: &str, command: &mut Command) -> Result<Self, Failure> {
        Self::spawn(name, command.process_group(0), true)
    }

    /// Starts it as [`Self::start`], or, where this process doesn't watch for signals, in its group: what ends this one ends it
    /// as well. It starts no others then.
    pub fn start_under(name: &str, command: &mut Command, interrupt: &Interrupt) -> Result<Self, Failure> {
        if interrupt.is_watched { Self::start(name, command) } else { Self::spawn(name, command, false) }
    }

    fn spawn(name: &str, command: &mut Command, has_group: bool) -> Result<Self, Failure> {
        let child = command.spawn().map_err(|error| format!("{name} can't be started: {error}"))?;
        Ok(Self { child, name: name.to_owned(), has_group })
    }

    /// The pipes that the command asked for.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Failure> {
        self.child.try_wait().map_err(|error| format!("{} can't be watched: {error}", self.name))
    }

    /// Waits until it ends by itself; stops it when this process is asked to stop.
    pub fn wait(&mut self, interrupt: &Interrupt) -> Result<ExitStatus, Failure> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if interrupt.raised() {
                return self.stop(Duration::from_secs(10));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Asks it to stop, and kills it when it hasn't within `patience`.
    pub fn stop(&mut self, patience: Duration) -> Result<ExitStatus, Failure> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::TERM);
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Some(status) = self.ended()? {
                // What it started may need longer than it took itself. Its id is its group's for as long as that has members.
                if self.has_group {
                    self.signal(Signal::KILL);
                }
                return Ok(status);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        self.signal(Signal::KILL);
        self.child.wait().map_err(|error| format!("{} can't be waited for: {error}", self.name))
    }

    /// Signals all of it. It may end in this very moment, and then there is nobody to signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(id) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = if self.has_group { kill_process_group(id, signal) } else { kill_process(id, signal) };
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
