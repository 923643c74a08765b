//! What becomes of events that the plugins answered: emitted, up to the first that must stop its partition.

use std::ops::Range;

use super::input::{LaneId, Now, OnFailure, RouteFailure, Seq, Take};
use super::lane::Lane;
use super::{Action, Cause, Engine, Guarantee, backoff};

/// What was answered of one lane's events.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) first: Seq,
    pub(super) messages: &'a [u32],
    pub(super) failures: &'a [RouteFailure<'a>],
    pub(super) takes: &'a [Take<'a>],
}

/// What the failures of one event mean for its lane.
enum Judgement {
    /// It goes on.
    GoOn,
    /// It halts.
    Halt { route: u16 },
    /// It waits.
    Park { until: Now, cause: Cause },
}

/// An event that is to be judged.
struct Judged<'a> {
    index: u32,
    seq: Seq,
    offset: i64,
    /// What failed of it.
    failures: &'a [RouteFailure<'a>],
    /// Whether what becomes of it counts for breakers: not if it did before.
    counts: bool,
}

impl Judged<'_> {
    /// Whether a route failed for good, once no retry is left. Also where its policy drops the event then: that is for events
    /// that are bad, and a version that fails with all of them would discard a topic unnoticed.
    fn failed(&self, route: u16) -> bool {
        self.failures.iter().any(|failure| failure.route == route)
    }
}

impl Engine {
    pub(super) fn answered(&mut self, id: LaneId, answer: Answer<'_>, now: Now, actions: &mut Vec<Action>) {
        let Some(lane) = self.lanes.get_mut(id).filter(|lane| lane.expects_answer(answer.first)) else {
            return;
        };
        let Answer { first, messages, takes, .. } = answer;
        lane.answer(messages);
        let known = lane.below(first, lane.counted);
        let skipped = lane.below(first, lane.skip.start)..lane.below(first, lane.skip.end);
        self.breakers.begin(takes, known, skipped.clone());
        let (count, judgement) = self.judge_all(id, answer, (known, skipped), now, actions);
        self.breakers.end(takes, count);
        let lane = self.lanes.known(id);
        if count > 0 {
            let last = lane.offset(first + u64::from(count) - 1).expect("it was answered");
            lane.counted = lane.counted.max(last + 1);
            actions.push(Action::Emit { lane: id, first, count });
            let messages = lane.messages(first, count);
            if self.settings.guarantee == Guarantee::ExactlyOnce && messages > 0 {
                lane.in_transaction = true;
                self.transaction.emit(messages, now);
            }
        }
        let lane = self.lanes.known(id);
        match judgement {
            Judgement::GoOn => self.settle(id),
            Judgement::Halt { route } => {
                lane.truncate(first + u64::from(count));
                self.halt(id, Some(route), actions);
            }
            Judgement::Park { until, cause } => {
                lane.truncate(first + u64::from(count));
                self.park(id, until, cause, actions);
            }
        }
    }

    /// Judges the events that something can be said of, in their order: those that failed, and those that an open breaker
    /// stops. How many go on, and what stops the next one. What became of events before `known` was counted before, and some are skipped.
    fn judge_all(
        &mut self,
        id: LaneId,
        answer: Answer<'_>,
        (known, skipped): (u32, Range<u32>),
        now: Now,
        actions: &mut Vec<Action>,
    ) -> (u32, Judgement) {
        let Answer { first, messages, failures, takes } = answer;
        let mut failing = failures.chunk_by(|a, b| a.event == b.event).peekable();
        let mut gate = self.gate(takes, 0, &skipped);
        loop {
            let next = failing.peek().map(|event| event[0].event);
            let Some(index) = next.into_iter().chain(gate).min().filter(|index| (*index as usize) < messages.len())
            else {
                return (messages.len() as u32, Judgement::GoOn);
            };
            let seq = first + u64::from(index);
            let offset = self.lanes.known(id).offset(seq).expect("it was answered");
            let failures = failing.next_if(|event| event[0].event == index).unwrap_or_default();
            let event = Judged { index, seq, offset, failures, counts: index >= known };
            if !skipped.contains(&index) {
                let judgement = self.judge(id, &event, takes, now);
                if !matches!(judgement, Judgement::GoOn) {
                    return (index, judgement);
                }
            }
            self.write_letters(id, &event, actions);
            gate = self.gate(takes, index + 1, &skipped);
        }
    }

    /// The next event, from one on, that a route takes whose breaker is open; what is skipped passes.
    fn gate(&self, takes: &[Take<'_>], from: u32, skipped: &Range<u32>) -> Option<u32> {
        if !self.breakers.any_open() {
            return None;
        }
        let open = takes.iter().filter(|take| take.breaker.is_some() && self.breakers.open_until(take.route).is_some());
        let next = |take: &Take<'_>| match take.next(from) {
            Some(index) if skipped.contains(&index) => take.next(skipped.end),
            next => next,
        };
        open.filter_map(next).min()
    }

    /// Whether an event stops its lane. A halt weighs more than a retry, that more than a breaker. A retry is remembered.
    fn judge(&mut self, id: LaneId, event: &Judged<'_>, takes: &[Take<'_>], now: Now) -> Judgement {
        if let Some(halt) = event.failures.iter().find(|failure| matches!(failure.on, OnFailure::Halt)) {
            return Judgement::Halt { route: halt.route };
        }
        let Self { lanes, random, .. } = self;
        let lane = lanes.known(id);
        let mut judgement = Judgement::GoOn;
        for failure in event.failures {
            let OnFailure::Retry { attempts, backoff } = failure.on else {
                continue;
            };
            let failures = failures_before(lane, event.offset, failure.route) + 1;
            if failures >= attempts {
                continue;
            }
            lane.memory.entry(event.offset).add_failure(failure.route);
            let wait_until = now + backoff::wait(backoff, failures, random);
            if !matches!(judgement, Judgement::Park { until, .. } if until >= wait_until) {
                let cause = Cause::Retry { route: failure.route, failures };
                judgement = Judgement::Park { until: wait_until, cause };
            }
        }
        if matches!(judgement, Judgement::Park { .. }) {
            lane.memory.entry(event.offset).stops += 1;
            return judgement;
        }
        self.judge_by_breakers(id, event, takes, now)
    }

    /// Whether breakers stop an event of which nothing is left to be retried: one that is open, unless this event is to try
    /// whether the route works again; then one that still fails; or one that the event's failure makes trip. If it goes on,
    /// that is counted, and those that it tried close.
    fn judge_by_breakers(&mut self, id: LaneId, event: &Judged<'_>, takes: &[Take<'_>], now: Now) -> Judgement {
        let probing = self.lanes.known(id).probing;
        let (mut tried, mut held, mut broken) = (Vec::new(), None, None);
        for take in takes.iter().filter(|take| take.breaker.is_some()) {
            match self.breakers.open_until(take.route) {
                Some(_) if !take.has(event.index) && !event.failed(take.route) => {}
                Some(until) if !probing => held = held.max(Some((until, take.route))),
                Some(_) => tried.push(take.route),
                None => {}
            }
        }
        if let Some(held) = held {
            return self.break_off(id, event, held, false);
        }
        for take in takes {
            let Some(policy) = take.breaker.filter(|_| event.failed(take.route)) else { continue };
            let is_open = self.breakers.open_until(take.route).is_some();
            if is_open || event.counts && self.breakers.would_trip(take, event.index, policy) {
                self.breakers.open(take.route, now + policy.probe);
                broken = broken.max(Some((now + policy.probe, take.route)));
            }
        }
        if let Some(broken) = broken {
            return self.break_off(id, event, broken, true);
        }
        for route in tried {
            self.close_breaker(route);
        }
        for take in takes {
            if let Some(policy) = take.breaker.filter(|_| event.counts && event.failed(take.route)) {
                self.breakers.fail(take, event.index, policy);
            }
        }
        Judgement::GoOn
    }

    /// Stops before an event that breakers hold back. If it was judged, that was a call of each route that failed.
    fn break_off(&mut self, id: LaneId, event: &Judged<'_>, (until, route): (Now, u16), judged: bool) -> Judgement {
        let lane = self.lanes.known(id);
        lane.probing = false;
        if judged {
            let remembered = lane.memory.entry(event.offset);
            remembered.stops += 1;
            for failure in event.failures {
                remembered.add_failure(failure.route);
            }
        }
        let failures = if judged { failures_before(lane, event.offset, route) } else { 0 };
        Judgement::Park { until, cause: Cause::Breaker { route, failures } }
    }

    /// The letters of an event that goes on.
    fn write_letters(&mut self, id: LaneId, event: &Judged<'_>, actions: &mut Vec<Action>) {
        let lane = self.lanes.known(id);
        for failure in event.failures {
            if !matches!(failure.on, OnFailure::Drop) {
                lane.add_message(event.seq);
                let attempts = failures_before(lane, event.offset, failure.route) + 1;
                actions.push(Action::Letter { lane: id, seq: event.seq, route: failure.route, attempts });
            }
        }
    }
}

fn failures_before(lane: &Lane, offset: i64, route: u16) -> u32 {
    lane.memory.get(offset).map_or(0, |event| event.failures(route))
}
