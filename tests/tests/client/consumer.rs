//! Groups: records, rebalances, positions, commits.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use midplane::kafka::{Code, Consumer, Entry, Happening, Outgoing, OwnedHeaders, Partition, Report};
use midplane_tests::{Broker, on_each_broker};

use crate::member::Member;
use crate::{PATIENCE, TICK, consumer_settings, in_time, numbered, producer, until, values, write};

/// Whether the record of a number has headers; of both kinds some have a value, and some none.
fn has_headers(number: i32) -> bool {
    number % 5 != 0
}

on_each_broker!(
    fn records_of_all_partitions_come_in_order_with_all_they_carry(broker: &Broker) {
        let topic = broker.topic("all", 4);
        let mut producer = producer(broker);
        let handle = producer.topic(&topic).expect("a name");
        assert_eq!(producer.topic(&topic).expect("a name"), handle, "a topic has one handle");
        let mut reports = Vec::new();
        for number in 0..400 {
            let mut headers = has_headers(number).then(|| OwnedHeaders::new(3));
            if let Some(list) = &mut headers {
                list.add(b"caf\xe9", Some(b"\xff\x00"));
                list.add(b"null", None);
                list.add(b"empty", Some(b""));
            }
            let value = number.to_string();
            let record = Outgoing {
                partition: Some(number % 4),
                key: (number % 2 == 0).then_some(b"even".as_slice()),
                value: (number % 3 != 0).then_some(value.as_bytes()),
                timestamp: 1_700_000_000_000 + i64::from(number),
                opaque: number as usize,
            };
            producer.produce(handle, record, &mut headers).expect("there is room");
            assert!(headers.is_none(), "the headers went along");
        }
        assert_eq!(producer.in_flight(), 400);
        assert!(producer.flush(Instant::now() + PATIENCE, &mut |report: Report| reports.push(report)).expect("alive"));
        assert_eq!((producer.in_flight(), producer.in_flight_bytes()), (0, 0));
        assert!(reports.iter().all(|report| report.error.is_none() && report.topic == handle));
        let opaques: BTreeSet<usize> = reports.iter().map(|report| report.opaque).collect();
        assert_eq!(opaques, (0..400).collect());

        let mut member = Member::new(broker, &broker.unique("group"), &[&topic]);
        let mut seen = 0;
        let mut next = [0_i64; 4];
        let deadline = Instant::now() + PATIENCE;
        while seen < 400 {
            assert!(Instant::now() < deadline, "only {seen} records came");
            while let Some(happening) = member.consumer.poll(Duration::ZERO) {
                member.answer(happening);
            }
            member.consumer.drain(&mut member.batch, 64, usize::MAX, TICK);
            assert!(member.batch.len() <= 64);
            for entry in member.batch.iter() {
                let Entry::Record(record) = entry else { continue };
                let partition = record.partition();
                assert_eq!(record.offset(), next[partition as usize]);
                next[partition as usize] += 1;
                let number = record.offset() as i32 * 4 + partition;
                assert_eq!(record.key(), (number % 2 == 0).then_some(b"even".as_slice()));
                let value = number.to_string();
                assert_eq!(record.value(), (number % 3 != 0).then_some(value.as_bytes()));
                assert_eq!(record.timestamp(), 1_700_000_000_000 + i64::from(number));
                assert_eq!(record.place().topic(), topic);
                let headers: Vec<_> = record.headers().iter().map(|header| (header.name, header.value)).collect();
                let all =
                    [(b"caf\xe9".as_slice(), Some(b"\xff\x00".as_slice())), (b"null", None), (b"empty", Some(b""))];
                assert_eq!(headers, if has_headers(number) { &all[..] } else { &[] });
                seen += 1;
            }
        }
        member.leave();
    }
);

on_each_broker!(
    fn a_partition_that_comes_back_is_read_on(broker: &Broker) {
        let topic = broker.topic("rebalance", 4);
        let group = broker.unique("group");
        let mut producer = producer(broker);
        write(&mut producer, &topic, (0..4).flat_map(|partition| numbered(partition, 0..10)));
        let mut first = Member::new(broker, &group, &[&topic]);
        first.until("the first member has everything", |member| member.records.len() == 40);

        let mut second = Member::new(broker, &group, &[&topic]);
        until("both have two partitions", || {
            first.turn();
            second.turn();
            (first.assigned.len() == 2 && second.assigned.len() == 2).then_some(())
        });
        let gone = second.assigned.clone();
        write(&mut producer, &topic, (0..4).flat_map(|partition| numbered(partition, 10..20)));
        until("each has the new records of its partitions", || {
            first.turn();
            second.turn();
            let kept = |member: &Member| {
                let new =
                    |partition: &&Partition| member.values(partition.1).iter().any(|value| value.ends_with("/19"));
                member.assigned.iter().filter(new).count() == 2
            };
            (kept(&first) && kept(&second)).then_some(())
        });
        // The second one leaves; the first gets back what it had, at what is committed (nothing: from the first event).
        first.records.clear();
        second.leave();
        first.until("the first member has four again", |member| member.assigned.len() == 4);
        write(&mut producer, &topic, (0..4).flat_map(|partition| numbered(partition, 20..30)));
        first.until("all new records come", |member| {
            (0..4).all(|partition| member.values(partition).iter().any(|value| value.ends_with("/29")))
        });
        for partition in 0..4 {
            let from = if gone.iter().any(|(_, gone)| *gone == partition) { 0 } else { 20 };
            assert_eq!(first.values(partition), values(partition, from..30), "in order, without a gap");
        }
        first.leave();
    }
);

on_each_broker!(
    /// A rebalance while a member stands at the end of its partitions leaves no record out and repeats none.
    fn a_partition_that_stays_is_read_on_from_its_end(broker: &Broker) {
        let topic = broker.topic("stays", 2);
        let group = broker.unique("group");
        let mut producer = producer(broker);
        write(&mut producer, &topic, (0..2).flat_map(|partition| numbered(partition, 0..3)));
        let mut first = Member::new(broker, &group, &[&topic]);
        first.until("it stands at both ends", |member| (0..2).all(|partition| member.ends.get(&partition) == Some(&3)));
        for round in 1..4 {
            let second = Member::new(broker, &group, &[&topic]);
            let mut second = Some(second);
            until("each has one partition", || {
                first.turn();
                let other = second.as_mut().expect("there");
                other.turn();
                (first.assigned.len() == 1 && other.assigned.len() == 1).then_some(())
            });
            let stayed = first.assigned.iter().next().expect("one").1;
            write(&mut producer, &topic, numbered(stayed, round * 3..round * 3 + 3));
            first.until("the partition that stayed is read on", |member| {
                member.values(stayed).last() == Some(&&*format!("{stayed}/{}", round * 3 + 2))
            });
            let expected: Vec<_> = first.values(stayed).into_iter().collect::<BTreeSet<_>>().into_iter().collect();
            assert_eq!(first.values(stayed).len(), expected.len(), "nothing is repeated: {:?}", first.values(stayed));
            assert!(first.errors.is_empty(), "{:?}", first.errors);
            let other = 1 - stayed;
            write(&mut producer, &topic, numbered(other, round * 3..round * 3 + 3));
            second.take().expect("there").leave();
            first.records.retain(|kept| kept.partition == stayed);
            first.until("it has both again", |member| {
                member.values(other).last() == Some(&&*format!("{other}/{}", round * 3 + 2))
                    && (0..2).all(|partition| member.ends.get(&partition) == Some(&i64::from(round * 3 + 3)))
            });
            assert_eq!(first.values(stayed), values(stayed, 0..round * 3 + 3));
            assert_eq!(first.values(other), values(other, 0..round * 3 + 3));
        }
        first.leave();
    }
);

on_each_broker!(
    fn an_assignment_may_be_answered_later(broker: &Broker) {
        let topic = broker.topic("later", 2);
        let mut producer = producer(broker);
        write(&mut producer, &topic, (0..2).flat_map(|partition| numbered(partition, 0..5)));
        let mut member = Member::new(broker, &broker.unique("group"), &[&topic]);
        let partitions = until("the assignment comes", || match member.consumer.poll(TICK) {
            Some(Happening::Assign(partitions)) => Some(partitions),
            _ => None,
        });
        assert_eq!(partitions.len(), 2);
        for _ in 0..25 {
            assert!(!matches!(member.consumer.poll(TICK), Some(Happening::Assign(_) | Happening::Revoke { .. })));
            assert_eq!(
                member.consumer.drain(&mut member.batch, 10, usize::MAX, Duration::ZERO),
                0,
                "nothing is fetched yet"
            );
        }
        member.answer(Happening::Assign(partitions));
        member.until("the records come", |member| member.records.len() == 10);
        member.leave();
    }
);

on_each_broker!(
    fn a_member_that_is_dropped_hands_its_partitions_over(broker: &Broker) {
        let topic = broker.topic("dropped", 1);
        let group = broker.unique("group");
        let mut producer = producer(broker);
        write(&mut producer, &topic, numbered(0, 0..3));
        let mut first = Member::new(broker, &group, &[&topic]);
        first.until("the first member reads", |member| member.records.len() == 3);
        drop(first);
        let mut second = Member::new(broker, &group, &[&topic]);
        second.until("the second member reads", |member| member.records.len() == 3);
        second.leave();
    }
);

on_each_broker!(
    fn a_member_that_is_dropped_with_a_question_open_ends(broker: &Broker) {
        let topic = broker.topic("asked", 2);
        let settings = consumer_settings(broker, &broker.unique("group"));
        in_time(move || {
            let join = || {
                let consumer = Consumer::new(&settings).expect("settings");
                consumer.subscribe([&*topic]).expect("subscribed");
                consumer
            };
            let mut asked = join();
            assigned(&mut asked);
            drop(asked);

            let mut asked = join();
            let all = assigned(&mut asked);
            take(&mut asked, &all);
            let mut other = join();
            until("a partition is taken away", || {
                if let Some(Happening::Assign(partitions)) = other.poll(TICK) {
                    take(&mut other, &partitions);
                }
                matches!(asked.poll(TICK), Some(Happening::Revoke { .. })).then_some(())
            });
            drop(asked);
            until("the other one is given some", || match other.poll(TICK) {
                Some(Happening::Assign(partitions)) => {
                    take(&mut other, &partitions);
                    (!partitions.is_empty()).then_some(())
                }
                _ => None,
            });
        });
    }
);

/// What a member is given first.
fn assigned(consumer: &mut Consumer) -> Vec<Partition> {
    until("partitions come", || match consumer.poll(TICK) {
        Some(Happening::Assign(partitions)) if !partitions.is_empty() => Some(partitions),
        _ => None,
    })
}

fn take(consumer: &mut Consumer, partitions: &[Partition]) {
    let positions = partitions.iter().map(|(topic, partition)| (&**topic, *partition, 0));
    consumer.assign(positions).expect("assigned");
}

/// The next round of a group comes to its end: nobody is waited for who isn't there any more.
fn assert_goes_on(broker: &Broker, group: &str, topic: &str, stays: &mut Member) {
    let mut next = Member::new(broker, group, &[topic]);
    next.until("the next member has joined", |member| {
        stays.turn();
        member.rounds > 0
    });
    next.leave();
}

on_each_broker!(
    fn a_member_without_partitions_that_leaves_is_not_waited_for(broker: &Broker) {
        let (topic, group) = (broker.topic("idle", 1), broker.unique("group"));
        let mut stays = Member::new(broker, &group, &[&topic]);
        stays.until("the first member has the partition", |member| !member.assigned.is_empty());
        let mut idle = Member::new(broker, &group, &[&topic]);
        idle.until("the second member has nothing", |member| {
            stays.turn();
            member.rounds > 0
        });
        assert!(idle.assigned.is_empty() != stays.assigned.is_empty(), "one of them has the partition");
        let (idle, mut stays) = if idle.assigned.is_empty() { (idle, stays) } else { (stays, idle) };
        idle.leave();
        assert_goes_on(broker, &group, &topic, &mut stays);
        stays.leave();
    }
);

on_each_broker!(
    fn a_member_that_leaves_while_it_joins_is_not_waited_for(broker: &Broker) {
        let (topic, group) = (broker.topic("hasty", 1), broker.unique("group"));
        let mut stays = Member::new(broker, &group, &[&topic]);
        stays.until("the first member has the partition", |member| !member.assigned.is_empty());
        Member::new(broker, &group, &[&topic]).leave();
        assert_goes_on(broker, &group, &topic, &mut stays);
        stays.leave();
    }
);

on_each_broker!(
    fn a_paused_partition_goes_on_exactly_where_it_is_told_to(broker: &Broker) {
        let topic = broker.topic("pause", 2);
        let mut producer = producer(broker);
        write(&mut producer, &topic, (0..2).flat_map(|partition| numbered(partition, 0..2000)));
        let mut member = Member::new(broker, &broker.unique("group"), &[&topic]);
        // A few records only, so that many are prefetched and would be stale.
        let deadline = Instant::now() + PATIENCE;
        let mut last = [-1_i64; 2];
        while last.iter().any(|offset| *offset < 20) {
            assert!(Instant::now() < deadline, "both partitions deliver, at last {last:?}");
            while let Some(happening) = member.consumer.poll(Duration::ZERO) {
                member.answer(happening);
            }
            member.consumer.drain(&mut member.batch, 10, usize::MAX, TICK);
            for entry in member.batch.iter() {
                last[entry.place().partition() as usize] = entry.place().offset();
            }
        }
        for round in 0..20_i64 {
            member.consumer.pause([(topic.as_str(), 0)].into_iter()).expect("paused");
            for _ in 0..3 {
                member.consumer.drain(&mut member.batch, 100, usize::MAX, Duration::from_millis(1));
                assert!(
                    member.batch.iter().all(|entry| entry.place().partition() == 1),
                    "nothing of a paused partition"
                );
            }
            let offset = (round * 7) % 15;
            member.consumer.resume_at(&topic, 0, offset, PATIENCE).expect("resumed");
            let first = until("the partition delivers", || {
                member.consumer.drain(&mut member.batch, 10, usize::MAX, TICK);
                member.batch.iter().find(|entry| entry.place().partition() == 0).map(|entry| entry.place().offset())
            });
            assert_eq!(first, offset, "round {round}: nothing stale, nothing left out");
        }
        member.consumer.seek(&topic, 1, 1990, PATIENCE).expect("sought");
        let first = until("the sought partition delivers", || {
            member.consumer.drain(&mut member.batch, 10, usize::MAX, TICK);
            member.batch.iter().find(|entry| entry.place().partition() == 1).map(|entry| entry.place().offset())
        });
        assert_eq!(first, 1990);
        member.leave();
    }
);

on_each_broker!(
    fn an_offset_that_is_not_there_is_an_error_and_the_partition_is_restarted(broker: &Broker) {
        let topic = broker.topic("range", 1);
        let mut producer = producer(broker);
        write(&mut producer, &topic, numbered(0, 0..5));
        let mut member = Member::beginning(broker, &broker.unique("group"), &[&topic], Some(1_000_000));
        member.until("the error comes", |member| !member.errors.is_empty());
        assert_eq!(member.errors, [(Code::AUTO_OFFSET_RESET, 0)]);
        let refused = member.consumer.seek(&topic, 0, 2, PATIENCE).expect_err("such a partition can't be sought");
        assert_eq!(refused.code(), Some(Code::STATE));
        for round in 0..5 {
            member.records.clear();
            member.consumer.restart(&topic, 0, 2).expect("restarted");
            member.until("the rest comes", |member| member.records.len() == 3);
            assert_eq!(member.values(0), values(0, 2..5), "round {round}");
        }
        member.leave();
    }
);

on_each_broker!(
    fn commits_come_back_with_their_token_and_their_metadata(broker: &Broker) {
        let topic = broker.topic("commit", 2);
        let group = broker.unique("group");
        let mut producer = producer(broker);
        write(&mut producer, &topic, (0..2).flat_map(|partition| numbered(partition, 0..5)));
        let mut member = Member::new(broker, &group, &[&topic]);
        member.until("everything is read", |member| member.records.len() == 10);
        let metadata = "v1 \u{fc} generation";
        member.consumer.commit([(topic.as_str(), 0, 3, metadata)].into_iter(), 42).expect("asked for");
        member.until("the answer comes", |member| !member.committed.is_empty());
        let (token, error, offsets) = member.committed.remove(0);
        assert_eq!((token, error), (42, None));
        let offsets: Vec<_> =
            offsets.iter().map(|((topic, partition), offset, code)| (&**topic, *partition, *offset, *code)).collect();
        assert_eq!(offsets, [(topic.as_str(), 0, 3, None)]);
        member.consumer.commit_sync([(topic.as_str(), 1, 5, "")].into_iter(), PATIENCE).expect("committed");
        let both = [(topic.as_str(), 0), (topic.as_str(), 1)];
        let found = member.consumer.committed(both.into_iter(), PATIENCE).expect("read back");
        let found: Vec<_> = found.iter().map(|c| (c.partition, c.offset, c.metadata.as_slice())).collect();
        assert_eq!(found, [(0, Some(3), metadata.as_bytes()), (1, Some(5), b"")]);
        member.leave();

        let mut next = Member::new(broker, &group, &[&topic]);
        next.until("the next member goes on at what is committed", |member| {
            member.records.len() == 2 && member.ends.get(&1) == Some(&5)
        });
        assert_eq!(next.values(0), values(0, 3..5));
        next.leave();
    }
);

/// What an aborted transaction wrote is never delivered, and neither are the records that end one: the end of the partition
/// is where its log ends all the same.
mod an_end_passes_control_records {
    use rdkafka::ClientConfig;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;

    #[test]
    fn on_kafka() {
        let broker = midplane_tests::Broker::kafka();
        let topic = broker.topic("control", 1);
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", broker.servers())
            .set("transactional.id", broker.unique("transactions"))
            .create()
            .expect("settings");
        producer.init_transactions(PATIENCE).expect("initialized");
        let write = |values: [&str; 2]| {
            producer.begin_transaction().expect("begun");
            for value in values {
                producer.send(BaseRecord::<str, str>::to(&topic).payload(value)).expect("there is room");
            }
            producer.flush(PATIENCE).expect("flushed");
        };
        write(["a", "b"]);
        producer.commit_transaction(PATIENCE).expect("committed");
        write(["c", "d"]);
        producer.abort_transaction(PATIENCE).expect("aborted");

        let mut member = Member::new(&broker, &broker.unique("group"), &[&topic]);
        member.until("the end comes", |member| member.ends.get(&0) == Some(&6));
        assert_eq!(member.values(0), ["a", "b"]);
        write(["e", "f"]);
        producer.commit_transaction(PATIENCE).expect("committed");
        member.until("the next end comes", |member| member.ends.get(&0) == Some(&9));
        assert_eq!(member.values(0), ["a", "b", "e", "f"]);
        member.leave();
    }
}
