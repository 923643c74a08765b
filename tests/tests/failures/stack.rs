//! The stack of a plugin's call: as large as the host is told, and never the host's own.

use midplane_tests::{Broker, Record};

use crate::case::{Case, FAULTY, texts};

/// More than fits into 64 KiB, and into 1 MiB.
const DEEP: &str = "stack:3000";
const DEEPER: &str = "stack:30000";

/// Which orders have outputs with a stack, and which have letters of which kind.
fn check(broker: &Broker, stack: &str, outputs: &[&str], letters: &[(&str, &str)]) {
    let case = Case::new(broker, &format!("[host]\nstack = \"{stack}\"\n{FAULTY}"));
    case.create("in", 1);
    case.produce("in", [DEEP, DEEPER, "stack", "ok"].map(|order| Record::of(order).to(0)));
    case.run();
    assert_eq!(texts(&case.all("out")), outputs, "{stack}");
    let found = case.all("letters");
    let kind = |letter: &Record| letter.header_text("midplane-error-kind").unwrap_or_default().to_owned();
    let found: Vec<_> = found.iter().map(|letter| (letter.text(), kind(letter))).collect();
    let found: Vec<_> = found.iter().map(|(text, kind)| (*text, kind.as_str())).collect();
    assert_eq!(found, letters, "{stack}");
}

#[test]
fn it_is_as_large_as_the_host_is_told() {
    let broker = Broker::embedded();
    check(&broker, "64KiB", &["ok"], &[(DEEP, "stack"), (DEEPER, "stack"), ("stack", "stack")]);
    check(&broker, "1MiB", &[DEEP, "ok"], &[(DEEPER, "stack"), ("stack", "stack")]);
    // Here the stack that the guest has in its own memory ends first.
    check(&broker, "16MiB", &[DEEP, DEEPER, "ok"], &[("stack", "trap")]);
}
