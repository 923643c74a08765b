//! A batch in hand: sorted by lane, routed, handed to the plugins, answered to the engine, and produced as it says.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shard;
use super::carry::Flow;
use super::group::out_of_range;
use super::skip;
use super::trials::{Answered, Watch};
use crate::data::answers::{Answers, Product};
use crate::data::canary::{self, Share};
use crate::data::chain::{self, Run};
use crate::data::engine::{Action, Cause, Input, LaneId, OnFailure, Refused, RouteFailure, Seq, Take};
use crate::data::event::Event;
use crate::data::filter::Scratch;
use crate::data::letter::{self, Cut};
use crate::data::plugin::verdicts::Verdicts;
use crate::data::plugin::{Call, HELD_BYTES_MAX, Worker};
use crate::data::program::Program;
use crate::data::route::{self, Counts, Picked, Plan};
use crate::data::sink::{Full, Origin, Sink};
use crate::data::stop::{Known, Unreadable};
use crate::kafka::{self, Batch, Code, Entry};

/// Events that are answered in one go: fewer calls for each, while the outputs of all of them have to be held.
const PART_EVENTS_MAX: usize = 512;
/// How long production waits for room before the partition is parked, and others have their turn.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// The plugins of a shard, and the buffers that every batch reuses.
pub(super) struct Calls {
    workers: Vec<Worker>,
    arenas: Vec<Verdicts>,
    scratch: Scratch,
    picked: Vec<Picked>,
    counts: Vec<Counts>,
    messages: Vec<u32>,
    /// What a batch holds of each lane, and which of these are in use.
    parts: Vec<InHand>,
    parts_used: usize,
    watch: Watch,
    events: u64,
}

/// What a batch holds of one lane.
#[derive(Debug, Default)]
struct InHand {
    lane: Option<LaneId>,
    /// Which run of reading the lane's number stood for when the batch was sorted.
    run: Option<u64>,
    /// Indexes into the batch.
    records: Vec<u32>,
    offsets: Vec<i64>,
    /// The partition's end, if it was reached behind these records.
    end: Option<i64>,
    /// Whether nothing can be read behind them.
    out_of_range: bool,
    /// Why records are missing behind them, which the client passed over.
    damaged: Option<String>,
}

/// What the engine said of delivered events.
struct Taken {
    first: Seq,
    /// Those that are not to be run.
    skip: Range<usize>,
    refusals: Vec<(Seq, Refused)>,
}

impl Calls {
    pub(super) fn new(program: &Program) -> Self {
        let mut workers: Vec<_> = program.prepared.iter().map(|prepared| Worker::ready(prepared.clone())).collect();
        Self {
            watch: Watch::new(program, &mut workers),
            workers,
            arenas: Vec::new(),
            scratch: Scratch::default(),
            picked: Vec::new(),
            counts: vec![Counts::default(); program.plans.len()],
            messages: Vec::new(),
            parts: Vec::new(),
            parts_used: 0,
            events: 0,
        }
    }

    /// Follows another program. A plugin that is bound as before keeps its worker, and with it its instance; of the others
    /// those that were made ready are taken now, so that the first event doesn't wait.
    pub(super) fn adopt(&mut self, before: &Program, next: &Program) {
        let mut workers: Vec<_> = std::mem::take(&mut self.workers).into_iter().map(Some).collect();
        self.workers = next
            .prepared
            .iter()
            .map(|prepared| {
                let same = before.prepared.iter().position(|before| Arc::ptr_eq(before, prepared));
                same.and_then(|index| workers[index].take()).unwrap_or_else(|| Worker::ready(prepared.clone()))
            })
            .collect();
        workers.into_iter().flatten().for_each(Worker::retire);
        self.watch = Watch::new(next, &mut self.workers);
        let mut counts = vec![Counts::default(); next.plans.len()];
        for (count, number) in self.counts.iter().zip(before.renumbered(next)) {
            if let Some(number) = number {
                counts[usize::from(number)] = *count;
            }
        }
        self.counts = counts;
    }

    /// How many events were answered.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Says what the filters let pass, and what not: a rule that never matches is seen.
    pub(super) fn tell_filters(&self, program: &Program) {
        let filtered = program.plans.iter().zip(&self.counts).filter(|(plan, _)| plan.filter.is_some());
        for (plan, Counts { matched, not_matched, absent, errors }) in filtered {
            tracing::info!(route = plan.id, matched, not_matched, absent, errors, "What the route's filter said.");
        }
    }

    /// Sorts a batch by lane. Records of one lane mostly come in a row: the last one is looked at first.
    fn sort(&mut self, batch: &Batch, flow: &mut Flow) {
        for part in &mut self.parts[..self.parts_used] {
            *part = InHand {
                records: std::mem::take(&mut part.records),
                offsets: std::mem::take(&mut part.offsets),
                ..InHand::default()
            };
            part.records.clear();
            part.offsets.clear();
        }
        self.parts_used = 0;
        let mut current = usize::MAX;
        for (index, entry) in batch.iter().enumerate() {
            let Some(lane) = flow.lanes.of(entry.place()) else { continue };
            // What comes before the client was made to go back lies beyond where the lane goes on.
            if flow.resumes.iter().any(|(waiting, _)| *waiting == lane) {
                continue;
            }
            if self.parts.get(current).is_none_or(|part| part.lane != Some(lane)) {
                current = self.part(lane, flow.lanes.run(lane));
            }
            let part = &mut self.parts[current];
            match entry {
                // What stands behind damage isn't to be read: it would pass over what is damaged.
                Entry::Record(_) | Entry::End(_) if part.damaged.is_some() => {}
                Entry::Record(record) if !flow.lanes.get_mut(lane).is_some_and(|lane| lane.take(record.offset())) => {}
                Entry::Record(record) => {
                    part.records.push(index as u32);
                    part.offsets.push(record.offset());
                }
                Entry::End(place) => part.end = Some(place.offset()),
                Entry::Error { code: Code::AUTO_OFFSET_RESET, .. } => part.out_of_range = true,
                Entry::Error { code, place, message } if code.passes_records_over() => {
                    tracing::error!(topic = place.topic(), partition = place.partition(), offset = place.offset(), error = %code, message, "Records can't be read.");
                    part.damaged = Some(format!("{message} ({code})"));
                }
                Entry::Error { code, place, message } => {
                    tracing::warn!(topic = place.topic(), partition = place.partition(), error = %code, message, "A partition can't be read for now.");
                }
            }
        }
    }

    fn part(&mut self, lane: LaneId, run: Option<u64>) -> usize {
        let used = &self.parts[..self.parts_used];
        if let Some(index) = used.iter().position(|part| part.lane == Some(lane)) {
            return index;
        }
        if self.parts_used == self.parts.len() {
            self.parts.push(InHand::default());
        }
        self.parts[self.parts_used].lane = Some(lane);
        self.parts[self.parts_used].run = run;
        self.parts_used += 1;
        self.parts_used - 1
    }
}

impl Shard {
    /// Works a drained batch off, lane by lane.
    pub(super) fn work_off(&mut self) -> Result<(), kafka::Error> {
        let Self { program, batch, calls, flow, .. } = self;
        if batch.is_empty() {
            return Ok(());
        }
        calls.sort(batch, flow);
        for index in 0..calls.parts_used {
            let mut part = std::mem::take(&mut calls.parts[index]);
            let lane = part.lane.expect("parts in use have a lane");
            // Between two parts the group is attended to, and may take the partition, and give its number to another. And
            // the lane may have stopped and gone on meanwhile, from an event that comes again: what is in hand lies beyond
            // it, and taking that, or the end behind it, would pass over what lies between.
            let is_ours = |flow: &Flow| flow.lanes.run(lane) == part.run;
            flow.settle_before_more(program)?;
            if !part.records.is_empty() && is_ours(flow) {
                deliver(program, batch, calls, flow, lane, &part)?;
            }
            if let Some(offset) = part.end.filter(|_| is_ours(flow)) {
                flow.step(Input::End { lane, offset })?;
            }
            if part.out_of_range && is_ours(flow) {
                out_of_range(program, flow, lane)?;
            }
            if let Some(reason) = part.damaged.take().filter(|_| is_ours(flow)) {
                flow.halt_unreadable(lane, Unreadable::Damaged { reason })?;
            }
            calls.parts[index] = part;
            flow.attend(program)?;
        }
        batch.clear();
        Ok(())
    }
}

/// Offers one lane's events to the engine, and works through them in parts, for as long as it takes them.
fn deliver(
    program: &Program,
    batch: &Batch,
    calls: &mut Calls,
    flow: &mut Flow,
    id: LaneId,
    part: &InHand,
) -> Result<(), kafka::Error> {
    let Some(Taken { first, skip, refusals }) = offer(flow, id, &part.offsets)? else { return Ok(()) };
    let Some(lane) = flow.lanes.get(id) else { return Ok(()) };
    let topic = lane.partition.0.clone();
    let events = part.records.iter().map(|index| match batch.get(*index as usize) {
        Entry::Record(record) => Event {
            topic: &topic,
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp(),
            key: record.key(),
            value: record.value(),
            headers: record.headers(),
        },
        Entry::End(_) | Entry::Error { .. } => unreachable!("only records are in hand"),
    });
    let events: Vec<_> = events.collect();
    let mut start = 0;
    while start < events.len() {
        let seq = first + start as u64;
        let attempt = flow.engine.attempt(id, seq);
        // Up to where it is run, or skipped.
        let skipped = skip.contains(&start);
        let end = [skip.start, skip.end, events.len()].into_iter().find(|end| *end > start).unwrap_or(events.len());
        // What failed to be written goes into a transaction alone.
        let suspect = flow.engine.suspect(id).map(|offset| events.partition_point(|event| event.offset < offset));
        let is_suspect = suspect == Some(start);
        let end = suspect.filter(|suspect| *suspect > start).map_or(end, |suspect| end.min(suspect));
        // An event that is tried again goes alone: the others weren't offered as often. So does one that a route is tried with.
        let alone = is_suspect || !skipped && (attempt > 1 || flow.engine.is_probing(id));
        let count = if alone { 1 } else { PART_EVENTS_MAX.min(end - start).min(flow.engine.room()) };
        if is_suspect {
            flow.end_transaction(program)?;
        }
        let events = &events[start..start + count];
        let part = Part { id, first: seq, attempt, events, skipped, refusals: &refusals };
        match part.answer(program, calls, flow)? {
            Some(answered) => start += answered,
            None => return Ok(()),
        }
        if is_suspect {
            flow.end_transaction(program)?;
        }
        flow.attend(program)?;
        flow.settle_before_more(program)?;
    }
    Ok(())
}

/// Tells the engine what was delivered. None where it doesn't take it.
fn offer(flow: &mut Flow, id: LaneId, offsets: &[i64]) -> Result<Option<Taken>, kafka::Error> {
    let mut actions = Vec::new();
    flow.engine.step(Input::Delivered { lane: id, offsets }, flow.now(), &mut actions);
    let (mut first, mut refusals, mut others) = (None, Vec::new(), Vec::new());
    for action in actions {
        match action {
            Action::Process { first: seq, skip, .. } => first = Some((seq, skip.start as usize..skip.end as usize)),
            Action::Discard { .. } => {}
            Action::Refused { seq, refused, .. } => refusals.push((seq, refused)),
            other => others.push(other),
        }
    }
    flow.carry(others)?;
    Ok(first.map(|(first, skip)| Taken { first, skip, refusals }))
}

/// Some of one lane's events, answered together.
struct Part<'p, 'e> {
    id: LaneId,
    first: Seq,
    attempt: u32,
    events: &'e [Event<'e>],
    /// Whether an operator wants them skipped, rather than run.
    skipped: bool,
    refusals: &'p [(Seq, Refused)],
}

impl Part<'_, '_> {
    /// Routes the events, calls the plugins, tells the engine, and produces what it says. Returns how many events were
    /// answered; none where the lane takes no more of them.
    fn answer(&self, program: &Program, calls: &mut Calls, flow: &mut Flow) -> Result<Option<usize>, kafka::Error> {
        let Some(lane) = flow.lanes.get(self.id) else { return Ok(None) };
        let routes = lane.routes.clone();
        let Calls { workers, arenas, scratch, picked, counts, messages, .. } = calls;
        route::select(&program.plans, &routes, self.events, scratch, counts, picked);
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
                    flow.count_failure(self.id, event.offset, (route, plan), *stage, failure.kind);
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

/// What something is produced for.
#[derive(Debug, Clone, Copy)]
struct Place {
    id: LaneId,
    seq: Seq,
    route: u16,
    /// What its letter has to go without, since its topic has refused it before.
    cut: Cut,
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

impl Flow {
    /// Waits until the next event may be produced, for a while. Reports are taken and the member is kept alive meanwhile,
    /// so that a broker that is away costs nothing but time.
    fn make_room(&mut self, mut admits: impl FnMut(&Sink) -> bool) -> Result<bool, kafka::Error> {
        if self.sink.has_room() && (!self.sink.is_tight() || admits(&self.sink)) {
            return Ok(true);
        }
        let deadline = Instant::now() + ROOM_WAIT;
        // With a producer that is to be replaced, there is nothing to wait for.
        while Instant::now() < deadline && self.settling.is_none() {
            self.poll_sink(Duration::from_millis(5))?;
            self.keep_alive();
            if self.sink.has_room() && admits(&self.sink) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Produces what one route has for one event. False where there was no room for all of it.
    fn produce(
        &mut self,
        Place { id, seq, route, cut }: Place,
        event: &Event<'_>,
        plan: &route::Plan,
        product: &Product<'_, '_>,
        attempts: Option<u32>,
    ) -> Result<bool, kafka::Error> {
        match product {
            Product::Outputs(outputs) => {
                for (index, ready) in outputs.iter().enumerate() {
                    if !self.insist(id, |sink, lane| {
                        sink.output(Origin { id, lane, seq, route, event }, plan, index as u32, ready)
                    })? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Product::Failed { failure, stage } => {
                let Some(attempts) = attempts else { return Ok(true) };
                tracing::debug!(route = plan.id, kind = %failure.kind, message = failure.message, offset = event.offset, "An event goes to the dead letters.");
                self.insist(id, |sink, lane| {
                    sink.letter(Origin { id, lane, seq, route, event }, plan, (failure, *stage, attempts), cut)
                })
            }
        }
    }

    /// Hands one message over, waiting for room if there is none: the rest of its event is in flight already.
    fn insist(
        &mut self,
        id: LaneId,
        mut produce: impl FnMut(&mut Sink, &crate::data::lane::Lane) -> Result<(), Full>,
    ) -> Result<bool, kafka::Error> {
        // Set where there is no room: the clock costs more than the rest of this, and there mostly is.
        let mut deadline = None;
        loop {
            let Some(lane) = self.lanes.get(id) else { return Ok(false) };
            match produce(&mut self.sink, lane) {
                Ok(()) => return Ok(true),
                Err(Full) if self.now() >= *deadline.get_or_insert(self.now() + ROOM_WAIT) => return Ok(false),
                Err(Full) => {
                    self.poll_sink(Duration::from_millis(5))?;
                    self.keep_alive();
                }
            }
        }
    }
}
