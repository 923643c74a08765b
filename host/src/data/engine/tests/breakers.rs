//! Breakers: when too much of a route fails, and what is tried then.

use super::*;
use crate::config::model::Breaker;

const BREAKER: Breaker = Breaker { failures: 0.5, events: 4, probe: millis(1000) };
pub(super) const TAKE: Take<'_> = Take { route: 7, events: None, breaker: Some(&BREAKER) };
pub(super) const LETTER: RouteFailure<'_> = RouteFailure { event: 0, route: 7, on: OnFailure::Letter };

pub(super) fn letter(seq: Seq, attempts: u32) -> Action {
    Action::Letter { lane: LANE, seq, route: 7, attempts }
}

pub(super) fn broken(failures: u32) -> Cause {
    Cause::Breaker { route: 7, failures }
}

impl Case {
    /// One event comes, and its route 7 fails for good, or not.
    #[track_caller]
    fn run(&mut self, seq: Seq, offset: i64, fails: bool, expected: &[Action]) {
        self.check(Input::Delivered { lane: LANE, offsets: &[offset] }, &[process(seq, 1)]);
        let failures: &[_] = if fails { &[LETTER] } else { &[] };
        let messages = [u32::from(!fails)];
        self.check(Input::Answered { lane: LANE, first: seq, messages: &messages, failures, takes: &[TAKE] }, expected);
    }

    /// At offset 11 behind a letter of 10, with the breaker open.
    pub(super) fn tripped() -> Self {
        let mut case = Self::new();
        case.run(0, 10, true, &[letter(0, 1), emit(0, 1)]);
        let (until, cause) = (case.now + millis(1000), broken(1));
        case.run(1, 11, true, &[park(11, until, cause)]);
        case.check(Input::Reports(&[acked(0)]), &[commit(11)]);
        case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
        assert_eq!(case.engine.standing(LANE), Some(Standing::Waiting { until, cause }));
        case
    }
}

#[test]
fn a_breaker_stops_its_partition_before_too_much_has_failed_and_tries_again_with_that_event() {
    let mut case = Case::tripped();
    assert_eq!(case.engine.next_wakeup(), Some(millis(2000)));
    case.later(millis(1000));
    case.check(Input::Tick, &[resume(11)]);
    assert!(case.engine.is_probing(LANE));
    assert_eq!(case.engine.standing(LANE), Some(Standing::Probing { at: 11 }));
    let (until, cause) = (case.now + millis(1000), broken(2));
    case.run(2, 11, true, &[park(11, until, cause)]);
    case.later(millis(1000));
    case.check(Input::Tick, &[resume(11)]);
    assert_eq!((case.engine.attempt(LANE, 3), case.engine.open_breakers().count()), (1, 1));
    case.run(3, 11, false, &[emit(3, 1)]);
    assert_eq!((case.engine.is_probing(LANE), case.engine.open_breakers().count()), (false, 0));
    // It forgets what it counted.
    case.run(4, 12, true, &[letter(4, 1), emit(4, 1)]);
}

#[test]
fn an_open_breaker_holds_partitions_back_where_its_route_takes_an_event_and_lets_them_go_when_it_closes() {
    let mut case = Case::tripped();
    let other = LaneId(1);
    case.check(Input::Assigned { lane: other, position: 0, committed: true }, &[]);
    let deliver = Input::Delivered { lane: other, offsets: &[0, 1, 2] };
    case.check(deliver, &[Action::Process { lane: other, first: 0, count: 3, skip: 0..0 }]);
    let takes = [Take { events: Some(&[1]), ..TAKE }];
    let answered = Input::Answered { lane: other, first: 0, messages: &[1, 1, 1], failures: &[], takes: &takes };
    let cause = Cause::Breaker { route: 7, failures: 0 };
    let held = Action::Park { lane: other, offset: 1, until: millis(2000), cause };
    case.check(answered, &[Action::Emit { lane: other, first: 0, count: 1 }, held]);
    let acked = Report { lane: other, seq: 0, outcome: Outcome::Acked };
    let commit = Action::Commit { positions: vec![(other, 1)] };
    case.check(Input::Reports(&[acked]), &[]);
    case.later(millis(100));
    case.check(Input::Tick, &[commit]);
    let go_on = [resume(11), Action::Resume { lane: other, offset: 1 }];
    case.check(Input::Trusted { routes: &[7] }, &go_on);
    assert!(!case.engine.is_probing(LANE));
    case.run(2, 11, true, &[letter(2, 2), emit(2, 1)]);
}

#[test]
fn what_a_policy_drops_is_a_failure_all_the_same() {
    let mut case = Case::new();
    case.run(0, 10, true, &[letter(0, 1), emit(0, 1)]);
    case.check(Input::Delivered { lane: LANE, offsets: &[11] }, &[process(1, 1)]);
    let failures = [RouteFailure { on: OnFailure::Drop, ..LETTER }];
    let answered = Input::Answered { lane: LANE, first: 1, messages: &[0], failures: &failures, takes: &[TAKE] };
    let (until, cause) = (case.now + millis(1000), broken(1));
    case.check(answered, &[park(11, until, cause)]);
}

#[test]
fn other_routes_close_breakers() {
    let mut case = Case::tripped();
    let same: Vec<_> = (0..8).map(Some).collect();
    case.check(Input::Swapped { routes: &same }, &[resume(11)]);
    assert_eq!(case.engine.open_breakers().count(), 0);
    case.run(2, 11, true, &[letter(2, 2), emit(2, 1)]);
}

#[test]
fn what_runs_again_is_counted_once() {
    let mut case = Case::new();
    case.run(0, 10, true, &[letter(0, 1), emit(0, 1)]);
    let park = Action::Park { lane: LANE, offset: 11, until: case.now + millis(100), cause: Cause::Failed };
    case.check(Input::Reports(&[failed(0)]), &[park]);
    case.later(millis(100));
    case.check(Input::Tick, &[resume(10)]);
    case.run(1, 10, true, &[letter(1, 1), emit(1, 1)]);
    assert_eq!(case.engine.open_breakers().count(), 0);
}
