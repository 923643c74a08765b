//! `cargo quickstart`: the host on its own broker, fed with the sample events, and everything that goes in and comes out on
//! the screen. It uses the commands that its users have, and nothing else.

mod host;
mod outcomes;
mod view;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use host::Host;
use outcomes::Outcomes;
use view::{Event, View};

use crate::plugins::{self, Which};
use crate::process::{Interrupt, Running};
use crate::{Failure, cargo, workspace};

/// The topic that the sample events go to.
const INPUT: &str = "payments";

/// The route that takes every one of them: what it did not answer, with outputs or with a letter, is missing.
const ROUTE: &str = "score";

/// Between two sample events, for eyes and for machines.
const PACE: Duration = Duration::from_millis(30);
const PACE_ONCE: Duration = Duration::from_millis(10);

/// With `--once`: how long nothing at all may come out.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Runs it.
pub(crate) fn run(interrupt: &Interrupt, once: bool) -> Result<(), Failure> {
    eprintln!(
        "Building the example plugins and the host. The first time takes minutes: a compiler is among the dependencies."
    );
    plugins::build(interrupt, Which::Examples)?;
    let program = cargo::build_host(interrupt)?;
    let samples = workspace::read(&workspace::root().join("config/quickstart/payments.jsonl"))?;
    let samples: Vec<String> = samples.lines().map(str::to_owned).collect();
    let mut host = Host::start(&program, interrupt)?;
    let done = show(&mut host, samples, interrupt, once);
    let stopped = host.stop();
    match done {
        // Ctrl-C is how one leaves.
        Err(_) if interrupt.raised() && !once => stopped.map(|()| eprintln!("\nMidplane has drained and stopped.")),
        done => done.and(stopped),
    }
}

/// Feeds the samples, and shows events until all have their outcome, or for as long as somebody looks.
fn show(host: &mut Host, samples: Vec<String>, interrupt: &Interrupt, once: bool) -> Result<(), Failure> {
    let topics = host.topics()?;
    let (sender, events) = mpsc::channel();
    let _readers: Vec<Running> =
        topics.iter().map(|topic| read(host, topic, sender.clone())).collect::<Result<_, _>>()?;
    let mut view = View::new(&topics, INPUT);
    view.begin(host.address(), samples.len());
    let mut outcomes = Outcomes::new(INPUT, ROUTE, samples.len());
    let fed = feed(host, samples, if once { PACE_ONCE } else { PACE })?;
    watch(host, &events, &fed, &mut outcomes, &mut view, interrupt)?;
    view.summary(&outcomes);
    if once {
        return Ok(());
    }
    view.invite(&host.shown_program(), &host.shown_config(), host.address());
    loop {
        interrupt.check()?;
        host.check()?;
        if let Ok(event) = events.recv_timeout(Duration::from_millis(100)) {
            view.event(&event);
        }
    }
}

/// Shows events until every sample has its outcome.
fn watch(
    host: &mut Host,
    events: &Receiver<Event>,
    fed: &Receiver<Result<(), Failure>>,
    outcomes: &mut Outcomes,
    view: &mut View,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let mut last = Instant::now();
    while !outcomes.complete() {
        interrupt.check()?;
        host.check()?;
        if let Ok(Err(failure)) = fed.try_recv() {
            return Err(failure);
        }
        if let Ok(event) = events.recv_timeout(Duration::from_millis(100)) {
            last = Instant::now();
            outcomes.take(&event);
            view.event(&event);
        } else if last.elapsed() > SILENCE_MAX {
            return Err(format!("{}; the host's log is {}", outcomes.missing(), host.shown_log()));
        }
    }
    // What other routes made of the last events is on its way.
    while let Ok(event) = events.recv_timeout(Duration::from_millis(300)) {
        outcomes.take(&event);
        view.event(&event);
    }
    Ok(())
}

/// Reads a topic for as long as this process runs.
fn read(host: &Host, topic: &str, events: Sender<Event>) -> Result<Running, Failure> {
    let mut consume = host.command(&["topic", "consume", topic, "--from-beginning", "--output", "json"]);
    let mut reader = Running::start("midplane topic consume", consume.stdout(Stdio::piped()))?;
    let stdout = reader.child().stdout.take().ok_or("midplane topic consume has no output")?;
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Some(event) = Event::parse(&line) else { continue };
            if events.send(event).is_err() {
                return;
            }
        }
    });
    Ok(reader)
}

/// Writes the samples, one after the other, and says how that ended.
fn feed(host: &Host, samples: Vec<String>, pace: Duration) -> Result<Receiver<Result<(), Failure>>, Failure> {
    let header = ["topic", "produce", INPUT, "--header", "ce_type=payment.captured"];
    let mut producer = Running::start("midplane topic produce", host.command(&header).stdin(Stdio::piped()))?;
    let mut stdin = producer.child().stdin.take().ok_or("midplane topic produce has no input")?;
    let (sender, fed) = mpsc::channel();
    std::thread::spawn(move || {
        for sample in samples {
            // A producer that has ended says why by its exit code.
            if writeln!(stdin, "{sample}").is_err() {
                break;
            }
            std::thread::sleep(pace);
        }
        drop(stdin);
        let _ = sender.send(match producer.child().wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("the sample events were not all delivered ({status})")),
            Err(error) => Err(format!("midplane topic produce can't be waited for: {error}")),
        });
    });
    Ok(fed)
}

/// A path, from the folder that people stand in.
fn shown(path: &Path) -> String {
    workspace::shown(path)
}
