//! A batch in hand: sorted by lane, offered to the engine lane by lane, and worked off in parts.

use std::ops::Range;
use std::sync::Arc;

use super::Shard;
use super::carry::Flow;
use super::filters::{FilterCounts, Filters};
use super::group::out_of_range;
use super::part::Part;
use super::trials::Watch;
use crate::data::engine::{Action, Input, LaneId, Refused, Seq};
use crate::data::event::Event;
use crate::data::filter::Scratch;
use crate::data::plugin::Worker;
use crate::data::plugin::verdicts::Verdicts;
use crate::data::program::Program;
use crate::data::route::Picked;
use crate::data::stop::Unreadable;
use crate::kafka::{self, Batch, Code, Entry};

/// Events that are answered in one go: fewer calls for each, while the outputs of all of them have to be held.
const PART_EVENTS_MAX: usize = 512;

/// The plugins of a shard, and the buffers that every batch reuses.
pub(super) struct Calls {
    pub(super) workers: Vec<Worker>,
    pub(super) arenas: Vec<Verdicts>,
    pub(super) scratch: Scratch,
    pub(super) picked: Vec<Picked>,
    pub(super) filters: Filters,
    pub(super) messages: Vec<u32>,
    /// What a batch holds of each lane, and which of these are in use.
    parts: Vec<InHand>,
    parts_used: usize,
    pub(super) watch: Watch,
    pub(super) events: u64,
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
    pub(super) fn new(program: &Program, filtered: FilterCounts) -> Self {
        let mut workers: Vec<_> = program.prepared.iter().map(|prepared| Worker::ready(prepared.clone())).collect();
        Self {
            watch: Watch::new(program, &mut workers),
            workers,
            arenas: Vec::new(),
            scratch: Scratch::default(),
            picked: Vec::new(),
            filters: Filters::new(program, filtered),
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
        self.filters.adopt(before, next);
    }

    /// How many events were answered.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Sorts a batch by lane, which was drained when this was the newest run: what a later one reads comes again. Records of one
    /// lane mostly come in a row: the last one is looked at first.
    fn sort(&mut self, batch: &Batch, flow: &mut Flow, run: u64) {
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
        let any_later = flow.lanes.newest_run() != run;
        for (index, entry) in batch.iter().enumerate() {
            let Some(lane) = flow.lanes.of(entry.place()) else { continue };
            if any_later && flow.lanes.run(lane).is_some_and(|of_lane| of_lane > run) {
                continue;
            }
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
                    tracing::error!(topic = place.topic(), partition = place.partition(), offset = place.offset(), error = %code, reason = message, "Records can't be read.");
                    part.damaged = Some(format!("{message} ({code})"));
                }
                Entry::Error { code, place, message } => {
                    tracing::warn!(topic = place.topic(), partition = place.partition(), error = %code, reason = message, "A partition can't be read for now.");
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
    /// Works off, lane by lane, a batch that was drained when this was the newest run.
    pub(super) fn work_off(&mut self, run: u64) -> Result<(), kafka::Error> {
        let Self { program, batch, calls, flow, .. } = self;
        if batch.is_empty() {
            return Ok(());
        }
        calls.sort(batch, flow, run);
        for index in 0..calls.parts_used {
            let mut part = std::mem::take(&mut calls.parts[index]);
            let lane = part.lane.expect("parts in use have a lane");
            // Between two parts the group is attended to, and may take the partition, and give its number to another. And
            // the lane may have stopped and gone on meanwhile, from an event that comes again: what is in hand lies beyond
            // it, and taking that, or the end behind it, would pass over what lies between.
            let is_ours = |flow: &Flow| flow.lanes.run(lane) == part.run;
            // One that has stopped goes on from an event before, and meets what stands behind it again.
            let runs = |flow: &Flow| is_ours(flow) && flow.engine.runs(lane);
            flow.settle_before_more(program)?;
            if !part.records.is_empty() && is_ours(flow) {
                deliver(program, batch, calls, flow, lane, &part)?;
            }
            if let Some(offset) = part.end.filter(|_| is_ours(flow)) {
                flow.step(Input::End { lane, offset })?;
            }
            if part.out_of_range && runs(flow) {
                out_of_range(program, flow, lane)?;
            }
            if let Some(reason) = part.damaged.take().filter(|_| runs(flow)) {
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
    // What came due in between may have ended a transaction, and its producer is to be replaced first.
    flow.settle_before_more(program)?;
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
        debug_assert!(
            flow.settling.is_none() || flow.drained.is_some(),
            "nothing is given to a producer that is to be replaced"
        );
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
