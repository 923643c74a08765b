//! What exactly once costs next to at least once: the same events and the same settings, alternating, in the router, and in a
//! native loop, which shows what the client and the broker ask for it.

use crate::figures::Spread;
use crate::meter::Cost;
use crate::throughput::{Bench, Program};
use crate::{Failure, Options};

/// Exactly once has so much of the throughput that at least once has, at least.
const SHARE_MIN: f64 = 0.9;

/// What is compared, each at least once and exactly once.
const COMPARED: [(&str, [Program; 2]); 2] =
    [("loop", [Program::Loop, Program::LoopExactlyOnce]), ("router", [Program::Router, Program::ExactlyOnce])];

/// At least once, and exactly once.
type Pair = [Cost; 2];

/// Whether the bound holds.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let bench = Bench::new(options)?;
    bench.fill(0..options.events)?;
    let measure = |program| bench.measure(program, true, options.events, &[]);
    // The broker compiles its code while it works, and the host the plugin: that is no part of the first round.
    for program in COMPARED.into_iter().flat_map(|(_, programs)| programs) {
        measure(program)?;
    }
    let mut pairs: [Vec<Pair>; COMPARED.len()] = Default::default();
    for round in 1..=options.rounds {
        for ((name, [least, exact]), pairs) in COMPARED.into_iter().zip(&mut pairs) {
            // Whatever a run leaves to the next one meets both.
            let pair = if round % 2 == 1 {
                let least = measure(least)?;
                [least, measure(exact)?]
            } else {
                let exact = measure(exact)?;
                [measure(least)?, exact]
            };
            let [least, exact] = pair.map(|cost| format!("{:.0} k events/s, {:.3} CPU-s/M", cost.rate, cost.cpu));
            eprintln!("round {round}, {name}: at least once {least}; exactly once {exact}");
            pairs.push(pair);
        }
    }
    Ok(report(options, &pairs))
}

fn report(options: &Options, pairs: &[Vec<Pair>]) -> bool {
    println!("\n{} rounds of {} events, with provenance, min / **median** / max:\n", options.rounds, options.events);
    println!(
        "| program | guarantee | k events/s | of at least once | CPU-s/M | of at least once |\n|---|---|---|---|---|---|"
    );
    for ((name, _), pairs) in COMPARED.iter().zip(pairs) {
        for (index, guarantee) in ["at least once", "exactly once"].into_iter().enumerate() {
            let of = |value: fn(&Cost) -> f64| Spread::of(pairs.iter().map(|pair| value(&pair[index])));
            let (rate, cpu) = (of(|cost| cost.rate), of(|cost| cost.cpu));
            let (share, ratio) = (shares(pairs, index, |cost| cost.rate), shares(pairs, index, |cost| cost.cpu));
            println!("| {name} | {guarantee} | {rate:.0} | {share:.2} | {cpu:.3} | {ratio:.2} |");
        }
    }
    let share = shares(pairs.last().map_or(&[], Vec::as_slice), 1, |cost| cost.rate);
    let holds = share.median >= SHARE_MIN;
    println!(
        "\nbound: exactly once, the router has at least {SHARE_MIN} of its throughput: {share:.2}: {}",
        if holds { "holds" } else { "MISSED" }
    );
    holds
}

/// Each run is compared with its neighbour: what the machine does besides changes over minutes.
fn shares(pairs: &[Pair], index: usize, value: fn(&Cost) -> f64) -> Spread {
    Spread::of(pairs.iter().map(|pair| value(&pair[index]) / value(&pair[0])))
}
