//! Logs with gaps: compacted, and transactional. The embedded broker has neither, so far.

use std::time::Duration;

use midplane_tests::checker::Origin;
use midplane_tests::wait::{DEADLINE, wait_for, wait_until};
use midplane_tests::{Broker, Folder, Record, records};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// The broker looks only now and then for what it can compact.
const COMPACTION_DEADLINE: Duration = Duration::from_secs(120);

mod a_compacted_topic_is_read_to_its_end {
    #[test]
    fn on_kafka() {
        super::compacted(&super::Broker::kafka());
    }
}

mod a_transactional_topic_is_read_to_its_end {
    #[test]
    fn on_kafka() {
        super::transactional(&super::Broker::kafka());
    }
}

/// A host that forwards one topic to another, until the lag is 0. Returns what came out.
fn forward(broker: &Broker, input: &str) -> Vec<Record> {
    let (output, letters, group) = (broker.topic("out", 1), broker.topic("letters", 1), broker.unique("forward"));
    let folder = Folder::new(&format!(
        "{}\n[routes.forward]\nfrom = '{input}'\nto = '{output}'\nthrough = 'identity'\ngroup = '{group}'\n\
         failure = {{ dead_letter = '{letters}' }}\n",
        broker.config()
    ));
    let host = folder.start();
    wait_until("the lag is 0", DEADLINE, || broker.lag(&group, input) == 0);
    assert_eq!(host.stop(), Some(0));
    for (partition, (committed, end)) in records::committed(broker.servers(), &group, input) {
        assert_eq!(committed, Some(end), "partition {partition}");
    }
    assert_eq!(broker.consume_all(&letters), []);
    broker.consume_all(&output)
}

fn compacted(broker: &Broker) {
    let settings = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("segment.ms", "1000"),
        ("max.compaction.lag.ms", "1000"),
    ];
    let input = broker.topic_with("compacted", 2, &settings);
    let sent = 4000;
    // Keys that stay are among keys that come again and again.
    let key = |n: usize| if n % 20 < 2 { format!("stays-{n}") } else { format!("k-{}", n % 40) };
    broker.produce(&input, (0..sent).map(|n| Record::new(key(n), n.to_string()).to((n % 2) as i32)));
    let mut more = 0;
    wait_for("compaction", COMPACTION_DEADLINE, || {
        // Only what is behind the newest segment is compacted, and only a write begins a new one.
        broker.produce(&input, (0..2).map(|partition| Record::new(format!("once-{more}"), "x").to(partition)));
        more += 1;
        (broker.consume_all(&input).len() < sent / 2).then_some(())
    });
    let outputs = forward(broker, &input);
    let places = outputs.iter().map(|record| Origin::of(record).place);
    let came: Vec<_> = places.map(|place| (place.partition, place.offset)).collect();
    for partition in 0..2 {
        let offsets: Vec<_> = came.iter().filter(|came| came.0 == partition).map(|came| came.1).collect();
        assert!(offsets.is_sorted_by(|one, next| one < next), "partition {partition} is out of order");
    }
    let gaps = came.windows(2).filter(|pair| pair[0].0 == pair[1].0 && pair[1].1 > pair[0].1 + 1).count();
    assert!(gaps > 0, "there was no gap to be read over");
    // What is still there now was there all the time.
    for record in broker.consume_all(&input) {
        assert!(came.contains(&(record.partition.unwrap_or(0), record.offset)), "lost: {record:?}");
    }
}

fn transactional(broker: &Broker) {
    let input = broker.topic("transactional", 1);
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.servers())
        .set("transactional.id", broker.unique("writer"))
        .create()
        .expect("a producer");
    producer.init_transactions(DEADLINE).expect("transactions");
    // The last record of the log is what an aborted transaction ends with.
    for (number, commit) in [true, false, false, true, true, false].into_iter().enumerate() {
        producer.begin_transaction().expect("a transaction");
        let word = if commit { "kept" } else { "aborted" };
        for record in 0..200 {
            let (key, value) = (format!("k-{}", record % 7), format!("{word}-{number}-{record}"));
            producer.send(BaseRecord::to(&input).key(&key).payload(&value)).expect("room");
            producer.poll(Duration::ZERO);
        }
        // Aborting waits for reports that nobody has taken.
        producer.flush(DEADLINE).expect("the broker takes every record");
        let ended = if commit { producer.commit_transaction(DEADLINE) } else { producer.abort_transaction(DEADLINE) };
        ended.expect("the transaction ends");
    }
    let outputs = forward(broker, &input);
    let values: Vec<_> = outputs.iter().map(Record::text).collect();
    let expected: Vec<_> =
        [0, 3, 4].iter().flat_map(|number| (0..200).map(move |record| format!("kept-{number}-{record}"))).collect();
    assert_eq!(values, expected);
}
