//! Whatever a plugin can do wrong, in the middle of thousands of good events.

use std::collections::BTreeMap;
use std::time::Instant;

use midplane_tests::{Record, on_each_broker};
use serde_json::Value;

use crate::case::{Case, Expected, PATIENCE, now_ms, origin, stop};

const CONFIG: &str = r#"
[plugin.chatty]
deadline = "30s"
log_rate = "4KiB"

[groups."group~"]
shards = 2

[routes.faulty]
from = "in~"
where = 'event.headers["for"] == "faulty"'
through = "faulty"
to = "out~"
group = "group~"
failure = { dead_letter = "letters~" }

[routes.typed]
from = "in~"
where = 'event.headers["for"] == "typed"'
through = "faulty-typed"
to = "out~"
group = "group~"
failure = { dead_letter = "letters~" }

[routes.sleeper]
from = "in~"
where = 'event.headers["for"] == "sleeper"'
through = "sleeper"
to = "out~"
group = "group~"
failure = { dead_letter = "letters~" }

[routes.chatty]
from = "in~"
where = 'event.headers["for"] == "chatty"'
through = "chatty"
to = "out~"
group = "group~"
failure = { dead_letter = "letters~" }

[routes.neighbour]
from = "elsewhere~"
through = "faulty"
to = "neighbour~"
group = "neighbour~"
"#;

const GOOD: usize = 10_000;
const PARTITIONS: usize = 4;
/// Between two bad events, prime, so that every partition has some.
const DISTANCE: usize = 97;
/// Lines that the order `log` writes.
const LINES: u64 = 1_000_000;

/// Which route, which order, and the kind of its letter.
const BAD: &[(&str, &str, &str)] = &[
    ("faulty", "trap", "trap"),
    ("faulty", "panic", "trap"),
    ("faulty", "loop", "deadline"),
    ("sleeper", "sleep", "deadline"),
    ("faulty", "memory", "memory"),
    ("faulty", "stack", "stack"),
    ("faulty", "output-bytes", "output"),
    ("faulty", "outputs", "output"),
    ("faulty", "port-unbound", "port"),
    ("faulty", "port-unknown", "port"),
    ("faulty", "permanent", "permanent"),
    ("faulty", "partial", "permanent"),
    ("faulty", "failure-bytes", "permanent"),
    ("faulty", "protocol-count-less", "protocol"),
    ("faulty", "protocol-count-more", "protocol"),
    ("faulty", "protocol-order", "protocol"),
    ("faulty", "protocol-index", "protocol"),
    ("faulty", "protocol-fail-index", "protocol"),
    ("faulty", "protocol-rows", "protocol"),
    ("faulty", "protocol-length-max", "protocol"),
    ("faulty", "protocol-flags", "protocol"),
    ("faulty", "protocol-headers-count", "protocol"),
    ("typed", "trap", "trap"),
    ("typed", "loop", "deadline"),
    ("typed", "giant", "output"),
    ("typed", "giant-name", "output"),
    ("typed", "aliases", "output"),
    ("typed", "outputs", "output"),
    ("typed", "port-unbound", "port"),
    ("typed", "port-unknown", "port"),
    ("typed", "permanent", "permanent"),
    ("typed", "verdicts-fewer", "protocol"),
    ("typed", "verdicts-more", "protocol"),
    ("typed", "verdicts-none", "protocol"),
];

/// A good event: most are for the plugin that has the most to do. Some leave their instance worse than it was, of which other
/// events must not hear.
fn good(number: usize) -> Record {
    let plugin = match number % 20 {
        3 | 4 => "typed",
        5 => "sleeper",
        6 => "chatty",
        _ => "faulty",
    };
    let order = match number % 20 {
        4 | 7 => "leak",
        8 => "poison-trap",
        _ => "ok",
    };
    Record::new(format!("key-{}", number % 61), format!("{order} {number}"))
        .header("for", plugin)
        .header("outcome", "good")
}

fn bad((plugin, order, kind): &(&str, &str, &str)) -> Record {
    Record::new(format!("bad {order}"), order).header("for", plugin).header("outcome", kind)
}

fn events() -> Vec<Record> {
    let mut bad = BAD.iter().map(bad).collect::<Vec<_>>().into_iter();
    let flood = Record::new("flood", "log").header("for", "chatty").header("outcome", "good");
    let mut events = Vec::new();
    for number in 0..GOOD {
        events.push(good(number));
        if number % DISTANCE == DISTANCE / 2 {
            events.extend(bad.next());
        }
    }
    assert_eq!(bad.next(), None, "there is room for every order");
    events.insert(GOOD / 3, flood);
    let start = i64::try_from(now_ms()).expect("a time") - 60_000;
    let place = |(number, event): (usize, Record)| {
        let timestamp = Some(start + i64::try_from(number).expect("a number"));
        Record { timestamp, ..event }.to(i32::try_from(number % PARTITIONS).expect("a number"))
    };
    events.into_iter().enumerate().map(place).collect()
}

on_each_broker!(
    fn poison_in_the_middle_of_good_events(broker: &Broker) {
        let case = Case::new(broker, CONFIG);
        case.create("in", 4);
        case.create("out", 2);
        case.create("elsewhere", 1);
        let begun = Instant::now();
        let host = case.folder.start();
        case.produce("in", events());
        // Behind everything else, so that the group is busy for seconds while the other one is looked at.
        let endless = (0..30).map(|_| bad(&("faulty", "loop", "deadline")).to(0));
        case.produce("in", endless);
        case.produce("elsewhere", (0..500).map(|number| Record::of(format!("ok {number}"))));
        case.wait_for("neighbour", 500);
        let lag = broker.lag(&case.name("group"), &case.name("in"));
        assert!(lag > 0, "the neighbour was served while the group was busy");
        case.wait_for_end();
        let log = stop(host);
        let seconds = begun.elapsed().as_secs();

        let events = case.all("in");
        assert_eq!(events.len(), GOOD + 1 + BAD.len() + 30);
        check_outputs(&case, &events);
        check_letters(&case, &events);
        check_log(&log, seconds);
        assert!(begun.elapsed() < PATIENCE);
    }
);

fn is_good(event: &Record) -> bool {
    event.header_text("outcome") == Some("good")
}

fn place(event: &Record) -> (i32, i64) {
    (event.partition.expect("a read record has one"), event.offset)
}

/// Every good event has its output, unchanged, once, and in its partition's order; nothing else has any.
fn check_outputs(case: &Case<'_>, events: &[Record]) {
    let mut missing: BTreeMap<_, _> =
        events.iter().filter(|event| is_good(event)).map(|event| (place(event), event)).collect();
    let mut newest = BTreeMap::new();
    for output in case.all("out") {
        let (partition, offset, index) = origin(&output);
        let event = missing.remove(&(partition, offset)).expect("an output of a good event that had none yet");
        let before = newest.insert((partition, output.partition), offset);
        assert!(before < Some(offset), "{before:?}, then {offset} of partition {partition}");
        let mut headers = event.headers.clone();
        let typed = event.header_text("for") == Some("typed");
        if typed {
            headers.push(("typed".to_owned(), Some(b"yes".to_vec())));
        }
        let value = if typed { event.text().to_uppercase() } else { event.text().to_owned() };
        assert_eq!((index, &output.key, output.text(), output.timestamp), (0, &event.key, &*value, event.timestamp));
        assert_eq!(output.headers[..output.headers.len() - 1], headers);
    }
    assert!(missing.is_empty(), "without an output: {:?}", missing.keys());
}

/// Every bad event has its letter, and nothing else has any.
fn check_letters(case: &Case<'_>, events: &[Record]) {
    let mut missing: BTreeMap<_, _> =
        events.iter().filter(|event| !is_good(event)).map(|event| (place(event), event)).collect();
    for letter in case.all("letters") {
        let number = |name: &str| letter.header_text(name).and_then(|text| text.parse::<i64>().ok()).expect("a number");
        let partition = i32::try_from(number("midplane-error-partition")).expect("a partition");
        let place = (partition, number("midplane-error-offset"));
        let event = missing.remove(&place).expect("a letter about a bad event that had none yet");
        let route = event.header_text("for").expect("every event has it");
        let plugin = Some(if route == "typed" { "faulty-typed" } else { route });
        let kind = event.header_text("outcome").expect("every event has it");
        case.check_letter(&letter, event, &Expected { kind, route, plugin, attempts: 1 });
    }
    assert!(
        missing.is_empty(),
        "without a letter: {:?}",
        missing.values().map(|event| event.text()).collect::<Vec<_>>()
    );
}

/// The flood was cut to its rate, each line of it was either written or counted, and no shard ended before its time.
fn check_log(log: &[String], seconds: u64) {
    let entries: Vec<Value> = log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_chatty = entries.iter().filter(|entry| entry["plugin"] == "chatty");
    let (mut written, mut bytes, mut cut) = (0, 0, 0);
    for entry in of_chatty {
        let message = entry["message"].as_str().expect("a message");
        if message.starts_with("Told to log.") {
            written += 1;
            bytes += "Told to log.".len() as u64;
        } else if message == "Lines of the plugin's log were cut." {
            cut += entry["lines"].as_u64().expect("a number");
        }
    }
    assert_eq!(written + cut, LINES);
    assert!(written > 0 && bytes <= (seconds + 1) * 4096, "{bytes} bytes in {seconds} seconds");
    assert!(entries.iter().all(|entry| entry["level"] != "ERROR" || entry["plugin"].is_string()), "{entries:#?}");
}
