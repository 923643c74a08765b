//! Letters through their routes once more: what the plugins say of them now, and, where that is to be, written. Each letter is
//! redriven once: what it leads to and the mark that it is redriven are one transaction. The order of the letters is kept within
//! each partition and route.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::archive::Archive;
use super::chains::{Chains, Routes};
use super::log::Log;
use super::marks::{Mark, Marks};
use super::pace::{Pace, Rate};
use super::selection::{Selection, Verdict};
use super::tally::{Done, Tally};
use super::writer::{self, Writer};
use super::{Error, Letter};
use crate::control::topics::Sizes;
use crate::data::answers::{Answers, Bound};
use crate::data::chain::{self, Run};
use crate::data::engine::backoff::{self, Random};
use crate::data::engine::{OnFailure, RouteFailure};
use crate::data::event::{Event, Header, Headers};
use crate::data::failure::Kind;
use crate::data::filter::Scratch;
use crate::data::plugin::verdicts::Verdicts;
use crate::data::plugin::{Call, Worker};
use crate::data::program::Program;
use crate::data::route::{self, Counts, Picked};

/// Letters of one transaction.
const PART_MAX: usize = 512;
/// How long nobody looks whether the redrive is to stop.
const SLICE: Duration = Duration::from_millis(100);

/// Whether a letter can be redriven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Through the route of this index in the config.
    Open(usize),
    /// It was already.
    Redriven,
    /// Its value was too large for it: there is nothing to be redriven.
    Truncated,
    /// The config has no such route any more.
    NoRoute,
}

/// How a letter stands.
pub fn standing(letter: &Letter<'_>, mark: Option<&Mark>, routes: &Routes) -> Standing {
    match routes.find(letter.said.route) {
        _ if mark.is_some() => Standing::Redriven,
        _ if letter.said.truncated.is_some() => Standing::Truncated,
        None => Standing::NoRoute,
        Some(route) => Standing::Open(route),
    }
}

/// How letters are redriven.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether anything is written; otherwise it is only seen what would be, and nothing is waited for.
    pub execute: bool,
    /// How often an event is tried that fails transiently, in place of what its route says.
    pub attempts: Option<u32>,
    /// How many letters there may be in how much time.
    pub rate: Option<Rate>,
}

/// What a redrive needs of its surroundings.
#[derive(Clone, Copy)]
pub struct Setting<'s> {
    /// The letters.
    pub archive: &'s Archive,
    /// Which of them.
    pub selection: &'s Selection,
    /// The routes of the config.
    pub routes: &'s Routes,
    /// Those that letters are sent through.
    pub chains: &'s Chains,
    /// What their topics take.
    pub sizes: &'s Sizes,
    /// Set where it is to end before all is done.
    pub stop: &'s AtomicBool,
}

/// How it went on with some letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// All of them are done.
    On,
    /// It isn't known which are: what was redriven has to be read back.
    Again,
    /// It is to end.
    Stop,
}

/// A redrive.
pub struct Redrive<'s> {
    setting: Setting<'s>,
    options: Options,
    calls: Calls,
    pace: Pace,
    started: Instant,
    random: Random,
    /// Letters of a transaction at most: fewer after one that failed.
    part_max: usize,
    /// When what is to be written began to fail.
    failing: Option<Instant>,
    /// By the topic of the letters, and the route's id.
    tallies: BTreeMap<(String, String), Tally>,
    done: u64,
    progress: &'s mut dyn FnMut(u64),
}

/// A letter in hand.
struct Chosen<'a> {
    letter: Letter<'a>,
    /// The number of its route in the program.
    number: u16,
    /// How often the route has had it back then.
    times: u32,
    /// `ROUTE/TIMES`
    redriven: String,
}

impl Chosen<'_> {
    /// Whether the route took the event, or could not even be asked.
    fn asks_filter(&self) -> bool {
        self.letter.said.kind == Kind::Filter.as_str()
    }
}

/// Some letters of one route, answered together.
struct Part<'p, 'e> {
    topic: &'p str,
    number: u16,
    chosen: &'p [&'p Chosen<'e>],
    events: &'p [Event<'p>],
    attempt: u32,
}

/// How many letters of a part are settled, if it is known, and whether the next one has failed and is to be tried again.
enum Settled {
    First(usize, bool),
    Lost,
}

impl<'s> Redrive<'s> {
    /// Nothing is done yet. `progress` is told how many letters are.
    pub fn new(setting: Setting<'s>, options: Options, progress: &'s mut dyn FnMut(u64)) -> Self {
        Self {
            calls: Calls::new(&setting.chains.program),
            setting,
            options,
            pace: Pace::new(options.rate),
            started: Instant::now(),
            random: Random::new(u64::from(std::process::id())),
            part_max: PART_MAX,
            failing: None,
            tallies: BTreeMap::new(),
            done: 0,
            progress,
        }
    }

    /// Redrives the letters of a topic, those that were there when it began. Whether it came to the end of them.
    ///
    /// # Errors
    /// Where it can't go on. What was done until then is done, and counted.
    pub fn topic(&mut self, topic: &str) -> Result<bool, Error> {
        let Setting { archive, selection, sizes, .. } = self.setting;
        let program = self.setting.chains.program.clone();
        // Only once the name is taken over, nobody else marks anything: what is read then is all that there is.
        let mut writer = match self.options.execute {
            true => Some(Writer::open(topic, &program, sizes, archive.connection(), archive.timeout())?),
            false => None,
        };
        let mut marks = archive.marks(topic)?;
        let mut log = archive.log(topic, selection)?;
        while log.read()? {
            loop {
                let chosen = self.choose(topic, &log, &marks);
                match self.batch(topic, &chosen, writer.as_mut(), &mut marks)? {
                    Next::On => break,
                    Next::Again => marks = archive.marks(topic)?,
                    Next::Stop => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    /// What came of the letters, by their topic and route.
    pub fn tallies(&self) -> &BTreeMap<(String, String), Tally> {
        &self.tallies
    }

    /// How many letters were done at most within any time of the rate.
    pub fn busiest(&self) -> u32 {
        self.pace.busiest()
    }

    /// The letters in hand that are to be redriven.
    fn choose<'l>(&mut self, topic: &str, log: &'l Log, marks: &Marks) -> Vec<Chosen<'l>> {
        let Setting { selection, routes, chains, .. } = self.setting;
        let mut chosen = Vec::new();
        for letter in log.records().filter_map(Letter::of) {
            let Standing::Open(route) = standing(&letter, marks.of(&letter), routes) else { continue };
            // A route that no letter had when they were counted is left for the next time.
            let Some(number) = chains.number(route) else { continue };
            if selection.judge(topic, &letter, &mut self.calls.scratch) == Verdict::Selected {
                let times = letter.said.times.saturating_add(1);
                let redriven = format!("{}/{times}", chains.program.plans[usize::from(number)].id);
                chosen.push(Chosen { letter, number, times, redriven });
            }
        }
        chosen
    }

    fn batch(
        &mut self,
        topic: &str,
        chosen: &[Chosen<'_>],
        mut writer: Option<&mut Writer>,
        marks: &mut Marks,
    ) -> Result<Next, Error> {
        let numbers: BTreeSet<u16> = chosen.iter().map(|chosen| chosen.number).collect();
        for number in numbers {
            let of_route: Vec<_> = chosen.iter().filter(|chosen| chosen.number == number).collect();
            match self.route(topic, number, &of_route, writer.as_deref_mut(), marks)? {
                Next::On => {}
                next => return Ok(next),
            }
        }
        Ok(Next::On)
    }

    /// Works through one route's letters in hand. One that fails transiently is waited for, outside of any transaction.
    fn route(
        &mut self,
        topic: &str,
        number: u16,
        chosen: &[&Chosen<'_>],
        mut writer: Option<&mut Writer>,
        marks: &mut Marks,
    ) -> Result<Next, Error> {
        let headers: Vec<Vec<Header<'_>>> =
            chosen.iter().map(|it| it.letter.said.restore(it.letter.event.headers, &it.redriven)).collect();
        let events = chosen.iter().zip(&headers);
        let events = events.map(|(it, headers)| Event { headers: Headers::Slice(headers), ..it.letter.event });
        let events: Vec<_> = events.collect();
        let (mut start, mut attempt) = (0, 1);
        while start < chosen.len() {
            if self.setting.stop.load(Ordering::Relaxed) {
                return Ok(Next::Stop);
            }
            let room = self.pace.room(self.started.elapsed());
            if room == 0 {
                std::thread::sleep(self.pace.wait(self.started.elapsed()).min(SLICE));
                continue;
            }
            let count = if attempt > 1 { 1 } else { alike(&chosen[start..]).min(room).min(self.part_max) };
            let (chosen, events) = (&chosen[start..start + count], &events[start..start + count]);
            let part = Part { topic, number, chosen, events, attempt };
            match self.part(&part, writer.as_deref_mut(), marks)? {
                Settled::First(settled, true) => {
                    // Where others went before it, that was its first call.
                    let failed = if settled > 0 { 1 } else { attempt };
                    if !self.back_off(number, failed) {
                        return Ok(Next::Stop);
                    }
                    (start, attempt) = (start + settled, failed + 1);
                }
                Settled::First(settled, false) => (start, attempt) = (start + settled, 1),
                Settled::Lost => return Ok(Next::Again),
            }
        }
        Ok(Next::On)
    }

    /// Waits as the route says. False where it is to end meanwhile.
    fn back_off(&mut self, number: u16, attempt: u32) -> bool {
        let policy = &self.setting.chains.program.plans[usize::from(number)].failure;
        let until = Instant::now() + backoff::wait(&policy.backoff, attempt, &mut self.random);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.setting.stop.load(Ordering::Relaxed) {
                return false;
            }
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(SLICE));
        }
    }

    /// Asks the plugins, and writes what is final of what they say.
    fn part(
        &mut self,
        part: &Part<'_, '_>,
        mut writer: Option<&mut Writer>,
        marks: &mut Marks,
    ) -> Result<Settled, Error> {
        let Setting { chains, sizes, archive, .. } = self.setting;
        let program = &*chains.program;
        let plan = &program.plans[usize::from(part.number)];
        let (mut picked, taken) = self.calls.take(program, part);
        let mut answers = self.calls.answer(program, part, &taken, &mut picked);
        match &mut writer {
            Some(writer) => {
                answers.refuse_outputs(|ready| writer.refusal(ready));
                for (index, chosen) in (0..).zip(part.chosen) {
                    for (refused, name) in writer.refused(&chosen.letter) {
                        answers.refuse(index, refused, name);
                    }
                }
            }
            None => answers.refuse_outputs(|ready| {
                let topic = program.topics[usize::from(ready.topic)].as_str();
                let record_bytes_max = sizes.record_bytes_max(topic, archive.connection());
                Bound { topic, record_bytes_max, partitions: None }.refusal(ready)
            }),
        }
        let (settled, dropped) = self.options.judge(program, &answers, part.attempt);
        // Plugins that take their time answer a part of it: of the rest nothing is known.
        let again = settled < answers.len();
        let mut done = Vec::with_capacity(settled);
        for (index, chosen) in part.chosen.iter().enumerate().take(settled) {
            let mut of_letter = Done::NOT_TAKEN;
            let event = &part.events[index];
            if let Some(writer) = &mut writer {
                writer.begin(&chosen.letter);
            }
            let drops = dropped.contains(&(index as u32));
            answers.of_event(index as u32, |_, _, product| {
                of_letter = Done::of(&product, drops);
                if let Some(writer) = writer.as_mut().filter(|_| !drops) {
                    writer.product(&chosen.letter, (event, part.number), plan, &product, part.attempt);
                }
            });
            let mark = Mark::new(&chosen.letter, &plan.id, chosen.times, of_letter.outcome);
            if let Some(writer) = &mut writer {
                writer.mark(&chosen.letter, (event, part.number), &mark);
            }
            done.push((of_letter, mark));
        }
        drop(answers);
        match writer {
            Some(writer) if settled > 0 => self.commit(part, (done, again), writer, marks),
            _ => {
                self.count(part, done, |_, _| ());
                Ok(Settled::First(settled, again))
            }
        }
    }

    fn commit(
        &mut self,
        part: &Part<'_, '_>,
        (done, again): (Vec<(Done, Mark)>, bool),
        writer: &mut Writer,
        marks: &mut Marks,
    ) -> Result<Settled, Error> {
        match writer.commit()? {
            writer::Ended::Committed => {
                let settled = done.len();
                self.failing = None;
                self.part_max = (self.part_max * 2).min(PART_MAX);
                self.count(part, done, |letter, mark| marks.add(letter, mark));
                Ok(Settled::First(settled, again))
            }
            writer::Ended::Lost => {
                let waited = self.failing.get_or_insert_with(Instant::now).elapsed();
                if waited >= self.setting.archive.timeout() {
                    return Err(Error::NotWritten { waited, reason: writer.trouble() });
                }
                self.part_max = (self.part_max / 2).max(1);
                Ok(Settled::Lost)
            }
        }
    }

    /// Counts what is done, and hands on the mark of each letter.
    fn count(&mut self, part: &Part<'_, '_>, done: Vec<(Done, Mark)>, mut mark: impl FnMut(&Letter<'_>, Mark)) {
        if done.is_empty() {
            return;
        }
        let program = &*self.setting.chains.program;
        let key = (part.topic.to_owned(), program.plans[usize::from(part.number)].id.clone());
        let tally = self.tallies.entry(key).or_default();
        self.pace.done(self.started.elapsed(), done.len());
        self.done += done.len() as u64;
        for (chosen, (done, of_letter)) in part.chosen.iter().zip(done) {
            tally.add(done, &program.topics);
            mark(&chosen.letter, of_letter);
        }
        (self.progress)(self.done);
    }
}

/// How many letters, from the first on, are asked about in the same way.
fn alike(chosen: &[&Chosen<'_>]) -> usize {
    chosen.iter().take_while(|it| it.asks_filter() == chosen[0].asks_filter()).count()
}

impl Options {
    /// How many events, from the first on, have a final answer, and which of them the policy drops.
    fn judge(&self, program: &Program, answers: &Answers<'_>, attempt: u32) -> (usize, BTreeSet<u32>) {
        let (mut messages, mut failures) = (Vec::new(), Vec::new());
        answers.summary(&program.plans, &mut messages, &mut failures);
        let again = |failure: &&RouteFailure<'_>| match failure.on {
            // Whoever only looks waits for nothing.
            OnFailure::Retry { attempts, .. } => self.execute && attempt < self.attempts.unwrap_or(attempts),
            OnFailure::Letter | OnFailure::Drop | OnFailure::Halt => false,
        };
        let settled = failures.iter().find(again).map_or(answers.len(), |failure| failure.event as usize);
        // Where a partition would halt there is none to be halted: the event is a letter, and stays one.
        let drops = failures.iter().filter(|failure| matches!(failure.on, OnFailure::Drop));
        (settled, drops.map(|failure| failure.event).collect())
    }
}

/// The plugins, and the buffers that every part reuses.
struct Calls {
    workers: Vec<Worker>,
    arenas: Vec<Verdicts>,
    scratch: Scratch,
    counts: Vec<Counts>,
}

impl Calls {
    fn new(program: &Program) -> Self {
        let stages = program.plans.iter().map(|plan| plan.stages.len()).max().unwrap_or(0);
        Self {
            workers: program.prepared.iter().map(|prepared| Worker::ready(prepared.clone())).collect(),
            arenas: std::iter::repeat_with(Verdicts::default).take(stages).collect(),
            scratch: Scratch::default(),
            counts: vec![Counts::default(); program.plans.len()],
        }
    }

    /// The events that the route takes: all, since it took them before, unless what failed was to ask that.
    fn take<'e>(&mut self, program: &Program, part: &Part<'e, '_>) -> (Picked, Cow<'e, [Event<'e>]>) {
        if !part.chosen[0].asks_filter() {
            return (Picked { all: true, ..Picked::default() }, Cow::Borrowed(part.events));
        }
        let mut picked = Vec::new();
        route::select(&program.plans, &[part.number], part.events, &mut self.scratch, &mut self.counts, &mut picked);
        let picked = picked.pop().unwrap_or_default();
        match picked.all {
            true => (picked, Cow::Borrowed(part.events)),
            false => {
                let taken = picked.events.iter().map(|index| part.events[*index as usize]).collect();
                (picked, Cow::Owned(taken))
            }
        }
    }

    fn answer<'a>(
        &'a mut self,
        program: &Program,
        part: &Part<'_, '_>,
        taken: &'a [Event<'a>],
        picked: &mut Picked,
    ) -> Answers<'a> {
        let plan = &program.plans[usize::from(part.number)];
        let call = Call { route: &plan.id, generation: program.generation, attempt: part.attempt };
        let (workers, arenas) = (&mut self.workers, &mut self.arenas[..plan.stages.len()]);
        let run = match taken {
            [] => Run::default(),
            taken => chain::run(&plan.stages, plan.direct, workers, &call, taken, arenas, &mut || ()),
        };
        let mut answers = Answers::new(part.events.len());
        answers.add(part.number, picked, run);
        answers
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::marks::Outcome;
    use super::super::testing::letter;
    use super::*;
    use crate::config::load_stored;

    #[test]
    fn a_letter_stands_open_unless_something_is_against_it() {
        let text = "[routes.a]\nfrom = 'in'\nto = 'out'\n[routes.r]\nfrom = 'in'\nto = 'out'\nwas = 'old'\n";
        let path = PathBuf::from("midplane.toml");
        let config = load_stored(&path, vec![(path.clone(), text.to_owned())]).expect("valid").config;
        let routes = Routes::of(&config);
        let check = |headers: &[(&str, &str)], redriven: bool, expected| {
            let letter = letter(5, headers, "{}");
            let mark = redriven.then(|| Mark::new(&letter, "r", 1, Outcome::Dropped));
            assert_eq!(standing(&letter, mark.as_ref(), &routes), expected, "{headers:?}");
        };
        check(&[], false, Standing::Open(1));
        check(&[("route", "old")], false, Standing::Open(1));
        check(&[("route", "a")], false, Standing::Open(0));
        check(&[("route", "gone")], false, Standing::NoRoute);
        check(&[("truncated", "9")], false, Standing::Truncated);
        check(&[("route", "gone"), ("truncated", "9")], false, Standing::Truncated);
        check(&[("truncated", "9")], true, Standing::Redriven);
        check(&[], true, Standing::Redriven);
    }
}
