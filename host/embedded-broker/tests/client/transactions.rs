//! Transactions under the real client: what is committed is there as a whole, what isn't never was, and a broker that is
//! killed changes nothing of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rdkafka::consumer::ConsumerGroupMetadata;

use super::*;

/// A producer that has its transactional id.
fn transactional(servers: &str, id: &str, more: &[(&str, &str)]) -> BaseProducer {
    let settings = [&[("transactional.id", id), ("reconnect.backoff.max.ms", "100")], more].concat();
    let producer = producer(servers, &settings);
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

/// A consumer that is nobody's member, of committed records only or of all.
fn outsider(servers: &str, group: &str, isolation: &str) -> BaseConsumer {
    let settings = [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("isolation.level", isolation),
        ("reconnect.backoff.max.ms", "100"),
    ];
    config(servers, &settings).create().unwrap()
}

/// Where a partition ends for readers of each kind: of committed records, and of all.
fn ends(servers: &str, topic: &str) -> (i64, i64) {
    let end = |isolation| outsider(servers, "unused", isolation).fetch_watermarks(topic, 0, PATIENCE).unwrap().1;
    (end("read_committed"), end("read_uncommitted"))
}

/// Everything that readers of a kind see of a partition, up to a plain record that is sent for that.
fn everything(servers: &str, topic: &str, isolation: &str) -> Vec<String> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let end = format!("end {}", CALLS.fetch_add(1, Ordering::Relaxed));
    send(&producer(servers, &[]), topic, [end.clone()]);
    let consumer = outsider(servers, "unused", isolation);
    consumer.assign(&at(topic, 0)).unwrap();
    let mut found = Vec::new();
    while found.last() != Some(&end) {
        found.extend(values(&read(&consumer, 1)));
    }
    found.retain(|value| !value.starts_with("end "));
    found
}

/// What the group `g` committed for the first partition of `t`, and the error that comes with it: asked for once, since
/// the client asks again by itself while an offset isn't stable.
pub(super) fn committed(servers: &str, stable: bool) -> std::io::Result<(i64, i16)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(servers)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // OffsetFetch, version 7, a null client id; the last but one byte asks for what is stable only.
    let request = [0, 9, 0, 7, 0, 0, 0, 1, 0xff, 0xff, 0, 2, b'g', 2, 2, b't', 2, 0, 0, 0, 0, 0, u8::from(stable), 0];
    stream.write_all(&[&[0, 0, 0, request.len() as u8], &request[..]].concat())?;
    // Up to the index: length, correlation id, throttle time, and the counts and the name of one topic.
    let mut answer = [0; 36];
    stream.read_exact(&mut answer)?;
    let offset = i64::from_be_bytes(answer[21..29].try_into().unwrap());
    let metadata = usize::from(answer[33]);
    assert_eq!(metadata, 1, "no metadata: the error comes next");
    Ok((offset, i16::from_be_bytes(answer[34..36].try_into().unwrap())))
}

/// The error of an offset that a transaction is about to change.
const UNSTABLE: i16 = 88;

fn at(topic: &str, offset: i64) -> TopicPartitionList {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    offsets
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_there_as_a_whole_and_what_is_aborted_never_was() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("a", 1), ("b", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        let producer = transactional(&servers, "x", &[]);
        producer.begin_transaction().unwrap();
        send(&producer, "a", texts(&["1", "2"]));
        send(&producer, "b", texts(&["3"]));
        assert_eq!(ends(&servers, "a"), (0, 2), "written, and not there yet");
        assert_eq!(ends(&servers, "b"), (0, 1));
        producer.commit_transaction(PATIENCE).unwrap();
        assert_eq!(ends(&servers, "a"), (3, 3), "there, with its marker, once it is acknowledged");
        assert_eq!(ends(&servers, "b"), (2, 2));
        producer.begin_transaction().unwrap();
        send(&producer, "a", texts(&["4"]));
        send(&producer, "b", texts(&["5", "6"]));
        producer.abort_transaction(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        send(&producer, "a", texts(&["7"]));
        producer.commit_transaction(PATIENCE).unwrap();
        assert_eq!(everything(&servers, "a", "read_committed"), ["1", "2", "7"]);
        assert_eq!(everything(&servers, "b", "read_committed"), ["3"]);
        assert_eq!(everything(&servers, "a", "read_uncommitted"), ["1", "2", "4", "7"]);
        assert_eq!(everything(&servers, "b", "read_uncommitted"), ["3", "5", "6"]);
    })
    .await;
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_interleave_in_a_partition_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        let (first, second) = (transactional(&servers, "x", &[]), transactional(&servers, "y", &[]));
        let plain = producer(&servers, &[]);
        first.begin_transaction().unwrap();
        second.begin_transaction().unwrap();
        for n in 0..3 {
            send(&first, "t", [format!("x{n}")]);
            send(&second, "t", [format!("y{n}")]);
            send(&plain, "t", [format!("z{n}")]);
        }
        assert_eq!(ends(&servers, "t"), (0, 9));
        first.abort_transaction(PATIENCE).unwrap();
        assert_eq!(ends(&servers, "t"), (1, 10), "the other one is open from there");
        second.commit_transaction(PATIENCE).unwrap();
        assert_eq!(ends(&servers, "t"), (11, 11));
        let expected = ["y0", "z0", "y1", "z1", "y2", "z2"];
        assert_eq!(everything(&servers, "t", "read_committed"), expected);
        assert_eq!(everything(&servers, "t", "read_uncommitted").len(), 9);
    })
    .await;
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_count_with_their_transaction_and_only_for_members_of_this_generation() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1), ("out", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        send(&producer(&servers, &[]), "t", (0..10).map(|n| n.to_string()));
        let consumer = member(&servers);
        read(&consumer, 5);
        let producer = transactional(&servers, "x", &[]);
        let mine = consumer.group_metadata().unwrap();
        let stage = |value: &str, offset, whose: &ConsumerGroupMetadata| {
            producer.begin_transaction().unwrap();
            send(&producer, "out", texts(&[value]));
            producer.send_offsets_to_transaction(&at("t", offset), whose, PATIENCE)
        };
        stage("1", 5, &mine).unwrap();
        assert_eq!(committed(&servers, false).unwrap(), (-1, 0), "not yet");
        assert_eq!(committed(&servers, true).unwrap(), (-1, UNSTABLE));
        producer.commit_transaction(PATIENCE).unwrap();
        assert_eq!(committed(&servers, true).unwrap(), (5, 0));
        stage("2", 9, &mine).unwrap();
        producer.abort_transaction(PATIENCE).unwrap();
        assert_eq!(committed(&servers, true).unwrap(), (5, 0));
        drop(consumer);
        let next = member(&servers);
        assert_eq!(values(&read(&next, 1)), ["5"]);
        let refused = stage("3", 7, &mine).unwrap_err().rdkafka_error_code();
        assert_eq!(refused, Some(RDKafkaErrorCode::UnknownMemberId), "whose member is gone");
        producer.abort_transaction(PATIENCE).unwrap();
        stage("4", 8, &next.group_metadata().unwrap()).unwrap();
        producer.commit_transaction(PATIENCE).unwrap();
        assert_eq!(committed(&servers, true).unwrap(), (8, 0));
        assert_eq!(everything(&servers, "out", "read_committed"), ["1", "4"]);
    })
    .await;
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_producer_of_an_id_fences_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        let first = transactional(&servers, "x", &[]);
        first.begin_transaction().unwrap();
        send(&first, "t", texts(&["1"]));
        let second = transactional(&servers, "x", &[]);
        assert_eq!(ends(&servers, "t"), (2, 2), "what the first left open is aborted");
        let fenced = first.commit_transaction(PATIENCE).unwrap_err().rdkafka_error_code();
        assert_eq!(fenced, Some(RDKafkaErrorCode::Fenced));
        second.begin_transaction().unwrap();
        send(&second, "t", texts(&["2"]));
        second.commit_transaction(PATIENCE).unwrap();
        assert_eq!(everything(&servers, "t", "read_committed"), ["2"]);
        let other = transactional(&servers, "y", &[]);
        other.begin_transaction().unwrap();
        send(&other, "t", texts(&["3"]));
        other.commit_transaction(PATIENCE).unwrap();
        assert_eq!(everything(&servers, "t", "read_committed"), ["2", "3"]);
    })
    .await;
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        let slow = transactional(&servers, "x", &[("transaction.timeout.ms", "1000")]);
        slow.begin_transaction().unwrap();
        send(&slow, "t", texts(&["1"]));
        let deadline = Instant::now() + PATIENCE;
        while ends(&servers, "t") != (2, 2) {
            assert!(Instant::now() < deadline, "still open");
        }
        let fenced = slow.commit_transaction(PATIENCE).unwrap_err().rdkafka_error_code();
        assert_eq!(fenced, Some(RDKafkaErrorCode::Fenced));
        let next = transactional(&servers, "x", &[]);
        next.begin_transaction().unwrap();
        send(&next, "t", texts(&["2"]));
        next.commit_transaction(PATIENCE).unwrap();
        assert_eq!(everything(&servers, "t", "read_committed"), ["2"]);
    })
    .await;
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_takes_its_part_of_a_transaction_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1), ("gone", 1)]).await;
    let servers = broker.bootstrap_servers();
    let producer = blocking({
        let servers = servers.clone();
        move || {
            let producer = transactional(&servers, "x", &[]);
            producer.begin_transaction().unwrap();
            send(&producer, "gone", texts(&["1"]));
            send(&producer, "t", texts(&["2"]));
            producer
        }
    })
    .await;
    let admin: AdminClient<DefaultClientContext> = config(&servers, &[]).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    assert_eq!(admin.delete_topics(&["gone"], &options).await.unwrap(), [Ok("gone".to_owned())]);
    blocking(move || {
        producer.commit_transaction(PATIENCE).unwrap();
        assert_eq!(everything(&servers, "t", "read_committed"), ["2"]);
    })
    .await;
    broker.shutdown().await.unwrap();
}

/// Records that are aborted on their way make the client ask for a new epoch in the middle of a transaction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_aborted_on_its_way_disturbs_nothing_that_follows() {
    const ROUNDS: usize = 10;
    const RECORDS: usize = 5000;
    let folder = tempfile::tempdir().unwrap();
    let broker = start(folder.path(), &[("t", 1)]).await;
    let servers = broker.bootstrap_servers();
    blocking(move || {
        let producer = transactional(&servers, "x", &[("linger.ms", "0"), ("batch.num.messages", "10")]);
        let done = AtomicUsize::new(0);
        let mut purged = 0;
        std::thread::scope(|scope| {
            // Reports of what was purged must be served while the abort waits for them.
            scope.spawn(|| {
                while done.load(Ordering::Acquire) == 0 {
                    producer.poll(Duration::from_millis(1));
                }
            });
            for round in 0..ROUNDS {
                producer.begin_transaction().unwrap();
                for _ in 0..RECORDS {
                    let record = BaseRecord::<(), _>::to("t").partition(0).payload("never");
                    producer.send(record).map_err(|(error, _)| error).unwrap();
                }
                let deadline = Instant::now() + PATIENCE;
                while producer.in_flight_count() > RECORDS as i32 - 10 {
                    assert!(Instant::now() < deadline, "none is written");
                    std::thread::yield_now();
                }
                purged += producer.in_flight_count();
                producer.abort_transaction(PATIENCE).unwrap();
                producer.begin_transaction().unwrap();
                send(&producer, "t", [round.to_string()]);
                producer.commit_transaction(PATIENCE).unwrap();
            }
            done.store(1, Ordering::Release);
        });
        let expected: Vec<_> = (0..ROUNDS).map(|round| round.to_string()).collect();
        assert_eq!(everything(&servers, "t", "read_committed"), expected);
        assert!(everything(&servers, "t", "read_uncommitted").len() > ROUNDS, "some were written before their abort");
        assert!(purged > 0, "and some were not");
    })
    .await;
    broker.shutdown().await.unwrap();
}

/// A transaction that is open when the broker dies goes on when it is back, offsets and all.
#[test]
fn an_open_transaction_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), 0);
    let (port, servers) = (process.port(), process.1.clone());
    let producer = transactional(&servers, "x", &[]);
    let left_open = transactional(&servers, "y", &[]);
    producer.begin_transaction().unwrap();
    left_open.begin_transaction().unwrap();
    send(&producer, "t", texts(&["1"]));
    send(&left_open, "t", texts(&["never"]));
    let nobody = outsider(&servers, "g", "read_committed").group_metadata().unwrap();
    producer.send_offsets_to_transaction(&at("t", 42), &nobody, PATIENCE).unwrap();
    drop(process);
    let process = Process::start(folder.path(), port);
    assert_eq!(ends(&servers, "t"), (0, 2));
    assert_eq!(committed(&servers, true).unwrap(), (-1, UNSTABLE));
    send(&producer, "t", texts(&["2"]));
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(ends(&servers, "t"), (1, 4), "what the other one left open is in the way");
    assert_eq!(committed(&servers, true).unwrap(), (42, 0));
    drop(process);
    let _process = Process::start(folder.path(), port);
    assert_eq!(committed(&servers, true).unwrap(), (42, 0));
    transactional(&servers, "y", &[]);
    assert_eq!(everything(&servers, "t", "read_committed"), ["1", "2"]);
}

/// How far the group has come, once the broker is there and no transaction is about to change it.
fn progress(servers: &str) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "not told");
        if let Ok((offset, 0)) = committed(servers, true) {
            return usize::try_from(offset.max(0)).unwrap();
        }
        std::thread::yield_now();
    }
}

/// A loop that writes and commits how far it is in one transaction, over kills of the broker at any point of it: every
/// piece is there once, whole, in order, and what was acknowledged is never undone.
#[test]
fn a_killed_broker_tears_no_transaction() {
    const PIECES: usize = 60;
    const KILLS: usize = 6;
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), 0);
    let (port, servers) = (process.port(), process.1.clone());
    let steps = Arc::new(AtomicUsize::new(0));
    let killer = {
        let (steps, folder) = (Arc::clone(&steps), folder.path().to_owned());
        // Four steps a piece: a kill falls into another one each time.
        move || {
            let mut process = process;
            for kill in 1..=KILLS {
                while steps.load(Ordering::Acquire) < kill * 37 {
                    std::thread::yield_now();
                }
                drop(process);
                process = Process::start(&folder, port);
            }
            process
        }
    };
    let killer = std::thread::spawn(killer);
    let consumer = outsider(&servers, "g", "read_committed");
    let attempt = |producer: &BaseProducer, piece: usize| -> Result<(), KafkaError> {
        let step = || steps.fetch_add(1, Ordering::AcqRel);
        producer.begin_transaction()?;
        step();
        for n in 0..5 {
            let value = format!("{piece}.{n}");
            for partition in 0..2 {
                let record = BaseRecord::<(), _>::to("u").partition(partition).payload(&value);
                producer.send(record).map_err(|(error, _)| error)?;
            }
        }
        step();
        let offset = at("t", i64::try_from(piece).unwrap() + 1);
        producer.send_offsets_to_transaction(&offset, &consumer.group_metadata().unwrap(), PATIENCE)?;
        step();
        producer.flush(PATIENCE)?;
        step();
        producer.commit_transaction(PATIENCE)
    };
    let mut producer = transactional(&servers, "x", &[]);
    let mut next = 0;
    while next < PIECES {
        match attempt(&producer, next) {
            Ok(()) => {
                next += 1;
                assert_eq!(progress(&servers), next, "acknowledged, and there");
            }
            Err(_) => {
                // Whether it was committed, the broker knows.
                producer = transactional(&servers, "x", &[]);
                let before = next;
                next = progress(&servers);
                assert!(next == before || next == before + 1, "{before} became {next}");
            }
        }
    }
    let _process = killer.join().unwrap();
    assert_eq!(progress(&servers), PIECES);
    let expected: Vec<_> = (0..PIECES).flat_map(|piece| (0..5).map(move |n| format!("{piece}.{n}"))).collect();
    let consumer = reader(&servers, "u", 2);
    let mut found = [Vec::new(), Vec::new()];
    for message in read(&consumer, 2 * expected.len()) {
        found[usize::try_from(message.partition()).unwrap()].extend(values(&[message]));
    }
    assert_eq!(found, [expected.clone(), expected.clone()]);
    assert_eq!(everything(&servers, "u", "read_committed"), expected, "and nothing more");
}
