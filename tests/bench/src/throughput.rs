//! The router next to the native loop: the same events, the same settings, alternating.

use std::process::Command;

use crate::callgrind::{Backlogs, Counter, Instructions, launched};
use crate::figures::Spread;
use crate::input::{Input, unique};
use crate::meter::{Cost, Goal, Meter};
use crate::router::{Router, SHARD};
use crate::{Failure, Options};

const PARTITIONS: i32 = 4;
const VALUE_BYTES: usize = 100;
/// CPU of the router over CPU of the loop, at most.
const RATIO_MAX: f64 = 1.6;

/// Runs on the loop's own thread.
const LOOP: &str = "copy_loop::";

/// What copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// The loop, at least once.
    Loop,
    /// The loop, exactly once.
    LoopExactlyOnce,
    /// The router, at least once.
    Router,
    /// The router, exactly once.
    ExactlyOnce,
}

const PROGRAMS: [Program; 2] = [Program::Loop, Program::Router];

/// What one program costs, with or without the header.
#[derive(Debug)]
struct Costs {
    program: Program,
    header: bool,
    instructions: Instructions,
    timed: Vec<Cost>,
}

/// Whether the bound holds.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let bench = Bench::new(options)?;
    let each =
        |header| PROGRAMS.map(|program| Costs { program, header, instructions: Default::default(), timed: vec![] });
    let mut costs = [each(false), each(true)].into_iter().flatten().collect::<Vec<_>>();
    bench.count(&mut costs)?;
    bench.time(&mut costs)?;
    Ok(report(options, &costs))
}

fn report(options: &Options, costs: &[Costs]) -> bool {
    let mut holds = true;
    println!("\n{} rounds of {} events of {VALUE_BYTES} B, min / **median** / max:\n", options.rounds, options.events);
    println!(
        "| | program | k events/s | CPU-s/M | ratio | instructions an event | ratio | of these on its own thread |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for costs in costs.chunks(PROGRAMS.len()) {
        let native = &costs[0];
        for Costs { program, header, instructions, timed } in costs {
            let rate = Spread::of(timed.iter().map(|cost| cost.rate));
            let cpu = Spread::of(timed.iter().map(|cost| cost.cpu));
            // Each run is compared with its neighbour: what the machine does besides changes over minutes.
            let ratio = Spread::of(timed.iter().zip(&native.timed).map(|(cost, native)| cost.cpu / native.cpu));
            let Instructions { named, all } = instructions;
            println!(
                "| {} | {program:?} | {rate:.0} | {cpu:.3} | {ratio:.2} | {all:.0} | {:.2} | {named:.0} |",
                provenance(*header),
                all / native.instructions.all
            );
            holds &= *program != Program::Router || ratio.median <= RATIO_MAX;
        }
    }
    println!(
        "\nbound: the router takes at most {RATIO_MAX} times the loop's CPU: {}",
        if holds { "holds" } else { "MISSED" }
    );
    holds
}

fn provenance(header: bool) -> &'static str {
    if header { "with provenance" } else { "without" }
}

/// Topics, events and programs that copy them.
pub(crate) struct Bench<'a> {
    options: &'a Options,
    topics: Input,
    meter: Meter,
    router: Router,
    input: String,
    letters: String,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(options: &'a Options) -> Result<Self, Failure> {
        let (topics, router) = (Input::new(options)?, Router::new(options)?);
        let input = [unique("bench-in")];
        let letters = unique("bench-letters");
        topics.create(&input, PARTITIONS)?;
        topics.create(std::slice::from_ref(&letters), 1)?;
        let [input] = input;
        Ok(Self { options, topics, meter: Meter::new(options.servers()?)?, router, input, letters })
    }

    /// Writes these of the events.
    pub(crate) fn fill(&self, numbers: std::ops::Range<usize>) -> Result<(), Failure> {
        let value: Vec<u8> = (0..VALUE_BYTES).map(|index| b' ' + (index % 90) as u8).collect();
        self.topics.fill(std::slice::from_ref(&self.input), numbers, |_, bytes| bytes.clone_from(&value))
    }

    fn count(&self, costs: &mut [Costs]) -> Result<(), Failure> {
        let counter = Counter::new(self.options.profiles.clone().unwrap_or_else(|| self.router.profiles()))?;
        let backlogs = Backlogs::new(self.options.counted);
        for range in backlogs.ranges() {
            let events = range.end;
            self.fill(range.clone())?;
            if range.start == 0 {
                // The plugin is compiled, and that stays on disk: here, since the simulator's processor is another one.
                self.measure(Program::Router, false, events, &counter.launcher("first"))?;
            }
            for Costs { program, header, instructions, .. } in &mut *costs {
                let run = format!("{program:?}-{header}-{events}").to_lowercase();
                self.measure(*program, *header, events, &counter.launcher(&run))?;
                let function = if *program == Program::Router { SHARD } else { LOOP };
                instructions.add(backlogs, events, counter.read(&run, function)?);
            }
        }
        Ok(())
    }

    fn time(&self, costs: &mut [Costs]) -> Result<(), Failure> {
        let events = self.options.events;
        self.fill(self.options.counted..events)?;
        // The broker compiles its code while it works, and the host the plugin: that is no part of the first round.
        self.measure(Program::Router, false, events, &[])?;
        for round in 1..=self.options.rounds {
            for Costs { program, header, timed, .. } in &mut *costs {
                let cost = self.measure(*program, *header, events, &[])?;
                eprintln!(
                    "round {round}, {}, {program:?}: {:.0} k events/s, {:.3} CPU-s/M",
                    provenance(*header),
                    cost.rate,
                    cost.cpu
                );
                timed.push(cost);
            }
        }
        Ok(())
    }

    /// A run over so many events.
    pub(crate) fn measure(
        &self,
        program: Program,
        header: bool,
        events: usize,
        launcher: &[String],
    ) -> Result<Cost, Failure> {
        let (group, output) = (unique("bench"), [unique("bench-out")]);
        self.topics.create(&output, PARTITIONS)?;
        let mut command = self.command(program, header, launcher, &group, &output[0])?;
        let cost = self.meter.run(&mut command, Goal { topic: &output[0], partitions: PARTITIONS, events })?;
        self.topics.delete(&output);
        Ok(cost)
    }

    fn command(
        &self,
        program: Program,
        header: bool,
        launcher: &[String],
        group: &str,
        output: &str,
    ) -> Result<Command, Failure> {
        let Self { options, input, letters, .. } = self;
        if matches!(program, Program::Router | Program::ExactlyOnce) {
            let guarantee = if program == Program::ExactlyOnce { "exactly-once" } else { "at-least-once" };
            // Another route each time: one that moves to another group goes on where the former one stood.
            let route = format!(
                "[routes.{group}]\nfrom = \"{input}\"\nthrough = \"identity\"\nto = \"{output}\"\ngroup = \"{group}\"\n\
                 provenance = {header}\nfailure = {{ dead_letter = \"{letters}\" }}\n"
            );
            return self.router.command(launcher, group, guarantee, &route);
        }
        let mut command = launched(launcher, &options.program("copy-loop"));
        command.args([options.servers()?, group, input, output]).args(header.then_some("--header"));
        command.args((program == Program::LoopExactlyOnce).then_some("--exactly-once"));
        Ok(command)
    }
}
