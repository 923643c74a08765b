//! Writing: buffers, reports, headers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use midplane::kafka::{Code, Entry, Error, Outgoing, OwnedHeaders, ProduceError, Producer, ProducerSettings, Report};
use midplane_tests::on_each_broker;
use midplane_tests::proxy::{ApiKey, Proxy, ResponseError};

use crate::member::Member;
use crate::{PATIENCE, TICK, outgoing, producer, producer_settings, until};

on_each_broker!(
    fn headers_are_taken_off_a_record_and_sent_on_without_a_copy(broker: &Broker) {
        let (from, to) = (broker.topic("headers-from", 1), broker.topic("headers-to", 1));
        let mut producer = producer(broker);
        let (from_handle, to_handle) = (producer.topic(&from).expect("a name"), producer.topic(&to).expect("a name"));
        let mut headers = Some(OwnedHeaders::new(1));
        headers.as_mut().expect("just made").add(b"\xfe\xff", Some(&[7; 5000]));
        producer.produce(from_handle, outgoing(0, "k", "v"), &mut headers).expect("there is room");
        assert_eq!(producer.in_flight_bytes(), 2 + 2 + 5000, "large headers count");
        let mut topics = Vec::new();
        assert!(
            producer.flush(Instant::now() + PATIENCE, &mut |report: Report| topics.push(report.topic)).expect("alive")
        );
        assert_eq!(producer.in_flight_bytes(), 0);

        let mut member = Member::new(broker, &broker.unique("group"), &[&from, &to]);
        let mut sent = false;
        let arrived = until("the record arrives on the other topic", || {
            while let Some(happening) = member.consumer.poll(Duration::ZERO) {
                member.answer(happening);
            }
            member.consumer.drain(&mut member.batch, 10, usize::MAX, TICK);
            for index in 0..member.batch.len() {
                let Entry::Record(record) = member.batch.get(index) else { continue };
                let found: Vec<_> =
                    record.headers().iter().map(|h| (h.name.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
                if record.place().topic() == to {
                    return Some(found);
                }
                assert_eq!(found.len(), 1);
                let mut headers = member.batch.detach_headers(index);
                assert!(headers.is_some(), "there were some");
                let Entry::Record(record) = member.batch.get(index) else { panic!("still a record") };
                assert_eq!(record.headers().len(), 1, "they can be had again");
                assert!(!std::mem::replace(&mut sent, true), "it comes once");
                producer.produce(to_handle, outgoing(0, "k", "v"), &mut headers).expect("there is room");
            }
            producer.poll(Duration::ZERO, &mut |report: Report| topics.push(report.topic)).expect("alive");
            None
        });
        assert_eq!(arrived, [(b"\xfe\xff".to_vec(), Some(vec![7; 5000]))]);
        assert!(
            producer.flush(Instant::now() + PATIENCE, &mut |report: Report| topics.push(report.topic)).expect("alive")
        );
        assert_eq!(topics, [from_handle, to_handle], "each report names its topic");
        member.leave();
    }
);

#[test]
fn a_full_buffer_is_said_before_and_what_is_given_up_is_reported() {
    let settings = ProducerSettings { buffer_bytes: 1 << 20, ..producer_settings("127.0.0.1:1") };
    let mut producer = Producer::new(&settings).expect("settings");
    let topic = producer.topic("nowhere").expect("a name");
    let value = vec![b'x'; 100_000];
    let record = Outgoing { partition: None, key: None, value: Some(&value), timestamp: 0, opaque: 7 };
    let mut headers = Some(OwnedHeaders::new(0));
    let mut taken = 0;
    let refused = loop {
        match producer.produce(topic, record, &mut None) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((refused, taken), (ProduceError::Full, 10));
    assert_eq!(producer.produce(topic, record, &mut headers), Err(ProduceError::Full));
    assert!(headers.is_some(), "what is refused keeps its headers");
    assert!(!producer.flush(Instant::now(), &mut |_| {}).expect("alive"), "nothing was sent");
    producer.purge();
    let mut reports = Vec::new();
    assert!(producer.flush(Instant::now() + PATIENCE, &mut |report: Report| reports.push(report)).expect("alive"));
    assert_eq!(reports.len(), 10);
    assert!(reports.iter().all(|report| report.error == Some(Code::PURGE_QUEUE) && report.opaque == 7));
    // Larger than the whole buffer, it passes alone; larger than a record may be, never.
    let large = vec![b'x'; 2 << 20];
    producer.produce(topic, Outgoing { value: Some(&large), ..record }, &mut None).expect("it is alone");
    assert_eq!(producer.produce(topic, record, &mut None), Err(ProduceError::Full));
    producer.purge();
    assert!(producer.flush(Instant::now() + PATIENCE, &mut |_| {}).expect("alive"));
    let larger = vec![b'x'; 17 << 20];
    assert_eq!(
        producer.produce(topic, Outgoing { value: Some(&larger), ..record }, &mut None),
        Err(ProduceError::TooLarge)
    );
}

on_each_broker!(
    fn a_producer_that_is_dropped_while_its_requests_fail_leaves_the_process_whole(broker: &Broker) {
        // Each time answers fall into the few microseconds in which the client's threads end one after the other, or don't.
        const ROUNDS: u32 = 20;
        const PARTITIONS: i32 = 16;
        let topic = broker.topic("desync", PARTITIONS);
        let proxy = Proxy::start(broker.servers());
        let failing = proxy.fail(ApiKey::Produce, usize::MAX, ResponseError::OutOfOrderSequenceNumber);
        for _ in 0..ROUNDS {
            let transactional_id = Some(broker.unique("desync"));
            let mut producer =
                Producer::new(&ProducerSettings { transactional_id, ..producer_settings(proxy.servers()) })
                    .expect("settings");
            producer.init_transactions(PATIENCE).expect("the name is nobody's");
            producer.begin_transaction().expect("none is open");
            let topic = producer.topic(&topic).expect("a name");
            let mut fatal = None;
            while fatal.is_none() {
                for partition in 0..PARTITIONS {
                    // Refused once it has failed.
                    let _ = producer.produce(topic, outgoing(partition, "k", "v"), &mut None);
                }
                fatal = producer.poll(TICK, &mut |_| {}).err();
            }
            assert!(matches!(fatal, Some(Error::Fatal { .. })), "{fatal:?}");
        }
        assert!(failing.met() >= ROUNDS as usize);
    }
);

/// The embedded broker has one limit for all topics.
mod a_record_that_the_broker_refuses_is_reported_alone {
    use super::*;

    #[test]
    fn on_kafka() {
        let broker = &midplane_tests::Broker::kafka();
        let small = broker.topic_with("small", 1, &[("max.message.bytes", "20000")]);
        let mut producer = producer(broker);
        let handle = producer.topic(&small).expect("a name");
        let value = vec![b'x'; 30_000];
        let large = Outgoing { partition: Some(0), key: None, value: Some(&value), timestamp: 0, opaque: 1 };
        producer.produce(handle, large, &mut None).expect("there is room");
        let mut reports = BTreeMap::new();
        let mut report = |report: Report| assert_eq!(reports.insert(report.opaque, report.error), None, "once");
        assert!(producer.flush(Instant::now() + PATIENCE, &mut report).expect("alive"));
        let good = Outgoing { value: Some(b"small"), opaque: 2, ..large };
        producer.produce(handle, good, &mut None).expect("there is room");
        assert!(producer.flush(Instant::now() + PATIENCE, &mut report).expect("alive"));
        assert_eq!(reports, BTreeMap::from([(1, Some(Code::MESSAGE_TOO_LARGE)), (2, None)]));
        // A partition that isn't there, once the producer knows how many there are.
        let refused = producer.produce(handle, Outgoing { partition: Some(9), ..good }, &mut None);
        assert_eq!(refused, Err(ProduceError::UnknownPartition));
    }
}
