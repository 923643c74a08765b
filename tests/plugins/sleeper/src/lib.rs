//! A plugin that asks WASI for what a plugin isn't granted, and reports what it got, for tests of the host. It is built for
//! `wasm32-wasip2`, and is never part of a product.
//!
//! The first word of an event's value is the order, with a number behind a colon where one is taken; further words are
//! ignored. Every order but `sleep` is answered with a JSON object. An event that orders nothing known is forwarded.
//!
//! | order | what happens |
//! |---|---|
//! | `sleep:MS` | sleeps, an hour unless said otherwise, then forwards |
//! | `clock` | `{"wall_ms": [N, N], "elapsed_ns": N}`: the wall clock twice, some work in between, and the monotonic one |
//! | `random` | `{"hashes": [N, N]}`: a fixed text, hashed with two random keys |
//! | `poison` | `{"poisoned": true}`, and the next event of this instance traps, whatever it orders |
//! | `env` | `{"env": {…}, "args": […]}` |
//! | `files` | `{"root": TEXT, "passwd": TEXT}`: `ok`, or the error of opening them |
//! | `network` | `{"connect": TEXT}`: `ok`, or the error of connecting to 127.0.0.1:9 |
//! | `print` | a line on stdout, one on stderr, and one without an end on each; `{"printed": true}` |
//!
//! The config's `configure` makes `configure` itself misbehave: `"fail"`, `"trap"`, `"loop"` or `"sleep"`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use midplane_plugin::{Event, Failure, Outputs, Plugin, Ports, plugin};
use serde::Deserialize;
use serde_json::{Value, json};

const HOUR_MS: u64 = 3_600_000;

/// The plugin.
#[derive(Debug, Default)]
pub struct Sleeper {
    is_poisoned: bool,
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
    Loop,
    Sleep,
}

impl Plugin for Sleeper {
    type Config = Config;

    fn configure(config: Config, _ports: &Ports) -> Result<Self, String> {
        match config.configure {
            None => Ok(Self::default()),
            Some(Misbehaviour::Fail) => Err("told to fail in `configure`".to_owned()),
            Some(Misbehaviour::Trap) => std::process::abort(),
            Some(Misbehaviour::Loop) => loop {
                std::hint::black_box(());
            },
            Some(Misbehaviour::Sleep) => {
                std::thread::sleep(Duration::from_millis(HOUR_MS));
                Ok(Self::default())
            }
        }
    }

    fn process(&mut self, event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
        let order = event.text()?.split_whitespace().next().unwrap_or_default();
        let (order, number) = order.split_once(':').unwrap_or((order, ""));
        if std::mem::replace(&mut self.is_poisoned, order == "poison") {
            std::process::abort();
        }
        let report = match order {
            "clock" => clock()?,
            "random" => random(),
            "poison" => json!({"poisoned": true}),
            "env" => environment(),
            "files" => files(),
            "network" => json!({"connect": outcome(std::net::TcpStream::connect("127.0.0.1:9"))}),
            "print" => print(),
            _ => {
                if order == "sleep" {
                    std::thread::sleep(Duration::from_millis(number.parse().unwrap_or(HOUR_MS)));
                }
                out.forward();
                return Ok(());
            }
        };
        out.emit("default").json(&report)?.send();
        Ok(())
    }
}

fn clock() -> Result<Value, Failure> {
    let wall_ms = || SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_millis() as u64);
    let (started, first) = (Instant::now(), wall_ms()?);
    for round in 0..1_000_000 {
        std::hint::black_box(round);
    }
    Ok(json!({"wall_ms": [first, wall_ms()?], "elapsed_ns": started.elapsed().as_nanos() as u64}))
}

fn random() -> Value {
    let hash = || RandomState::new().hash_one("a fixed text");
    json!({"hashes": [hash(), hash()]})
}

fn environment() -> Value {
    let env: BTreeMap<String, String> = std::env::vars().collect();
    json!({"env": env, "args": std::env::args().collect::<Vec<_>>()})
}

fn files() -> Value {
    json!({"root": outcome(std::fs::read_dir("/")), "passwd": outcome(std::fs::File::open("/etc/passwd"))})
}

fn outcome<T>(result: std::io::Result<T>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "ok".to_owned())
}

#[expect(clippy::print_stdout, reason = "that is what is tested")]
fn print() -> Value {
    println!("a line on stdout");
    eprintln!("a line on stderr");
    print!("no end on stdout");
    eprint!("no end on stderr");
    json!({"printed": true})
}

plugin!(Sleeper);

#[cfg(test)]
mod tests {
    use midplane_plugin::test::{Harness, Record, Value, json};

    use super::Sleeper;

    fn report(order: &str) -> Value {
        Harness::<Sleeper>::new(json!({})).unwrap().one(Record::new().value(order)).json()
    }

    #[test]
    fn reports_have_their_fields() {
        assert!(report("clock")["wall_ms"][0].is_u64());
        assert!(report("random")["hashes"][1].is_u64());
        assert!(report("env")["args"].is_array());
        assert_eq!(report("files")["root"], "ok");
        assert_eq!(report("print")["printed"], true);
    }

    #[test]
    fn a_short_sleep_ends() {
        let mut sleeper = Harness::<Sleeper>::new(json!({})).unwrap();
        assert_eq!(sleeper.one(Record::new().value("sleep:1")).text(), "sleep:1");
    }
}
