//! Exactly once: what goes into one transaction, when it ends, and what follows where it can't.

use super::*;

#[test]
fn a_transaction_ends_when_all_of_it_has_settled_and_takes_nothing_more_meanwhile() {
    let mut case = exactly_once();
    case.emit(0, &[10, 11]);
    case.check(Input::Reports(&[acked(0)]), &[]);
    assert!(!case.engine.takes_events() && !case.engine.is_between_transactions(), "it is to end");
    assert_eq!(case.engine.next_wakeup(), None, "only reports bring it on");
    case.check(Input::Reports(&[acked(1)]), &[commit(12)]);
    assert!(!case.engine.takes_events(), "it ends");
    case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
    assert!(case.engine.takes_events() && case.engine.is_between_transactions());
    case.emit(2, &[12]);
    case.check(Input::Reports(&[acked(2)]), &[]);
    case.check(Input::Barrier, &[commit(13)]);
}

#[test]
fn events_without_outputs_need_no_transaction_but_a_commit() {
    let mut case = exactly_once();
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(0, 1)]);
    let answered = Input::Answered { lane: LANE, first: 0, messages: &[0], failures: &[], takes: &[] };
    case.check(answered, &[emit(0, 1), commit(11)]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
}

#[test]
fn a_refused_output_gives_the_transaction_up_and_is_remembered_until_its_event_is_committed() {
    let mut case = exactly_once();
    case.check(Input::Barrier, &[]);
    case.emit(0, &[10, 11]);
    let abort = Action::Abort { cause: Cause::Refused };
    case.check(Input::Reports(&[refused(0), acked(1)]), std::slice::from_ref(&abort));
    assert!(!case.engine.takes_events());
    let gone_back = [park(10, case.now, Cause::Refused), resume(10)];
    case.check(Input::Aborted { positions: &[(LANE, Some(10))] }, &gone_back);
    let known = |seq| Action::Refused { lane: LANE, seq, refused: REFUSED };
    case.check(Input::Delivered { lane: LANE, offsets: &[10, 11] }, &[known(2), process(2, 2)]);
    let answered = |first| Input::Answered { lane: LANE, first, messages: &[1, 1], failures: &[], takes: &[] };
    case.check(answered(2), &[emit(2, 2)]);
    case.check(Input::Reports(&[acked(2), refused(3)]), &[abort]);
    case.check(Input::Aborted { positions: &[(LANE, Some(10))] }, &gone_back);
    // Both are known, though the first one had settled in between.
    case.check(Input::Delivered { lane: LANE, offsets: &[10, 11] }, &[known(4), known(5), process(4, 2)]);
}

#[test]
fn a_commit_that_may_have_happened_goes_on_where_the_group_stands() {
    let mut case = exactly_once();
    case.emit(0, &[10, 11]);
    case.check(Input::Reports(&[acked(0), acked(1)]), &[commit(12)]);
    let until = case.now + WAIT.first;
    case.check(Input::Aborted { positions: &[(LANE, Some(12))] }, &[park(12, until, Cause::Failed)]);
    case.later(WAIT.first);
    case.check(Input::Tick, &[resume(12)]);
    case.check(Input::Drain { deadline: case.now + WAIT.first }, &[Action::Drained { clean: true }]);
}

#[test]
fn a_lost_lane_takes_its_transaction_with_it() {
    let mut case = exactly_once();
    let other = LaneId(1);
    case.check(Input::Assigned { lane: other, position: 0, committed: true }, &[]);
    case.emit(0, &[10]);
    case.check(Input::Lost { lanes: &[other] }, &[Action::Release { lane: other }]);
    case.check(Input::Lost { lanes: &[LANE] }, &[Action::Abort { cause: Cause::Lost }, release()]);
    case.check(Input::Aborted { positions: &[] }, &[]);
    assert!(case.engine.is_between_transactions());
}

#[test]
fn a_drain_that_had_to_give_up_is_not_clean() {
    let mut case = exactly_once();
    case.emit(0, &[10]);
    case.check(Input::Drain { deadline: case.now + WAIT.first }, &[]);
    case.check(Input::Reports(&[failed(0)]), &[Action::Abort { cause: Cause::Failed }]);
    case.check(Input::Aborted { positions: &[(LANE, Some(10))] }, &[Action::Drained { clean: false }]);
}

#[test]
fn a_start_that_the_group_does_not_know_is_committed_after_a_transaction_was_given_up_too() {
    let mut case = exactly_once();
    let other = LaneId(1);
    case.emit(0, &[10]);
    case.check(Input::Assigned { lane: other, position: 5, committed: false }, &[]);
    case.check(Input::Reports(&[refused(0)]), &[Action::Abort { cause: Cause::Refused }]);
    let commit = Action::Commit { positions: vec![(other, 5)] };
    let gone_back = [park(10, case.now, Cause::Refused), resume(10), commit];
    case.check(Input::Aborted { positions: &[(LANE, Some(10)), (other, None)] }, &gone_back);
}

#[test]
fn what_failed_to_be_written_goes_on_later_than_its_neighbours_and_alone() {
    let mut case = exactly_once();
    let other = LaneId(1);
    case.check(Input::Assigned { lane: other, position: 0, committed: true }, &[]);
    let mut seq = 0;
    let mut emit_other = |case: &mut Case, offset: i64| {
        let first = seq;
        seq += 1;
        let process = Action::Process { lane: other, first, count: 1, skip: 0..0 };
        case.check(Input::Delivered { lane: other, offsets: &[offset] }, &[process]);
        let answered = Input::Answered { lane: other, first, messages: &[1], failures: &[], takes: &[] };
        case.check(answered, &[Action::Emit { lane: other, first, count: 1 }]);
        Report { lane: other, ..acked(first) }
    };
    for (round, wait) in [100, 200, 300].into_iter().enumerate() {
        let (first, at) = (round as u64 * 2, round as i64);
        case.emit(first, &[10, 11]);
        let report = emit_other(&mut case, at);
        let abort = Action::Abort { cause: Cause::Failed };
        case.check(Input::Reports(&[acked(first), failed(first + 1), report]), &[abort]);
        // Both wait, for whatever is wrong with the broker; the one that it failed with for longer each time.
        let (cause, soon, late) = (Cause::Failed, case.now + millis(100), case.now + millis(wait));
        let parked = Action::Park { lane: other, offset: at, until: soon, cause };
        let positions = [(LANE, Some(10)), (other, Some(at))];
        case.check(Input::Aborted { positions: &positions }, &[park(10, late, cause), parked]);
        assert_eq!((case.engine.suspect(LANE), case.engine.suspect(other)), (Some(11), None));
        case.later(millis(100));
        let back = Action::Resume { lane: other, offset: at };
        let resumed = if wait == 100 { vec![resume(10), back] } else { vec![back] };
        case.check(Input::Tick, &resumed);
        let report = emit_other(&mut case, at);
        case.check(Input::Barrier, &[]);
        let commit = Action::Commit { positions: vec![(other, at + 1)] };
        case.check(Input::Reports(&[report]), &[commit]);
        case.check(Input::CommitDone { accepted: &[other] }, &[]);
        if wait > 100 {
            case.later(millis(wait - 100));
            case.check(Input::Tick, &[resume(10)]);
        }
    }
    case.emit(6, &[10, 11]);
    case.check(Input::Barrier, &[]);
    case.check(Input::Reports(&[acked(6), acked(7)]), &[commit(12)]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
    assert_eq!(case.engine.suspect(LANE), None);
}

#[test]
fn a_transaction_that_took_too_long_or_failed_makes_the_next_one_smaller() {
    let mut case = exactly_once();
    assert_eq!(case.engine.room(), usize::MAX);
    let mut position = 10;
    let mut seq = 0;
    let mut commit_after = |case: &mut Case, events: i64, took: Duration| {
        let offsets: Vec<_> = (position..position + events).collect();
        case.emit(seq, &offsets);
        position += events;
        case.later(took);
        case.check(Input::Barrier, &[]);
        let reports: Vec<_> = (seq..seq + events as u64).map(acked).collect();
        case.check(Input::Reports(&reports), &[commit(position)]);
        seq += events as u64;
        case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
        case.engine.room()
    };
    assert_eq!(commit_after(&mut case, 80, millis(3900)), usize::MAX);
    assert_eq!(commit_after(&mut case, 80, millis(4100)), 60);
    // One that isn't full says nothing of what a full one takes.
    assert_eq!(commit_after(&mut case, 10, millis(10)), 60);
    case.emit(170, &[180, 181]);
    assert_eq!(case.engine.room(), 58);
    case.check(Input::Reports(&[failed(170)]), &[Action::Abort { cause: Cause::Failed }]);
    let until = case.now + WAIT.first;
    case.check(Input::Aborted { positions: &[(LANE, Some(180))] }, &[park(180, until, Cause::Failed)]);
    assert_eq!(case.engine.room(), 1);
}

#[test]
fn a_transaction_that_is_full_ends_at_once_and_the_next_one_may_be_larger_if_it_took_little_time() {
    let mut case = exactly_once();
    case.emit(0, &[10, 11, 12]);
    case.later(millis(5000));
    case.check(Input::Reports(&[acked(0), acked(1), acked(2)]), &[commit(13)]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
    assert_eq!(case.engine.room(), 2);
    case.emit(3, &[13]);
    assert!(case.engine.takes_events());
    case.emit(4, &[14]);
    assert!(!case.engine.takes_events());
    case.check(Input::Reports(&[acked(3), acked(4)]), &[commit(15)]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
    assert_eq!(case.engine.room(), 3);
}
