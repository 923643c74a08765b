//! What a program that copies costs, seen from outside: the output's end offsets and the process's CPU time, between the
//! first output and about the last, so that starting is left out, and so is waiting for the last commit.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use midplane::kafka::start::Begin;
use midplane::kafka::{Consumer, ConsumerSettings};

use crate::Failure;
use crate::input::connection;

const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Without any progress for so long, a run has failed. Long, since some run in a simulator.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one run cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Thousands of events a second.
    pub(crate) rate: f64,
    /// CPU seconds for a million events.
    pub(crate) cpu: f64,
}

/// What was seen at some time.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    events: i64,
    cpu: f64,
}

impl Cost {
    fn between(first: Look, last: Look) -> Self {
        let (copied, took) = ((last.events - first.events) as f64, last.at.duration_since(first.at));
        Self { rate: copied / took.as_secs_f64() / 1e3, cpu: (last.cpu - first.cpu) / copied * 1e6 }
    }
}

/// When a run has done its work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partitions: i32,
    pub(crate) events: usize,
}

/// Looks at ends of partitions.
pub(crate) struct Meter {
    client: Consumer,
}

impl Meter {
    pub(crate) fn new(servers: &str) -> Result<Self, Failure> {
        let settings = ConsumerSettings {
            connection: connection(servers),
            group: "meter".to_owned(),
            client_id: "meter".to_owned(),
            buffer_bytes: 1 << 20,
        };
        Ok(Self { client: Consumer::new(&settings)? })
    }

    fn events(&self, goal: Goal<'_>) -> Result<i64, Failure> {
        let places = (0..goal.partitions).map(|partition| (goal.topic, partition, Begin::Latest)).collect::<Vec<_>>();
        Ok(self.client.offsets_at(places.into_iter(), ANSWER_TIMEOUT)?.iter().sum())
    }

    /// Runs a program until the topic has so many events.
    pub(crate) fn run(&self, command: &mut Command, goal: Goal<'_>) -> Result<Cost, Failure> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let cost = self.watch(&mut child, goal);
        stop(&mut child)?;
        cost
    }

    fn watch(&self, child: &mut Child, goal: Goal<'_>) -> Result<Cost, Failure> {
        let events_goal = i64::try_from(goal.events)?;
        let (mut first, mut last) = (None, None);
        let (mut seen, mut progress, mut trouble) = (0, Instant::now(), None);
        loop {
            if let Some(status) = child.try_wait()? {
                return Err(format!("the program ended after {seen} of {events_goal} events: {status}").into());
            }
            // A topic that was just made has no leader in every answer yet: what can't be looked up counts as nothing new,
            // and the patience bounds it.
            let events = self.events(goal).unwrap_or_else(|failure| {
                trouble = Some(failure);
                seen
            });
            let at = Instant::now();
            if events >= events_goal {
                let (Some(first), Some(last)) = (first, last) else {
                    return Err(format!("{events_goal} events are too few: they were there at the second look").into());
                };
                return Ok(Cost::between(first, last));
            }
            if events > seen {
                (seen, progress) = (events, at);
                let look = Look { at, events, cpu: cpu_seconds(child.id())? };
                // The last of the events wait for a commit that is not due yet: they are left out.
                if first.is_some() { last = Some(look) } else { first = Some(look) }
            } else if progress.elapsed() > PATIENCE {
                let trouble = trouble.map(|failure| format!(" ({failure})")).unwrap_or_default();
                return Err(format!("no progress after {seen} of {events_goal} events{trouble}").into());
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

fn stop(child: &mut Child) -> Result<(), Failure> {
    let id = child.id().to_string();
    Command::new("kill").args(["-TERM", &id]).stderr(Stdio::null()).status()?;
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}

/// Of all threads, user and system.
fn cpu_seconds(process: u32) -> Result<f64, Failure> {
    /// Linux says it in hundredths of a second, whatever the kernel's own clock.
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may hold anything, but ends at the last parenthesis; the times are fields 14 and 15.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    let field = |index: usize| fields.get(index).and_then(|text| text.parse::<f64>().ok());
    let ticks = field(11).zip(field(12)).map(|(user, system)| user + system);
    Ok(ticks.ok_or("the process's CPU time can't be read")? / TICKS_PER_SECOND)
}
