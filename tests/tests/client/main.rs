//! The client against a broker: what the data plane builds on, one promise a test. Knows nothing of routes or plugins.

mod consumer;
mod member;
mod producer;
mod start;
mod topics;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use midplane::kafka::{
    AdminSettings, Connection, ConsumerSettings, Outgoing, ProduceError, Producer, ProducerSettings, Report, TopicInfo,
    Topics,
};
use midplane_tests::Broker;

/// Long enough for a busy machine; no test waits for it to pass.
pub(crate) const PATIENCE: Duration = midplane_tests::DEADLINE;
pub(crate) const TICK: Duration = Duration::from_millis(20);

pub(crate) fn connection(servers: &str) -> Connection {
    Connection { bootstrap: servers.to_owned(), client: BTreeMap::new() }
}

pub(crate) fn topics_client(servers: &str) -> Topics {
    Topics::new(&AdminSettings { connection: connection(servers), client_id: "client-tests".to_owned() })
        .expect("settings")
}

pub(crate) fn info(topic: &str, partitions: i32) -> TopicInfo {
    TopicInfo { name: topic.to_owned(), partitions, error: None }
}

pub(crate) fn producer_settings(servers: &str) -> ProducerSettings {
    ProducerSettings {
        connection: connection(servers),
        client_id: "client-tests".to_owned(),
        transactional_id: None,
        buffer_bytes: 16 << 20,
        record_bytes_max: 16 << 20,
        batch_bytes_max: midplane::kafka::settings::BATCH_BYTES_MAX,
    }
}

pub(crate) fn producer(broker: &Broker) -> Producer {
    Producer::new(&producer_settings(broker.servers())).expect("settings")
}

pub(crate) fn consumer_settings(broker: &Broker, group: &str) -> ConsumerSettings {
    // A member that goes without a word is not missed before a test has failed of it.
    let client = BTreeMap::from([("session.timeout.ms".to_owned(), "300000".to_owned())]);
    ConsumerSettings {
        connection: Connection { client, ..connection(broker.servers()) },
        group: group.to_owned(),
        client_id: broker.unique("member"),
        buffer_bytes: 8 << 20,
    }
}

/// Does what may never end, and gives up on that.
pub(crate) fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    std::thread::spawn(move || drop(sender.send(work())));
    // Longer than what waits in it, which knows for what.
    done.recv_timeout(PATIENCE + Duration::from_secs(30)).expect("it ends")
}

pub(crate) fn outgoing(partition: i32, key: &str, value: &str) -> Outgoing<'static> {
    // Tests are short: what they write is never given back.
    let leak = |text: &str| -> &'static [u8] { text.to_owned().leak().as_bytes() };
    Outgoing { partition: Some(partition), key: Some(leak(key)), value: Some(leak(value)), timestamp: 0, opaque: 0 }
}

/// Writes records with these values, and waits for their reports.
pub(crate) fn write(producer: &mut Producer, topic: &str, records: impl IntoIterator<Item = (i32, String)>) {
    let topic = producer.topic(topic).expect("a name");
    let mut failed = Vec::new();
    let mut report = |report: Report| failed.extend(report.error);
    for (partition, value) in records {
        while let Err(error) = producer.produce(topic, outgoing(partition, "key", &value), &mut None) {
            assert_eq!(error, ProduceError::Full);
            producer.poll(TICK, &mut report).expect("the producer lives");
        }
    }
    assert!(
        producer.flush(Instant::now() + PATIENCE, &mut report).expect("the producer lives"),
        "everything is reported"
    );
    assert_eq!(failed, []);
}

/// Polls until a condition holds.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
    }
}

pub(crate) fn numbered(partition: i32, numbers: std::ops::Range<i32>) -> Vec<(i32, String)> {
    numbers.map(|number| (partition, format!("{partition}/{number}"))).collect()
}

pub(crate) fn values(partition: i32, numbers: std::ops::Range<i32>) -> Vec<String> {
    numbered(partition, numbers).into_iter().map(|(_, value)| value).collect()
}
