//! `cargo verify`: everything that must hold, step by step, the quick ones first. A failed step ends it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::kafka::{self, Data, Kafka};
use crate::plugins::{self, Which};
use crate::process::{Interrupt, Running};
use crate::tally::{self, Line, Tally};
use crate::{Failure, cargo, workspace};

/// Where tests find the host (`tests/src/binary.rs`).
const BINARY_VARIABLE: &str = "MIDPLANE_BINARY";
/// What the long form is told by (`tests/tests/faults/long.rs`).
const SEED_VARIABLE: &str = "MIDPLANE_TEST_SEED";
const MINUTES_VARIABLE: &str = "MIDPLANE_TEST_MINUTES";
const KILLS_VARIABLE: &str = "MIDPLANE_TEST_KILLS";

/// Where programs put their temporary files.
const SCRATCH_VARIABLE: &str = "TMPDIR";
/// How many tests run at once in a test program, where nobody says otherwise: the harness' own variable.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";
/// Most tests wait for brokers and processes for most of their time: more of them at once than there are cores.
const THREADS_PER_CORE: usize = 3;

/// Runs all steps.
pub(crate) fn run(interrupt: &Interrupt, with_kafka: bool) -> Result<(), Failure> {
    let begin = Instant::now();
    step("format", || cargo(interrupt, &["fmt", "--all", "--check"], &[]))?;
    // Before everything that takes long: where there is no Kafka, nobody should wait to be told.
    let kafka = match with_kafka {
        true => Some(step("Apache Kafka", || Kafka::find_or_start(interrupt, Data::Target))?),
        false => None,
    };
    step("plugins", || plugins::build(interrupt, Which::All))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    step("clippy", || cargo(interrupt, &clippy, &[]))?;
    // Private items too: this is what who works on it reads, and their links are checked with it.
    let docs = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    step("docs", || {
        cargo(interrupt, &docs, &[("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private-intra-doc-links")])
    })?;
    // The host and the tests in one go: apart, they would be built with different features of what both depend on.
    step("build", || cargo(interrupt, &["build", "--workspace", "--all-targets"], &[]))?;
    let host = cargo::host_binary()?;
    step("the other command's build", || cargo::host_is_built(interrupt))?;
    let tally = step("tests", || {
        let scratch = workspace::Scratch::new()?;
        let mut test = cargo::command()?;
        test.args(["test", "--workspace", "--no-fail-fast"]).env(SCRATCH_VARIABLE, scratch.path());
        test.env(BINARY_VARIABLE, &host).env_remove(kafka::VARIABLE);
        if std::env::var_os(THREADS_VARIABLE).is_none() {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            test.env(THREADS_VARIABLE, (cores * THREADS_PER_CORE).to_string());
        }
        match &kafka {
            Some(kafka) => {
                test.env(kafka::VARIABLE, kafka.address()).env(kafka::JARS_VARIABLE, kafka::jars(interrupt)?)
            }
            None => test.args(["--", "--skip", &format!("::{}", tally::ON_KAFKA)]),
        };
        run_tests(test, interrupt)
    })?;
    drop(kafka);
    conclude(&tally, with_kafka, begin.elapsed())
}

/// What the long form is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Long {
    /// Where chance begins; any, if nobody says.
    pub(crate) seed: Option<u64>,
    /// For how long, on each broker.
    pub(crate) minutes: u64,
    /// Nothing but so many kills instead, on each broker.
    pub(crate) kills: Option<u64>,
}

/// Random faults, instead of the tests, with a report of what became of the events.
pub(crate) fn run_long(interrupt: &Interrupt, long: Long) -> Result<(), Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = long.seed.unwrap_or(now.as_secs());
    eprintln!("seed {seed}: `cargo verify --long --seed {seed}` repeats it");
    let kafka = step("Apache Kafka", || Kafka::find_or_start(interrupt, Data::Target))?;
    step("plugins", || plugins::build(interrupt, Which::All))?;
    step("build", || cargo(interrupt, &["build", "--workspace", "--all-targets"], &[]))?;
    step("faults", || {
        let scratch = workspace::Scratch::new()?;
        let mut test = cargo::command()?;
        test.env(SCRATCH_VARIABLE, scratch.path());
        test.args(["test", "--workspace", "--test", "faults", "--", "--ignored", "--nocapture", "--test-threads", "2"]);
        // Many hosts at once leave no time to the other tests that are for the long form.
        test.args(long.kills.map(|_| "long::"));
        test.env(BINARY_VARIABLE, cargo::host_binary()?).env(kafka::VARIABLE, kafka.address());
        test.env(kafka::JARS_VARIABLE, kafka::jars(interrupt)?);
        test.env(SEED_VARIABLE, seed.to_string()).env(MINUTES_VARIABLE, long.minutes.to_string());
        test.env_remove(KILLS_VARIABLE).envs(long.kills.map(|kills| (KILLS_VARIABLE, kills.to_string())));
        cargo::run("a schedule", &mut test, interrupt)
    })
    .map_err(|failure| format!("{failure}; the reports are in `target/faults`"))
}

/// Runs one step, and says what it is and how long it took.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    eprintln!("==> {name}");
    let begin = Instant::now();
    let done = work().map_err(|failure| format!("{name}: {failure}"))?;
    eprintln!("    {name}: {}", seconds(begin.elapsed()));
    Ok(done)
}

fn cargo(interrupt: &Interrupt, args: &[&str], environment: &[(&str, &str)]) -> Result<(), Failure> {
    let mut command = cargo::command()?;
    command.args(args).envs(environment.iter().copied());
    cargo::run(&format!("`cargo {}`", args.join(" ")), &mut command, interrupt)
}

/// Runs the tests and counts them. What fails is in the count, not an error.
fn run_tests(mut test: Command, interrupt: &Interrupt) -> Result<Tally, Failure> {
    let mut running = Running::start("cargo test", test.stdout(Stdio::piped()))?;
    let stdout = running.child().stdout.take().ok_or("cargo test has no output")?;
    let (status, tally) = std::thread::scope(|scope| {
        // Read beside the waiting, which alone sees an interrupt; once the tests are stopped, the pipe ends.
        let counting = scope.spawn(move || count(BufReader::new(stdout)));
        let status = running.wait(interrupt);
        (status, counting.join())
    });
    let (status, tally) = (status?, tally.map_err(|_| "the output of the tests can't be read")?);
    interrupt.check()?;
    // A test program that was killed has printed no failed test.
    if !status.success() && tally.failed.is_empty() {
        return Err(format!("the tests didn't come to an end: see above ({status})"));
    }
    Ok(tally)
}

/// Counts the tests in their output, and shows what is worth a look.
fn count(output: impl BufRead) -> Tally {
    let mut tally = Tally::default();
    for line in output.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if tally.line(&line) == Line::Telling {
            eprintln!("{line}");
        }
    }
    tally
}

/// The last lines: what ran where, and how it ended.
fn conclude(tally: &Tally, with_kafka: bool, took: Duration) -> Result<(), Failure> {
    eprintln!("==> result");
    eprintln!("tests on the embedded broker: {}", tally.on_embedded);
    match with_kafka {
        true => eprintln!("tests on Apache Kafka: {}", tally.on_kafka),
        false => eprintln!("tests on Apache Kafka: left out (--without-kafka)"),
    }
    for name in &tally.failed {
        eprintln!("failed: {name}");
    }
    eprintln!("{} passed, {} failed in {}", tally.passed, tally.failed.len(), seconds(took));
    if !tally.failed.is_empty() {
        return Err("tests failed".to_owned());
    }
    if tally.on_embedded == 0 || (with_kafka && tally.on_kafka == 0) {
        return Err("no test ran on one of the brokers: nothing is verified".to_owned());
    }
    Ok(())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
