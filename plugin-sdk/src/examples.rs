//! The bytes that `wit/README.md` shows are what this SDK reads and writes.

use std::fmt::Write;

use serde_json::json;

use crate::columns::{Batch, Context};
use crate::instance::Instance;
use crate::test::{Record, imports, record};
use crate::{Event, Failure, NoConfig, Outputs, Plugin, Ports};

const README: &str = include_str!("../wit/README.md");

/// The plugin of the examples.
struct Example;

impl Plugin for Example {
    const PORTS: &'static [&'static str] = &["default", "alert"];
    type Config = NoConfig;

    fn configure(_config: NoConfig, _ports: &Ports) -> Result<Self, String> {
        Ok(Self)
    }

    fn process(&mut self, event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
        if event.offset() == 7 {
            out.forward();
            out.emit("alert").no_key().value("HI").null_header("n").send();
        } else {
            out.emit("x").value("!").no_headers().timestamp(5).partition(3).send();
        }
        Ok(())
    }
}

fn batch() -> Batch {
    let first = Record::new().topic("payments").partition(1).offset(7).key("k1").value("hello").header("h", "v");
    let second = Record::new().topic("payments").partition(1).offset(9).timestamp(-1);
    record::encode(&[first, second])
}

/// As the document shows columns: a row a line, then the bytes, 16 a line.
fn render(rows: &[u32], width: usize, bytes: &[u8]) -> String {
    let mut text = String::new();
    for row in rows.chunks(width) {
        let words: Vec<String> = row.iter().map(|word| format!("{word:08x}")).collect();
        writeln!(text, "row    {}", words.join(" ")).unwrap();
    }
    for line in bytes.chunks(16) {
        let bytes: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "bytes  {}", bytes.join(" ")).unwrap();
    }
    text
}

fn check(shown: &str) {
    assert!(README.contains(shown), "wit/README.md lacks this example:\n{shown}");
}

#[test]
fn the_batch_is_laid_out_as_shown() {
    let batch = batch();
    check(&render(&batch.rows, 8, &batch.bytes));
}

#[test]
fn the_outputs_are_laid_out_as_shown() {
    let mut example = Instance::<Example>::configure(&json!({}).to_string(), Vec::new()).unwrap();
    imports::begin();
    assert_eq!(example.process(&Context::default(), &batch()), 2);
    let [(rows, bytes)] = imports::end().pushed.try_into().unwrap();
    check(&render(&rows, 9, &bytes));
}
