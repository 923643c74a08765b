//! Topics, and brokers that are not there.

use std::time::Duration;

use midplane::control::topics;
use midplane::kafka::{AdminSettings, Code, Error, NewTopic, Topics};
use midplane_tests::{on_each_broker, wait_until};

use crate::{PATIENCE, connection, topics_client};

on_each_broker!(
    fn topics_are_listed_and_made_and_refused(broker: &Broker) {
        let name = broker.topic("listed", 3);
        let client = topics_client(broker.servers());
        let listed = client.list(PATIENCE).expect("listed");
        let found = listed.iter().find(|topic| topic.name == name).expect("it is there");
        assert_eq!((found.partitions, found.error), (3, None));
        let again = NewTopic { name: name.clone(), partitions: Some(1), ..NewTopic::default() };
        let refused = client.create(&[again], PATIENCE).expect_err("it is there already");
        assert_eq!(refused.code(), Some(Code::TOPIC_ALREADY_EXISTS));
        assert!(refused.to_string().contains(&name), "{refused}");
        let missing = broker.unique("missing");
        assert!(client.list(PATIENCE).expect("listed").iter().all(|topic| topic.name != missing));
    }
);

on_each_broker!(
    fn what_another_host_has_made_meanwhile_is_there(broker: &Broker) {
        let [output, letters] = ["out", "letters"].map(|stem| broker.unique(stem));
        let client = topics_client(broker.servers());
        // This host has found both missing before the other one made it.
        broker.create(&output, 1, &[]);
        topics::make(&client, &[&*output, &*letters].into()).expect("one is there, the other is made");
        let is_there = |name: &String| client.list(PATIENCE).expect("listed").iter().any(|topic| topic.name == *name);
        wait_until("both are there", PATIENCE, || [&output, &letters].into_iter().all(is_there));
    }
);

#[test]
fn a_broker_that_is_not_there_is_an_answer_in_time() {
    let connection = connection("127.0.0.1:1");
    let client = Topics::new(&AdminSettings { connection, client_id: "c".to_owned() }).expect("settings");
    let error = client.list(Duration::from_millis(300)).expect_err("nobody is there");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let create = client.create(&[NewTopic { name: "t".to_owned(), ..NewTopic::default() }], Duration::from_millis(300));
    assert!(matches!(create.expect_err("nobody is there"), Error::Unreachable { .. }));
}
