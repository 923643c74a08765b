//! A backlog over thousands of partitions, larger than what a host may hold of it.

use std::fs;

use midplane_tests::payments::SETTLE_DEADLINE;
use midplane_tests::wait::wait_until;
use midplane_tests::{Folder, Host, Record, on_each_broker, records};

const PARTITIONS: i32 = 4000;
const EVENTS_PER_PARTITION: usize = 12;
const EVENT_BYTES: usize = 4 << 10;
/// What the process may have held at any time, the plugins' compiler and the client's own view of 4,000 partitions included;
/// about 200 MiB was measured. The backlog alone is 187 MiB, and would come on top of those.
const RESIDENT_MIB_MAX: u64 = 256;

on_each_broker!(
    fn memory_stays_bounded(broker: &Broker) {
        let input = broker.topic("backlog", PARTITIONS);
        let (output, letters, group) = (broker.topic("out", 4), broker.topic("letters", 1), broker.unique("backlog"));
        let value = "x".repeat(EVENT_BYTES);
        let events = (0..EVENTS_PER_PARTITION).flat_map(|_| 0..PARTITIONS);
        broker.produce(&input, events.map(|partition| Record::new(partition.to_string(), &value).to(partition)));
        let folder = Folder::new(&format!(
            "{}\n[groups.{group}]\nshards = 1\n\n[routes.backlog]\nfrom = '{input}'\nto = '{output}'\nthrough = 'identity'\n\
         group = '{group}'\nfailure = {{ dead_letter = '{letters}' }}\n",
            broker.config()
        ));
        let host = folder.start();
        let total = PARTITIONS as usize * EVENTS_PER_PARTITION;
        wait_until("all events came out", SETTLE_DEADLINE, || records::len(broker.servers(), &output) >= total as i64);
        let resident = resident_mib_max(&host);
        eprintln!("{resident} MiB for a backlog of {} MiB", (total * EVENT_BYTES) >> 20);
        assert!(resident < RESIDENT_MIB_MAX, "the host took {resident} MiB");
        assert_eq!(host.stop(), Some(0));
        assert_eq!(records::len(broker.servers(), &output), total as i64);
        assert_eq!(records::len(broker.servers(), &letters), 0);
        broker.delete(&input);
        broker.delete(&output);
    }
);

/// The most that a process has held in memory, in MiB.
fn resident_mib_max(host: &Host) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", host.id())).expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}
