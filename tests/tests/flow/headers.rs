//! Header names that are no text: most clients never write one, and none may change what it is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use midplane::kafka::{Connection, Outgoing, OwnedHeaders, Producer, ProducerSettings, headers_of};
use midplane_tests::wait::{DEADLINE, wait_for};
use midplane_tests::{Broker, Folder, on_each_broker};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// A name and a value, byte by byte.
type Header = (Vec<u8>, Option<Vec<u8>>);

const HEADERS: &[(&[u8], Option<&[u8]>)] =
    &[(b"caf\xe9", Some(b"latin")), (b"plain", Some(b"\xff\x00")), (b"\xff\xfe", None), (b"caf\xe9", Some(b""))];

on_each_broker!(
    fn names_that_are_no_text_stay_as_they_are(broker: &Broker) {
        let input = broker.topic("raw", 1);
        let [columnar, typed, forwarded, letters] =
            ["columnar", "typed", "forwarded", "letters"].map(|stem| broker.topic(stem, 1));
        let group = broker.unique("raw");
        let route = |name: &str, through: &str, to: &str| {
            format!(
                "[routes.{name}]\nfrom = '{input}'\nthrough = {through}\nto = '{to}'\ngroup = '{group}'\n\
             failure = {{ dead_letter = '{letters}' }}\n"
            )
        };
        let folder = Folder::new(&format!(
            "{}\n{}\n{}\n{}",
            broker.config(),
            route("columnar", "['identity', 'identity']", &columnar),
            route("typed", "'faulty-typed'", &typed),
            route("forwarded", "[]", &forwarded),
        ));
        write(broker, &input, &["same", "permanent"]);
        let host = folder.start();
        let own: Vec<Header> = HEADERS.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
        for (topic, values) in [
            (&columnar, &["same", "permanent"][..]),
            (&typed, &["same"]),
            (&forwarded, &["same", "permanent"]),
            (&letters, &["permanent"]),
        ] {
            let records = read(broker, topic, values.len());
            assert_eq!(records.iter().map(|(value, _)| value.as_str()).collect::<Vec<_>>(), values, "{topic}");
            for (_, headers) in records {
                let (hosts, others): (Vec<_>, Vec<_>) =
                    headers.into_iter().partition(|(name, _)| name.starts_with(b"midplane-"));
                assert_eq!(others, own, "{topic}");
                assert!(!hosts.is_empty(), "{topic}");
            }
        }
        assert_eq!(host.stop(), Some(0));
    }
);

/// Writes an event for each value, all with these headers. The usual client can't: names are text to it.
fn write(broker: &Broker, topic: &str, values: &[&str]) {
    let mut producer = Producer::new(&ProducerSettings {
        connection: Connection { bootstrap: broker.servers().to_owned(), client: BTreeMap::new() },
        client_id: "midplane-tests".to_owned(),
        transactional_id: None,
        buffer_bytes: 1 << 20,
        record_bytes_max: 1 << 20,
        batch_bytes_max: midplane::kafka::settings::BATCH_BYTES_MAX,
    })
    .expect("a producer");
    let topic = producer.topic(topic).expect("a topic");
    for value in values {
        let mut headers = OwnedHeaders::new(HEADERS.len());
        HEADERS.iter().for_each(|(name, value)| headers.add(name, *value));
        let record = Outgoing { partition: None, key: None, value: Some(value.as_bytes()), timestamp: 0, opaque: 0 };
        producer.produce(topic, record, &mut Some(headers)).expect("room");
    }
    let mut refused = None;
    let flushed = producer.flush(Instant::now() + DEADLINE, &mut |report| refused = refused.or(report.error));
    assert!(flushed.expect("the producer goes on"), "the broker takes every record");
    assert_eq!(refused, None);
}

/// Reads so many events: their values and headers.
fn read(broker: &Broker, topic: &str, count: usize) -> Vec<(String, Vec<Header>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.servers())
        .set("group.id", "midplane-tests-reader")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
    consumer.assign(&list).expect("an assignment");
    let mut records = Vec::new();
    wait_for(&format!("{count} events in {topic}"), DEADLINE, || {
        while let Some(message) = consumer.poll(Duration::from_millis(50)) {
            let message = message.expect("the topic can be read");
            let headers = headers_of(&message).iter().map(|h| (h.name.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
            records.push((String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned(), headers));
        }
        (records.len() >= count).then_some(())
    });
    records
}
