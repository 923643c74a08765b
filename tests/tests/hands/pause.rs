//! Routes that an operator pauses stand still, over restarts and reloads, and go on where they stood.

use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Host, on_each_broker};

use crate::case::{Case, GUARANTEES, texts};

/// Waits until a generation is live.
fn wait_live(host: &Host, number: u64) {
    let live = || host.get("/api/v1/generation").json()["generation"].as_u64();
    wait_until("the generation is live", DEADLINE, || live() == Some(number));
}

on_each_broker!(
    fn a_paused_route_stands_still_over_a_restart_and_goes_on_where_it_stood(broker: &Broker) {
        for guarantee in GUARANTEES {
            let case = Case::new(broker, guarantee, 2, "");
            case.produce(0, &["ok 1", "ok 2"]);
            let host = case.start();
            case.outputs(2);
            let said = case.command(&["route", "pause", "tried"]).success();
            assert!(said.contains("all before is committed"), "{said}");
            assert_eq!(case.committed(0), Some(2), "what was taken before is committed");
            let refused = case.command(&["route", "pause", "tried"]);
            assert!(refused.code == Some(3) && refused.stderr.contains("paused already"), "{refused:?}");

            case.produce(0, &["ok 3"]);
            case.produce(1, &["ok 4"]);
            for partition in 0..2 {
                case.wait_for(partition, "paused", |view| view["route"] == "tried");
            }
            // Another version of the plugin changes nothing about it.
            case.deploy("identity");
            wait_live(&host, 2);
            case.wait_for(0, "paused", |_| true);
            assert_eq!(host.stop(), Some(0));

            let host = case.start();
            assert_eq!(host.entries("A route is paused: `midplane route resume` lets it go on.").len(), 1);
            for partition in 0..2 {
                case.wait_for(partition, "paused", |_| true);
            }
            let status = case.command(&["status"]).success();
            assert!(status.contains("route tried, since "), "{status}");
            let refused = case.command(&["partition", "resume", &case.partition(0)]);
            assert!(refused.code == Some(3) && refused.stderr.contains("midplane route resume tried"), "{refused:?}");
            assert_eq!(texts(&case.all(&case.output)), ["ok 1", "ok 2"]);

            case.command(&["route", "resume", "tried"]).success();
            case.wait_for_end();
            assert_eq!(host.stop(), Some(0));
            let mut outputs = case.all(&case.output);
            outputs.sort_by_key(|output| output.text().to_owned());
            assert_eq!(texts(&outputs), ["ok 1", "ok 2", "ok 3", "ok 4"]);
        }
    }
);

on_each_broker!(
    fn a_pause_stays_with_a_route_that_is_renamed(broker: &Broker) {
        let case = Case::new(broker, "at-least-once", 1, "");
        let host = case.start();
        case.command(&["route", "pause", "tried"]).success();
        case.rewrite("[routes.tried]", "[routes.proven]\nwas = 'tried'");
        wait_live(&host, 2);
        case.wait_for(0, "paused", |view| view["route"] == "proven");
        // The next deploy says nothing of what it was.
        case.rewrite("was = 'tried'\n", "");
        wait_live(&host, 3);
        case.produce(0, &["ok"]);
        case.wait_for(0, "paused", |view| view["route"] == "proven");
        assert_eq!(host.stop(), Some(0));
        let host = case.start();
        case.wait_for(0, "paused", |view| view["route"] == "proven");
        assert_eq!(case.all(&case.output), []);
        case.command(&["route", "resume", "proven"]).success();
        case.wait_for_end();
        assert_eq!(host.stop(), Some(0));
        assert_eq!(texts(&case.all(&case.output)), ["ok"]);
    }
);
