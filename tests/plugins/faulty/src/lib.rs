//! A plugin that does whatever its events order, for tests of the host. It is never part of a product.
//!
//! The first word of an event's value is the order, with a number behind a colon where one is taken; further words are
//! ignored. An event that orders nothing known is forwarded, as if it said `ok`.
//!
//! | order | what happens |
//! |---|---|
//! | `ok` | forwarded |
//! | `drop` | no output |
//! | `seen` | a JSON object of what the plugin sees of the event and its context |
//! | `trap` | `unreachable` |
//! | `panic` | a Rust panic, its message in the log |
//! | `loop` | never ends |
//! | `spin:N` | N million rounds of arithmetic, then forwarded |
//! | `memory` | allocates until that is denied, then aborts, as Rust does |
//! | `memory-caught` | allocates until that is denied, frees it all and forwards |
//! | `leak:N` | allocates N MiB and never frees them, then forwarded; 1 unless said otherwise |
//! | `poison-ORDER` | forwarded, but the next event of this instance does what ORDER says instead |
//! | `stack:N` | recursion to that depth, with frames on the machine's stack alone, then forwarded; without end unless said otherwise |
//! | `stack-frames` | likewise, with large frames in the guest's memory |
//! | `output-bytes:N` | one value of N MiB; 12 unless said otherwise |
//! | `outputs:N` | N small outputs; 20,000 unless said otherwise |
//! | `port-unknown` | an output to a port that isn't described |
//! | `port-unbound` | an output to the port `spare`, which is described |
//! | `partition:N` | an output to partition N |
//! | `timestamp-far` | an output that says microseconds where milliseconds belong |
//! | `log:N` | N lines of log, then forwarded; a million unless said otherwise |
//! | `log-bytes:N` | one line of N MiB, then forwarded; 1 unless said otherwise |
//! | `transient:N` | fails while the attempt is below N; for ever unless said otherwise |
//! | `permanent` | fails |
//! | `partial` | sends two outputs, then fails permanently |
//! | `failure-bytes:N` | fails with a message of N MiB; 12 unless said otherwise |
//! | `protocol-…`, `port-index`, `port-text` | malformed columns: see [`protocol`] |
//!
//! The config's `configure` makes `configure` itself misbehave: `"fail"`, `"trap"`, `"panic"`, `"loop"`, `"memory"`, or
//! `"push"`, which calls the import that belongs to `process`.

#[cfg(target_family = "wasm")]
mod component;
pub mod orders;
pub mod protocol;

use midplane_plugin::{Event, Failure, Outputs, Plugin, Ports, log};
use serde::Deserialize;
use serde_json::{Value, json};

/// The plugin.
#[derive(Debug, Default)]
pub struct Faulty {
    /// What the next event does instead of its own order.
    poison: Option<String>,
}

/// What routes set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    configure: Option<Misbehaviour>,
}

/// What `configure` does.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Misbehaviour {
    Fail,
    Trap,
    Panic,
    Loop,
    Memory,
    Push,
}

const PORTS: &[&str] = if cfg!(feature = "ports-none") {
    &[]
} else if cfg!(feature = "ports-twice") {
    &["default", "default"]
} else if cfg!(feature = "ports-empty-name") {
    &["default", ""]
} else {
    &["default", "spare"]
};

impl Plugin for Faulty {
    const PORTS: &'static [&'static str] = PORTS;
    type Config = Config;

    fn config_schema() -> Option<&'static str> {
        if cfg!(feature = "describe-trap") {
            orders::trap();
        }
        if cfg!(feature = "describe-loop") {
            orders::endless();
        }
        cfg!(feature = "schema-broken").then_some(r#"{"type": "#)
    }

    fn configure(config: Config, _ports: &Ports) -> Result<Self, String> {
        match config.configure {
            None => return Ok(Self::default()),
            Some(Misbehaviour::Fail) => return Err("told to fail in `configure`".to_owned()),
            Some(Misbehaviour::Trap) => orders::trap(),
            Some(Misbehaviour::Panic) => panic!("told to panic in `configure`"),
            Some(Misbehaviour::Loop) => orders::endless(),
            Some(Misbehaviour::Memory) => orders::exhaust_memory(),
            Some(Misbehaviour::Push) => protocol::break_with("protocol-rows"),
        }
        Ok(Self::default())
    }

    fn process(&mut self, event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
        let text = std::str::from_utf8(event.value().unwrap_or_default()).unwrap_or_default();
        let poison = self.poison.take();
        let order = poison.as_deref().or_else(|| text.split_whitespace().next()).unwrap_or_default();
        self.poison = order.strip_prefix("poison-").map(str::to_owned);
        let (order, number) = order.split_once(':').unwrap_or((order, ""));
        let number = number.parse().ok();
        misbehave(order, number);
        answer(order, number, event, out)
    }
}

/// What the host is to survive. Whatever returns is then answered as usual.
fn misbehave(order: &str, number: Option<usize>) {
    match order {
        "trap" => orders::trap(),
        "panic" => panic!("told to panic"),
        "loop" => orders::endless(),
        "spin" => orders::spin(number.unwrap_or(1)),
        "memory" => orders::exhaust_memory(),
        "leak" => orders::leak(number.unwrap_or(1)),
        "memory-caught" => orders::exhaust_memory_and_recover(),
        "stack" => orders::recurse(number),
        "stack-frames" => orders::recurse_with_frames(),
        "log" => (0..number.unwrap_or(1_000_000)).for_each(|line| log::info("Told to log.", &[("line", &line)])),
        "log-bytes" => log::info(&"x".repeat(number.unwrap_or(1) << 20), &[]),
        _ => (),
    }
}

/// Outputs and failures, good and bad.
fn answer(order: &str, number: Option<usize>, event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
    let big = || "x".repeat(number.unwrap_or(12) << 20);
    match order {
        "drop" => (),
        "seen" => out.emit("default").json(&seen(event))?.send(),
        "output-bytes" => out.emit("default").value(big()).send(),
        "outputs" => (0..number.unwrap_or(20_000)).for_each(|_| out.forward()),
        "port-unknown" => out.emit("unheard-of").send(),
        "port-unbound" => out.emit("spare").send(),
        "partition" => out.emit("default").partition(number.unwrap_or(0) as u32).send(),
        "timestamp-far" => out.emit("default").timestamp(1_764_028_800_000_000).send(),
        "transient" if (event.attempt() as usize) < number.unwrap_or(usize::MAX) => {
            return Err(Failure::transient(format!("told to fail, attempt {}", event.attempt())));
        }
        "permanent" => return Err(Failure::permanent("told to fail")),
        "failure-bytes" => return Err(Failure::permanent(big())),
        "partial" => {
            out.forward();
            out.forward();
            return Err(Failure::permanent("told to fail after two outputs"));
        }
        order if order.starts_with("protocol-") || order.starts_with("port-") => protocol::break_with(order),
        _ => out.forward(),
    }
    Ok(())
}

fn seen(event: Event<'_>) -> Value {
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let headers: Vec<_> = event.headers().map(|header| (text(Some(header.name)), text(header.value))).collect();
    json!({
        "topic": event.topic(), "partition": event.partition(), "offset": event.offset(),
        "timestamp": event.timestamp(), "key": text(event.key()), "headers": headers,
        "route": event.route(), "generation": event.generation(), "attempt": event.attempt(),
    })
}

#[cfg(test)]
mod tests {
    use midplane_plugin::FailureKind;
    use midplane_plugin::test::{Harness, Record};
    use serde_json::{Value, json};

    use super::Faulty;

    fn faulty() -> Harness<Faulty> {
        Harness::new(json!({})).unwrap()
    }

    fn check(order: &str, outputs: usize) {
        assert_eq!(faulty().outputs(Record::new().value(order)).len(), outputs, "{order}");
    }

    #[test]
    fn orders_that_a_host_survives_are_carried_out() {
        check("ok", 1);
        check("ok 17", 1);
        check("anything else", 1);
        check("drop", 0);
        check("spin:1", 1);
        check("leak:1", 1);
        check("outputs:7", 7);
        check("output-bytes:1", 1);
        check("stack:10", 1);
        check("log:2", 1);
        check("log-bytes:1", 1);
    }

    #[test]
    fn failures_are_of_their_kind() {
        let mut faulty = faulty();
        let mut kind = |order: &str| faulty.failure(Record::new().value(order)).kind();
        assert_eq!(kind("permanent"), FailureKind::Permanent);
        assert_eq!(kind("partial"), FailureKind::Permanent);
        assert_eq!(kind("failure-bytes:1"), FailureKind::Permanent);
        assert_eq!(kind("transient"), FailureKind::Transient);
    }

    #[test]
    fn poison_is_for_the_next_event_alone() {
        let mut faulty = faulty();
        assert_eq!(faulty.one(Record::new().value("poison-permanent")).text(), "poison-permanent");
        assert_eq!(faulty.failure(Record::new().value("ok")).kind(), FailureKind::Permanent);
        assert_eq!(faulty.one(Record::new().value("ok")).text(), "ok");
    }

    #[test]
    fn a_transient_failure_passes_with_its_attempts() {
        let mut faulty = faulty();
        faulty.set_attempt(2);
        assert_eq!(faulty.failure(Record::new().value("transient:3")).kind(), FailureKind::Transient);
        faulty.set_attempt(3);
        assert_eq!(faulty.one(Record::new().value("transient:3")).text(), "transient:3");
    }

    #[test]
    fn what_is_seen_is_the_event() {
        let record =
            Record::new().topic("t").partition(3).offset(9).timestamp(5).key("k").header("h", "v").value("seen");
        let seen = json!({
            "topic": "t", "partition": 3, "offset": 9, "timestamp": 5, "key": "k", "headers": [["h", "v"]],
            "route": "test", "generation": 1, "attempt": 1
        });
        assert_eq!(faulty().one(record).json::<Value>(), seen);
    }

    #[test]
    fn configure_fails_when_told() {
        let error = Harness::<Faulty>::new(json!({"configure": "fail"})).map(drop).unwrap_err();
        assert_eq!(error, "told to fail in `configure`");
    }
}
