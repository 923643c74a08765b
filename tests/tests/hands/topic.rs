//! A topic that was deleted, and another one that was made under its name.

use midplane_tests::on_each_broker;
use midplane_tests::wait::{DEADLINE, wait_until};

use crate::case::{Case, GUARANTEES, texts};

on_each_broker!(
    fn a_topic_that_was_made_anew_halts_and_begins_when_told(broker: &Broker) {
        for guarantee in GUARANTEES {
            let case = Case::new(broker, guarantee, 1, "");
            case.produce(0, &["ok 1", "ok 2", "ok 3"]);
            // As a host leaves it that read the former topic to its second event.
            case.commit(0, 2, r#"{"v":1,"generation":"0123abcd","topic_id":"b8tRS7h4TJ2Vt43Dp85v2A"}"#);
            let host = case.start();
            let halted = case.wait_for(0, "halted", |view| view["position"] == 2);
            assert!(halted["why"].as_str().is_some_and(|why| why.contains("made anew")), "{halted}");
            let refused = case.command(&["partition", "skip", &case.partition(0)]);
            assert!(refused.code == Some(3) && refused.stderr.contains("partition resume"), "{refused:?}");
            // It is remembered over a restart.
            assert_eq!(host.stop(), Some(0));
            let host = case.start();
            case.wait_for(0, "halted", |view| view["position"] == 2);
            assert_eq!(case.all(&case.output), []);
            let said = case.command(&["partition", "resume", &case.partition(0)]).success();
            assert!(said.contains("it goes on at offset 0, the first event of the topic"), "{said}");
            assert_eq!(texts(&case.outputs(3)), ["ok 1", "ok 2", "ok 3"]);
            case.wait_for_end();
            assert_eq!(host.stop(), Some(0));
            // Which topic it is is known from here on.
            let host = case.start();
            case.wait_for(0, "running", |_| true);
            assert_eq!(host.stop(), Some(0));
        }
    }
);

on_each_broker!(
    fn no_event_is_passed_over_of_a_topic_that_is_made_anew_while_it_is_read(broker: &Broker) {
        let case = Case::new(broker, "at-least-once", 1, "");
        let before: Vec<String> = (0..50).map(|number| format!("ok before {number}")).collect();
        case.produce(0, &before.iter().map(String::as_str).collect::<Vec<_>>());
        let host = case.start();
        case.outputs(50);
        case.wait_for_end();
        broker.delete(&case.input);
        // A broker may take its time to delete what it has promised to.
        wait_until("the topic can be made anew", DEADLINE, || {
            std::panic::catch_unwind(|| broker.create(&case.input, 1, &[])).is_ok()
        });
        let after: Vec<String> = (0..60).map(|number| format!("ok after {number}")).collect();
        case.produce(0, &after.iter().map(String::as_str).collect::<Vec<_>>());
        // The group either has forgotten where it stood, or halts.
        wait_until("all of the new topic is routed", DEADLINE, || {
            if case.look(0).is_some_and(|view| view["state"] == "halted") {
                case.command(&["partition", "resume", &case.partition(0)]);
            }
            let outputs = case.all(&case.output);
            let seen = texts(&outputs);
            after.iter().all(|event| seen.contains(&event.as_str()))
        });
        assert_eq!(host.stop(), Some(0));
    }
);
