//! Tests of a partition's log: appended, rolled, recovered, searched, expired.

use proptest::prelude::*;

use super::super::batch::tests::{Made, make};
use super::*;

fn open(folder: &Path, segment_bytes: u64) -> Log {
    Log::open(folder, Arc::default(), segment_bytes).unwrap()
}

fn append(log: &Log, made: Made) -> Result<Appended, AppendError> {
    let batch = make(made);
    log.append(&Header::read_produced(&batch).unwrap(), &batch, SystemTime::now())
}

/// The base offsets and sizes in records of what is read from an offset.
fn read(log: &Log, offset: i64, max_bytes: usize) -> Vec<(i64, i32)> {
    let bytes = log.read(offset, max_bytes, true, Isolation::Uncommitted).unwrap().records;
    let found: Vec<_> = batch::headers(&bytes).collect();
    assert_eq!(found.iter().map(|(_, header)| header.size).sum::<usize>(), bytes.len(), "whole batches");
    found
        .into_iter()
        .map(|(at, header)| (Header::read_checked(&bytes[at..]).unwrap().base_offset, header.records))
        .collect()
}

fn newest_file(folder: &Path) -> PathBuf {
    segments_of(folder).unwrap().pop().unwrap().1
}

#[test]
fn batches_are_read_from_where_an_offset_lies() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), SEGMENT_BYTES);
    for records in [3, 1, 4] {
        append(&log, Made { records, ..Made::default() }).unwrap();
    }
    let one = make(Made { records: 3, ..Made::default() }).len();
    let check =
        |offset, max_bytes, expected: &[(i64, i32)]| assert_eq!(read(&log, offset, max_bytes), expected, "{offset}");
    check(0, 10_000, &[(0, 3), (3, 1), (4, 4)]);
    check(2, 10_000, &[(0, 3), (3, 1), (4, 4)]);
    check(3, 10_000, &[(3, 1), (4, 4)]);
    check(7, 10_000, &[(4, 4)]);
    check(8, 10_000, &[]);
    check(0, one, &[(0, 3)]);
    check(0, 1, &[(0, 3)]);
    assert!(log.read(0, 1, false, Isolation::Uncommitted).unwrap().records.is_empty(), "too large, and not asked for");
    assert!(matches!(log.read(9, 100, true, Isolation::Uncommitted), Err(ReadError::OutOfRange)));
    assert!(matches!(log.read(-1, 100, true, Isolation::Uncommitted), Err(ReadError::OutOfRange)));
}

#[test]
fn segments_roll_and_everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 1000);
    for _ in 0..50 {
        append(&log, Made { records: 2, value: 100, ..Made::default() }).unwrap();
    }
    assert!(segments_of(folder.path()).unwrap().len() > 5);
    for close in [false, true] {
        if close {
            open(folder.path(), 1000).close().unwrap();
        }
        let again = open(folder.path(), 1000);
        assert_eq!((again.start_offset(), again.end_offset()), (0, 100));
        let mut offset = 0;
        while offset < 100 {
            let found = read(&again, offset, 400);
            assert_eq!(found.first().map(|found| found.0), Some(offset));
            offset = found.last().map(|(base, records)| base + i64::from(*records)).unwrap();
        }
    }
}

#[test]
fn a_batch_larger_than_what_is_read_at_a_time_is_recovered() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), SEGMENT_BYTES);
    append(&log, Made { value: 3 << 20, ..Made::default() }).unwrap();
    append(&log, Made::default()).unwrap();
    assert_eq!(read(&open(folder.path(), SEGMENT_BYTES), 0, 1), [(0, 1)]);
    assert_eq!(open(folder.path(), SEGMENT_BYTES).end_offset(), 2);
}

#[test]
fn a_flipped_bit_ends_the_log_before_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), SEGMENT_BYTES);
    for _ in 0..3 {
        append(&log, Made::default()).unwrap();
    }
    drop(log);
    let path = newest_file(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    let third = bytes.len() / 3 * 2;
    bytes[third + batch::HEADER] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let log = open(folder.path(), SEGMENT_BYTES);
    assert_eq!(log.end_offset(), 2);
    assert_eq!(append(&log, Made::default()).unwrap().base_offset, 2);
    assert_eq!(read(&log, 0, 10_000), [(0, 1), (1, 1), (2, 1)]);
}

#[test]
fn a_damaged_checkpoint_costs_a_scan_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), SEGMENT_BYTES);
    append(&log, Made { producer: Some((7, 0, 0)), ..Made::default() }).unwrap();
    log.close().unwrap();
    let index = newest_file(folder.path()).with_extension("index");
    let mut bytes = fs::read(&index).unwrap();
    bytes[5] ^= 1;
    fs::write(&index, &bytes).unwrap();
    let again = open(folder.path(), SEGMENT_BYTES);
    assert_eq!(again.end_offset(), 1);
    assert_eq!(append(&again, Made { producer: Some((7, 0, 0)), ..Made::default() }).unwrap().base_offset, 0);
}

#[test]
fn producers_are_remembered_over_segments_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let sent = |sequence| Made { value: 300, producer: Some((7, 0, sequence)), ..Made::default() };
    let log = open(folder.path(), 1000);
    for sequence in 0..10 {
        append(&log, sent(sequence)).unwrap();
    }
    for close in [false, true] {
        let log = open(folder.path(), 1000);
        assert_eq!(append(&log, sent(9)).unwrap().base_offset, 9);
        assert!(matches!(append(&log, sent(11)), Err(AppendError::Sequence(Sequence::Gap))));
        assert_eq!(log.end_offset(), 10);
        if close {
            log.close().unwrap();
        }
    }
    assert_eq!(append(&open(folder.path(), 1000), sent(10)).unwrap().base_offset, 10);
}

#[test]
fn times_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 1000);
    for first_timestamp in [100, 200, 150, 400, 300] {
        append(&log, Made { records: 2, value: 300, first_timestamp, ..Made::default() }).unwrap();
    }
    let check = |timestamp, expected| assert_eq!(log.find_timestamp(timestamp).unwrap(), expected, "{timestamp}");
    check(0, Some((0, 100)));
    check(101, Some((1, 101)));
    check(102, Some((2, 200)));
    check(202, Some((6, 400)));
    check(401, Some((7, 401)));
    check(402, None);
    assert_eq!(log.find_newest().unwrap(), Some((7, 401)));
    assert_eq!(open(&folder.path().join("none"), 1000).find_newest().unwrap(), None);
}

#[test]
fn what_is_old_goes_and_the_end_stays() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 500);
    for _ in 0..5 {
        append(&log, Made { value: 300, ..Made::default() }).unwrap();
    }
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    log.expire(now, now - hour, hour).unwrap();
    assert_eq!((log.start_offset(), log.end_offset()), (0, 5), "nothing is old yet");
    log.expire(now + 2 * hour, now - hour, hour).unwrap();
    assert_eq!(segments_of(folder.path()).unwrap().len(), 6, "rolled by age, kept");
    log.expire(now + 2 * hour, now + hour, hour).unwrap();
    for log in [log, open(folder.path(), 500)] {
        assert_eq!((log.start_offset(), log.end_offset()), (5, 5));
        assert!(matches!(log.read(0, 100, true, Isolation::Uncommitted), Err(ReadError::OutOfRange)));
        assert!(log.read(5, 100, true, Isolation::Uncommitted).unwrap().records.is_empty());
    }
    assert_eq!(append(&open(folder.path(), 500), Made::default()).unwrap().base_offset, 5);
}

#[test]
fn what_was_written_while_the_clock_was_behind_is_no_older_than_what_came_before() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 500);
    for _ in 0..5 {
        append(&log, Made { value: 300, ..Made::default() }).unwrap();
    }
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    let written = |index: usize, at: SystemTime| {
        let (_, path) = &segments_of(folder.path()).unwrap()[index];
        fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    };
    written(0, now - 30 * hour);
    (2..5).for_each(|index| written(index, now - 9999 * hour));
    let log = open(folder.path(), 500);
    log.expire(now, now - 24 * hour, 9999 * hour).unwrap();
    assert_eq!((log.start_offset(), log.end_offset()), (1, 5), "the first alone is older than a day");
}

#[test]
fn a_deleted_log_takes_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 500);
    append(&log, Made::default()).unwrap();
    log.delete();
    assert!(matches!(append(&log, Made::default()), Err(AppendError::Deleted)));
}

/// One record of a transaction.
fn transactional(producer_id: i64, epoch: i16, sequence: i32) -> Made {
    Made { value: 100, producer: Some((producer_id, epoch, sequence)), transactional: true, ..Made::default() }
}

fn end(log: &Log, producer_id: i64, epoch: i16, outcome: Outcome) {
    log.end_transaction((producer_id, epoch), outcome, SystemTime::now()).unwrap();
}

/// What a reader of committed records is given: the base offsets of batches, and the aborted transactions among them.
fn read_committed(log: &Log, offset: i64, max_bytes: usize) -> (Vec<i64>, Vec<(i64, i64)>) {
    let read = log.read(offset, max_bytes, true, Isolation::Committed).unwrap();
    let batches = batch::headers(&read.records).map(|(_, header)| header.base_offset).collect();
    (batches, read.aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect())
}

/// Two transactions that overlap, and what stands between them: 7 from 1 (aborted at 5), 8 from 3 (committed at 6), then
/// 7 again from 7 (open).
fn interleaved(folder: &Path, segment_bytes: u64) -> Log {
    let log = open(folder, segment_bytes);
    append(&log, Made { value: 100, ..Made::default() }).unwrap();
    log.admit(7, 0);
    log.admit(8, 0);
    append(&log, transactional(7, 0, 0)).unwrap();
    append(&log, Made { value: 100, ..Made::default() }).unwrap();
    append(&log, transactional(8, 0, 0)).unwrap();
    append(&log, transactional(7, 0, 1)).unwrap();
    assert_eq!((log.limit(Isolation::Committed), log.end_offset()), (1, 5));
    end(&log, 7, 0, Outcome::Abort);
    assert_eq!((log.limit(Isolation::Committed), log.end_offset()), (3, 6));
    end(&log, 8, 0, Outcome::Commit);
    assert_eq!((log.limit(Isolation::Committed), log.end_offset()), (7, 7));
    log.admit(7, 0);
    append(&log, transactional(7, 0, 2)).unwrap();
    assert_eq!((log.limit(Isolation::Committed), log.end_offset()), (7, 8));
    log
}

#[test]
fn readers_of_what_is_committed_stop_before_what_is_open_and_hear_of_what_was_aborted() {
    for (segment_bytes, restart, close) in
        [(SEGMENT_BYTES, false, false), (SEGMENT_BYTES, true, false), (SEGMENT_BYTES, true, true), (400, true, false)]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut log = interleaved(folder.path(), segment_bytes);
        if close {
            log.close().unwrap();
        }
        if restart {
            log = open(folder.path(), segment_bytes);
        }
        assert_eq!((log.limit(Isolation::Committed), log.end_offset()), (7, 8));
        assert_eq!(log.open_transactions(), [(7, 0)]);
        let (mut offset, mut batches, mut told) = (0, Vec::new(), Vec::new());
        while offset < 7 {
            let (found, aborted) = read_committed(&log, offset, 10_000);
            offset = found.last().unwrap() + 1;
            batches.extend(found);
            told.extend(aborted);
        }
        assert_eq!(batches, [0, 1, 2, 3, 4, 5, 6], "all but what is open");
        told.dedup();
        assert_eq!(told, [(7, 1)]);
        assert_eq!(read_committed(&log, 7, 10_000), (vec![], vec![]));
        assert_eq!(read_committed(&log, 8, 10_000), (vec![], vec![]), "beyond, but not outside");
        assert_eq!(read_committed(&log, 0, 1), (vec![0], vec![]), "nothing of it was read");
        assert_eq!(read_committed(&log, 1, 1), (vec![1], vec![(7, 1)]));
        assert_eq!(read_committed(&log, 5, 1), (vec![5], vec![(7, 1)]), "its marker");
        assert_eq!(read_committed(&log, 6, 10_000), (vec![6], vec![]));
        assert_eq!(log.read(7, 10_000, true, Isolation::Uncommitted).unwrap().aborted, []);
    }
}

#[test]
fn only_who_is_admitted_writes_in_a_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), SEGMENT_BYTES);
    let refused = |log: &Log, made| assert!(matches!(append(log, made), Err(AppendError::Transaction)), "{made:?}");
    refused(&log, transactional(7, 0, 0));
    log.admit(7, 1);
    refused(&log, transactional(7, 0, 0));
    refused(&log, transactional(8, 1, 0));
    append(&log, transactional(7, 1, 0)).unwrap();
    refused(&log, Made { transactional: false, ..transactional(7, 1, 1) });
    end(&log, 7, 1, Outcome::Commit);
    refused(&log, transactional(7, 1, 1));
    assert_eq!(append(&log, transactional(7, 1, 0)).unwrap().base_offset, 0, "sent again: it is there");
    let end_offset = log.end_offset();
    end(&log, 7, 1, Outcome::Abort);
    end(&log, 9, 0, Outcome::Abort);
    assert_eq!(log.end_offset(), end_offset, "nothing to tell of");
    log.admit(7, 1);
    append(&log, transactional(7, 1, 1)).unwrap();
    end(&log, 7, 2, Outcome::Abort);
    assert!(matches!(append(&log, transactional(7, 1, 2)), Err(AppendError::Sequence(Sequence::Fenced))));
    refused(&open(folder.path(), SEGMENT_BYTES), transactional(7, 2, 0));
}

#[test]
fn aborted_transactions_go_with_the_segments_of_their_markers() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), 300);
    for sequence in 0..3 {
        log.admit(7, 0);
        append(&log, transactional(7, 0, sequence)).unwrap();
        end(&log, 7, 0, Outcome::Abort);
    }
    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    assert!(segments_of(folder.path()).unwrap().len() > 1);
    log.expire(now + 2 * hour, now + hour, hour).unwrap();
    for log in [log, open(folder.path(), 300)] {
        assert_eq!((log.start_offset(), log.end_offset(), log.limit(Isolation::Committed)), (6, 6, 6));
        assert!(log.lock().segments.iter().all(|segment| segment.aborted.is_empty()));
    }
}

#[tokio::test]
async fn the_end_of_a_transaction_is_enough_for_whoever_waits() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), SEGMENT_BYTES);
    log.admit(7, 0);
    append(&log, transactional(7, 0, 0)).unwrap();
    let waiter = Waiter::new();
    log.watch(&waiter);
    waiter.wants(10_000);
    end(&log, 7, 0, Outcome::Commit);
    tokio::time::timeout(Duration::from_secs(10), waiter.enough()).await.expect("what was written before counts now");
}

#[tokio::test]
async fn a_waiter_hears_of_what_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), SEGMENT_BYTES);
    let waiter = Waiter::new();
    log.watch(&waiter);
    append(&log, Made::default()).unwrap();
    let one = i64::try_from(make(Made::default()).len()).unwrap();
    waiter.wants(2 * one);
    let early = tokio::time::timeout(Duration::from_millis(20), waiter.enough()).await;
    assert!(early.is_err(), "only half has come");
    append(&log, Made::default()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), waiter.enough()).await.expect("both have come");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However the end was torn, and wherever checkpoints were written, a start finds exactly the whole batches.
    #[test]
    fn a_torn_end_costs_what_was_torn(
        sizes in proptest::collection::vec((1..20_i32, 0..200_usize, any::<bool>()), 1..30),
        segment_bytes in 300..5000_u64,
        torn in 1..200_u64,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), segment_bytes);
        let mut offsets = vec![0];
        for (records, value, close) in sizes {
            let appended = append(&log, Made { records, value, ..Made::default() }).unwrap();
            prop_assert_eq!(appended.base_offset, *offsets.last().unwrap());
            offsets.push(appended.base_offset + i64::from(records));
            if close {
                log.close().unwrap();
            }
        }
        drop(log);
        let path = newest_file(folder.path());
        let length = fs::metadata(&path).unwrap().len();
        let kept = length.saturating_sub(torn);
        fs::File::options().write(true).open(&path).unwrap().set_len(kept).unwrap();
        let log = open(folder.path(), segment_bytes);
        let end = log.end_offset();
        prop_assert!(offsets.contains(&end), "ends between two batches");
        prop_assert!(end < *offsets.last().unwrap());
        prop_assert!(fs::metadata(&path).unwrap().len() <= kept);
        prop_assert_eq!(append(&log, Made::default()).unwrap().base_offset, end);
        let mut offset = 0;
        while offset <= end {
            let found = read(&log, offset, 700);
            prop_assert_eq!(found[0].0, offset);
            offset = found.last().map(|(base, records)| base + i64::from(*records)).unwrap();
        }
    }
}

/// What a property's transactions do: which producer, and what.
#[derive(Debug, Clone, Copy)]
enum Step {
    Write(i64),
    Plain,
    End(i64, bool),
    Restart(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4_i64).prop_map(Step::Write),
        2 => Just(Step::Plain),
        3 => (0..4_i64, any::<bool>()).prop_map(|(producer, commit)| Step::End(producer, commit)),
        1 => any::<bool>().prop_map(Step::Restart),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However transactions overlap, and wherever segments end and starts come in between: who reads as a client does,
    /// in pieces of any size, sees what was committed before the first open transaction, and nothing else.
    #[test]
    fn what_is_committed_is_read_and_nothing_else(steps in steps(), segment_bytes in 200..2000_u64, max_bytes in 1..1000_usize) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path(), segment_bytes);
        let mut open_since = std::collections::BTreeMap::<i64, Vec<i64>>::new();
        let mut sequences = [0; 4];
        let mut visible = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Write(producer) => {
                    log.admit(producer, 0);
                    let appended = append(&log, transactional(producer, 0, sequences[producer as usize])).unwrap();
                    sequences[producer as usize] += 1;
                    open_since.entry(producer).or_default().push(appended.base_offset);
                }
                Step::Plain => {
                    visible.insert(append(&log, Made::default()).unwrap().base_offset);
                }
                Step::End(producer, commit) => {
                    end(&log, producer, 0, if commit { Outcome::Commit } else { Outcome::Abort });
                    let written = open_since.remove(&producer).unwrap_or_default();
                    visible.extend(written.into_iter().filter(|_| commit));
                }
                Step::Restart(close) => {
                    if close {
                        log.close().unwrap();
                    }
                    log = open(folder.path(), segment_bytes);
                }
            }
        }
        let stable = open_since.values().map(|written| written[0]).min().unwrap_or(log.end_offset());
        prop_assert_eq!(log.limit(Isolation::Committed), stable);
        let (mut offset, mut seen) = (0, std::collections::BTreeSet::new());
        while offset < stable {
            let read = log.read(offset, max_bytes, true, Isolation::Committed).unwrap();
            let mut pending: Vec<_> = read.aborted.iter().map(|aborted| (aborted.first_offset, aborted.producer_id)).collect();
            pending.sort_unstable();
            let mut aborted = std::collections::BTreeSet::new();
            for (at, header) in batch::headers(&read.records) {
                pending.retain(|&(first, producer)| first > header.base_offset || { aborted.insert(producer); false });
                if header.is_control() {
                    if batch::read_marker(&read.records[at..]) == Some(Outcome::Abort) {
                        aborted.remove(&header.producer_id);
                    }
                } else if !header.is_transactional() || !aborted.contains(&header.producer_id) {
                    seen.insert(header.base_offset);
                }
                offset = header.next_offset();
            }
            prop_assert!(!read.records.is_empty(), "it comes to an end");
        }
        visible.retain(|&offset| offset < stable);
        prop_assert_eq!(seen, visible);
    }
}
