//! Records that can't be read: the client says so once and goes on behind them, the host must not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use midplane_tests::{Broker, Record};

use crate::case::{Case, orders, stop, texts};

const CONFIG: &str = r#"
[routes.copy]
from = "in~"
to = "out~"
group = "group~"
failure = { dead_letter = "letters~" }
"#;

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            files(&entry, found);
        } else {
            found.push(entry);
        }
    }
}

/// Changes a value where the broker has it on disk.
fn damage(broker: &Broker, value: &str) {
    let mut found = Vec::new();
    files(broker.data_directory(), &mut found);
    for path in found {
        let bytes = fs::read(&path).expect("a file");
        if let Some(at) = bytes.windows(value.len()).position(|window| window == value.as_bytes()) {
            let file = OpenOptions::new().write(true).open(&path).expect("a file");
            file.write_at(b"X", at as u64).expect("written");
            return;
        }
    }
    panic!("`{value}` is in no file of the broker");
}

mod a_partition_halts_before_records_that_are_damaged {
    use super::*;

    #[test]
    fn on_embedded_broker() {
        let broker = Broker::embedded();
        let case = Case::new(&broker, CONFIG);
        case.create("in", 1);
        // One batch each.
        for value in ["good 1", "damaged", "good 2"] {
            case.produce("in", orders(0, &[value]));
        }
        damage(&broker, "damaged");
        let host = case.folder.start();
        let halted = host.wait_for_entry("A partition has halted: `midplane partition list` says why.");
        assert_eq!((&halted["partition"], &halted["offset"]), (&0.into(), &1.into()));
        case.wait_for_commit(0, 1);
        // What comes behind it doesn't make it go on.
        case.produce("in", [Record::of("good 3").to(0)]);
        stop(host);
        assert_eq!(case.committed(0), Some(1));
        assert_eq!(texts(&case.all("out")), ["good 1"]);
    }
}
