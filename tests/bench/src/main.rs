//! Measurements of the whole, on Apache Kafka, next to the native copy loop. Ends with 1 where a bound is missed. Never part
//! of the tests: what it says depends on the machine.

mod meter;
mod throughput;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
bench throughput [--events N] [--rounds N] [--plugins FOLDER]

Copies N events of 100 B (3000000) through `identity` and, alternating, through the native loop, with provenance off and on.
MIDPLANE_TEST_BROKERS names the Apache Kafka, whose data should lie on tmpfs. The programs `midplane` and `copy-loop` are those
beside this one; build all three with --release. FOLDER (target/plugins) has identity.wasm.
";

/// What can be said on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) servers: String,
    pub(crate) events: usize,
    pub(crate) rounds: usize,
    pub(crate) plugins: PathBuf,
    /// Where the programs are.
    pub(crate) programs: PathBuf,
}

/// Why nothing was measured.
pub(crate) type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((task, rest)) if task == "throughput" => options(rest).and_then(|options| throughput::run(&options)),
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
        servers: std::env::var("MIDPLANE_TEST_BROKERS").map_err(|_| "MIDPLANE_TEST_BROKERS names no Apache Kafka")?,
        events: 3_000_000,
        rounds: 3,
        plugins: programs.parent().map(|target| target.join("plugins")).unwrap_or_default(),
        programs,
    };
    let mut args = args.iter();
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--events" => options.events = value.parse()?,
            "--rounds" => options.rounds = value.parse()?,
            "--plugins" => options.plugins = PathBuf::from(value),
            _ => return Err(format!("no option `{name}`").into()),
        }
    }
    Ok(options)
}
