//! What operators order: pauses, another try, events that are skipped.

use super::breakers::{LETTER, TAKE, broken, letter};
use super::*;

#[test]
fn a_paused_lane_settles_and_takes_nothing_until_it_is_let_go() {
    let mut case = Case::new();
    case.emit(0, &[10]);
    case.check(Input::Paused { lanes: &[LANE] }, &[park(11, case.now, Cause::Paused)]);
    case.check(Input::Delivered { lane: LANE, offsets: &[11] }, &[Action::Discard { lane: LANE }]);
    case.check(Input::Reports(&[acked(0)]), &[commit(11)]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
    assert_eq!((case.engine.next_wakeup(), case.engine.standing(LANE)), (None, Some(Standing::Paused)));
    assert_eq!(case.engine.stands_at(LANE), Some(11));
    case.check(Input::Again { lanes: &[LANE] }, &[]);
    case.check(Input::Swapped { routes: &[] }, &[]);
    case.check(Input::Unpaused { lanes: &[LANE] }, &[resume(11)]);
}

#[test]
fn whoever_waits_tries_again_when_told() {
    let mut case = Case::new();
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(0, 1)]);
    let cause = Cause::Retry { route: 7, failures: 1 };
    let wait = park(10, case.now + millis(100), cause);
    case.fail(0, OnFailure::Retry { attempts: 2, backoff: &WAIT }, &[wait]);
    case.check(Input::Again { lanes: &[LANE] }, &[resume(10)]);
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(1, 1)]);
    case.fail(1, OnFailure::Halt, &[Action::Halted { lane: LANE, offset: 10, route: Some(7) }]);
    case.check(Input::Again { lanes: &[LANE] }, &[resume(10)]);
    // What can't be read can't be tried.
    let mut case = Case::new();
    case.check(Input::Unreadable { lane: LANE }, &[Action::Halted { lane: LANE, offset: 10, route: None }]);
    case.check(Input::Again { lanes: &[LANE] }, &[]);
}

#[test]
fn what_is_skipped_is_not_run_and_nothing_stops_it() {
    let mut case = Case::tripped();
    case.check(Input::Skip { lane: LANE, to: 13 }, &[resume(11)]);
    let skips = Action::Process { lane: LANE, first: 2, count: 3, skip: 0..2 };
    case.check(Input::Delivered { lane: LANE, offsets: &[11, 12, 13] }, &[skips]);
    let failures = [LETTER, RouteFailure { event: 1, ..LETTER }, RouteFailure { event: 2, ..LETTER }];
    let answered = Input::Answered { lane: LANE, first: 2, messages: &[0; 3], failures: &failures, takes: &[TAKE] };
    let (until, cause) = (case.now + millis(1000), broken(1));
    case.check(answered, &[letter(2, 2), letter(3, 1), emit(2, 2), park(13, until, cause)]);
}

#[test]
fn a_lane_that_runs_skips_nothing() {
    let mut case = Case::new();
    case.check(Input::Skip { lane: LANE, to: 20 }, &[]);
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(0, 1)]);
}

#[test]
fn what_runs_again_before_what_is_skipped_is_run() {
    let mut case = exactly_once();
    case.check(Input::Barrier, &[]);
    case.emit(0, &[10]);
    case.check(Input::Delivered { lane: LANE, offsets: &[11] }, &[process(1, 1)]);
    case.fail(1, OnFailure::Halt, &[Action::Halted { lane: LANE, offset: 11, route: Some(7) }]);
    case.check(Input::Skip { lane: LANE, to: 12 }, &[]);
    assert_eq!(case.engine.stands_at(LANE), None, "a message is in flight");
    case.check(Input::Reports(&[acked(0)]), &[commit(11)]);
    case.check(Input::Skip { lane: LANE, to: 12 }, &[resume(11)]);
    // The commit failed.
    let until = case.now + WAIT.first;
    case.check(Input::Aborted { positions: &[(LANE, Some(10))] }, &[park(10, until, Cause::Failed)]);
    case.later(WAIT.first);
    case.check(Input::Tick, &[resume(10)]);
    let skips = Action::Process { lane: LANE, first: 2, count: 3, skip: 1..2 };
    case.check(Input::Delivered { lane: LANE, offsets: &[10, 11, 12] }, &[skips]);
}
