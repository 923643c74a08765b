//! Whether the cost of an event depends on routes that don't concern it: instructions for an event of a topic with one
//! route, where that route is alone, and where it is one of very many; and for the same traffic spread over all topics.

use crate::callgrind::{Backlogs, Counter, Instructions};
use crate::figures::Spread;
use crate::input::{Input, unique};
use crate::meter::{Cost, Goal, Meter};
use crate::router::{Router, SHARD};
use crate::{Failure, Options};

const TOPICS: usize = 1_000;
const ROUTES: usize = 10_000;
/// Kinds of events; no two routes of a topic take the same one.
const KINDS: usize = 10;
const VALUE_BYTES: usize = 100;
/// Instructions of an event with all routes over instructions with its own one alone, at most.
const RATIO_MAX: f64 = 1.10;

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    /// One topic has events, and there is its one route.
    Alone,
    /// The same topic has events, and all routes are there.
    Among,
    /// All topics have events, and all routes are there.
    Spread,
}

const CASES: [Case; 3] = [Case::Alone, Case::Among, Case::Spread];

impl Case {
    fn text(self) -> &'static str {
        match self {
            Self::Alone => "one topic, its one route alone",
            Self::Among => "the same topic, among all routes",
            Self::Spread => "the same traffic over all topics",
        }
    }
}

/// What one case costs.
#[derive(Debug, Default)]
struct Costs {
    instructions: Instructions,
    timed: Vec<Cost>,
}

/// Whether the bound holds.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let bench = Bench::new(options)?;
    let mut costs: [Costs; CASES.len()] = Default::default();
    bench.count(options, &mut costs)?;
    bench.time(options, &mut costs)?;
    Ok(report(&costs))
}

fn report(costs: &[Costs; CASES.len()]) -> bool {
    println!("\n{ROUTES} routes over {TOPICS} topics, events of {VALUE_BYTES} B, one output each:\n");
    println!("| | instructions an event: shard's thread | ratio | all threads | ratio | k events/s | CPU-s/M |");
    println!("|---|---|---|---|---|---|---|");
    let alone = costs[0].instructions;
    for (case, Costs { instructions: Instructions { named: shard, all }, timed }) in CASES.into_iter().zip(costs) {
        let (rate, cpu) =
            (Spread::of(timed.iter().map(|cost| cost.rate)), Spread::of(timed.iter().map(|cost| cost.cpu)));
        let (shard_ratio, all_ratio) = (shard / alone.named, all / alone.all);
        println!(
            "| {} | {shard:.0} | {shard_ratio:.3} | {all:.0} | {all_ratio:.3} | {rate:.0} | {cpu:.3} |",
            case.text()
        );
    }
    let holds = costs[1].instructions.named / alone.named <= RATIO_MAX;
    println!(
        "\nbound: on the shard's thread, among all routes at most {RATIO_MAX:.2} times the route alone: {}",
        if holds { "holds" } else { "MISSED" }
    );
    holds
}

struct Bench {
    topics: Input,
    meter: Meter,
    router: Router,
    /// Only the first one of these has events.
    one: Vec<String>,
    /// All of these have.
    all: Vec<String>,
}

impl Bench {
    fn new(options: &Options) -> Result<Self, Failure> {
        let (topics, router) = (Input::new(options)?, Router::new(options)?);
        let names = |stem: &str| (0..TOPICS).map(|number| format!("{stem}-{number}")).collect::<Vec<_>>();
        let (one, all) = (names(&unique("bench-one")), names(&unique("bench-all")));
        topics.create(&one, 1)?;
        topics.create(&all, 1)?;
        Ok(Self { topics, meter: Meter::new(options.servers()?)?, router, one, all })
    }

    fn fill(&self, numbers: std::ops::Range<usize>) -> Result<(), Failure> {
        self.topics.fill(&self.one[..1], numbers.clone(), value)?;
        self.topics.fill(&self.all, numbers, value)
    }

    /// Counts instructions over two backlogs, and subtracts.
    fn count(&self, options: &Options, costs: &mut [Costs; CASES.len()]) -> Result<(), Failure> {
        let counter = Counter::new(options.profiles.clone().unwrap_or_else(|| self.router.profiles()))?;
        let backlogs = Backlogs::new(options.counted);
        for range in backlogs.ranges() {
            let events = range.end;
            self.fill(range.clone())?;
            if range.start == 0 {
                // The plugin is compiled, and that stays on disk: here, since the simulator's processor is another one.
                self.measure(Case::Alone, events, &counter.launcher("first"))?;
            }
            for (case, costs) in CASES.into_iter().zip(&mut *costs) {
                let run = format!("{case:?}-{events}").to_lowercase();
                self.measure(case, events, &counter.launcher(&run))?;
                let count = counter.read(&run, SHARD)?;
                eprintln!("{events} events, {}: {} instructions", case.text(), count.all);
                costs.instructions.add(backlogs, events, count);
            }
        }
        Ok(())
    }

    /// Takes the time of longer backlogs, without a simulator.
    fn time(&self, options: &Options, costs: &mut [Costs; CASES.len()]) -> Result<(), Failure> {
        self.fill(options.counted..options.events)?;
        for round in 1..=options.rounds {
            for (case, costs) in CASES.into_iter().zip(&mut *costs) {
                let cost = self.measure(case, options.events, &[])?;
                eprintln!("round {round}, {}: {:.0} k events/s, {:.3} CPU-s/M", case.text(), cost.rate, cost.cpu);
                costs.timed.push(cost);
            }
        }
        Ok(())
    }

    /// A run over so many events.
    fn measure(&self, case: Case, events: usize, launcher: &[String]) -> Result<Cost, Failure> {
        let (group, output) = (unique("bench"), unique("bench-out"));
        let made = [output.clone(), format!("{output}-letters")];
        self.topics.create(&made, 1)?;
        let mut command =
            self.router.command(launcher, &group, "at-least-once", &self.routes(case, &group, &output))?;
        let cost = self.meter.run(&mut command, Goal { topic: &output, partitions: 1, events })?;
        self.topics.delete(&made);
        Ok(cost)
    }

    /// Every route has a filter, the same plugin and the same output. The first topic has one route, which takes all events;
    /// the others have as many each as come to them, each of which takes events of one kind.
    fn routes(&self, case: Case, group: &str, output: &str) -> String {
        let (topics, count) = match case {
            Case::Alone => (&self.one, 1),
            Case::Among => (&self.one, ROUTES),
            Case::Spread => (&self.all, ROUTES),
        };
        let route = |number: usize| {
            let (topic, filter) = match number.checked_sub(1) {
                None => (&topics[0], format!("event.json.kind < {KINDS}")),
                Some(rest) => {
                    let others = TOPICS - 1;
                    (&topics[1 + rest % others], format!("event.json.kind == {}", rest / others))
                }
            };
            format!(
                "[routes.{group}-{number}]\nfrom = \"{topic}\"\nwhere = \"{filter}\"\nthrough = \"identity\"\n\
                 to = \"{output}\"\ngroup = \"{group}\"\nfailure = {{ dead_letter = \"{output}-letters\" }}\n"
            )
        };
        (0..count).map(route).collect()
    }
}

/// JSON with a kind, all of one length.
fn value(number: usize, bytes: &mut Vec<u8>) {
    use std::io::Write as _;
    bytes.clear();
    // Topics take turns by the event's number, and kinds with each turn, so that every topic sees all of them.
    let kind = number / TOPICS % KINDS;
    let written = write!(bytes, r#"{{"kind":{kind},"number":"{number:012}","note":""#);
    debug_assert!(written.is_ok(), "memory takes what is written");
    bytes.resize(VALUE_BYTES - 2, b'x');
    bytes.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_of_one_length_and_of_all_kinds() {
        let text = |number| {
            let mut bytes = Vec::new();
            value(number, &mut bytes);
            String::from_utf8(bytes).expect("text")
        };
        for number in [0, 1, TOPICS, TOPICS * KINDS - 1, 1_000_000] {
            assert_eq!(text(number).len(), VALUE_BYTES);
        }
        let kinds = (0..KINDS).map(|turn| text(turn * TOPICS + 7)).collect::<Vec<_>>();
        assert!(
            kinds.iter().enumerate().all(|(kind, text)| text.starts_with(&format!(r#"{{"kind":{kind},"#))),
            "{kinds:?}"
        );
    }
}
