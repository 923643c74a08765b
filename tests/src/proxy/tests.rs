//! The proxy itself: between a client and a broker it is not noticed, and does what it is told.

use std::time::{Duration, Instant};

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{
    BrokerId, DescribeClusterResponse, FindCoordinatorResponse, MetadataResponse, ResponseHeader,
};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::*;
use crate::wait::{DEADLINE, wait_until};
use crate::{Broker, Record, records};

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// An answer in bytes, as a broker sends it.
fn bytes(key: ApiKey, version: i16, body: &impl Encodable) -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = ResponseHeader::default().with_correlation_id(7);
    header.encode(&mut bytes, key.response_header_version(version)).expect("a header");
    body.encode(&mut bytes, version).expect("an answer");
    bytes
}

fn check<T: Encodable>(key: ApiKey, versions: std::ops::RangeInclusive<i16>, answer: impl Fn(i16, &str, i32) -> T) {
    for version in versions {
        let sent = bytes(key, version, &answer(version, "broker.example", 9092));
        let address = |broker: &str| {
            assert_eq!(broker, "broker.example:9092");
            Ok("127.0.0.1:40123".to_owned())
        };
        let seen = answer::rewrite(key, version, sent, address).expect("an answer that can be read");
        assert_eq!(seen, bytes(key, version, &answer(version, "127.0.0.1", 40123)), "{key:?} {version}");
    }
}

#[test]
fn answers_name_the_proxy_in_every_version() {
    check(ApiKey::Metadata, 0..=12, |version, host, port| {
        let rack = (version >= 1).then(|| text("r"));
        let broker = MetadataResponseBroker::default().with_host(text(host)).with_port(port).with_rack(rack);
        let brokers = vec![broker.clone().with_node_id(BrokerId(1)), broker.with_node_id(BrokerId(2))];
        MetadataResponse::default().with_brokers(brokers).with_cluster_id((version >= 2).then(|| text("c")))
    });
    check(ApiKey::FindCoordinator, 0..=4, |version, host, port| {
        if version < 4 {
            return FindCoordinatorResponse::default().with_host(text(host)).with_port(port);
        }
        let coordinator = Coordinator::default().with_key(text("k")).with_host(text(host)).with_port(port);
        FindCoordinatorResponse::default().with_coordinators(vec![coordinator.clone(), coordinator])
    });
    check(ApiKey::DescribeCluster, 0..=1, |_, host, port| {
        let broker = DescribeClusterBroker::default().with_host(text(host)).with_port(port).with_rack(Some(text("r")));
        DescribeClusterResponse::default().with_cluster_id(text("c")).with_brokers(vec![broker])
    });
}

#[test]
fn an_answer_without_a_broker_stays_as_it_is() {
    let answer = FindCoordinatorResponse::default().with_error_code(15).with_port(-1);
    let sent = bytes(ApiKey::FindCoordinator, 2, &answer);
    let seen = answer::rewrite(ApiKey::FindCoordinator, 2, sent.clone(), |_| panic!("there is no broker"));
    assert_eq!(seen.expect("an answer that can be read"), sent);
}

fn numbered(from: usize, to: usize) -> impl Iterator<Item = Record> {
    (from..to).map(|number| Record::of(number.to_string()).to(0))
}

/// A broker, a proxy before it, and a topic with ten records.
fn setting() -> (Broker, Proxy, String) {
    let broker = Broker::embedded();
    let proxy = Proxy::start(broker.servers());
    let topic = broker.topic("in", 1);
    records::produce(proxy.servers(), &topic, numbered(0, 10));
    (broker, proxy, topic)
}

/// Writes records through the proxy beside what the test does.
fn produce(proxy: &Proxy, topic: &str) -> std::thread::JoinHandle<()> {
    let (servers, topic) = (proxy.servers().to_owned(), topic.to_owned());
    std::thread::spawn(move || records::produce(&servers, &topic, numbered(10, 20)))
}

fn assert_all(broker: &Broker, topic: &str) {
    let values: Vec<_> = broker.consume_all(topic).iter().map(|record| record.text().to_owned()).collect();
    assert_eq!(values, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn it_is_not_noticed_and_clients_stay_behind_it() {
    let (broker, proxy, topic) = setting();
    let metadata = proxy.hold(Side::Answer, ApiKey::Metadata, 0);
    records::produce(proxy.servers(), &topic, numbered(10, 20));
    assert_eq!(records::consume_all(proxy.servers(), &topic).len(), 20);
    assert_all(&broker, &topic);
    assert_eq!((metadata.met(), proxy.tally()), (0, Tally::default()));
    // Had clients gone to the broker itself, nothing could be held up.
    let held = proxy.hold(Side::Request, ApiKey::Fetch, 1);
    let reading = std::thread::spawn({
        let (servers, topic) = (proxy.servers().to_owned(), topic.clone());
        move || records::consume_all(&servers, &topic).len()
    });
    held.wait();
    assert!(!reading.is_finished());
    held.release();
    assert_eq!(reading.join().expect("no panic"), 20);
}

#[test]
fn a_request_that_is_held_comes_once_it_is_released() {
    let (broker, proxy, topic) = setting();
    let held = proxy.hold(Side::Request, ApiKey::Produce, 1);
    let writing = produce(&proxy, &topic);
    held.wait();
    assert_eq!(broker.consume_all(&topic).len(), 10);
    held.release();
    writing.join().expect("no panic");
    assert_all(&broker, &topic);
}

#[test]
fn a_few_of_each_client_are_spared() {
    let (broker, proxy, topic) = setting();
    let held = proxy.hold_all_but(2, Side::Request, ApiKey::Produce);
    let send = |client_id: &str, number: usize| {
        let mut client = records::client(proxy.servers());
        let producer: rdkafka::producer::BaseProducer =
            client.set("client.id", client_id).create().expect("a producer");
        let value = number.to_string();
        producer.send(rdkafka::producer::BaseRecord::<(), str>::to(&topic).payload(&value)).expect("room");
        rdkafka::producer::Producer::flush(&producer, DEADLINE).expect("it comes");
    };
    // A client that comes again has none but its own.
    for (number, client_id) in ["a", "a", "b", "b"].into_iter().enumerate() {
        send(client_id, 10 + number);
    }
    assert_eq!((broker.consume_all(&topic).len(), held.met()), (14, 0));
    std::thread::scope(|scope| {
        let last = scope.spawn(|| send("a", 14));
        held.wait();
        assert_eq!(broker.consume_all(&topic).len(), 14);
        held.release();
        last.join().expect("no panic");
    });
    assert_eq!(broker.consume_all(&topic).len(), 15);
}

#[test]
fn a_held_request_comes_though_its_client_has_gone() {
    let (broker, proxy, topic) = setting();
    let held = proxy.hold(Side::Request, ApiKey::Produce, 1);
    let child = std::thread::spawn({
        let (servers, topic) = (proxy.servers().to_owned(), topic.clone());
        move || {
            let producer: rdkafka::producer::BaseProducer = records::client(&servers).create().expect("a producer");
            for number in 10..20 {
                let value = number.to_string();
                producer.send(rdkafka::producer::BaseRecord::<(), str>::to(&topic).payload(&value)).expect("room");
            }
            // Given up at once, with what is on its way.
            rdkafka::producer::Producer::flush(&producer, Duration::from_secs(1)).expect_err("nothing is answered");
        }
    });
    child.join().expect("no panic");
    assert_eq!(broker.consume_all(&topic).len(), 10);
    held.release();
    wait_until("the records came", DEADLINE, || broker.consume_all(&topic).len() > 10);
}

#[test]
fn an_answer_that_is_lost_was_given_all_the_same() {
    let (broker, proxy, topic) = setting();
    let lost = proxy.lose(Side::Answer, ApiKey::Produce, 1);
    // The client writes again, and the broker knows the records: none is there twice.
    produce(&proxy, &topic).join().expect("no panic");
    assert_eq!(lost.met(), 1);
    assert_all(&broker, &topic);
}

#[test]
fn connections_are_cut_and_refused_until_all_is_well() {
    let (broker, proxy, topic) = setting();
    proxy.refuse();
    let writing = produce(&proxy, &topic);
    wait_until("somebody is refused", DEADLINE, || proxy.tally().refused > 0);
    assert_eq!(broker.consume_all(&topic).len(), 10);
    proxy.heal();
    writing.join().expect("no panic");
    assert_all(&broker, &topic);
}

#[test]
fn what_is_swallowed_is_never_heard_of() {
    let (broker, proxy, topic) = setting();
    proxy.silence();
    let writing = produce(&proxy, &topic);
    wait_until("something is swallowed", DEADLINE, || proxy.tally().swallowed > 0);
    assert_eq!(broker.consume_all(&topic).len(), 10);
    proxy.heal();
    writing.join().expect("no panic");
    assert_all(&broker, &topic);
}

#[test]
fn what_is_slow_comes_later() {
    let (broker, proxy, topic) = setting();
    proxy.delay(Duration::from_millis(100));
    let begin = Instant::now();
    produce(&proxy, &topic).join().expect("no panic");
    assert!(begin.elapsed() >= Duration::from_millis(400), "two round trips at least");
    assert!(proxy.tally().delayed > 3);
    proxy.heal();
    proxy.throttle(2_000);
    assert_eq!(records::consume_all(proxy.servers(), &topic).len(), 20);
    assert!(proxy.tally().throttled > 0);
    assert_all(&broker, &topic);
}
