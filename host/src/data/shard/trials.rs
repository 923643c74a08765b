//! What a shard does for versions on trial, beside the path of the events: counts what canaries answered, and compares those in
//! the shadow once the live version's outputs are on their way. Does nothing at all where nothing is on trial.

use std::sync::Arc;

use super::part::Chosen;
use crate::data::answers::Answers;
use crate::data::canary::{Canary, Share};
use crate::data::chain;
use crate::data::event::Event;
use crate::data::plugin::verdicts::Verdicts;
use crate::data::plugin::{Call, Stats, Worker};
use crate::data::program::Program;
use crate::data::route::{Plan, Trials};
use crate::data::shadow::Allowance;
use crate::data::trial::{Seen, Took, Trial};

/// What a shard keeps for the trials of a program.
pub(super) struct Watch {
    meters: Vec<Meter>,
    allowance: Allowance,
    arena: Verdicts,
}

/// Reads off what a worker takes, for the trial that it has a part in.
struct Meter {
    worker: usize,
    read: Stats,
    trial: Arc<Trial>,
    /// Whether it runs the live version, rather than the candidate.
    live: bool,
}

/// A batch that was answered, as far as it was.
pub(super) struct Answered<'b, 'e> {
    pub(super) program: &'b Program,
    /// The routes of the batch's lane.
    pub(super) routes: &'b [u16],
    /// By route, the events that it took.
    pub(super) chosen: &'b [Chosen<'e>],
    /// By route, how many of those every route has answered.
    pub(super) counts: Vec<usize>,
    /// What the answers were left in.
    pub(super) arenas: &'b [Verdicts],
    /// Of the events.
    pub(super) attempt: u32,
}

impl Watch {
    /// For the trials of a program, by its workers.
    pub(super) fn new(program: &Program, workers: &mut [Worker]) -> Self {
        workers.iter_mut().for_each(|worker| worker.time_events(None));
        let mut meters: Vec<Meter> = Vec::new();
        let mut add = |worker: usize, trial: &Arc<Trial>, live: bool| {
            if meters.iter().all(|meter| meter.worker != worker) {
                if !live {
                    workers[worker].time_events(Some(trial.rollout().latency_max));
                }
                meters.push(Meter { worker, read: workers[worker].stats(), trial: Arc::clone(trial), live });
            }
        };
        for plan in &program.plans {
            for trials in plan.trials.iter() {
                for (bit, canary) in trials.canaries.iter().enumerate() {
                    let stages = trials.variants[(1 << bit) - 1].stages.iter().zip(&plan.stages);
                    for (own, live) in stages.filter(|(own, live)| own.worker != live.worker) {
                        add(own.worker, &canary.trial, false);
                        add(live.worker, &canary.trial, true);
                    }
                }
                for shadow in &trials.shadows {
                    add(shadow.worker, &shadow.trial, false);
                    add(plan.stages[shadow.stage].worker, &shadow.trial, true);
                }
            }
        }
        Self { meters, allowance: Allowance::default(), arena: Verdicts::default() }
    }

    /// Whether anything is on trial.
    pub(super) fn is_needed(&self) -> bool {
        !self.meters.is_empty()
    }

    /// Counts the events that failed in a canary, or behind it in its chain: what it handed on may be to blame.
    pub(super) fn count_failures(&self, program: &Program, answers: &Answers<'_>, events: &[Event<'_>]) {
        for (route, event, variant, failure, stage) in answers.failures() {
            let Some(trials) = &program.plans[usize::from(route)].trials else { continue };
            let event = &events[event as usize];
            for canary in serving(trials, variant).filter(|canary| stage.is_none_or(|at| at >= canary.stage)) {
                canary.trial.add(Seen { failures: 1, ..Seen::default() });
                let reason = || format!("it failed ({}: {})", failure.kind, failure.message);
                canary.trial.sample(event.topic, event.partition, event.offset, reason);
            }
        }
    }

    /// Counts what canaries answered, and, if there is time, compares what is in the shadow.
    pub(super) fn look(
        &mut self,
        answered: &Answered<'_, '_>,
        workers: &mut [Worker],
        compare: bool,
        between: &mut dyn FnMut(),
    ) {
        let mut rest = answered.arenas;
        for ((route, chosen), count) in answered.routes.iter().zip(answered.chosen).zip(&answered.counts) {
            let plan = &answered.program.plans[usize::from(*route)];
            let (arenas, behind) = rest.split_at(plan.arenas());
            rest = behind;
            let Some(trials) = &plan.trials else { continue };
            let call = Call { route: &plan.id, generation: answered.program.generation, attempt: answered.attempt };
            let mut see = |variant: u8, events: &[Event<'_>], arenas: &[Verdicts]| {
                self.review(plan, trials, (variant, events, arenas), &call, workers, compare, between);
            };
            match chosen {
                Chosen::All(events) => see(0, &events[..*count], arenas),
                Chosen::Some(events) => see(0, &events[..*count], arenas),
                Chosen::Split(shares) => {
                    for (share, arenas) in shares.iter().zip(arenas.chunks(plan.stages.len())) {
                        let Share { variant, events, .. } = share;
                        see(*variant, &events[..share.within(*count)], arenas);
                    }
                }
            }
        }
        self.read(workers);
    }

    #[expect(clippy::too_many_arguments, reason = "the shard lends each of them apart")]
    fn review(
        &mut self,
        plan: &Plan,
        trials: &Trials,
        (variant, events, arenas): (u8, &[Event<'_>], &[Verdicts]),
        call: &Call<'_>,
        workers: &mut [Worker],
        compare: bool,
        between: &mut dyn FnMut(),
    ) {
        chain::review(&plan.variant(variant).stages, events, arenas, &mut |stage, events, verdicts| {
            for canary in serving(trials, variant).filter(|canary| canary.stage == stage) {
                canary.trial.add(Seen { events: events.len() as u64, ..Seen::default() });
            }
            for shadow in trials.shadows.iter().filter(|shadow| compare && shadow.stage == stage) {
                let worker = &mut workers[shadow.worker];
                shadow.compare(worker, call, events, verdicts, &mut self.arena, &mut self.allowance, between);
            }
        });
    }

    /// Tells each trial what its workers took since the last time.
    fn read(&mut self, workers: &[Worker]) {
        for meter in &mut self.meters {
            let stats = workers[meter.worker].stats();
            let before = std::mem::replace(&mut meter.read, stats);
            let (time, events) = (stats.cpu_time - before.cpu_time, stats.events - before.events);
            let (timed, slow) = (stats.timed - before.timed, stats.slow - before.slow);
            match meter.live {
                true => meter.trial.add_live(time, events),
                false => meter.trial.add_time(Took { time, events, timed, slow }),
            }
        }
    }
}

/// The canaries that serve in a variant.
fn serving(trials: &Trials, variant: u8) -> impl Iterator<Item = &Canary> {
    let canaries = trials.canaries.iter().enumerate();
    canaries.filter(move |(bit, _)| variant & (1 << bit) != 0).map(|(_, canary)| canary)
}
