//! Tests of how transactions end in logs and offsets, and of what a start makes of one that a crash cut short.

use kafka_protocol::error::ResponseError;

use super::super::machine::Transaction;
use super::*;
use crate::groups::offsets::Offsets;
use crate::storage::batch::Header;
use crate::storage::batch::tests::{Made, make};
use crate::storage::handles::Handles;
use crate::storage::log::{AppendError, Isolation};

/// A broker without its connections.
struct World {
    handles: Arc<Handles>,
    topics: Arc<Topics>,
    groups: Arc<Groups>,
    transactions: Coordinator,
}

impl World {
    /// Opens a folder, as a start does; what was open before is simply left.
    fn open(folder: &Path) -> Self {
        let handles = Arc::<Handles>::default();
        let topics = Arc::new(Topics::open(folder, Arc::clone(&handles)).unwrap());
        if topics.get("t").is_none() {
            topics.create("t", 2, false).unwrap();
        }
        let offsets = Offsets::open(folder, |topic| topics.get_by_id(topic).is_some()).unwrap();
        let groups = Arc::new(Groups::new(offsets));
        let transactions = Coordinator::open(folder, Arc::clone(&topics), Arc::clone(&groups), Clock::start()).unwrap();
        Self { handles, topics, groups, transactions }
    }

    fn partition(&self, index: i32) -> Partition {
        (self.topics.get("t").unwrap().id, index)
    }

    fn log(&self, index: i32) -> Arc<Log> {
        Arc::clone(self.topics.get("t").unwrap().partition(index).unwrap())
    }

    fn append(&self, index: i32, producer: Producer, sequence: i32) -> Result<(), AppendError> {
        let sent = Some((producer.id, producer.epoch, sequence));
        let batch = make(Made { producer: sent, transactional: true, ..Made::default() });
        let header = Header::read_produced(&batch).unwrap();
        self.log(index).append(&header, &batch, SystemTime::now()).map(drop)
    }

    /// Begins a transaction of `x` with a record in each partition and an offset of the group `g`.
    fn begin(&self, timeout: Millis) -> Producer {
        let producer = self.transactions.init("x", timeout, None).unwrap();
        let partitions = vec![self.partition(0), self.partition(1)];
        self.transactions.add_partitions("x", producer, partitions).unwrap();
        for index in 0..2 {
            self.append(index, producer, 0).unwrap();
        }
        self.transactions.add_group("x", producer, "g".to_owned()).unwrap();
        let committed = Committed { offset: 42, leader_epoch: -1, metadata: "a note".to_owned() };
        self.transactions.add_offsets("x", producer, "g", vec![(self.partition(0), committed)]).unwrap();
        producer
    }

    /// Where the partitions end, where they are stable, and what `g` committed.
    fn seen(&self) -> ([(i64, i64); 2], Option<i64>) {
        let ends = [0, 1].map(|index| (self.log(index).end_offset(), self.log(index).limit(Isolation::Committed)));
        let committed = self.groups.committed("g", Some(&[self.partition(0)])).pop();
        (ends, committed.map(|(_, committed)| committed.offset))
    }

    /// How many aborted transactions readers of a partition are told of.
    fn aborted(&self, index: i32) -> usize {
        self.log(index).read(0, 10_000, true, Isolation::Committed).unwrap().aborted.len()
    }

    fn known(&self) -> Transaction {
        self.transactions.running().machine.get("x").unwrap().clone()
    }
}

const OPEN: [(i64, i64); 2] = [(1, 0), (1, 0)];
const ENDED: [(i64, i64); 2] = [(2, 2), (2, 2)];
const LONG: Millis = 600_000;

#[test]
fn a_transaction_ends_everywhere_and_stays_so_after_a_start() {
    for (outcome, offset, aborted) in [(Outcome::Commit, Some(42), 0), (Outcome::Abort, None, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let world = World::open(folder.path());
        let producer = world.begin(LONG);
        assert_eq!(world.seen(), (OPEN, None));
        assert_eq!(world.transactions.unstable("g"), HashSet::from([world.partition(0)]));
        world.transactions.end("x", producer, outcome).unwrap();
        for world in [world, World::open(folder.path()), World::open(folder.path())] {
            assert_eq!(world.seen(), (ENDED, offset));
            assert_eq!((world.aborted(0), world.aborted(1)), (aborted, aborted));
            assert!(world.transactions.unstable("g").is_empty());
            assert_eq!(world.transactions.end("x", producer, outcome), Ok(()), "asked again");
            assert!(matches!(world.append(0, producer, 1), Err(AppendError::Transaction)));
        }
    }
}

#[test]
fn a_transaction_goes_on_over_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let producer = World::open(folder.path()).begin(LONG);
    let world = World::open(folder.path());
    assert_eq!(world.seen(), (OPEN, None));
    assert_eq!(world.transactions.unstable("g"), HashSet::from([world.partition(0)]));
    world.append(0, producer, 1).unwrap();
    world.transactions.end("x", producer, Outcome::Commit).unwrap();
    assert_eq!(world.seen(), ([(3, 3), (2, 2)], Some(42)));
    assert_eq!(world.aborted(0), 0);
}

/// Whatever was done of a settled transaction before the crash, the start does the rest, and nothing twice.
#[test]
fn a_start_ends_what_was_settled() {
    for (outcome, offset, aborted) in [(Outcome::Commit, Some(42), 0), (Outcome::Abort, None, 1)] {
        for markers in 0..=2 {
            for committed in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let world = World::open(folder.path());
                let producer = world.begin(LONG);
                let Ok(End::Prepare(fact)) = world.transactions.running().machine.end("x", producer, outcome) else {
                    panic!("not prepared")
                };
                world.transactions.running().record(vec![fact]).unwrap();
                for index in 0..markers {
                    let id = (producer.id, producer.epoch);
                    world.log(index).end_transaction(id, outcome, SystemTime::now()).unwrap();
                }
                if let (State::Prepared(Outcome::Commit, open), true) = (world.known().state, committed) {
                    let offsets = world.transactions.offsets_of(&open);
                    world.groups.commit_transaction(offsets, || Ok(())).unwrap();
                }
                drop(world);
                let world = World::open(folder.path());
                assert_eq!(world.seen(), (ENDED, offset), "{outcome:?} {markers} {committed}");
                assert_eq!((world.aborted(0), world.aborted(1)), (aborted, aborted));
                assert_eq!(world.known().state, State::Ended(outcome));
            }
        }
    }
}

#[test]
fn a_new_producer_aborts_what_the_one_before_left_open() {
    for restart in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path());
        let first = world.begin(LONG);
        if restart {
            world = World::open(folder.path());
        }
        let second = world.transactions.init("x", LONG, None).unwrap();
        assert!(second.id == first.id && second.epoch > first.epoch);
        assert_eq!(world.seen(), (ENDED, None));
        assert_eq!((world.aborted(0), world.aborted(1)), (1, 1));
        assert!(world.transactions.unstable("g").is_empty());
        assert!(world.append(0, first, 1).is_err());
        assert_eq!(world.transactions.why_refused("x", first), ResponseError::InvalidProducerEpoch);
        assert_eq!(world.transactions.why_refused("x", second), ResponseError::InvalidTxnState);
        let partitions = vec![world.partition(0)];
        let fenced = Err(ResponseError::ProducerFenced);
        assert_eq!(world.transactions.add_partitions("x", first, partitions.clone()), fenced);
        world.transactions.add_partitions("x", second, partitions).unwrap();
        world.append(0, second, 0).unwrap();
        world.transactions.end("x", second, Outcome::Commit).unwrap();
        assert_eq!(world.seen().0[0], (4, 4));
    }
}

#[test]
fn time_runs_on_over_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::open(folder.path());
    let producer = world.begin(1);
    let deadline = world.known().deadline().unwrap();
    drop(world);
    let world = World::open(folder.path());
    assert_eq!(world.known().deadline(), Some(deadline));
    while millis(world.transactions.clock.now()) < deadline {
        std::thread::yield_now();
    }
    assert_eq!(world.transactions.tick(), None);
    assert_eq!(world.seen(), (ENDED, None));
    assert_eq!(world.transactions.end("x", producer, Outcome::Commit), Err(ResponseError::ProducerFenced));
}

#[test]
fn a_deleted_topic_holds_no_transaction_up() {
    for restart in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut world = World::open(folder.path());
        let producer = world.begin(LONG);
        let gone = world.topics.get("t").unwrap().id;
        world.topics.delete(gone).unwrap();
        world.groups.delete_topic(gone).unwrap();
        if restart {
            world = World::open(folder.path());
        }
        world.transactions.end("x", producer, Outcome::Commit).unwrap();
        assert!(world.groups.committed("g", None).is_empty());
        assert!(world.transactions.unstable("g").is_empty());
        assert_eq!(world.known().state, State::Ended(Outcome::Commit));
    }
}

#[test]
fn what_the_journal_lost_is_aborted_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    World::open(folder.path()).begin(LONG);
    std::fs::remove_file(folder.path().join("transactions.journal")).unwrap();
    let world = World::open(folder.path());
    assert_eq!(world.seen(), (ENDED, None));
    assert_eq!((world.aborted(0), world.aborted(1)), (1, 1));
}

/// A disk that refuses in the middle: the client is told to come again, and what is settled is done as soon as it can be.
#[test]
fn what_could_not_end_is_ended_later() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::open(folder.path());
    let producer = world.begin(LONG);
    // The log of the second partition goes on in a file that can't be made.
    let partition = folder.path().join("topics").join(world.partition(1).0.to_string()).join("1");
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    world.log(1).expire(now + 2 * hour, now - hour, hour).unwrap();
    let next = std::fs::read_dir(&partition).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    world.handles.forget(&next);
    std::fs::remove_file(&next).unwrap();
    std::fs::create_dir(&next).unwrap();
    let again = Err(ResponseError::CoordinatorNotAvailable);
    assert_eq!(world.transactions.end("x", producer, Outcome::Commit), again);
    assert!(world.transactions.tick().is_some(), "it is tried again soon");
    assert_eq!(world.seen(), ([(2, 2), (1, 0)], None));
    std::fs::remove_dir(&next).unwrap();
    assert_eq!(world.transactions.tick(), None);
    assert_eq!(world.seen(), (ENDED, Some(42)));
    assert_eq!(world.transactions.end("x", producer, Outcome::Commit), Ok(()));
}
