//! Measurements of the whole, on Apache Kafka, next to the native copy loop. Ends with 1 where a bound is missed. Never part
//! of the tests: what it says depends on the machine.

#![expect(clippy::print_stdout, reason = "tables go to standard output, everything else to standard error")]

mod callgrind;
mod figures;
mod filters;
mod guarantees;
mod input;
mod meter;
mod router;
mod routes;
mod runaway;
mod throughput;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
What Midplane costs. `cargo xtask bench` builds and starts all that is needed, and runs all of these.

midplane-bench throughput [--events N] [--rounds N] [--plugins FOLDER]
    Copies N events of 100 B (3000000) through the plugin `identity` and, alternating, through a native loop, with and
    without the header that says where an event comes from. Exit code 1 where the router takes more than 1.6 times the CPU.

midplane-bench guarantees [--events N] [--rounds N] [--plugins FOLDER]
    Copies the same events through `identity` and, alternating, through a native loop, each exactly once and at least once.
    Exit code 1 where the router, exactly once, has less than nine tenths of its throughput at least once.

midplane-bench routes [--counted N] [--plugins FOLDER] [--profiles FOLDER]
    Counts the instructions of an event, with valgrind, over N events (200000): of a topic with one route that is alone, or
    one of 10,000 over 1,000 topics; and with all topics in use. Exit code 1 where the others add more than 10%. What was counted stays in the second FOLDER,
    for `callgrind_annotate`.

midplane-bench runaway [--plugins FOLDER]
    Stops a plugin that never ends, 1,000 times. Exit code 1 where 1 in 100 comes back later than 10 ms after its deadline.
    Needs no broker; FOLDER has faulty.wasm, too.

midplane-bench filters
    Measures what filters take for an event. Needs no broker.

MIDPLANE_TEST_BROKERS=HOST:PORT names the Apache Kafka; its data should lie in memory. The programs `midplane` and
`copy-loop` are those beside this one: build all with --release. FOLDER (target/plugins) has identity.wasm.
";

const BROKERS_VARIABLE: &str = "MIDPLANE_TEST_BROKERS";

/// What can be said on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Where Apache Kafka is, for what needs it.
    servers: Option<String>,
    /// Events of a run that is timed.
    pub(crate) events: usize,
    /// Events of a run whose instructions are counted, which takes fifty times as long.
    pub(crate) counted: usize,
    pub(crate) rounds: usize,
    pub(crate) plugins: PathBuf,
    /// Where profiles stay.
    pub(crate) profiles: Option<PathBuf>,
    /// Where the programs are.
    programs: PathBuf,
}

impl Options {
    /// Where Apache Kafka is.
    pub(crate) fn servers(&self) -> Result<&str, Failure> {
        self.servers.as_deref().ok_or_else(|| format!("{BROKERS_VARIABLE} names no Apache Kafka").into())
    }

    /// The program of a name.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}

/// Why nothing was measured.
pub(crate) type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first().map(|(task, rest)| (task.as_str(), rest)) {
        Some(("throughput", rest)) => options(rest).and_then(|options| throughput::run(&options)),
        Some(("guarantees", rest)) => options(rest).and_then(|options| guarantees::run(&options)),
        Some(("routes", rest)) => options(rest).and_then(|options| routes::run(&options)),
        Some(("runaway", rest)) => options(rest).and_then(|options| runaway::run(&options)),
        Some(("filters", [])) => filters::run().map(|()| true),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn options(args: &[String]) -> Result<Options, Failure> {
    let programs = std::env::current_exe()?.parent().map(PathBuf::from).unwrap_or_default();
    let mut options = Options {
        servers: std::env::var(BROKERS_VARIABLE).ok(),
        events: 3_000_000,
        counted: 200_000,
        rounds: 3,
        plugins: programs.parent().map(|target| target.join("plugins")).unwrap_or_default(),
        profiles: None,
        programs,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--events" => options.events = value.parse()?,
            "--counted" => options.counted = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--profiles" => options.profiles = Some(std::path::absolute(value)?),
            "--plugins" => options.plugins = PathBuf::from(value),
            _ => return Err(format!("no option `{name}`").into()),
        }
    }
    Ok(options)
}
