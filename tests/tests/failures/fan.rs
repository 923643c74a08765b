//! Plugins of a chain that multiply events: each by no more than it may, all together by far too much.

use midplane_tests::{Host, on_each_broker};

use crate::case::{Case, Expected, orders, stop, texts};

const CONFIG: &str = r#"
[groups."group~"]
shards = 1

[routes.fan]
from = "in~"
through = ["faulty", "faulty"]
to = "out~"
group = "group~"
failure = { dead_letter = "letters~" }
"#;

/// Four million outputs without a byte of their own would take most of a gigabyte.
const MEMORY_MIB_MAX: usize = 500;

/// The most that a process has held in memory, in MiB.
fn peak_mib(host: &Host) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", host.id())).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024
}

on_each_broker!(
    fn outputs_of_outputs_are_bounded_together(broker: &Broker) {
        let case = Case::new(broker, CONFIG);
        for topic in ["in", "out", "letters"] {
            case.create(topic, 1);
        }
        // The second plugin sees what the first one sent: a few times a few is fine, and thousands of times thousands isn't.
        case.produce("in", orders(0, &["ok 1", "outputs:20", "outputs:2000", "ok 2"]));
        let host = case.folder.start();
        case.wait_for_end();
        let peak = peak_mib(&host);
        stop(host);
        assert!(peak < MEMORY_MIB_MAX, "{peak} MiB");

        let outputs = case.all("out");
        let mut kinds = texts(&outputs);
        assert_eq!(kinds.iter().filter(|text| **text == "outputs:20").count(), 400);
        kinds.dedup();
        assert_eq!(kinds, ["ok 1", "outputs:20", "ok 2"]);
        let (events, letters) = (case.all("in"), case.all("letters"));
        assert_eq!(letters.len(), 1);
        let expected = Expected { kind: "output", route: "fan", plugin: Some("faulty"), attempts: 1 };
        case.check_letter(&letters[0], &events[2], &expected);
    }
);
