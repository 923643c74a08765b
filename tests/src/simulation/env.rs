//! What the hosts of a schedule share: chance, time, the broker, the faults, and the trace.

use std::fmt::Arguments;
use std::time::Duration;

use midplane::config::model::Guarantee;

use super::broker::Broker;
use super::bug::Bug;
use super::script::Script;
use crate::random::Random;

/// The world around a host.
#[derive(Debug)]
pub(super) struct Env {
    pub(super) random: Random,
    pub(super) script: Script,
    pub(super) broker: Broker,
    pub(super) now: Duration,
    pub(super) bug: Option<Bug>,
    pub(super) guarantee: Guarantee,
    /// Whether messages and commits fail, per mille. 0 once the faults have healed.
    pub(super) failing: usize,
    /// Whether halting plugins were repaired.
    pub(super) repaired: bool,
    /// By route, whether its plugin is sick.
    pub(super) sick: Vec<bool>,
    pub(super) readers: u64,
    pub(super) stats: Stats,
    /// None where nobody will read it.
    pub(super) trace: Option<Vec<String>>,
}

/// How much of everything a schedule had: a schedule that doesn't do anything doesn't find anything.
#[derive(Debug, Default, Clone, Copy)]
pub struct Stats {
    /// Events run through plugins, repeats included.
    pub events: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages refused, or failed.
    pub failed: u64,
    /// Letters written.
    pub letters: u64,
    /// Lanes parked.
    pub parks: u64,
    /// Generations that took over.
    pub swaps: u64,
    /// Lanes halted.
    pub halts: u64,
    /// Commits accepted.
    pub commits: u64,
    /// Lanes released after a revocation, drained.
    pub releases: u64,
    /// Hosts that crashed.
    pub crashes: u64,
    /// Producers lost.
    pub producers_lost: u64,
    /// Transactions committed.
    pub transactions: u64,
    /// Transactions given up, or whose end nobody knew.
    pub aborts: u64,
    /// Lanes lost.
    pub lost: u64,
    /// Lanes whose output was blocked for long.
    pub blocked: u64,
    /// Breakers that tripped.
    pub trips: u64,
    /// Probes that closed one.
    pub probes: u64,
    /// Pauses by operators.
    pub pauses: u64,
    /// Events that were skipped.
    pub skips: u64,
    /// Drains that ended clean, those at the end of a schedule left out.
    pub drains: u64,
}

impl Stats {
    /// Adds another schedule's.
    pub fn add(&mut self, other: Stats) {
        self.events += other.events;
        self.acked += other.acked;
        self.failed += other.failed;
        self.letters += other.letters;
        self.parks += other.parks;
        self.swaps += other.swaps;
        self.halts += other.halts;
        self.commits += other.commits;
        self.releases += other.releases;
        self.crashes += other.crashes;
        self.producers_lost += other.producers_lost;
        self.transactions += other.transactions;
        self.aborts += other.aborts;
        self.lost += other.lost;
        self.blocked += other.blocked;
        self.trips += other.trips;
        self.probes += other.probes;
        self.pauses += other.pauses;
        self.skips += other.skips;
        self.drains += other.drains;
    }
}

impl Env {
    pub(super) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// True in so many cases of a thousand, while there are faults.
    pub(super) fn fails(&mut self) -> bool {
        self.random.chance(self.failing)
    }

    /// Formats only where a trace is kept.
    pub(super) fn note(&mut self, host: usize, what: Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>8.3}s host {host}: {what}", self.now.as_secs_f64()));
        }
    }
}
