//! What exactly once costs next to at least once: the same router, the same events, alternating.

use crate::figures::Spread;
use crate::meter::Cost;
use crate::throughput::{Bench, Program};
use crate::{Failure, Options};

/// Exactly once has so much of the throughput that at least once has, at least.
const SHARE_MIN: f64 = 0.9;

/// Whether the bound holds.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let bench = Bench::new(options)?;
    bench.fill(0..options.events)?;
    // The broker compiles its code while it works, and the host the plugin: that is no part of the first round.
    bench.measure(Program::Router, true, options.events, &[])?;
    bench.measure(Program::ExactlyOnce, true, options.events, &[])?;
    let mut pairs = Vec::new();
    for round in 1..=options.rounds {
        let least = bench.measure(Program::Router, true, options.events, &[])?;
        let exact = bench.measure(Program::ExactlyOnce, true, options.events, &[])?;
        eprintln!("round {round}: {:.0} k events/s at least once, {:.0} exactly once", least.rate, exact.rate);
        pairs.push((least, exact));
    }
    Ok(report(options, &pairs))
}

fn report(options: &Options, pairs: &[(Cost, Cost)]) -> bool {
    println!("\n{} rounds of {} events, with provenance, min / **median** / max:\n", options.rounds, options.events);
    println!("| guarantee | k events/s | CPU-s/M |\n|---|---|---|");
    for (name, costs) in [
        ("at least once", pairs.iter().map(|(least, _)| *least).collect::<Vec<_>>()),
        ("exactly once", pairs.iter().map(|(_, exact)| *exact).collect()),
    ] {
        let (rate, cpu) = (costs.iter().map(|cost| cost.rate), costs.iter().map(|cost| cost.cpu));
        println!("| {name} | {:.0} | {:.3} |", Spread::of(rate), Spread::of(cpu));
    }
    // Each run is compared with its neighbour: what the machine does besides changes over minutes.
    let share = Spread::of(pairs.iter().map(|(least, exact)| exact.rate / least.rate));
    let holds = share.median >= SHARE_MIN;
    println!(
        "\nbound: exactly once has at least {SHARE_MIN} of the throughput: {share:.2}: {}",
        if holds { "holds" } else { "MISSED" }
    );
    holds
}
