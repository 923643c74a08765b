//! What a route does about events that fail for good: `on_permanent`.

use midplane_tests::on_each_broker;

use crate::case::{Case, Expected, orders, stop, texts};

const CONFIG: &str = r#"
[routes.faulty]
from = "in~"
through = "faulty"
to = "out~"
group = "group~"
failure = { on_permanent = "POLICY", dead_letter = "letters~" }
"#;

fn config(policy: &str) -> String {
    CONFIG.replace("POLICY", policy)
}

on_each_broker!(
    fn dropped_events_leave_nothing(broker: &Broker) {
        let case = Case::new(broker, &config("drop"));
        case.create("in", 1);
        // A trap is no word of the plugin's: it is never dropped.
        case.produce("in", orders(0, &["ok 1", "permanent", "ok 2", "trap", "ok 3"]));
        case.run();
        assert_eq!(texts(&case.all("out")), ["ok 1", "ok 2", "ok 3"]);
        assert_eq!(texts(&case.all("letters")), ["trap"]);
    }
);

on_each_broker!(
    fn a_halted_partition_stands_until_the_policy_changes(broker: &Broker) {
        let case = Case::new(broker, &config("halt"));
        case.create("in", 2);
        case.create("out", 1);
        case.produce("in", orders(0, &["ok 1", "permanent", "ok 2"]));
        case.produce("in", orders(1, &["ok 3"]));
        let host = case.folder.start();
        let halted = host.wait_for_entry("A partition has halted: `midplane partition list` says why.");
        assert_eq!((&halted["topic"], &halted["partition"]), (&case.name("in").into(), &0.into()));
        assert_eq!(halted["offset"], 1);
        // The other partition goes on, also with what comes only now, and what precedes the event is committed.
        case.produce("in", orders(1, &["ok 4"]));
        case.wait_for_commit(1, 2);
        case.wait_for_commit(0, 1);
        stop(host);
        assert_eq!(case.committed(0), Some(1));
        let mut outputs = case.all("out");
        outputs.sort_by(|a, b| a.value.cmp(&b.value));
        assert_eq!(texts(&outputs), ["ok 1", "ok 3", "ok 4"]);
        assert_eq!(case.all("letters"), []);

        case.configure(&config("dead-letter"));
        case.run();
        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(letters.len(), 1);
        let event = events.iter().find(|event| event.text() == "permanent").expect("it was written");
        let expected = Expected { kind: "permanent", route: "faulty", plugin: Some("faulty"), attempts: 1 };
        case.check_letter(&letters[0], event, &expected);
        let mut outputs = case.all("out");
        outputs.sort_by(|a, b| a.value.cmp(&b.value));
        assert_eq!(texts(&outputs), ["ok 1", "ok 2", "ok 3", "ok 4"]);
    }
);
