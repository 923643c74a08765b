//! `midplane dlq redrive`: letters through their routes again, or what that would do. Says what is about to happen, to whom and
//! with which versions; does it only when told to execute.

mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::super::topic::Output;
use super::super::{Exit, Failure, check, refused};
use super::{ChoiceArgs, Desk, all_found, failure};
use crate::config::model::Broker;
use crate::control::topics::{self, Sizes};
use crate::dead_letters::chains::{self, Ask, Asked, Chains};
use crate::dead_letters::marks;
use crate::dead_letters::pace::Rate;
use crate::dead_letters::place::Place;
use crate::dead_letters::redrive::{Options, Redrive, Setting, Standing, standing};
use crate::dead_letters::selection::place;
use crate::kafka::TopicSettings;
use report::{Left, Report, TopicReport};

/// How often a person is told how far it has come.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// `midplane dlq redrive`
#[derive(Debug, Args)]
#[command(after_help = "\
A dry run unless told to execute: it runs the plugins on the letters, writes
nothing, and says what would be redriven, through which versions, to which
topics, and what would fail again. Then the same with --execute.

A letter's event goes through the plugins of its route again, as if it came from
where it was, to the outputs of that route alone: nobody else who reads the
source topic sees it. Its outputs have the header midplane-redriven:
ROUTE/TIMES. What fails again gets a new letter.

Each letter is redriven once, over kills and restarts of this command and of the
broker: outputs, new letters and the mark that the letter is done are one
transaction. What a kill leaves, the same command goes on with. The marks are in
the topic TOPIC.redriven, which is made where create_topics = true or the broker
is embedded. It works beside a running host, and without one.

The plugins' versions are those that are live in the host's data directory, else
those of the plugin directory, unless --plugin says otherwise.

Examples:
  midplane dlq redrive --route payments
  midplane dlq redrive --route payments --kind permanent --since 2h --execute
  midplane dlq redrive --route payments --plugin mask=1f2e3d4c --rate 100/s --execute
  midplane dlq redrive --route payments --plugin mask=./fixed/mask.wasm
  midplane dlq redrive payments.dead-letters/0/41 --execute")]
pub(super) struct RedriveArgs {
    /// Letters, by their places: TOPIC/PARTITION/OFFSET
    #[arg(value_name = "LETTER")]
    letters: Vec<Place>,

    #[command(flatten)]
    choice: ChoiceArgs,

    /// All letters of all routes of the config
    #[arg(long)]
    all: bool,

    /// Redrive them, rather than say what that would do
    #[arg(long)]
    execute: bool,

    /// Only say what redriving them would do: what is done without --execute
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,

    /// Take this version of a plugin: its first digits, of those that the host keeps or the plugin directory has, or a file;
    /// repeatable
    #[arg(long = "plugin", value_name = "NAME=VERSION|FILE", value_parser = ask)]
    plugins: Vec<Ask>,

    /// Redrive so many letters at most in any second, minute or hour: 100/s, 30/m, 500/h
    #[arg(long, value_name = "N/UNIT")]
    rate: Option<Rate>,

    /// Try an event so often that fails transiently, rather than as often as its route says; 1 waits for nothing
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempts: Option<u32>,

    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// `NAME=1f2e3d4c` or `NAME=FILE`
fn ask(text: &str) -> Result<Ask, String> {
    let pair = text.split_once('=').filter(|(plugin, version)| !plugin.is_empty() && !version.is_empty());
    let (plugin, version) = pair.ok_or("expected NAME=VERSION or NAME=FILE")?;
    let is_version = (4..=64).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    let version = if is_version { Asked::Digits(version.to_owned()) } else { Asked::File(version.into()) };
    Ok(Ask { plugin: plugin.to_owned(), version })
}

pub(super) fn run(args: &RedriveArgs) -> Result<Exit, Failure> {
    if args.letters.is_empty() && !args.all && !args.choice.is_narrow() {
        let message = "say which letters: by LETTER, --route, --topic, --kind, --since, --until or --where; or --all";
        return Err(Failure::usage(message));
    }
    let mut desk = args.choice.open(&args.letters)?;
    let (topics, routes) = survey(&desk, &args.letters)?;
    let mut report = Report::new(args.execute, topics, args.rate);
    if !routes.is_empty() {
        let chains = chains(args, &desk, &routes)?;
        report.through(&desk.loaded.config, &chains, &routes);
        if args.execute {
            make_marks(&mut desk, &report)?;
        }
        let done = redrive(args, &desk, &chains, &mut report);
        if let Err(failure) = done {
            // What was done until then is done.
            print(&report, args.output)?;
            return Err(failure);
        }
    }
    print(&report, args.output)?;
    Ok(Exit::Done)
}

fn print(report: &Report, output: Output) -> Result<(), Failure> {
    let text = match output {
        Output::Text => report.to_text(),
        Output::Json => serde_json::to_string_pretty(report).map_err(Failure::failed)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// Counts the letters that are meant, by what can be done with them; and finds their routes, by the index in the config. Where
/// letters were named, all have to be there.
fn survey(desk: &Desk, named: &[Place]) -> Result<(Vec<TopicReport>, BTreeSet<usize>), Failure> {
    let (mut reports, mut routes) = (Vec::new(), BTreeSet::new());
    let mut missing: BTreeSet<Place> = named.iter().cloned().collect();
    for topic in &desk.present {
        let (mut left, mut open) = (Left::default(), BTreeMap::<usize, u64>::new());
        let seen = desk.archive.visit(topic, &desk.selection, &mut |letter, mark| {
            missing.remove(&place(topic, letter));
            match standing(letter, mark, &desk.routes) {
                Standing::Open(route) => *open.entry(route).or_default() += 1,
                Standing::Redriven => left.redriven += 1,
                Standing::Truncated => left.without_value += 1,
                Standing::NoRoute => *left.unknown_routes.entry(letter.said.route.to_owned()).or_default() += 1,
            }
        });
        let seen = seen.map_err(failure)?;
        (left.undecided, left.undecided_why) = (seen.undecided, seen.why);
        let ids = open.iter().map(|(route, letters)| (desk.loaded.config.routes[*route].id.clone(), *letters));
        reports.push(TopicReport::new(topic, seen.letters, seen.selected, ids.collect(), left));
        routes.extend(open.keys());
    }
    all_found(&missing)?;
    Ok((reports, routes))
}

/// The routes, with the versions that are asked for.
fn chains(args: &RedriveArgs, desk: &Desk, routes: &BTreeSet<usize>) -> Result<Chains, Failure> {
    let config = &desk.loaded.config;
    let goes_through = |plugin: &String| {
        routes.iter().flat_map(|route| &config.routes[*route].through).any(|stage| stage.plugin == *plugin)
    };
    let mut seen = BTreeSet::new();
    for ask in &args.plugins {
        if !goes_through(&ask.plugin) {
            let message = format!("`--plugin {}`: no route of these letters goes through it", ask.plugin);
            return Err(Failure::usage(message));
        }
        if !seen.insert(&ask.plugin) {
            return Err(Failure::usage(format!("`--plugin {}`: given twice", ask.plugin)));
        }
    }
    let runtime = check::runtime(config)?;
    Chains::build(&desk.loaded, routes, &args.plugins, &runtime).map_err(|error| match error {
        chains::Error::Config(problems) => refused(&problems),
        error => Failure::refused(crate::control::shards::error_chain(&error)),
    })
}

/// Sees to it that there is a topic for the marks of each topic whose letters are to be redriven.
fn make_marks(desk: &mut Desk, report: &Report) -> Result<(), Failure> {
    let may = match &desk.loaded.config.broker {
        Broker::Embedded(_) => true,
        Broker::Kafka(kafka) => kafka.create_topics,
    };
    let missing = report.open_topics().filter(|topic| !desk.archive.has(&marks::topic_of(topic)));
    let missing: Vec<String> = missing.map(str::to_owned).collect();
    if !missing.is_empty() && !may {
        let names: Vec<_> = missing.iter().map(|topic| marks::topic_of(topic)).collect();
        let (name, value) = marks::SETTING;
        return Err(Failure::refused(format!(
            "there is no topic to keep what was redriven. Make it with\n  midplane topic create {} --set {name}={value}\n\
             (without `--set` on the embedded broker, which compacts nothing), or set `create_topics = true` in [broker].",
            names.join(" ")
        )));
    }
    let Desk { archive, client, .. } = desk;
    let there: Vec<String> = report.open_topics().map(marks::topic_of).filter(|topic| archive.has(topic)).collect();
    let there: Vec<&str> = there.iter().map(String::as_str).collect();
    let settings = client.settings(&there, archive.timeout()).map_err(|error| failure(error.into()))?;
    let expire =
        |settings: &TopicSettings| settings.cleanup.is_some_and(|it| !it.is_fixed && (it.deletes || !it.compacts));
    if let Some((topic, _)) = there.iter().zip(settings).find(|(_, settings)| expire(settings)) {
        let (name, value) = marks::SETTING;
        return Err(Failure::refused(format!(
            "topic `{topic}` keeps what was redriven, and forgets it after a while: it is not compacted, or not only. Its letters \
             could be redriven twice. Mend it with\n  kafka-configs.sh --bootstrap-server {} --alter --entity-type topics \
             --entity-name {topic} --add-config {name}={value}",
            archive.connection().bootstrap
        )));
    }
    missing.iter().try_for_each(|topic| archive.make_marks(client, topic).map_err(failure))
}

fn redrive(args: &RedriveArgs, desk: &Desk, chains: &Chains, report: &mut Report) -> Result<(), Failure> {
    let sizes: Sizes = topics::sizes(&desk.client, std::slice::from_ref(&chains.program));
    let stop = stop_on_signals()?;
    let setting = Setting {
        archive: &desk.archive,
        selection: &desk.selection,
        routes: &desk.routes,
        chains,
        sizes: &sizes,
        stop: &stop,
    };
    let options = Options { execute: args.execute, attempts: args.attempts, rate: args.rate.filter(|_| args.execute) };
    let mut progress = Progress::new(args.execute, report.open());
    let mut tell = |done| progress.tell(done);
    let mut redrive = Redrive::new(setting, options, &mut tell);
    let mut ended = Ok(true);
    for topic in report.open_topics() {
        ended = redrive.topic(topic);
        if !matches!(ended, Ok(true)) {
            break;
        }
    }
    report.done(redrive.tallies(), redrive.busiest());
    drop(redrive);
    progress.end();
    match ended {
        Ok(whole) => {
            report.stopped = !whole;
            Ok(())
        }
        Err(error) => {
            let failure = failure(error);
            let rest = match args.execute {
                true => format!("; {} are redriven, and the same command goes on with the rest", report.letters_done()),
                false => String::new(),
            };
            Err(Failure { message: format!("{}{rest}", failure.message), ..failure })
        }
    }
}

/// True once SIGINT or SIGTERM asks for an end, after the part in hand; a second one ends the process at once, which loses
/// nothing either.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _context = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if told.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(Exit::NotClean as u8));
                }
            }
        });
    });
    Ok(stop)
}

/// How far it has come, on a terminal: a line that is written over.
struct Progress {
    verb: &'static str,
    all: u64,
    shown: Option<Instant>,
    is_terminal: bool,
}

impl Progress {
    fn new(execute: bool, all: u64) -> Self {
        let verb = if execute { "redriven" } else { "tried" };
        Self { verb, all, shown: None, is_terminal: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, done: u64) {
        if self.is_terminal && self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_INTERVAL) {
            self.shown = Some(Instant::now());
            // A progress that nobody can see is none the less one.
            let _ = write!(std::io::stderr(), "\r{done} of {} letters {}", self.all, self.verb);
        }
    }

    /// Takes the line away.
    fn end(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_digits_or_a_file() {
        let check = |text: &str, expected: Option<(&str, Asked)>| {
            let expected = expected.map(|(plugin, version)| Ask { plugin: plugin.to_owned(), version });
            assert_eq!(ask(text).ok(), expected, "{text}");
        };
        check("mask=1f2E3d4c", Some(("mask", Asked::Digits("1f2E3d4c".to_owned()))));
        check("mask=abc", Some(("mask", Asked::File("abc".into()))));
        check("mask=./fixed/mask.wasm", Some(("mask", Asked::File("./fixed/mask.wasm".into()))));
        check("mask=a=b.wasm", Some(("mask", Asked::File("a=b.wasm".into()))));
        for wrong in ["mask", "mask=", "=1f2e3d4c"] {
            check(wrong, None);
        }
    }
}
