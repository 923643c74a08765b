//! The task runner: what `cargo quickstart`, `cargo verify` and `cargo xtask …` do. It builds, starts and watches other
//! programs; it holds no logic of the product, and stays small, since everyone compiles it first.

mod bench;
mod cargo;
mod plugins;
mod quickstart;
mod tally;
mod verify;

use std::process::ExitCode;

use xtask::{Failure, kafka, process, workspace};

const HELP: &str = "\
The task runner of Midplane's workspace.

cargo quickstart [--once]
    Builds the example plugins and the host, starts it on the embedded broker, feeds it the sample events, and shows
    what goes in and what comes out until Ctrl-C. With --once it ends by itself, when every event has its outcome.

cargo verify [--without-kafka]
    Checks everything that must hold: format, clippy, docs, and all tests, on the embedded broker and on Apache Kafka.
    Kafka is fetched with Maven and run with Java 17, or is the one that MIDPLANE_TEST_BROKERS=HOST:PORT names; tests that
    kill their Kafka run one of their own in any case.
    --without-kafka leaves its tests out, and is the only way to.

cargo verify --long [--seed N] [--minutes M | --kills K]
    Random faults for so many minutes (10 unless said otherwise), on both brokers at once, instead of the checks; or hosts
    that are killed, and nothing else, until there were so many kills on each. Prints the seed, and at the end what happened
    and what became of the events; the reports are in target/faults.

cargo xtask plugins [--examples]
    Builds the example plugins and those that tests use, or the examples alone, into target/plugins.

cargo xtask bench [throughput] [guarantees] [routes] [filters] [runaway]
    Measures what routing costs, all of it or what is named: next to a native copy loop, exactly once, with 10,000 routes,
    of filters; and how soon a plugin is stopped that never ends. Builds all it needs with --release first, which takes a
    while. Kafka as above, its data in memory. Fails where a bound is missed.

cargo xtask kafka [--memory]
    Runs the Apache Kafka of the tests until Ctrl-C, and prints its address. With --memory its data lie there.
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let interrupt = match process::Interrupt::watch() {
        Ok(interrupt) => interrupt,
        Err(error) => return fail(&format!("signals can't be watched: {error}"), 1),
    };
    let done = match args.as_slice() {
        ["quickstart"] => quickstart::run(&interrupt, false),
        ["quickstart", "--once"] => quickstart::run(&interrupt, true),
        ["verify"] => verify::run(&interrupt, true),
        ["verify", "--without-kafka"] => verify::run(&interrupt, false),
        ["verify", "--long", rest @ ..] => match long(rest) {
            Ok(long) => verify::run_long(&interrupt, long),
            Err(failure) => return fail(&format!("{failure}\n\n{HELP}"), 2),
        },
        ["plugins"] => plugins::build(&interrupt, plugins::Which::All),
        ["plugins", "--examples"] => plugins::build(&interrupt, plugins::Which::Examples),
        ["bench", rest @ ..] => bench::run(&interrupt, rest),
        ["kafka"] => kafka::serve(&interrupt, kafka::Data::Target),
        ["kafka", "--memory"] => kafka::serve(&interrupt, kafka::Data::Memory),
        [] | ["help" | "--help" | "-h"] | [_, "--help" | "-h"] => {
            eprint!("{HELP}");
            return ExitCode::SUCCESS;
        }
        unknown => return fail(&format!("no task `{}`\n\n{HELP}", unknown.join(" ")), 2),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt.raised() => fail("interrupted", 130),
        Err(failure) => fail(&failure, 1),
    }
}

/// Reads what follows `--long`.
fn long(args: &[&str]) -> Result<verify::Long, Failure> {
    let mut long = verify::Long { seed: None, minutes: 10, kills: None };
    for pair in args.chunks(2) {
        let [name, value] = pair else { return Err(format!("`{}` takes a number", pair.join(" "))) };
        let number = value.parse().map_err(|_| format!("`{name}` takes a number, not `{value}`"))?;
        match *name {
            "--seed" => long.seed = Some(number),
            "--minutes" => long.minutes = number,
            "--kills" => long.kills = Some(number),
            unknown => return Err(format!("no option `{unknown}` of `--long`")),
        }
    }
    Ok(long)
}

fn fail(message: &str, code: u8) -> ExitCode {
    eprintln!("xtask: {message}");
    ExitCode::from(code)
}
