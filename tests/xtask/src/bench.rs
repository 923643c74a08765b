//! `cargo xtask bench`: builds what is measured, starts what it needs, and runs each measurement to its end. What is measured,
//! and which bounds hold, is `tests/bench`'s.

use std::process::Command;

use crate::kafka::{self, Data, Kafka};
use crate::plugins::{self, Which};
use crate::process::{Interrupt, Running};
use crate::verify::step;
use crate::{Failure, cargo, workspace};

/// Every measurement, in the order in which they are run.
const MEASUREMENTS: [&str; 5] = ["filters", "runaway", "throughput", "guarantees", "routes"];
/// Those that need no broker.
const ALONE: [&str; 2] = ["filters", "runaway"];

/// Runs those that are named, or all of them.
pub(crate) fn run(interrupt: &Interrupt, named: &[&str]) -> Result<(), Failure> {
    if let Some(unknown) = named.iter().find(|name| !MEASUREMENTS.contains(name)) {
        return Err(format!("no measurement `{unknown}` (there are {})", MEASUREMENTS.join(", ")));
    }
    let wanted = || MEASUREMENTS.into_iter().filter(|name| named.is_empty() || named.contains(name));
    // Before what takes long: where there is no Kafka, nobody should wait to be told.
    let kafka = match wanted().all(|name| ALONE.contains(&name)) {
        true => None,
        false => Some(step("Apache Kafka", || Kafka::find_or_start(interrupt, Data::Memory))?),
    };
    step("plugins", || plugins::build(interrupt, Which::All))?;
    let programs = step("release build", || cargo::build_measured(interrupt))?;
    let mut missed = Vec::new();
    for name in wanted() {
        let mut measure = Command::new(programs.join("midplane-bench"));
        measure.arg(name).current_dir(workspace::root());
        if let Some(kafka) = kafka.as_ref().filter(|_| !ALONE.contains(&name)) {
            measure.env(kafka::VARIABLE, kafka.address());
        }
        let status = step(name, || Running::start("midplane-bench", &mut measure)?.wait(interrupt))?;
        interrupt.check()?;
        if !status.success() {
            missed.push(name);
        }
    }
    // Each was run to its end: one that misses its bound keeps no other from being seen.
    if missed.is_empty() { Ok(()) } else { Err(format!("failed, or over a bound: {}", missed.join(", "))) }
}
