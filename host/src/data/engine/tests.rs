//! Small cases, one decision each. What comes of their combinations is the simulator's (`tests/tests/simulation.rs`).

mod breakers;
mod operators;
mod transactions;

use std::time::Duration;

use super::*;

const LANE: LaneId = LaneId(0);
const WAIT: Backoff = Backoff { first: millis(100), max: millis(300), jitter: 0.0 };

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An engine, and the time.
struct Case {
    engine: Engine,
    now: Now,
}

impl Case {
    /// One lane at offset 10, which is committed.
    fn new() -> Self {
        Self::of(Guarantee::AtLeastOnce)
    }

    fn of(guarantee: Guarantee) -> Self {
        let settings = Settings {
            guarantee,
            commit_interval: millis(50),
            revoke_timeout: millis(1000),
            blocked_wait: millis(20),
            events_max: 4,
            transaction_timeout: millis(8000),
            failed_wait: WAIT,
            seed: 1,
        };
        let mut case = Self { engine: Engine::new(settings), now: millis(1000) };
        case.check(Input::Assigned { lane: LANE, position: 10, committed: true }, &[]);
        case
    }

    /// Tells the engine, and compares what it decides.
    #[track_caller]
    fn check(&mut self, input: Input<'_>, expected: &[Action]) {
        let mut actions = Vec::new();
        self.engine.step(input, self.now, &mut actions);
        assert_eq!(actions, expected, "after {input:?}");
    }

    /// Delivers events and answers them with one message each, which are not reported yet.
    #[track_caller]
    fn emit(&mut self, first: Seq, offsets: &[i64]) {
        let count = offsets.len() as u32;
        self.check(
            Input::Delivered { lane: LANE, offsets },
            &[Action::Process { lane: LANE, first, count, skip: 0..0 }],
        );
        let messages = vec![1; offsets.len()];
        let answered = Input::Answered { lane: LANE, first, messages: &messages, failures: &[], takes: &[] };
        self.check(answered, &[Action::Emit { lane: LANE, first, count }]);
    }

    /// One event fails on route 7 in a way.
    #[track_caller]
    fn fail(&mut self, seq: Seq, on: OnFailure<'_>, expected: &[Action]) {
        let failures = [RouteFailure { event: 0, route: 7, on }];
        self.check(
            Input::Answered { lane: LANE, first: seq, messages: &[0], failures: &failures, takes: &[] },
            expected,
        );
    }

    fn later(&mut self, wait: Duration) {
        self.now += wait;
    }
}

fn acked(seq: Seq) -> Report {
    Report { lane: LANE, seq, outcome: Outcome::Acked }
}

const REFUSED: Refused = Refused { route: 1, output: 3, reason: Refusal::TooLarge };

fn refused(seq: Seq) -> Report {
    Report { lane: LANE, seq, outcome: Outcome::Refused(REFUSED) }
}

fn failed(seq: Seq) -> Report {
    Report { lane: LANE, seq, outcome: Outcome::Failed }
}

fn process(first: Seq, count: u32) -> Action {
    Action::Process { lane: LANE, first, count, skip: 0..0 }
}

fn emit(first: Seq, count: u32) -> Action {
    Action::Emit { lane: LANE, first, count }
}

fn commit(position: i64) -> Action {
    Action::Commit { positions: vec![(LANE, position)] }
}

fn resume(offset: i64) -> Action {
    Action::Resume { lane: LANE, offset }
}

fn release() -> Action {
    Action::Release { lane: LANE }
}

#[test]
fn a_position_is_committed_when_all_before_it_is_settled_and_no_sooner() {
    let mut case = Case::new();
    case.emit(0, &[10, 14, 15]);
    case.check(Input::Reports(&[acked(1), acked(2)]), &[]);
    case.check(Input::Reports(&[acked(0)]), &[commit(16)]);
}

#[test]
fn an_event_settles_with_its_last_message() {
    let mut case = Case::new();
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(0, 1)]);
    case.check(Input::Answered { lane: LANE, first: 0, messages: &[2], failures: &[], takes: &[] }, &[emit(0, 1)]);
    case.check(Input::Reports(&[acked(0)]), &[]);
    case.check(Input::Reports(&[acked(0)]), &[commit(11)]);
}

#[test]
fn a_start_that_the_group_does_not_know_is_committed_at_once() {
    let mut case = Case::new();
    let lane = LaneId(1);
    let positions = vec![(lane, 4)];
    case.check(Input::Assigned { lane, position: 4, committed: false }, &[Action::Commit { positions }]);
}

#[test]
fn the_end_of_a_partition_passes_control_records_once_nothing_is_outstanding() {
    let mut case = Case::new();
    case.emit(0, &[10]);
    case.check(Input::End { lane: LANE, offset: 13 }, &[]);
    case.check(Input::Reports(&[acked(0)]), &[commit(13)]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
    case.check(Input::End { lane: LANE, offset: 13 }, &[]);
    assert_eq!(case.engine.next_wakeup(), None, "what doesn't change is not committed");
}

#[test]
fn one_commit_at_a_time_and_one_an_interval() {
    let mut case = Case::new();
    case.emit(0, &[10, 11, 12]);
    case.check(Input::Reports(&[acked(0)]), &[commit(11)]);
    case.later(millis(60));
    case.check(Input::Reports(&[acked(1)]), &[]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[commit(12)]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
    case.check(Input::Reports(&[acked(2)]), &[]);
    assert_eq!(case.engine.next_wakeup(), Some(millis(1110)));
    case.later(millis(50));
    case.check(Input::Tick, &[commit(13)]);
}

#[test]
fn a_commit_that_failed_is_made_again_at_the_next_interval() {
    let mut case = Case::new();
    case.emit(0, &[10]);
    case.check(Input::Reports(&[acked(0)]), &[commit(11)]);
    case.check(Input::CommitDone { accepted: &[] }, &[]);
    case.later(millis(50));
    case.check(Input::Tick, &[commit(11)]);
}

#[test]
fn a_transient_failure_parks_before_its_event_and_tells_the_attempts_when_they_are_spent() {
    let mut case = Case::new();
    let retry = OnFailure::Retry { attempts: 3, backoff: &WAIT };
    let mut seq = 0;
    for (failures, wait) in [(1, millis(100)), (2, millis(200))] {
        case.check(Input::Delivered { lane: LANE, offsets: &[10, 11] }, &[process(seq, 2)]);
        assert_eq!(case.engine.attempt(LANE, seq), failures);
        let (until, cause) = (case.now + wait, Cause::Retry { route: 7, failures });
        case.fail(seq, retry, &[Action::Park { lane: LANE, offset: 10, until, cause }]);
        case.check(Input::Delivered { lane: LANE, offsets: &[12] }, &[Action::Discard { lane: LANE }]);
        assert_eq!(case.engine.next_wakeup(), Some(until));
        case.later(wait);
        case.check(Input::Tick, &[resume(10)]);
        seq += 2;
    }
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(seq, 1)]);
    case.fail(seq, retry, &[Action::Letter { lane: LANE, seq, route: 7, attempts: 3 }, emit(seq, 1)]);
    case.check(Input::Reports(&[acked(seq)]), &[commit(11)]);
}

#[test]
fn what_precedes_a_stop_is_emitted_and_waited_for() {
    let mut case = Case::new();
    case.check(Input::Delivered { lane: LANE, offsets: &[10, 11, 12] }, &[process(0, 3)]);
    let on = OnFailure::Retry { attempts: 2, backoff: &WAIT };
    let failures = [RouteFailure { event: 1, route: 7, on }];
    let (until, cause) = (case.now + millis(100), Cause::Retry { route: 7, failures: 1 });
    let park = Action::Park { lane: LANE, offset: 11, until, cause };
    let answered = Input::Answered { lane: LANE, first: 0, messages: &[1, 2, 1], failures: &failures, takes: &[] };
    case.check(answered, &[emit(0, 1), park]);
    case.later(millis(500));
    case.check(Input::Tick, &[]);
    case.check(Input::Reports(&[acked(0)]), &[resume(11), commit(11)]);
}

#[test]
fn one_route_that_must_run_again_holds_the_whole_event_back() {
    let mut case = Case::new();
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(0, 1)]);
    let retry = OnFailure::Retry { attempts: 2, backoff: &WAIT };
    let failures =
        [RouteFailure { event: 0, route: 1, on: OnFailure::Letter }, RouteFailure { event: 0, route: 2, on: retry }];
    let (until, cause) = (case.now + millis(100), Cause::Retry { route: 2, failures: 1 });
    let park = Action::Park { lane: LANE, offset: 10, until, cause };
    case.check(Input::Answered { lane: LANE, first: 0, messages: &[5], failures: &failures, takes: &[] }, &[park]);
}

#[test]
fn of_several_routes_that_wait_the_longest_counts() {
    let mut case = Case::new();
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(0, 1)]);
    let short = Backoff { first: millis(10), ..WAIT };
    let failures = [(1, &short), (2, &WAIT), (3, &short)].map(|(route, backoff)| RouteFailure {
        event: 0,
        route,
        on: OnFailure::Retry { attempts: 2, backoff },
    });
    let (until, cause) = (case.now + millis(100), Cause::Retry { route: 2, failures: 1 });
    let park = Action::Park { lane: LANE, offset: 10, until, cause };
    case.check(Input::Answered { lane: LANE, first: 0, messages: &[0], failures: &failures, takes: &[] }, &[park]);
}

#[test]
fn a_drop_needs_no_message() {
    let mut case = Case::new();
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(0, 1)]);
    case.fail(0, OnFailure::Drop, &[emit(0, 1), commit(11)]);
}

#[test]
fn a_halt_stops_before_its_event_for_good() {
    let mut case = Case::new();
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(0, 1)]);
    case.fail(0, OnFailure::Halt, &[Action::Halted { lane: LANE, offset: 10, route: Some(7) }]);
    case.check(Input::Delivered { lane: LANE, offsets: &[11] }, &[Action::Discard { lane: LANE }]);
    assert_eq!(case.engine.next_wakeup(), None);
}

#[test]
fn other_routes_make_a_halted_lane_go_on() {
    let mut case = Case::new();
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(0, 1)]);
    case.fail(0, OnFailure::Halt, &[Action::Halted { lane: LANE, offset: 10, route: Some(7) }]);
    case.check(Input::Swapped { routes: &[] }, &[resume(10)]);

    let mut case = Case::new();
    case.check(Input::Unreadable { lane: LANE }, &[Action::Halted { lane: LANE, offset: 10, route: None }]);
    case.check(Input::Swapped { routes: &[] }, &[]);
}

#[test]
fn what_is_remembered_of_a_route_follows_its_number() {
    let mut case = Case::new();
    let retry = |route| RouteFailure { event: 0, route, on: OnFailure::Retry { attempts: 2, backoff: &WAIT } };
    let (until, cause) = (case.now + millis(100), Cause::Retry { route: 1, failures: 1 });
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(0, 1)]);
    let park = Action::Park { lane: LANE, offset: 10, until, cause };
    let failures = [retry(1), retry(2)];
    case.check(Input::Answered { lane: LANE, first: 0, messages: &[0], failures: &failures, takes: &[] }, &[park]);
    // Route 1 is the first now, and route 2 is gone; another one has its number.
    case.check(Input::Swapped { routes: &[None, Some(0), None] }, &[]);
    case.later(millis(100));
    case.check(Input::Tick, &[resume(10)]);
    case.check(Input::Delivered { lane: LANE, offsets: &[10] }, &[process(1, 1)]);
    let (until, cause) = (case.now + millis(100), Cause::Retry { route: 2, failures: 1 });
    let park = Action::Park { lane: LANE, offset: 10, until, cause };
    let failures = [retry(0), retry(2)];
    case.check(Input::Answered { lane: LANE, first: 1, messages: &[0], failures: &failures, takes: &[] }, &[park]);
}

#[test]
fn a_halted_lane_runs_an_earlier_event_again_when_it_must() {
    let mut case = Case::new();
    case.emit(0, &[10]);
    case.check(Input::Delivered { lane: LANE, offsets: &[11] }, &[process(1, 1)]);
    case.fail(1, OnFailure::Halt, &[Action::Halted { lane: LANE, offset: 11, route: Some(7) }]);
    let park = Action::Park { lane: LANE, offset: 11, until: case.now, cause: Cause::Refused };
    case.check(Input::Reports(&[refused(0)]), &[park, resume(10)]);
}

#[test]
fn a_refused_output_is_remembered_when_its_event_runs_again() {
    let mut case = Case::new();
    case.emit(0, &[10, 11, 12]);
    let park = Action::Park { lane: LANE, offset: 13, until: case.now, cause: Cause::Refused };
    case.check(Input::Reports(&[acked(0), refused(1)]), &[park, commit(11)]);
    case.check(Input::Reports(&[acked(2)]), &[resume(11)]);
    let told = Action::Refused { lane: LANE, seq: 3, refused: REFUSED };
    case.check(Input::Delivered { lane: LANE, offsets: &[11, 12] }, &[told, process(3, 2)]);
}

#[test]
fn a_failed_message_rewinds_and_waits_longer_each_time() {
    let mut case = Case::new();
    for (seq, wait) in [(0, millis(100)), (1, millis(200)), (2, millis(300)), (3, millis(300))] {
        case.emit(seq, &[10]);
        let park = Action::Park { lane: LANE, offset: 11, until: case.now + wait, cause: Cause::Failed };
        case.check(Input::Reports(&[failed(seq)]), &[park]);
        case.later(wait);
        case.check(Input::Tick, &[resume(10)]);
    }
    case.emit(4, &[10, 11]);
    let park = Action::Park { lane: LANE, offset: 12, until: case.now + millis(100), cause: Cause::Failed };
    case.check(Input::Reports(&[acked(4), failed(5)]), &[park, commit(11)]);
}

#[test]
fn a_blocked_topic_rewinds_to_what_could_not_be_produced() {
    let mut case = Case::new();
    case.emit(0, &[10, 11]);
    let park = Action::Park { lane: LANE, offset: 11, until: case.now + millis(20), cause: Cause::Blocked };
    case.check(Input::Blocked { lane: LANE, seq: 1, begun: false }, &[park]);
    case.later(millis(20));
    case.check(Input::Reports(&[acked(0), acked(1)]), &[resume(11), commit(11)]);
}

#[test]
fn a_block_before_an_event_that_produces_nothing_rewinds_those_behind_it() {
    let mut case = Case::new();
    case.check(Input::Delivered { lane: LANE, offsets: &[10, 11, 12] }, &[process(0, 3)]);
    let answered = Input::Answered { lane: LANE, first: 0, messages: &[0, 1], failures: &[], takes: &[] };
    case.check(answered, &[emit(0, 2), commit(11)]);
    let park = Action::Park { lane: LANE, offset: 11, until: case.now + millis(20), cause: Cause::Blocked };
    case.check(Input::Blocked { lane: LANE, seq: 0, begun: false }, &[park]);
    case.later(millis(20));
    case.check(Input::Tick, &[resume(11)]);
}

#[test]
fn a_lane_waits_that_holds_too_much_behind_an_event_in_flight() {
    let mut case = Case::new();
    case.emit(0, &[10]);
    case.check(Input::Delivered { lane: LANE, offsets: &[11, 12, 13] }, &[process(1, 3)]);
    case.check(
        Input::Answered { lane: LANE, first: 1, messages: &[0, 0, 0], failures: &[], takes: &[] },
        &[emit(1, 3)],
    );
    let park = Action::Park { lane: LANE, offset: 14, until: case.now + millis(20), cause: Cause::Blocked };
    case.check(Input::Delivered { lane: LANE, offsets: &[14] }, &[Action::Discard { lane: LANE }, park]);
    case.later(millis(20));
    case.check(Input::Tick, &[]);
    case.check(Input::Reports(&[acked(0)]), &[resume(14), commit(14)]);
}

#[test]
fn a_lost_producer_rewinds_what_was_in_flight_and_nothing_else() {
    let mut case = Case::new();
    let idle = LaneId(1);
    case.check(Input::Assigned { lane: idle, position: 0, committed: true }, &[]);
    case.emit(0, &[10, 11]);
    let until = case.now + millis(100);
    let park = Action::Park { lane: LANE, offset: 10, until, cause: Cause::ProducerLost };
    case.check(Input::ProducerLost, &[park]);
    case.check(Input::Reports(&[failed(0), acked(1)]), &[]);
    case.later(millis(100));
    case.check(Input::Tick, &[resume(10)]);
}

#[test]
fn a_revoked_lane_is_released_when_it_is_drained_and_committed() {
    let mut case = Case::new();
    case.emit(0, &[10, 11]);
    case.check(Input::Revoked { lanes: &[LANE] }, &[]);
    case.check(Input::Reports(&[acked(0)]), &[commit(11)]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[]);
    case.check(Input::Reports(&[acked(1)]), &[commit(12)]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[release()]);
    case.check(Input::Assigned { lane: LANE, position: 50, committed: true }, &[]);
    case.check(Input::Reports(&[acked(1)]), &[]);
    case.check(Input::Delivered { lane: LANE, offsets: &[50] }, &[process(2, 1)]);
}

#[test]
fn a_revoked_lane_that_does_not_drain_is_released_in_the_end() {
    let mut case = Case::new();
    case.emit(0, &[10]);
    case.check(Input::Revoked { lanes: &[LANE] }, &[]);
    assert_eq!(case.engine.next_wakeup(), Some(millis(2000)));
    case.later(millis(1000));
    case.check(Input::Tick, &[release()]);
}

#[test]
fn a_lost_lane_is_released_without_a_commit() {
    let mut case = Case::new();
    case.emit(0, &[10]);
    case.check(Input::Lost { lanes: &[LANE] }, &[release()]);
    case.check(Input::Reports(&[acked(0)]), &[]);
}

#[test]
fn a_drain_is_clean_when_all_that_was_emitted_is_settled_and_committed() {
    let mut case = Case::new();
    case.emit(0, &[10]);
    case.check(Input::Delivered { lane: LANE, offsets: &[11] }, &[process(1, 1)]);
    case.check(Input::Drain { deadline: millis(9000) }, &[]);
    case.check(Input::Answered { lane: LANE, first: 1, messages: &[1], failures: &[], takes: &[] }, &[]);
    case.check(Input::Reports(&[acked(0)]), &[commit(11)]);
    case.check(Input::CommitDone { accepted: &[LANE] }, &[Action::Drained { clean: true }]);
}

#[test]
fn a_drain_is_not_clean_when_something_failed_or_time_is_up() {
    let mut case = Case::new();
    case.emit(0, &[10]);
    case.check(Input::Drain { deadline: millis(9000) }, &[]);
    case.check(Input::Reports(&[failed(0)]), &[Action::Drained { clean: false }]);

    let mut case = Case::new();
    case.emit(0, &[10]);
    case.check(Input::Drain { deadline: millis(9000) }, &[]);
    case.later(millis(8000));
    case.check(Input::Tick, &[Action::Drained { clean: false }]);
}

#[test]
#[should_panic(expected = "has no message in flight")]
fn a_report_too_many_is_a_bug_of_the_host() {
    let mut case = Case::new();
    case.check(Input::Delivered { lane: LANE, offsets: &[10, 11] }, &[process(0, 2)]);
    case.check(Input::Reports(&[acked(1)]), &[]);
}

#[test]
#[should_panic(expected = "delivered offset 9 after position 10")]
fn an_offset_that_was_passed_is_a_bug_of_the_host() {
    Case::new().check(Input::Delivered { lane: LANE, offsets: &[9] }, &[]);
}

#[test]
fn jitter_takes_its_share_of_the_wait_and_no_more() {
    let backoff = Backoff { jitter: 0.5, ..WAIT };
    let mut random = Random::new(7);
    for _ in 0..1000 {
        let wait = backoff::wait(&backoff, 2, &mut random);
        assert!(wait > millis(99) && wait <= millis(200), "{wait:?}");
    }
}

fn exactly_once() -> Case {
    Case::of(Guarantee::ExactlyOnce)
}

fn park(offset: i64, until: Now, cause: Cause) -> Action {
    Action::Park { lane: LANE, offset, until, cause }
}
