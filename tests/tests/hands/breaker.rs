//! Breakers: too much of a route fails, its group pauses instead of filling the dead letters, and goes on when that makes sense.

use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Broker, Host, Record, on_each_broker};

use crate::case::{Case, GUARANTEES, all_said, says, texts};

/// More than can be meant by accident.
const EVENTS: usize = 40;
/// Of 10 events half are too much: with the fifth one it trips.
const LETTERS: usize = 4;
const BREAKER: &str = "breaker = { failures = 0.5, events = 10, probe = '200ms' }";

/// A sample of the host's numbers.
fn metric(host: &Host, line: &str) -> bool {
    host.get("/metrics").body.lines().any(|found| found == line)
}

fn trips_and_recovers(broker: &Broker, guarantee: &str) {
    let case = Case::new(broker, guarantee, 2, BREAKER);
    for partition in 0..2 {
        case.produce(partition, &["permanent"; EVENTS]);
    }
    let host = case.start();
    // Both wait, and each has tried again.
    for partition in 0..2 {
        let view = case.wait_for(partition, "breaker", |view| view["attempt"].as_u64() > Some(2));
        assert_eq!(
            (&view["route"], &view["plugin"], &view["kind"]),
            (&"tried".into(), &"subject".into(), &"permanent".into())
        );
        assert!(view["message"].as_str().is_some_and(|text| !text.is_empty()) && view["until"].is_string(), "{view}");
    }
    wait_until("its letters can be read", DEADLINE, || case.all(&case.letters).len() >= LETTERS);
    assert_eq!(case.all(&case.letters).len(), LETTERS, "the others wait");
    host.wait_for_entry(
        "Too much of a route fails: its group pauses where the route takes events, and tries one of each partition now and \
         then. Another version of its plugins, or `midplane route resume`, ends that.",
    );
    let open = || metric(&host, "midplane_breaker_open{route=\"tried\"} 1");
    wait_until("the metrics say that the breaker is open", DEADLINE, open);
    let failed = "midplane_failed_events_total{route=\"tried\",plugin=\"subject\",kind=\"permanent\"} 4";
    wait_until("the metrics say what failed", DEADLINE, || metric(&host, failed));
    assert_eq!(host.get("/readyz").code, 200, "the host is ready all the same");
    let status = case.command(&["status"]).success();
    assert!(status.contains("too much of route tried fails") && status.contains("2 of 2 partitions"), "{status}");

    case.deploy("identity");
    case.wait_for_end();
    wait_until("the metrics say that it is closed", DEADLINE, || !open());
    assert_eq!(host.stop(), Some(0));
    assert_eq!((case.all(&case.letters).len(), case.all(&case.output).len()), (LETTERS, 2 * EVENTS - LETTERS));
}

on_each_broker!(
    fn a_broken_version_stops_before_it_fills_the_letters_and_a_better_one_goes_on(broker: &Broker) {
        GUARANTEES.iter().for_each(|guarantee| trips_and_recovers(broker, guarantee));
    }
);

on_each_broker!(
    fn a_probe_that_passes_closes_the_breaker(broker: &Broker) {
        for guarantee in GUARANTEES {
            let failure = "attempts = 1, breaker = { failures = 1.0, events = 1, probe = '50ms' }";
            let case = Case::new(broker, guarantee, 1, failure);
            case.produce(0, &["ok", "transient:4", "ok again"]);
            let host = case.start();
            assert_eq!(texts(&case.outputs(3)), ["ok", "transient:4", "ok again"]);
            case.wait_for_end();
            assert_eq!(host.stop(), Some(0));
            assert_eq!(case.all(&case.letters), []);
        }
    }
);

on_each_broker!(
    fn an_operator_who_trusts_the_route_lets_it_fail_and_one_who_skips_goes_on(broker: &Broker) {
        let case = Case::new(broker, "at-least-once", 1, "breaker = { failures = 0.5, events = 4, probe = '1h' }");
        case.produce(0, &["permanent", "permanent", "permanent", "permanent", "ok"]);
        let host = case.start();
        let stands_at = |offset: i64| case.wait_for(0, "breaker", |view| view["position"] == offset);
        stands_at(1);
        case.command(&["route", "resume", "tried"]).success();
        stands_at(2);
        // It tries again at once, in vain.
        case.command(&["partition", "resume", &case.partition(0)]).success();
        case.wait_for(0, "breaker", |view| view["position"] == 2 && view["attempt"] == 3);
        case.command(&["partition", "skip", &case.partition(0), "--to", "4"]).success();
        assert_eq!(texts(&case.outputs(1)), ["ok"]);
        case.wait_for_end();
        assert_eq!(host.stop(), Some(0));
        let expected = [
            says(0, "permanent", "subject", 1),
            says(1, "permanent", "subject", 2),
            says(2, "permanent", "subject", 3),
            says(3, "skipped", "", 1),
        ];
        assert_eq!(all_said(&case.all(&case.letters)), expected);
    }
);

on_each_broker!(
    fn a_partition_that_tries_its_route_with_the_next_event_says_so(broker: &Broker) {
        let case = Case::new(broker, "at-least-once", 1, "breaker = { failures = 0.5, events = 4, probe = '1h' }");
        case.produce(0, &["permanent", "permanent"]);
        let host = case.start();
        case.wait_for(0, "breaker", |view| view["position"] == 1);
        case.command(&["partition", "skip", &case.partition(0)]).success();
        // Of what comes next nothing is there yet.
        case.wait_for(0, "breaker", |view| view["position"] == 2);
        let refused = case.command(&["partition", "skip", &case.partition(0)]);
        assert!(refused.code == Some(3) && refused.stderr.contains("its route is being tried"), "{refused:?}");
        let said = case.command(&["partition", "resume", &case.partition(0)]).success();
        assert!(said.contains("runs again by itself"), "{said}");
        case.produce(0, &["ok"]);
        case.wait_for(0, "running", |_| true);
        assert_eq!(host.stop(), Some(0));
        assert_eq!(texts(&case.all(&case.output)), ["ok"]);
    }
);

on_each_broker!(
    fn a_topic_that_a_pattern_finds_mends_nothing(broker: &Broker) {
        let case = Case::new(broker, "at-least-once", 1, "breaker = { failures = 0.5, events = 10, probe = '1h' }");
        case.rewrite(&format!("from = '{}'", case.input), &format!("from = '/^{}/'", case.input));
        case.produce(0, &["permanent"; 3]);
        let host = case.start();
        wait_until("they have letters", DEADLINE, || case.all(&case.letters).len() == 3);
        let find = |stem: &str, outputs: usize| {
            let topic = format!("{}-{stem}", case.input);
            broker.create(&topic, 1, &[]);
            broker.produce(&topic, [Record::of("ok")]);
            case.outputs(outputs);
        };
        find("first", 1);
        case.produce(0, &["permanent"; EVENTS]);
        let tripped = case.wait_for(0, "breaker", |view| view["committed"] == view["position"]);
        assert_eq!((&tripped["position"], case.all(&case.letters).len()), (&LETTERS.into(), LETTERS));
        let assignments = || host.entries("Partitions were assigned.").len();
        let before = assignments();
        broker.create(&format!("{}-second", case.input), 1, &[]);
        wait_until("it is read", DEADLINE, || assignments() > before);
        assert_eq!(case.look(0), Some(tripped), "it stands as before, and it is known why");
        assert_eq!(host.stop(), Some(0));
        assert_eq!(case.all(&case.letters).len(), LETTERS);
    }
);

on_each_broker!(
    fn a_version_that_has_everything_dropped_is_stopped_as_well(broker: &Broker) {
        let case = Case::new(broker, "at-least-once", 1, &format!("on_permanent = 'drop', {BREAKER}"));
        case.produce(0, &["permanent"; EVENTS]);
        let host = case.start();
        let view = case.wait_for(0, "breaker", |_| true);
        assert_eq!((&view["position"], &view["kind"]), (&LETTERS.into(), &"permanent".into()));
        case.deploy("identity");
        case.wait_for_end();
        assert_eq!(host.stop(), Some(0));
        assert_eq!((case.all(&case.letters).len(), case.all(&case.output).len()), (0, EVENTS - LETTERS));
    }
);

on_each_broker!(
    fn a_breaker_that_is_off_lets_everything_fail(broker: &Broker) {
        let case = Case::new(broker, "at-least-once", 1, "breaker = false");
        case.produce(0, &["permanent"; 200]);
        let host = case.start();
        case.wait_for_end();
        assert_eq!(host.stop(), Some(0));
        wait_until("all have letters", DEADLINE, || case.all(&case.letters).len() == 200);
    }
);
