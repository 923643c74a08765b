//! Partitions that stopped: what is said of them, another try, and events that are skipped.

use midplane_tests::on_each_broker;

use crate::case::{Case, GUARANTEES, all_said, says, texts};

on_each_broker!(
    fn what_halted_a_partition_is_said_and_skipped(broker: &Broker) {
        for guarantee in GUARANTEES {
            let case = Case::new(broker, guarantee, 2, "on_permanent = 'halt'");
            case.produce(0, &["ok 1", "permanent", "ok 2", "permanent", "ok 3", "ok 4"]);
            case.produce(1, &["ok 5"]);
            let host = case.start();
            let halted = case.wait_for(0, "halted", |view| view["committed"] == 1);
            assert_eq!(case.list()["partitions"][0], halted, "what stopped comes first");
            assert_eq!((&halted["position"], &halted["route"]), (&1.into(), &"tried".into()));
            assert_eq!((&halted["plugin"], &halted["kind"]), (&"subject".into(), &"permanent".into()));
            assert!(halted["message"].is_string() && halted["since"].is_string(), "{halted}");
            case.wait_for(1, "running", |_| true);
            let refused = case.command(&["partition", "skip", &case.partition(1)]);
            assert!(refused.code == Some(3) && refused.stderr.contains("has not stopped"), "{refused:?}");
            let refused = case.command(&["partition", "skip", &case.partition(7)]);
            assert!(refused.code == Some(3) && refused.stderr.contains("doesn't read partition"), "{refused:?}");

            // It is as bad as it was.
            case.command(&["partition", "resume", &case.partition(0)]).success();
            case.wait_for(0, "halted", |view| view["position"] == 1);
            case.command(&["partition", "skip", &case.partition(0)]).success();
            case.wait_for(0, "halted", |view| view["position"] == 3 && view["committed"] == 3);
            let refused = case.command(&["partition", "skip", &case.partition(0), "--to", "3"]);
            assert!(refused.code == Some(3) && refused.stderr.contains("it stands at offset 3"), "{refused:?}");
            let said = case.command(&["partition", "skip", &case.partition(0), "--to", "5"]).success();
            assert!(said.contains("offsets 3 to 4: to the dead letters"), "{said}");
            case.wait_for_end();
            assert_eq!(host.stop(), Some(0));

            let expected =
                [says(1, "permanent", "subject", 1), says(3, "permanent", "subject", 1), says(4, "skipped", "", 1)];
            assert_eq!(all_said(&case.all(&case.letters)), expected);
            let mut outputs = case.all(&case.output);
            outputs.sort_by_key(|output| output.text().to_owned());
            assert_eq!(texts(&outputs), ["ok 1", "ok 2", "ok 4", "ok 5"]);
        }
    }
);

on_each_broker!(
    fn what_waits_tries_again_when_told(broker: &Broker) {
        for guarantee in GUARANTEES {
            let case = Case::new(broker, guarantee, 1, "backoff = { first = '1h', max = '1h' }");
            case.produce(0, &["transient:2", "ok"]);
            let host = case.start();
            let waits = case.wait_for(0, "waiting", |view| view["attempt"] == 2);
            assert_eq!((&waits["route"], &waits["kind"]), (&"tried".into(), &"transient".into()));
            assert!(waits["until"].is_string() && waits["message"].is_string(), "{waits}");
            case.command(&["partition", "resume", &case.partition(0)]).success();
            assert_eq!(texts(&case.outputs(2)), ["transient:2", "ok"]);
            case.wait_for_end();
            assert_eq!(host.stop(), Some(0));
            assert_eq!(case.all(&case.letters), []);
        }
    }
);

on_each_broker!(
    fn an_offset_that_is_not_in_the_log_halts_and_an_operator_goes_on(broker: &Broker) {
        for guarantee in GUARANTEES {
            let case = Case::new(broker, guarantee, 1, "");
            case.produce(0, &["ok 1", "ok 2", "ok 3"]);
            case.commit(0, 1000, "");
            let host = case.start();
            let halted = case.wait_for(0, "halted", |view| view["position"] == 1000);
            assert!(halted["why"].as_str().is_some_and(|why| why.contains("not in the log")), "{halted}");
            let said = case.command(&["partition", "resume", &case.partition(0)]).success();
            assert!(said.contains("it goes on at offset 3, the log's end; it stood at 1000"), "{said}");
            case.produce(0, &["ok 4"]);
            assert_eq!(texts(&case.outputs(1)), ["ok 4"]);
            case.wait_for_end();
            assert_eq!(host.stop(), Some(0));
        }
    }
);
