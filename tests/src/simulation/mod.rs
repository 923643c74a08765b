//! The simulator of the engine: a driver that does what the shard does, over a model of the log, the group, the producer and
//! the plugins, with their faults, in an order that a seed decides. The engine is the real one; nothing here sleeps, or
//! depends on anything but the seed.
//!
//! What is checked: nothing is committed that has no outcome in the log; commits don't go back, nor repeat; a lane goes on
//! exactly where it isn't settled; messages keep their order, repeats aside; letters tell the attempts that were made; a
//! lane is released, and a drain called clean, when that is so; and once the faults heal, everything is committed to the end
//! with no more wake-ups than the engine asks for. No more letters are written than a route's breaker lets pass, none while it
//! is open, and it trips for no less; what an operator paused stands still, and what he has skipped has letters, and nothing
//! else has. Half of the schedules promise exactly once: there, what becomes visible is
//! a transaction, whole, of one generation, with the positions that it moves, and nothing is visible twice.

mod breaker;
mod broker;
mod bug;
mod carry;
mod env;
mod host;
mod lane;
mod ledger;
mod operator;
mod plugins;
mod script;
mod transaction;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use bug::Bug;
pub use env::Stats;

use world::World;

/// Of a trace, the last lines tell most.
const TRACE_LINES: usize = 400;

/// A schedule that failed.
#[derive(Debug)]
pub struct Finding {
    /// What it started from.
    pub seed: u64,
    /// What didn't hold.
    pub message: String,
    /// What happened, the last of it last. Empty unless it was asked for.
    pub trace: Vec<String>,
}

/// Runs the schedule of a seed.
pub fn run(seed: u64, bug: Option<Bug>, trace: bool) -> Result<Stats, Box<Finding>> {
    let mut world = World::new(seed, bug, trace);
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(()) => Ok(world.env.stats),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let message = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default();
            Err(Box::new(Finding { seed, message, trace: world.env.trace.unwrap_or_default() }))
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let skipped = self.trace.len().saturating_sub(TRACE_LINES);
        for line in &self.trace[skipped..] {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "seed {} fails: {}", self.seed, self.message)?;
        write!(f, "to repeat it: MIDPLANE_SIMULATION_SEED={} cargo test -p midplane-tests --test simulation", self.seed)
    }
}
