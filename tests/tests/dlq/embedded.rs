//! Without `[broker]`: the broker is the host's own, on any free port, and its data directory is the host's.

use midplane_tests::binary::run_in;
use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Folder, plugins};
use serde_json::Value;

const CONFIG: &str = r#"
[embedded_broker]
listen = "127.0.0.1:0"

[routes.subject]
from = "in"
through = "subject"
to = "out"
failure = { attempts = 1 }
"#;

#[test]
fn the_broker_of_a_running_host_is_found() {
    let folder = Folder::new(CONFIG);
    std::fs::create_dir(folder.path().join("plugins")).expect("a folder");
    std::fs::copy(plugins::wasm("faulty"), folder.path().join("plugins/subject.wasm")).expect("a plugin");
    let host = folder.start();
    let midplane = |args: &[&str], input: &str| run_in(folder.path(), args, input.as_bytes());
    midplane(&["topic", "produce", "in"], "permanent a\npermanent b\n").success();
    let list = || -> Value {
        serde_json::from_str(&midplane(&["dlq", "list", "--output", "json"], "").success()).expect("JSON")
    };
    wait_until("both have their letters", DEADLINE, || list()["topics"][0]["open"] == 2);
    let fixed = format!("subject={}", plugins::wasm("identity").display());
    let redrive = ["dlq", "redrive", "--all", "--plugin", &fixed];
    let dry = midplane(&redrive, "").success();
    assert!(
        dry.starts_with("A dry run: nothing is written.\n\nsubject.dead-letters: 2 of 2 letters would be redriven\n"),
        "{dry}"
    );
    let done = midplane(&[&redrive[..], &["--execute"]].concat(), "").success();
    assert!(done.starts_with("subject.dead-letters: 2 of 2 letters redriven\n"), "{done}");
    let consume = ["topic", "consume", "out", "--from-beginning", "--until-end"];
    assert_eq!(midplane(&consume, "").success(), "permanent a\npermanent b\n");
    assert_eq!(host.stop(), Some(0));
    let gone = midplane(&["dlq", "list", "--timeout", "100ms"], "");
    assert_eq!(gone.code, Some(4), "{}", gone.stderr);
    assert!(gone.stderr.contains("start one with `midplane run`"), "{}", gone.stderr);
}
