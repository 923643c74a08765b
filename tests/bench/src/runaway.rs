//! How soon a plugin is stopped that never ends: how far past its deadline its call comes back, on the clock that the deadline is
//! of (the guest's CPU time) and on the wall's.

use std::time::{Duration, Instant};

use midplane::config::model::{Grants, Limits};
use midplane::data::event::{Event, Headers};
use midplane::data::failure::Kind;
use midplane::data::plugin::verdicts::{Verdict, Verdicts};
use midplane::data::plugin::{Call, Runtime, RuntimeOptions, Spec, Worker};

use crate::{Failure, Options};

/// Does what its events order: here, to loop for ever.
const PLUGIN: &str = "faulty.wasm";
const DEADLINE: Duration = Duration::from_millis(20);
const RUNS: usize = 1_000;
/// How far past the deadline 99 of 100 may be.
const OVERRUN_MAX: Duration = Duration::from_millis(10);

/// Whether the bound holds.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let path = options.plugins.join(PLUGIN);
    let bytes = std::fs::read(&path)
        .map_err(|error| format!("no plugin at `{}` (`cargo xtask plugins` builds it): {error}", path.display()))?;
    let limits = Limits { deadline: DEADLINE, ..Limits::DEFAULT };
    let plugin = Runtime::new(RuntimeOptions::default())?.load("faulty", &bytes, limits)?;
    let mut worker = Worker::new(plugin.prepare(Spec {
        config: "{}".parse()?,
        bound_ports: plugin.ports.clone(),
        limits,
        grants: Grants::default(),
        route: "bench".to_owned(),
    }));
    let (mut cpu, mut wall) = (Vec::with_capacity(RUNS), Vec::with_capacity(RUNS));
    for _ in 0..RUNS {
        worker.warm_up()?;
        let (before, begun) = (worker.stats().cpu_time, Instant::now());
        expect_stopped(&mut worker)?;
        wall.push(begun.elapsed().saturating_sub(DEADLINE));
        cpu.push((worker.stats().cpu_time - before).saturating_sub(DEADLINE));
    }
    Ok(report(cpu, wall))
}

fn expect_stopped(worker: &mut Worker) -> Result<(), Failure> {
    let event = Event {
        topic: "bench",
        partition: 0,
        offset: 0,
        timestamp: 0,
        key: None,
        value: Some(b"loop"),
        headers: Headers::Empty,
    };
    let mut verdicts = Verdicts::default();
    worker.run(&Call { route: "bench", generation: 1, attempt: 1 }, &[event], 1, &mut verdicts, &mut || {});
    match verdicts.get(0) {
        Verdict::Failed(failure) if failure.kind == Kind::Deadline => Ok(()),
        other => Err(format!("a plugin that loops was answered with {other:?}").into()),
    }
}

fn report(cpu: Vec<Duration>, wall: Vec<Duration>) -> bool {
    println!("\n{RUNS} runaways with a deadline of {DEADLINE:?}: how far past it each came back, in ms:\n");
    println!("| clock | p50 | p99 | max |\n|---|---|---|---|");
    let mut holds = true;
    for (name, mut overruns, is_bound) in [("the guest's CPU time", cpu, true), ("wall", wall, false)] {
        overruns.sort_unstable();
        let at = |share: usize| overruns[(overruns.len() - 1) * share / 100];
        let ms = |overrun: Duration| overrun.as_secs_f64() * 1e3;
        println!("| {name} | {:.1} | {:.1} | {:.1} |", ms(at(50)), ms(at(99)), ms(at(100)));
        holds &= !is_bound || at(99) <= OVERRUN_MAX;
    }
    println!(
        "\nbound: 99 of 100 come back at most {OVERRUN_MAX:?} of CPU time past the deadline: {}",
        if holds { "holds" } else { "MISSED" }
    );
    holds
}
