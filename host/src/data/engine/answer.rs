//! What becomes of events that the plugins answered: emitted, up to the first that must stop its partition.

use super::input::{LaneId, Now, OnFailure, RouteFailure, Seq};
use super::lane::Lane;
use super::{Action, Cause, Engine, Guarantee, backoff};

/// What the failures of one event mean for its lane.
enum Judgement {
    /// It goes on.
    GoOn,
    /// It halts.
    Halt { route: u16 },
    /// It waits.
    Park { until: Now, route: u16, failures: u32 },
}

impl Engine {
    pub(super) fn answered(
        &mut self,
        id: LaneId,
        first: Seq,
        messages: &[u32],
        failures: &[RouteFailure<'_>],
        now: Now,
        actions: &mut Vec<Action>,
    ) {
        let Some(lane) = self.lanes.get_mut(id).filter(|lane| lane.expects_answer(first)) else {
            return;
        };
        lane.answer(messages);
        let mut count = messages.len() as u32;
        let mut judgement = Judgement::GoOn;
        for event in failures.chunk_by(|a, b| a.event == b.event) {
            let index = event[0].event;
            judgement = self.judge(id, first + u64::from(index), event, now);
            if !matches!(judgement, Judgement::GoOn) {
                count = index;
                break;
            }
            self.write_letters(id, first + u64::from(index), event, actions);
        }
        let lane = self.lanes.known(id);
        if count > 0 {
            actions.push(Action::Emit { lane: id, first, count });
            if self.settings.guarantee == Guarantee::ExactlyOnce && lane.has_messages(first, count) {
                lane.in_transaction = true;
                self.transaction.open();
            }
        }
        let lane = self.lanes.known(id);
        match judgement {
            Judgement::GoOn => self.settle(id),
            Judgement::Halt { route } => {
                lane.truncate(first + u64::from(count));
                self.halt(id, Some(route), actions);
            }
            Judgement::Park { until, route, failures } => {
                lane.truncate(first + u64::from(count));
                self.park(id, until, Cause::Retry { route, failures }, actions);
            }
        }
    }

    /// Whether an event's failures stop its lane. A halt weighs more than a retry. A retry is remembered.
    fn judge(&mut self, id: LaneId, seq: Seq, failures: &[RouteFailure<'_>], now: Now) -> Judgement {
        if let Some(halt) = failures.iter().find(|failure| matches!(failure.on, OnFailure::Halt)) {
            return Judgement::Halt { route: halt.route };
        }
        let Self { lanes, random, .. } = self;
        let lane = lanes.known(id);
        let offset = lane.offset(seq).expect("failures are of events that were answered");
        let mut judgement = Judgement::GoOn;
        for failure in failures {
            let OnFailure::Retry { attempts, backoff } = failure.on else {
                continue;
            };
            let failed = failures_before(lane, offset, failure.route) + 1;
            if failed >= attempts {
                continue;
            }
            lane.memory.entry(offset).add_failure(failure.route);
            let wait_until = now + backoff::wait(backoff, failed, random);
            if !matches!(judgement, Judgement::Park { until, .. } if until >= wait_until) {
                judgement = Judgement::Park { until: wait_until, route: failure.route, failures: failed };
            }
        }
        if matches!(judgement, Judgement::Park { .. }) {
            lane.memory.entry(offset).stops += 1;
        }
        judgement
    }

    /// The letters of an event that goes on.
    fn write_letters(&mut self, id: LaneId, seq: Seq, failures: &[RouteFailure<'_>], actions: &mut Vec<Action>) {
        let lane = self.lanes.known(id);
        let offset = lane.offset(seq).expect("failures are of events that were answered");
        for failure in failures {
            if !matches!(failure.on, OnFailure::Drop) {
                lane.add_message(seq);
                let attempts = failures_before(lane, offset, failure.route) + 1;
                actions.push(Action::Letter { lane: id, seq, route: failure.route, attempts });
            }
        }
    }
}

fn failures_before(lane: &Lane, offset: i64, route: u16) -> u32 {
    lane.memory.get(offset).map_or(0, |event| event.failures(route))
}
