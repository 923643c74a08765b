//! The router next to the native loop: the same events, the same settings, alternating.

use std::process::Command;
use std::time::{Duration, Instant};

use midplane::kafka::settings::{BATCH_BYTES_MAX, PRODUCER_BUFFER_BYTES, RECORD_BYTES_MAX};
use midplane::kafka::{
    AdminSettings, Connection, NewTopic, Outgoing, ProduceError, Producer, ProducerSettings, Report, Topics,
};

use crate::meter::{Cost, Meter};
use crate::{Failure, Options};

const PARTITIONS: i32 = 4;
const VALUE_BYTES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(30);
/// CPU of the router over CPU of the loop, at most.
const RATIO_MAX: f64 = 1.6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Loop,
    Router,
}

/// Whether the bound holds.
pub(crate) fn run(options: &Options) -> Result<bool, Failure> {
    let bench = Bench::new(options)?;
    let mut costs: Vec<(Kind, bool, Cost)> = Vec::new();
    for round in 1..=options.rounds {
        for header in [false, true] {
            for kind in [Kind::Loop, Kind::Router] {
                let cost = bench.once(kind, header)?;
                eprintln!(
                    "round {round}: {kind:?}, header {header}: {:.0} k events/s, {:.3} CPU-s/M",
                    cost.rate, cost.cpu
                );
                costs.push((kind, header, cost));
            }
        }
    }
    let mut holds = true;
    let mut table =
        String::from("| header | program | k events/s | CPU-s/M | CPU to the loop |\n|---|---|---|---|---|\n");
    for header in [false, true] {
        let of = |kind: Kind, figure: fn(&Cost) -> f64| {
            median(costs.iter().filter(|run| (run.0, run.1) == (kind, header)).map(|run| figure(&run.2)).collect())
        };
        let native = of(Kind::Loop, |cost| cost.cpu);
        for kind in [Kind::Loop, Kind::Router] {
            let (rate, cpu) = (of(kind, |cost| cost.rate), of(kind, |cost| cost.cpu));
            let ratio = cpu / native;
            holds &= ratio <= RATIO_MAX;
            table.push_str(&format!("| {header} | {kind:?} | {rate:.0} | {cpu:.3} | {ratio:.2} |\n"));
        }
    }
    eprint!("\nMedians of {} rounds, {} events of {VALUE_BYTES} B:\n{table}", options.rounds, options.events);
    if !holds {
        eprintln!("The router costs more than {RATIO_MAX} times the loop.");
    }
    Ok(holds)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

struct Bench<'a> {
    options: &'a Options,
    topics: Topics,
    meter: Meter,
    input: String,
    folder: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> Result<Self, Failure> {
        let connection = Connection { bootstrap: options.servers.clone(), client: Default::default() };
        let topics = Topics::new(&AdminSettings { connection, client_id: "bench".to_owned() })?;
        let meter = Meter::new(&options.servers)?;
        let bench = Self { options, topics, meter, input: unique("bench-in"), folder: tempfile::tempdir()? };
        bench.create(&bench.input)?;
        bench.fill()?;
        Ok(bench)
    }

    fn create(&self, name: &str) -> Result<(), Failure> {
        let topic =
            NewTopic { name: name.to_owned(), partitions: Some(PARTITIONS), replication: Some(1), config: Vec::new() };
        Ok(self.topics.create(&[topic], PATIENCE)?)
    }

    fn fill(&self) -> Result<(), Failure> {
        let mut producer = Producer::new(&ProducerSettings {
            connection: Connection { bootstrap: self.options.servers.clone(), client: Default::default() },
            client_id: "bench".to_owned(),
            buffer_bytes: PRODUCER_BUFFER_BYTES,
            record_bytes_max: RECORD_BYTES_MAX,
            batch_bytes_max: BATCH_BYTES_MAX,
        })?;
        let topic = producer.topic(&self.input)?;
        let mut failed = None;
        let mut report = |report: Report| failed = failed.or(report.error);
        let value: Vec<u8> = (0..VALUE_BYTES).map(|index| b' ' + (index % 90) as u8).collect();
        for number in 0..self.options.events {
            let key = format!("{:016x}", (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let record =
                Outgoing { partition: None, key: Some(key.as_bytes()), value: Some(&value), timestamp: 0, opaque: 0 };
            while let Err(error) = producer.produce(topic, record, &mut None) {
                if error != ProduceError::Full {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(1), &mut report)?;
            }
        }
        let all = producer.flush(Instant::now() + PATIENCE, &mut report)?;
        match failed {
            None if all => Ok(()),
            _ => Err(format!("the input couldn't be written ({failed:?})").into()),
        }
    }

    fn once(&self, kind: Kind, header: bool) -> Result<Cost, Failure> {
        let (output, group) = (unique("bench-out"), unique("bench"));
        self.create(&output)?;
        let mut command = match kind {
            Kind::Loop => {
                let mut command = Command::new(self.options.programs.join("copy-loop"));
                command.args([&self.options.servers, &group, &self.input, &output]);
                command.args(header.then_some("--header"));
                command
            }
            Kind::Router => {
                let config = self.folder.path().join(format!("{group}.toml"));
                std::fs::write(&config, self.config(&group, &output, header)?)?;
                let mut command = Command::new(self.options.programs.join("midplane"));
                command.args(["run", "--config"]).arg(&config).current_dir(self.folder.path());
                command
            }
        };
        self.meter.run(&mut command, &output, PARTITIONS, self.options.events)
    }

    /// One shard: the loop has one thread, too.
    fn config(&self, group: &str, output: &str, provenance: bool) -> Result<String, Failure> {
        let plugins = std::fs::canonicalize(&self.options.plugins)
            .map_err(|error| format!("no folder of plugins at `{}`: {error}", self.options.plugins.display()))?;
        let (servers, input) = (&self.options.servers, &self.input);
        Ok(format!(
            r#"
[broker]
bootstrap_servers = "{servers}"
create_topics = true
[admin]
listen = "127.0.0.1:0"
[plugins]
directory = "{}"
[groups.{group}]
shards = 1
[routes.copy]
from = "{input}"
through = "identity"
to = "{output}"
group = "{group}"
provenance = {provenance}
"#,
            plugins.display()
        ))
    }
}

fn unique(stem: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{stem}-{:x}", now.as_nanos())
}
