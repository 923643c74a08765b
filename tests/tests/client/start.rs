//! Where groups begin.

use std::time::Instant;

use midplane::kafka::start::{self, Begin, Outcome};
use midplane::kafka::{Consumer, Outgoing};
use midplane_tests::on_each_broker;

use crate::member::Member;
use crate::{PATIENCE, consumer_settings, info, numbered, outgoing, producer, until, write};

on_each_broker!(
    fn a_group_that_is_new_begins_where_it_is_told_to_and_only_once(broker: &Broker) {
        let name = broker.topic("start", 2);
        let mut producer = producer(broker);
        let handle = producer.topic(&name).expect("a name");
        for number in 0..5_i64 {
            let record = Outgoing { timestamp: 1_700_000_000_000 + number * 1000, ..outgoing(0, "k", "v") };
            producer.produce(handle, record, &mut None).expect("there is room");
            // One batch each: some brokers look times up by the batch.
            assert!(producer.flush(Instant::now() + PATIENCE, &mut |_| {}).expect("alive"));
        }
        let topics = [info(&name, 2)];
        let check = |begin: Begin, expected: [i64; 2]| {
            let settings = consumer_settings(broker, &broker.unique("group"));
            assert_eq!(start::resolve(&settings, &topics, begin, "v1", PATIENCE).expect("resolved"), Outcome::Begun(2));
            // Whatever is asked for then: the group has been seen.
            let again = start::resolve(&settings, &topics, Begin::Earliest, "v2", PATIENCE).expect("resolved");
            assert_eq!(again, Outcome::Seen, "{begin:?}");
            let mut consumer = Consumer::new(&settings).expect("settings");
            let places = [(name.as_str(), 0), (name.as_str(), 1)];
            let found = consumer.committed(places.into_iter(), PATIENCE).expect("read back");
            let offsets: Vec<_> = found.iter().map(|committed| committed.offset).collect();
            assert_eq!(offsets, expected.map(Some), "{begin:?}");
            assert!(found.iter().all(|committed| committed.metadata == b"v1"));
        };
        check(Begin::Earliest, [0, 0]);
        check(Begin::Latest, [5, 0]);
        check(Begin::At(0), [0, 0]);
        check(Begin::At(1_700_000_001_000), [1, 0]);
        check(Begin::At(1_700_000_003_500), [4, 0]);
        check(Begin::At(1_700_000_009_000), [5, 0]);
    }
);

on_each_broker!(
    fn a_group_that_is_read_elsewhere_is_left_alone_and_new_topics_begin_with_their_first_event(broker: &Broker) {
        let (old, new) = (broker.topic("old", 1), broker.topic("new", 1));
        let group = broker.unique("group");
        let mut producer = producer(broker);
        write(&mut producer, &old, numbered(0, 0..3));
        write(&mut producer, &new, numbered(0, 0..3));
        let settings = consumer_settings(broker, &group);
        assert_eq!(
            start::resolve(&settings, &[info(&old, 1)], Begin::Latest, "", PATIENCE).expect("resolved"),
            Outcome::Begun(1)
        );
        let mut member = Member::new(broker, &group, &[&old]);
        member.until("the member has its partition", |member| member.ends.get(&0) == Some(&3));
        assert!(member.records.is_empty(), "the latest is what comes next");

        // The group has no offset of the new topic, but it is being read.
        let elsewhere = start::resolve(&settings, &[info(&new, 1)], Begin::Latest, "", PATIENCE).expect("resolved");
        assert_eq!(elsewhere, Outcome::Elsewhere);
        assert_eq!(
            start::resolve(&settings, &[info(&old, 1), info(&new, 1)], Begin::Latest, "", PATIENCE).expect("resolved"),
            Outcome::Seen
        );

        member.consumer.subscribe([old.as_str(), new.as_str()]).expect("subscribed");
        member.until("the new topic is read from its first event", |member| member.records.len() == 3);
        assert!(member.records.iter().all(|kept| kept.topic == new));
        let committed = until("its position is committed at once", || {
            member.turn();
            let found = member.consumer.committed([(new.as_str(), 0)].into_iter(), PATIENCE).expect("read back");
            found[0].offset
        });
        assert_eq!(committed, 0);
        member.leave();
    }
);
