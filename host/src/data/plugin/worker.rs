//! Runs events through a plugin, whatever the plugin does: cuts them into batches, throws instances away after traps, reruns a
//! batch that went wrong one by one, blames no event for what others left in its instance, and answers every event.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::columnar::Columns;
use super::instance::{CallError, Instance, InstanceError, Prepared};
use super::pacing::Pacing;
use super::verdicts::Verdicts;
use crate::data::event::Event;
use crate::data::failure::{Failure, Kind};

/// How long the shard goes without looking after its client while guests run, at most one call more.
const BETWEEN: Duration = Duration::from_millis(50);
/// How long a shard's other duties may wait while events are answered, at most one batch and its rerun more: the rest of the
/// events is left to the next call, so that plugins that use up their deadlines delay neither a rebalance nor a stop.
const TURN: Duration = Duration::from_millis(250);
/// Of a plugin whose events are timed: one in so many runs alone. A call costs a microsecond or two, a batch's event much less.
const TIMED_SHARE: usize = 4;
/// How many events in a row run alone at most, once batches have put it off.
const TIMED_MAX: usize = 64;
/// What verdicts may weigh before the shard takes them away. One batch more may come on top.
pub const HELD_BYTES_MAX: usize = 64 << 20;

/// What a call tells the plugin.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The route's name.
    pub route: &'a str,
    /// The live generation.
    pub generation: u64,
    /// 1 the first time these events are offered.
    pub attempt: u32,
}

/// What a worker did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls of `process`.
    pub calls: u64,
    /// Events in them, those that were called again included.
    pub events: u64,
    /// Of the guest and of the imports that it called; what it waited for counts.
    pub cpu_time: Duration,
    /// Batches that were run again one by one, and single events that were run again in a new instance.
    pub reruns: u64,
    /// Instances that were thrown away.
    pub traps: u64,
    /// Instances that were made.
    pub instances: u64,
    /// Events that ran alone while it was to be told how long single ones take.
    pub timed: u64,
    /// Those of them that took longer than was said.
    pub slow: u64,
}

/// Tells how long single events take, of which nothing is known in a batch.
#[derive(Debug, Clone, Copy)]
struct Stopwatch {
    /// What takes longer is slow.
    max: Duration,
    /// Events that ran in batches, and that none has run alone for.
    untimed: usize,
}

impl Stopwatch {
    fn is_due(&self) -> bool {
        self.untimed >= TIMED_SHARE - 1
    }

    fn took(&mut self, events: usize, time: Duration, stats: &mut Stats) {
        if events > 1 {
            self.untimed = (self.untimed + events).min(TIMED_MAX * (TIMED_SHARE - 1));
            return;
        }
        self.untimed = self.untimed.saturating_sub(TIMED_SHARE - 1);
        stats.timed += 1;
        stats.slow += u64::from(time > self.max);
    }
}

/// One shard's hold on a plugin with its config and ports. Not shared; made cheaply, it has no instance until the first event.
pub struct Worker {
    prepared: Arc<Prepared>,
    instance: Option<Instance>,
    spare: Option<Receiver<Result<Instance, InstanceError>>>,
    pacing: Pacing,
    columns: Columns,
    stats: Stats,
    stopwatch: Option<Stopwatch>,
}

impl Worker {
    /// Without an instance as yet.
    pub fn new(prepared: Arc<Prepared>) -> Self {
        let limits = prepared.spec().limits;
        Self {
            pacing: Pacing::new(limits.deadline, limits.memory_bytes),
            prepared,
            instance: None,
            spare: None,
            columns: Columns::default(),
            stats: Stats::default(),
            stopwatch: None,
        }
    }

    /// With an instance that was made in advance, if there is one.
    pub fn ready(prepared: Arc<Prepared>) -> Self {
        let instance = prepared.take_ready();
        let mut worker = Self::new(prepared);
        worker.stats.instances += u64::from(instance.is_some());
        worker.instance = instance;
        worker
    }

    /// Drops it on another thread: to give an instance's memory back takes longer than all the rest of going over to another
    /// generation, and events would wait for it.
    pub fn retire(self) {
        let plugin = Arc::clone(self.prepared.plugin());
        plugin.in_background(Box::new(move || drop(self)));
    }

    /// What it runs.
    pub fn prepared(&self) -> &Arc<Prepared> {
        &self.prepared
    }

    /// What it did so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// From here on some events run alone, so that it is known how many take longer than this; with none, only those that
    /// happen to.
    pub fn time_events(&mut self, max: Option<Duration>) {
        self.stopwatch = max.map(|max| Stopwatch { max, untimed: 0 });
    }

    /// Makes the instance now, so that the first event doesn't wait for it.
    pub fn warm_up(&mut self) -> Result<(), InstanceError> {
        if self.instance.is_none() {
            self.instance = Some(self.make()?);
        }
        Ok(())
    }

    /// Answers the events, in their order, into `verdicts`, which it empties first: one verdict each, for all of them, or for
    /// as many from the first on as hold about 64 MiB of outputs, or are answered within about 250 ms; then the shard sinks
    /// those and comes again with the rest. At least one, unless there are none, and time alone leaves none of the first
    /// `at_least` for later. Gives how many.
    ///
    /// `between` is called between two calls of the guest, once 50 ms have passed since the last time.
    pub fn run(
        &mut self,
        call: &Call<'_>,
        events: &[Event<'_>],
        at_least: usize,
        verdicts: &mut Verdicts,
        between: &mut dyn FnMut(),
    ) -> usize {
        verdicts.clear();
        let now = Instant::now();
        let mut pause = Pause { last: now, end: now + TURN, at_least: at_least.max(1), between };
        while verdicts.len() < events.len() && !pause.ends(verdicts) {
            let rest = &events[verdicts.len()..];
            let alone = self.stopwatch.is_some_and(|stopwatch| stopwatch.is_due());
            let batch = if alone { &rest[..1] } else { &rest[..self.pacing.cut(rest)] };
            if batch.len() == 1 {
                self.run_alone(call, batch, verdicts, &mut pause);
            } else if self.attempt(call, batch, verdicts).is_err() {
                self.stats.reruns += 1;
                self.pacing.overran(batch.len());
                self.run_singly(call, batch, verdicts, &mut pause);
            }
            pause.offer();
        }
        self.prepared.rate().turn();
        verdicts.len()
    }

    /// One by one, so that only the guilty event suffers.
    fn run_singly(&mut self, call: &Call<'_>, batch: &[Event<'_>], verdicts: &mut Verdicts, pause: &mut Pause<'_>) {
        for event in batch.chunks(1) {
            if pause.ends(verdicts) {
                return;
            }
            pause.offer();
            self.run_alone(call, event, verdicts, pause);
        }
    }

    /// One event, answered whatever happens. It is guilty of a failure only where no other event was in the instance: memory that
    /// they leaked, or a state that they left broken, may be what failed. So in an instance that was used it is no more than a
    /// suspect, and runs once more in a new one, which is as if it had been the first: randomness and clocks begin with each
    /// call.
    ///
    /// That holds for deadlines, too, though it doubles what a runaway takes: state that grows makes events slow as well
    /// as large, and the innocent one can't be told from the runaway by anything else. Runaways that follow each other find a
    /// new instance, and take one deadline each.
    fn run_alone(&mut self, call: &Call<'_>, event: &[Event<'_>], verdicts: &mut Verdicts, pause: &mut Pause<'_>) {
        let was_used = self.instance.as_ref().is_some_and(Instance::is_used);
        let mut outcome = self.attempt(call, event, verdicts);
        // What the host lacks, it will mostly still lack: that is tried again after a while.
        if was_used && outcome.as_ref().is_err_and(|failure| failure.kind != Kind::Transient) {
            self.stats.reruns += 1;
            // One that only miscounted is still there.
            self.stats.traps += u64::from(self.instance.take().is_some());
            pause.offer();
            outcome = self.attempt(call, event, verdicts);
        }
        if let Err(failure) = outcome {
            let first_output = verdicts.outputs_len();
            verdicts.fail(first_output, failure);
        }
    }

    /// One call. The verdicts gain one for each event, or stay as they were.
    fn attempt(&mut self, call: &Call<'_>, batch: &[Event<'_>], verdicts: &mut Verdicts) -> Result<(), Failure> {
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => self.make().map_err(InstanceError::into_failure)?,
        };
        let (outcome, time) = instance.process(call, batch, &mut self.columns, verdicts);
        self.stats.calls += 1;
        self.stats.events += batch.len() as u64;
        self.stats.cpu_time += time;
        if let Some(stopwatch) = &mut self.stopwatch {
            stopwatch.took(batch.len(), time, &mut self.stats);
        }
        match outcome {
            Ok(()) => {
                self.pacing.took(batch, time);
                self.instance = Some(instance);
                Ok(())
            }
            Err(CallError::Miscounted(failure)) => {
                self.instance = Some(instance);
                Err(failure)
            }
            Err(CallError::Trapped(failure)) => {
                drop(instance);
                self.stats.traps += 1;
                Err(failure)
            }
        }
    }

    /// The spare, where there is one, or else a new instance. From the second one on a spare is made in the background:
    /// a plugin that trapped once traps again.
    fn make(&mut self) -> Result<Instance, InstanceError> {
        let ready = match self.spare.as_ref().map(Receiver::try_recv) {
            Some(Ok(made)) => Some(made),
            Some(Err(TryRecvError::Empty)) => None,
            Some(Err(TryRecvError::Disconnected)) | None => {
                if self.stats.traps > 0 {
                    self.order_spare();
                }
                None
            }
        };
        if ready.is_some() {
            self.order_spare();
        }
        self.stats.instances += 1;
        match ready {
            Some(Ok(instance)) => Ok(instance),
            _ => self.prepared.instantiate(),
        }
    }

    fn order_spare(&mut self) {
        let (sender, receiver) = sync_channel(1);
        let prepared = Arc::clone(&self.prepared);
        self.prepared.plugin().in_background(Box::new(move || {
            // Whoever ordered it may be gone.
            let _ = sender.send(prepared.instantiate());
        }));
        self.spare = Some(receiver);
    }
}

/// Lets the shard look after its client from time to time, and after everything else at the end of the turn.
struct Pause<'a> {
    last: Instant,
    end: Instant,
    at_least: usize,
    between: &'a mut dyn FnMut(),
}

impl Pause<'_> {
    /// Whether what is answered is enough for now.
    fn ends(&self, verdicts: &Verdicts) -> bool {
        !verdicts.is_empty()
            && (verdicts.weight() >= HELD_BYTES_MAX || verdicts.len() >= self.at_least && Instant::now() >= self.end)
    }

    fn offer(&mut self) {
        if self.last.elapsed() >= BETWEEN {
            (self.between)();
            self.last = Instant::now();
        }
    }
}
