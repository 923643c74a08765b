//! Some of one lane's events: routed, handed to the plugins, answered to the engine, and produced as it says.

use super::carry::Flow;
use super::process::Calls;
use super::produce::Place;
use super::skip;
use super::trials::Answered;
use crate::data::answers::{Answers, Product};
use crate::data::canary::{self, Share};
use crate::data::chain::{self, Run};
use crate::data::engine::{Action, Cause, Input, LaneId, OnFailure, Refused, RouteFailure, Seq, Take};
use crate::data::event::Event;
use crate::data::letter;
use crate::data::plugin::verdicts::Verdicts;
use crate::data::plugin::{Call, HELD_BYTES_MAX, Worker};
use crate::data::program::Program;
use crate::data::route::{self, Picked, Plan};
use crate::data::stop::Known;
use crate::kafka;

/// Some of one lane's events, answered together.
pub(super) struct Part<'p, 'e> {
    pub(super) id: LaneId,
    pub(super) first: Seq,
    pub(super) attempt: u32,
    pub(super) events: &'e [Event<'e>],
    /// Whether an operator wants them skipped, rather than run.
    pub(super) skipped: bool,
    pub(super) refusals: &'p [(Seq, Refused)],
}

impl Part<'_, '_> {
    /// Routes the events, calls the plugins, tells the engine, and produces what it says. Returns how many events were
    /// answered; none where the lane takes no more of them.
    pub(super) fn answer(
        &self,
        program: &Program,
        calls: &mut Calls,
        flow: &mut Flow,
    ) -> Result<Option<usize>, kafka::Error> {
        let Some(lane) = flow.lanes.get(self.id) else { return Ok(None) };
        let routes = lane.routes.clone();
        let Calls { workers, arenas, scratch, picked, filters, messages, .. } = calls;
        route::select(&program.plans, &routes, self.events, scratch, &mut filters.counts, picked);
        filters.add(&routes);
        let chosen = choose(self.events, picked, &routes, &program.plans);
        let mut answers = if self.skipped {
            skip::answers(
                program,
                &routes,
                picked,
                self.events,
                flow.lanes.get(self.id).and_then(|it| it.stop.as_ref()),
            )
        } else {
            self.call(program, &routes, &chosen, workers, arenas, picked, flow)
        };
        answers.refuse_outputs(|output| flow.sink.refusal(output));
        for (seq, refused) in self.refusals {
            if let Some(event) = seq.checked_sub(self.first).filter(|event| *event < self.events.len() as u64) {
                answers.refuse(event as u32, *refused, flow.sink.topic_name(refused.output));
            }
        }
        let mut failures = Vec::new();
        answers.summary(&program.plans, messages, &mut failures);
        if self.skipped {
            // Whatever the routes' policies say: each that takes them has a letter.
            failures.iter_mut().for_each(|failure| failure.on = OnFailure::Letter);
        }
        let takes = takes(program, &routes, picked);
        calls.events += answers.len() as u64;
        let told = (calls.messages.as_slice(), failures.as_slice(), takes.as_slice());
        let goes_on = self.tell(program, &mut answers, told, flow)?;
        let count = answers.len();
        if calls.watch.is_needed() && self.attempt == 1 && !self.skipped {
            calls.watch.count_failures(program, &answers, self.events);
            let counts = picked.iter().map(|picked| picked.within(count)).collect();
            let (routes, chosen, arenas, attempt) = (&*routes, &*chosen, &**arenas, self.attempt);
            let answered = Answered { program, routes, chosen, counts, arenas, attempt };
            // Where the lane stops, its events come again.
            calls.watch.look(&answered, workers, goes_on, &mut || flow.keep_alive());
        }
        Ok(goes_on.then_some(count))
    }

    /// Runs what each route took through its plugins.
    #[expect(clippy::too_many_arguments, reason = "the buffers are borrowed apart, since answers borrow some of them")]
    fn call<'a>(
        &self,
        program: &Program,
        routes: &[u16],
        chosen: &'a [Chosen<'a>],
        workers: &mut [Worker],
        arenas: &'a mut Vec<Verdicts>,
        picked: &mut [Picked],
        flow: &mut Flow,
    ) -> Answers<'a> {
        let needed = routes.iter().map(|route| program.plans[usize::from(*route)].arenas()).sum();
        if arenas.len() < needed {
            arenas.resize_with(needed, Verdicts::default);
        }
        let mut rest = arenas.as_mut_slice();
        let mut answers = Answers::new(self.events.len());
        let mut held = 0;
        for ((route, chosen), picked) in routes.iter().zip(chosen).zip(picked) {
            let plan = &program.plans[usize::from(*route)];
            let (arenas, behind) = rest.split_at_mut(plan.arenas());
            rest = behind;
            let call = Call { route: &plan.id, generation: program.generation, attempt: self.attempt };
            // What a route before left for later is left by all: answers beyond it would be thrown away. And where the
            // routes before hold as much as may be held, the others have a look at the first event alone.
            let reach = if held >= HELD_BYTES_MAX { 1.min(answers.len()) } else { answers.len() };
            let count = picked.within(reach);
            let run = match chosen {
                Chosen::All(events) => run_chain(plan, &events[..count], workers, &call, arenas, flow),
                Chosen::Some(events) => run_chain(plan, &events[..count], workers, &call, arenas, flow),
                Chosen::Split(shares) => run_shares(plan, shares, count, workers, &call, arenas, flow),
            };
            held += run.weight;
            answers.add(*route, picked, run);
        }
        answers
    }

    /// What was refused of an event before.
    fn refused(&self, seq: Seq) -> impl Iterator<Item = Refused> {
        self.refusals.iter().filter(move |(of, _)| *of == seq).map(|(_, refused)| *refused)
    }

    /// Tells the engine what was answered, and carries out what it says. Whether the lane goes on.
    fn tell(
        &self,
        program: &Program,
        answers: &mut Answers<'_>,
        (messages, failures, takes): (&[u32], &[RouteFailure<'_>], &[Take<'_>]),
        flow: &mut Flow,
    ) -> Result<bool, kafka::Error> {
        let mut actions = Vec::new();
        flow.engine.step(
            Input::Answered { lane: self.id, first: self.first, messages, failures, takes },
            flow.now(),
            &mut actions,
        );
        // Without an `Emit` the answers came too late: the lane was revoked, or stopped, meanwhile.
        let (mut letters, mut others, mut goes_on, mut stops) = (Vec::new(), Vec::new(), false, false);
        self.remember(program, &actions, answers, flow);
        for action in actions {
            match action {
                Action::Letter { seq, route, attempts, .. } => letters.push((seq, route, attempts)),
                Action::Emit { first, count, .. } => {
                    goes_on = true;
                    if let Some((seq, begun)) = self.emit(program, answers, first, count, &letters, flow)? {
                        flow.engine.step(Input::Blocked { lane: self.id, seq, begun }, flow.now(), &mut others);
                        stops = true;
                    }
                }
                action => {
                    stops |= matches!(action, Action::Park { .. } | Action::Halted { .. } | Action::Release { .. });
                    others.push(action);
                }
            }
        }
        flow.carry(others)?;
        Ok(goes_on && !stops)
    }

    /// Keeps what failed of the event that stops the lane, if one does: for who asks why, and for its letters if it is skipped.
    fn remember(&self, program: &Program, actions: &[Action], answers: &Answers<'_>, flow: &mut Flow) {
        let stop = actions.iter().find_map(|action| match action {
            Action::Park { offset, cause: Cause::Retry { .. } | Cause::Breaker { failures: 1.., .. }, .. }
            | Action::Halted { offset, route: Some(_), .. } => Some(*offset),
            _ => None,
        });
        let Some(offset) = stop else { return };
        let Some(lane) = flow.lanes.get_mut(self.id) else { return };
        let failed = answers.failures().filter(|(_, event, ..)| self.events[*event as usize].offset == offset);
        let failures = failed.map(|(route, _, variant, failure, stage)| {
            let plan = program.plans[usize::from(route)].variant(variant);
            let plugin = stage.map(|stage| plan.plugins[stage].0.clone());
            Known { route: plan.id.clone(), stage, plugin, failure: failure.clone() }
        });
        lane.stop_at(offset).failures = failures.collect();
    }

    /// Produces what was answered for these events. Returns the first event that there was no room for, and whether some of it
    /// was produced.
    fn emit(
        &self,
        program: &Program,
        answers: &mut Answers<'_>,
        first: Seq,
        count: u32,
        letters: &[(Seq, u16, u32)],
        flow: &mut Flow,
    ) -> Result<Option<(Seq, bool)>, kafka::Error> {
        for seq in first..first + u64::from(count) {
            let index = (seq - self.first) as u32;
            if !flow.make_room(|sink| answers.topics(index, &program.plans, |topics| sink.admits(topics)))? {
                return Ok(Some((seq, false)));
            }
            let event = &self.events[index as usize];
            let mut blocked = false;
            let mut failed = Ok(());
            answers.of_event(index, |route, variant, product| {
                if blocked || failed.is_err() {
                    return;
                }
                let plan = program.plans[usize::from(route)].variant(variant);
                let attempts =
                    letters.iter().find(|(of, by, _)| *of == seq && *by == route).map(|(.., attempts)| *attempts);
                if let Product::Failed { failure, stage } = &product {
                    flow.count_failure(self.id, event.offset, (route, plan), *stage, failure);
                }
                let place = Place { id: self.id, seq, route, cut: letter::cut_of(self.refused(seq), route) };
                let result = flow.produce(place, event, plan, &product, attempts);
                match result {
                    Ok(produced) => blocked = !produced,
                    Err(error) => failed = Err(error),
                }
            });
            failed?;
            if blocked {
                return Ok(Some((seq, true)));
            }
        }
        Ok(None)
    }
}

/// What the engine is told of which events each route took.
fn takes<'a>(program: &'a Program, routes: &[u16], picked: &'a [Picked]) -> Vec<Take<'a>> {
    let takes = routes.iter().zip(picked).map(|(route, picked)| {
        let breaker = program.plans[usize::from(*route)].failure.breaker.as_ref();
        Take { route: *route, events: (!picked.all).then_some(&picked.events), breaker }
    });
    takes.collect()
}

/// The events that one route took.
pub(super) enum Chosen<'a> {
    All(&'a [Event<'a>]),
    Some(Vec<Event<'a>>),
    /// By the versions that they run through.
    Split(Vec<Share<'a>>),
}

fn choose<'a>(events: &'a [Event<'a>], picked: &[Picked], routes: &[u16], plans: &[Plan]) -> Vec<Chosen<'a>> {
    let choose = |(picked, route): (&Picked, &u16)| {
        let taken = picked.events.iter().map(|index| events[*index as usize]);
        match plans[usize::from(*route)].trials.as_ref().filter(|trials| !trials.canaries.is_empty()) {
            Some(trials) if picked.all => Chosen::Split(canary::split(&trials.canaries, events.iter().copied())),
            Some(trials) => Chosen::Split(canary::split(&trials.canaries, taken)),
            None if picked.all => Chosen::All(events),
            None => Chosen::Some(taken.collect()),
        }
    };
    picked.iter().zip(routes).map(choose).collect()
}

fn run_chain<'a>(
    plan: &Plan,
    events: &'a [Event<'a>],
    workers: &mut [Worker],
    call: &Call<'_>,
    arenas: &'a mut [Verdicts],
    flow: &mut Flow,
) -> Run<'a> {
    if events.is_empty() {
        return Run::default();
    }
    chain::run(&plan.stages, plan.direct, workers, call, events, arenas, &mut || flow.keep_alive())
}

/// Runs each share of the first so many events through its versions.
fn run_shares<'a>(
    plan: &Plan,
    shares: &'a [Share<'a>],
    count: usize,
    workers: &mut [Worker],
    call: &Call<'_>,
    arenas: &'a mut [Verdicts],
    flow: &mut Flow,
) -> Run<'a> {
    let arenas = arenas.chunks_mut(plan.stages.len());
    let runs = shares.iter().zip(arenas).map(|(share, arenas)| {
        let events = &share.events[..share.within(count)];
        run_chain(plan.variant(share.variant), events, workers, call, arenas, flow)
    });
    let runs = runs.collect();
    canary::join(shares, runs)
}
