//! Tests of what is decided about transactions, on a clock of their own.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const TIMEOUT: Millis = 8000;
const PARTITION: Partition = (Uuid::from_u128(1), 0);

fn producer(id: i64, epoch: i16) -> Producer {
    Producer { id, epoch }
}

fn committed(offset: i64) -> Committed {
    Committed { offset, leader_epoch: -1, metadata: String::new() }
}

/// Carries out what is decided, as the coordinator does. Ids of producers that nobody had come from `fresh`.
fn init(machine: &mut Machine, id: &str, claimed: Option<Producer>, fresh: i64) -> Result<Producer, ResponseError> {
    loop {
        let (producer, previous) = match machine.init(id, claimed)? {
            Init::Same(producer) => return Ok(producer),
            Init::Abort(fact) => {
                machine.apply(fact).unwrap();
                finish(machine, id);
                continue;
            }
            Init::Finish => {
                finish(machine, id);
                continue;
            }
            Init::Assign { producer, previous } => (producer, previous),
            Init::AssignNewId { previous } => (self::producer(fresh, 0), previous),
        };
        let event = Event::Assigned { producer, previous, timeout: TIMEOUT };
        machine.apply(Fact { transactional_id: id.to_owned(), event }).unwrap();
        return Ok(producer);
    }
}

/// What is settled comes to its end.
fn finish(machine: &mut Machine, id: &str) {
    let State::Prepared(outcome, _) = machine.get(id).unwrap().state else { panic!("not settled") };
    machine.apply(Fact { transactional_id: id.to_owned(), event: Event::Ended { outcome } }).unwrap();
}

fn begin(machine: &mut Machine, id: &str, producer: Producer, now: Millis) -> Result<(), ResponseError> {
    let fact = machine.add(id, producer, (vec![PARTITION], vec!["g".to_owned()]), now)?;
    fact.map_or(Ok(()), |fact| {
        machine.apply(fact).unwrap();
        Ok(())
    })
}

fn end(machine: &mut Machine, id: &str, producer: Producer, outcome: Outcome) -> Result<(), ResponseError> {
    match machine.end(id, producer, outcome)? {
        End::Prepare(fact) => machine.apply(fact).unwrap(),
        End::Finish => {}
        End::Done => return Ok(()),
    }
    finish(machine, id);
    Ok(())
}

/// A machine with one id, `t`, whose producer is 7 in epoch 0.
fn one() -> Machine {
    let mut machine = Machine::default();
    assert_eq!(init(&mut machine, "t", None, 7), Ok(producer(7, 0)));
    machine
}

/// The same with an open transaction, since 100.
fn open() -> Machine {
    let mut machine = one();
    begin(&mut machine, "t", producer(7, 0), 100).unwrap();
    machine
}

#[test]
fn a_second_producer_fences_the_first() {
    let mut machine = one();
    assert_eq!(init(&mut machine, "t", None, 8), Ok(producer(7, 1)));
    let fenced = Err(ResponseError::ProducerFenced);
    assert_eq!(begin(&mut machine, "t", producer(7, 0), 100), fenced);
    assert_eq!(end(&mut machine, "t", producer(7, 0), Outcome::Commit), fenced);
    assert_eq!(init(&mut machine, "t", Some(producer(7, 0)), 8), Err(ResponseError::ProducerFenced));
    assert_eq!(begin(&mut machine, "t", producer(7, 1), 100), Ok(()));
    let unknown = Err(ResponseError::InvalidProducerIdMapping);
    assert_eq!(begin(&mut machine, "t", producer(8, 1), 100), unknown);
    assert_eq!(begin(&mut machine, "other", producer(7, 1), 100), unknown);
}

#[test]
fn who_names_an_id_that_is_not_known_is_told_to_ask_for_it_anew() {
    let mut machine = Machine::default();
    let me = producer(7, 3);
    let unknown = Err(ResponseError::InvalidProducerIdMapping);
    assert_eq!(begin(&mut machine, "t", me, 100), unknown);
    assert_eq!(machine.add_offsets("t", me, "g", vec![(PARTITION, committed(5))]).map(drop), unknown);
    assert_eq!(end(&mut machine, "t", me, Outcome::Commit), unknown);
    assert_eq!(end(&mut machine, "t", me, Outcome::Abort), unknown);
    assert_eq!(init(&mut machine, "t", Some(me), 8), Ok(producer(8, 0)), "it says who it was, and is another one");
    assert_eq!(begin(&mut machine, "t", me, 100), unknown);
    assert_eq!(begin(&mut machine, "t", producer(8, 0), 100), Ok(()));
}

#[test]
fn a_second_producer_aborts_what_the_first_left_open() {
    let mut machine = open();
    let Ok(Init::Abort(fact)) = machine.init("t", None) else { panic!("not aborted") };
    let event = Event::Prepared { outcome: Outcome::Abort, producer: producer(7, 1), previous: None };
    assert_eq!(fact.event, event, "its markers fence the first one");
    assert_eq!(init(&mut machine, "t", None, 8), Ok(producer(7, 2)));
    assert_eq!(machine.get("t").unwrap().state, State::Empty);
    assert_eq!(end(&mut machine, "t", producer(7, 0), Outcome::Commit), Err(ResponseError::ProducerFenced));
}

#[test]
fn who_did_not_hear_its_epoch_is_told_again_until_it_uses_it() {
    for left_open in [false, true] {
        let mut machine = if left_open { open() } else { one() };
        let first = Some(producer(7, 0));
        assert_eq!(init(&mut machine, "t", first, 8), Ok(producer(7, 1)));
        assert_eq!(init(&mut machine, "t", first, 8), Ok(producer(7, 1)), "the answer was lost");
        begin(&mut machine, "t", producer(7, 1), 100).unwrap();
        end(&mut machine, "t", producer(7, 1), Outcome::Commit).unwrap();
        assert_eq!(init(&mut machine, "t", first, 8), Err(ResponseError::ProducerFenced), "it was not");
    }
}

#[test]
fn epochs_run_out_and_a_new_id_takes_over() {
    for left_open in [false, true] {
        let mut machine = one();
        let last = producer(7, EPOCH_MAX);
        let event = Event::Assigned { producer: last, previous: None, timeout: TIMEOUT };
        machine.apply(Fact { transactional_id: "t".to_owned(), event }).unwrap();
        if left_open {
            begin(&mut machine, "t", last, 100).unwrap();
        }
        assert_eq!(init(&mut machine, "t", Some(last), 8), Ok(producer(8, 0)));
        assert_eq!(init(&mut machine, "t", Some(last), 9), Ok(producer(8, 0)), "the answer was lost");
        assert_eq!(begin(&mut machine, "t", last, 100), Err(ResponseError::InvalidProducerIdMapping));
    }
}

#[test]
fn what_is_part_already_needs_no_word() {
    let mut machine = open();
    let mut add = |partitions: Vec<Partition>, groups: Vec<String>| {
        let fact = machine.add("t", producer(7, 0), (partitions, groups), 200).unwrap();
        let event = fact.clone().map(|fact| fact.event);
        if let Some(fact) = fact {
            machine.apply(fact).unwrap();
        }
        event
    };
    assert_eq!(add(vec![PARTITION], vec!["g".to_owned()]), None);
    let other = (Uuid::from_u128(2), 5);
    let event = Event::Added { at: 200, partitions: vec![other], groups: vec![] };
    assert_eq!(add(vec![PARTITION, other], vec![]), Some(event));
    assert_eq!(add(vec![other], vec![]), None);
    let open = machine.get("t").unwrap().open().unwrap();
    assert_eq!((open.since, open.partitions.len()), (100, 2), "it began with the first");
}

#[test]
fn offsets_are_unstable_until_their_transaction_has_ended() {
    let mut machine = one();
    let me = producer(7, 0);
    let offsets = || vec![(PARTITION, committed(5))];
    assert_eq!(machine.add_offsets("t", me, "g", offsets()), Err(ResponseError::InvalidTxnState));
    begin(&mut machine, "t", me, 100).unwrap();
    assert_eq!(machine.add_offsets("t", me, "other", offsets()), Err(ResponseError::InvalidTxnState));
    assert!(machine.unstable("g").is_empty());
    for fact in machine.add_offsets("t", me, "g", offsets()).unwrap() {
        machine.apply(fact).unwrap();
    }
    assert_eq!(machine.unstable("g"), HashSet::from([PARTITION]));
    assert!(machine.unstable("other").is_empty());
    let Ok(End::Prepare(fact)) = machine.end("t", me, Outcome::Commit) else { panic!("not prepared") };
    machine.apply(fact).unwrap();
    assert_eq!(machine.unstable("g"), HashSet::from([PARTITION]), "settled is not ended");
    assert_eq!(machine.add_offsets("t", me, "g", offsets()), Err(ResponseError::ConcurrentTransactions));
    finish(&mut machine, "t");
    assert!(machine.unstable("g").is_empty());
}

#[test]
fn how_a_transaction_ends_is_settled_once() {
    for (outcome, other) in [(Outcome::Commit, Outcome::Abort), (Outcome::Abort, Outcome::Commit)] {
        let mut machine = one();
        let me = producer(7, 0);
        assert_eq!(machine.end("t", me, outcome), Err(ResponseError::InvalidTxnState), "there is none");
        begin(&mut machine, "t", me, 100).unwrap();
        let Ok(End::Prepare(fact)) = machine.end("t", me, outcome) else { panic!("not prepared") };
        machine.apply(fact).unwrap();
        assert_eq!(machine.prepared(), ["t"]);
        assert_eq!(machine.end("t", me, outcome), Ok(End::Finish));
        assert_eq!(machine.end("t", me, other), Err(ResponseError::InvalidTxnState));
        assert_eq!(begin(&mut machine, "t", me, 200), Err(ResponseError::ConcurrentTransactions));
        assert_eq!(machine.init("t", None), Ok(Init::Finish));
        finish(&mut machine, "t");
        assert!(machine.prepared().is_empty());
        assert_eq!(machine.end("t", me, outcome), Ok(End::Done), "the answer was lost");
        assert_eq!(machine.end("t", me, other), Err(ResponseError::InvalidTxnState));
        assert_eq!(begin(&mut machine, "t", me, 300), Ok(()));
    }
}

#[test]
fn what_takes_too_long_is_aborted_and_fenced() {
    let mut machine = open();
    assert_eq!(machine.next_deadline(), Some(100 + TIMEOUT));
    assert_eq!(machine.overdue(99 + TIMEOUT), []);
    for fact in machine.overdue(100 + TIMEOUT) {
        machine.apply(fact).unwrap();
    }
    assert_eq!(machine.next_deadline(), None);
    assert_eq!(machine.prepared(), ["t"]);
    finish(&mut machine, "t");
    assert_eq!(machine.get("t").unwrap().producer, producer(7, 1));
    let fenced = Err(ResponseError::ProducerFenced);
    assert_eq!(end(&mut machine, "t", producer(7, 0), Outcome::Commit), fenced);
    assert_eq!(begin(&mut machine, "t", producer(7, 0), 9000), fenced);
    assert_eq!(init(&mut machine, "t", Some(producer(7, 0)), 8), Err(ResponseError::ProducerFenced));
    assert_eq!(init(&mut machine, "t", None, 8), Ok(producer(7, 2)));
}

#[test]
fn a_clock_that_was_set_back_keeps_no_transaction_open() {
    let mut machine = open();
    machine.clamp(40);
    assert_eq!(machine.next_deadline(), Some(40 + TIMEOUT));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Init(usize, bool),
    Begin(usize),
    End(usize, bool),
    Pass(Millis),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3_usize, any::<bool>()).prop_map(|(who, claims)| Step::Init(who, claims)),
        (0..3_usize).prop_map(Step::Begin),
        (0..3_usize, any::<bool>()).prop_map(|(who, commit)| Step::End(who, commit)),
        (0..10_000_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever three producers do with one id: a transaction is committed only by who began it, at most one of them can
    /// do anything at a time, and what was once fenced stays so.
    #[test]
    fn one_producer_at_a_time(steps in steps()) {
        let mut machine = Machine::default();
        let (mut now, mut fresh) = (0, 100);
        let mut who_has: [Option<Producer>; 3] = [None; 3];
        let mut began: Option<usize> = None;
        for step in steps {
            match step {
                Step::Init(who, claims) => {
                    fresh += 1;
                    let claimed = who_has[who].filter(|_| claims);
                    if let Ok(producer) = init(&mut machine, "t", claimed, fresh) {
                        for (other, has) in who_has.iter_mut().enumerate() {
                            prop_assert!(other == who || *has != Some(producer), "given to two");
                        }
                        who_has[who] = Some(producer);
                        began = None;
                    }
                }
                Step::Begin(who) => {
                    let Some(producer) = who_has[who] else { continue };
                    if begin(&mut machine, "t", producer, now).is_ok() {
                        prop_assert!(began.is_none_or(|other| other == who));
                        began = Some(who);
                    }
                }
                Step::End(who, commit) => {
                    let Some(producer) = who_has[who] else { continue };
                    let open = machine.get("t").is_some_and(|known| known.open().is_some());
                    let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
                    if end(&mut machine, "t", producer, outcome).is_ok() && open {
                        prop_assert_eq!(began, Some(who));
                        began = None;
                    }
                }
                Step::Pass(millis) => {
                    now += millis;
                    for fact in machine.overdue(now) {
                        machine.apply(fact).unwrap();
                        finish(&mut machine, "t");
                        began = None;
                    }
                    prop_assert!(machine.next_deadline().is_none_or(|deadline| deadline > now));
                }
            }
        }
    }
}
