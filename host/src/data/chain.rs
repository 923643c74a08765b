//! A route's chain of plugins over a batch of one lane's events. Takes the events that the route picked, and gives one
//! answer for each: what is ready to be produced, in its order, or why it failed. Produces nothing itself.

use std::borrow::Cow;
use std::ops::Range;

use super::event::{Event, Headers, OutputHeaders};
use super::failure::{Failure, Kind};
use super::plugin::Call;
use super::plugin::verdicts::{Field, HeaderList, Output, Verdict, Verdicts};

/// Something that answers a batch: an instance of a plugin with all that keeps it going.
pub trait Worker {
    /// Fills the verdicts, in the events' order: one for each, or, where their outputs become too much to be held or their
    /// time too long, for fewer, but at least for one, and however long it takes for the first `at_least`. Calls `between`
    /// now and then, so that the shard can keep its place in the group.
    fn run(
        &mut self,
        call: &Call<'_>,
        events: &[Event<'_>],
        at_least: usize,
        verdicts: &mut Verdicts,
        between: &mut dyn FnMut(),
    );
}

impl Worker for super::plugin::Worker {
    fn run(
        &mut self,
        call: &Call<'_>,
        events: &[Event<'_>],
        at_least: usize,
        verdicts: &mut Verdicts,
        between: &mut dyn FnMut(),
    ) {
        Self::run(self, call, events, at_least, verdicts, between);
    }
}

/// Where a port leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// To the next plugin of the chain.
    Next,
    /// To an output topic, by its index.
    Topic(u16),
    /// Nowhere: the route does not bind it.
    Unbound,
}

/// One plugin of a chain.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Index of its worker on this shard; routes that agree in plugin, config and ports share one.
    pub worker: usize,
    /// For each port that the plugin describes.
    pub targets: Vec<Target>,
}

/// An output on its way out, borrowed from wherever its parts are.
#[derive(Debug, Clone, Copy)]
pub struct Ready<'a> {
    /// Index of its topic.
    pub topic: u16,
    /// The plugin that made it: an index into the route's stages. None where there is no plugin.
    pub stage: Option<u16>,
    /// Its key, if any.
    pub key: Option<&'a [u8]>,
    /// Its value, if any.
    pub value: Option<&'a [u8]>,
    /// Its headers, those of the host not yet among them.
    pub headers: Headers<'a>,
    /// Milliseconds since the Unix epoch, or -1: none.
    pub timestamp: i64,
    /// None: by the key.
    pub partition: Option<u32>,
}

/// What became of one event on one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// These of [`Run::ready`]; none is a deliberate drop.
    Ready(Range<u32>),
    /// It failed, in the plugin of this stage, or before any.
    Failed {
        /// What happened.
        failure: Failure,
        /// Index into the route's stages.
        stage: Option<usize>,
    },
}

/// A batch's answers.
#[derive(Debug, Default)]
pub struct Run<'a> {
    /// The outputs of all events, in the events' order.
    pub ready: Vec<Ready<'a>>,
    /// One for each of the first events: for all of them, unless their outputs are too much to be held at once.
    pub answers: Vec<Answer>,
    /// What the outputs of all stages take in memory, roughly.
    pub weight: usize,
    /// For each answer the versions that gave it, as [`super::route::Trials`] numbers them; empty where those were the live ones.
    pub variants: Vec<u8>,
}

/// One stage's part of a run: its events, what was said of them, and where its children begin in the next stage.
struct View<'a> {
    events: Cow<'a, [Event<'a>]>,
    verdicts: &'a Verdicts,
    children: Vec<u32>,
}

/// Runs events through a chain. `arenas` holds as many verdicts as there are stages. Without stages, each event goes to
/// `direct` as it is.
pub fn run<'a, W: Worker>(
    stages: &[Stage],
    direct: u16,
    workers: &mut [W],
    call: &Call<'_>,
    events: &'a [Event<'a>],
    arenas: &'a mut [Verdicts],
    between: &mut dyn FnMut(),
) -> Run<'a> {
    if stages.is_empty() {
        return forward(events, direct);
    }
    let mut views = Vec::with_capacity(stages.len());
    descend(stages, workers, call, Cow::Borrowed(events), 1, arenas, between, &mut views);
    let mut run = Run {
        ready: Vec::with_capacity(events.len()),
        answers: Vec::with_capacity(events.len()),
        weight: views.iter().map(|view| view.verdicts.weight()).sum(),
        variants: Vec::new(),
    };
    for index in 0..events.len() {
        let first = run.ready.len();
        let answer = match assemble(stages, &views, 0, index, &mut run.ready) {
            Ok(()) => Answer::Ready(first as u32..run.ready.len() as u32),
            Err(Incomplete::Failed { stage, failure }) => {
                Answer::Failed { failure: failure.clone(), stage: Some(stage) }
            }
            Err(Incomplete::Unanswered { .. }) if index > 0 => {
                run.ready.truncate(first);
                break;
            }
            // What doesn't fit although nothing else is in hand never will.
            Err(Incomplete::Unanswered { stage }) => {
                let message = "the outputs of one event are more than can be held within the chain";
                Answer::Failed { failure: Failure::new(Kind::Output, message), stage: Some(stage) }
            }
        };
        if matches!(answer, Answer::Failed { .. }) {
            run.ready.truncate(first);
        }
        run.answers.push(answer);
    }
    run
}

fn forward<'a>(events: &'a [Event<'a>], topic: u16) -> Run<'a> {
    let ready = events.iter().map(|event| Ready {
        topic,
        stage: None,
        key: event.key,
        value: event.value,
        headers: event.headers,
        timestamp: event.timestamp,
        partition: None,
    });
    Run {
        ready: ready.collect(),
        answers: (0..events.len() as u32).map(|index| Answer::Ready(index..index + 1)).collect(),
        weight: 0,
        variants: Vec::new(),
    }
}

/// Goes once more over what a run left in its arenas, for the first events of those that it was given: calls `see` with each
/// stage that was reached, its events, and the verdicts that it gave of them, or of the first ones.
pub fn review(
    stages: &[Stage],
    events: &[Event<'_>],
    arenas: &[Verdicts],
    see: &mut dyn FnMut(usize, &[Event<'_>], &Verdicts),
) {
    review_from(0, stages, events, arenas, see);
}

fn review_from(
    number: usize,
    stages: &[Stage],
    events: &[Event<'_>],
    arenas: &[Verdicts],
    see: &mut dyn FnMut(usize, &[Event<'_>], &Verdicts),
) {
    let (Some(stage), Some((verdicts, arenas))) = (stages.get(number), arenas.split_first()) else { return };
    let events = &events[..events.len().min(verdicts.len())];
    if events.is_empty() {
        return;
    }
    see(number, events, verdicts);
    let mut handed_on = Vec::new();
    for (index, event) in events.iter().enumerate() {
        hand_on(stage, event, verdicts, index, &mut handed_on);
    }
    review_from(number + 1, stages, &handed_on, arenas, see);
}

/// Adds what a stage hands on of one event.
fn hand_on<'a>(stage: &Stage, event: &Event<'a>, verdicts: &'a Verdicts, index: usize, handed_on: &mut Vec<Event<'a>>) {
    if let Verdict::Outputs(outputs) = verdicts.get(index) {
        let next = outputs.iter().filter(|output| stage.targets[usize::from(output.port)] == Target::Next);
        handed_on.extend(next.map(|output| child(event, output, verdicts)));
    }
}

/// Runs the first of the stages, and the rest with what it handed on. `at_least` of its events belong to the first event of
/// the chain, which has to be answered whole.
#[expect(clippy::too_many_arguments, reason = "the recursion borrows each of them apart")]
fn descend<'a, W: Worker>(
    stages: &[Stage],
    workers: &mut [W],
    call: &Call<'_>,
    events: Cow<'a, [Event<'a>]>,
    at_least: usize,
    arenas: &'a mut [Verdicts],
    between: &mut dyn FnMut(),
    views: &mut Vec<View<'a>>,
) {
    let Some((stage, rest)) = stages.split_first() else {
        return;
    };
    let (arena, arenas) = arenas.split_first_mut().expect("an arena for each stage");
    workers[stage.worker].run(call, &events, at_least, arena, between);
    assert!(!arena.is_empty() && arena.len() <= events.len(), "a worker answers its first events");
    let verdicts: &'a Verdicts = arena;
    let (mut children, mut handed_on) = (Vec::new(), Vec::new());
    if !rest.is_empty() {
        for (index, event) in events.iter().enumerate().take(verdicts.len()) {
            children.push(handed_on.len() as u32);
            hand_on(stage, event, verdicts, index, &mut handed_on);
        }
    }
    let at_least = children.get(at_least).map_or(handed_on.len(), |first| *first as usize);
    views.push(View { events, verdicts, children });
    if !handed_on.is_empty() {
        descend(rest, workers, call, Cow::Owned(handed_on), at_least, arenas, between, views);
    }
}

/// What the next plugin sees of an output: the origin's place and time with the output's key, value and headers.
fn child<'a>(event: &Event<'a>, output: &Output, verdicts: &'a Verdicts) -> Event<'a> {
    Event {
        key: field(output.key, event.key, verdicts),
        value: field(output.value, event.value, verdicts),
        headers: headers(output, event, verdicts),
        ..*event
    }
}

/// A key or a value, wherever it is kept.
pub(super) fn field<'a>(field: Field, own: Option<&'a [u8]>, verdicts: &'a Verdicts) -> Option<&'a [u8]> {
    match field {
        Field::Inherited => own,
        Field::Null => None,
        Field::Bytes(span) => Some(verdicts.bytes(span)),
    }
}

/// The headers of an output, wherever they are kept.
pub(super) fn headers<'a>(output: &Output, event: &Event<'a>, verdicts: &'a Verdicts) -> Headers<'a> {
    match &output.headers {
        HeaderList::Inherited => event.headers,
        HeaderList::List(range) if range.is_empty() => Headers::Empty,
        HeaderList::List(range) => Headers::Output(OutputHeaders::new(verdicts, range.clone())),
    }
}

/// Why an event has no outputs to be produced.
enum Incomplete<'v> {
    /// It failed, in the plugin of this stage.
    Failed { stage: usize, failure: &'v Failure },
    /// This stage has not come to it, or not to all that it became.
    Unanswered { stage: usize },
}

/// Collects what one event of a stage leads to, each output followed at once to the end of the chain, so that outputs
/// come in the order in which one plugin alone would have made them.
fn assemble<'a, 'v>(
    stages: &[Stage],
    views: &'v [View<'a>],
    depth: usize,
    index: usize,
    ready: &mut Vec<Ready<'a>>,
) -> Result<(), Incomplete<'v>> {
    let view = &views[depth];
    if index >= view.verdicts.len() {
        return Err(Incomplete::Unanswered { stage: depth });
    }
    let outputs = match view.verdicts.get(index) {
        Verdict::Outputs(outputs) => outputs,
        Verdict::Failed(failure) => return Err(Incomplete::Failed { stage: depth, failure }),
    };
    let event = &view.events[index];
    let mut next = view.children.get(index).copied().unwrap_or(0) as usize;
    for output in outputs {
        match stages[depth].targets[usize::from(output.port)] {
            Target::Next => {
                assemble(stages, views, depth + 1, next, ready)?;
                next += 1;
            }
            Target::Topic(topic) => ready.push(Ready {
                topic,
                stage: Some(depth as u16),
                key: field(output.key, event.key, view.verdicts),
                value: field(output.value, event.value, view.verdicts),
                headers: headers(output, event, view.verdicts),
                timestamp: output.timestamp.unwrap_or(event.timestamp),
                partition: output.partition,
            }),
            Target::Unbound => unreachable!("workers refuse outputs to ports that aren't bound"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that splits the value at commas onto port 0, sends what begins with `!` to port 1, and fails on `?`.
    /// Answers so many events at most, and has time for so many.
    struct Splitter(usize, usize);

    impl Worker for Splitter {
        fn run(
            &mut self,
            _: &Call<'_>,
            events: &[Event<'_>],
            at_least: usize,
            verdicts: &mut Verdicts,
            between: &mut dyn FnMut(),
        ) {
            verdicts.clear();
            for event in events.iter().take(self.0).take(self.1.max(at_least)) {
                let first = verdicts.outputs_len();
                let value = event.value.unwrap_or_default();
                if value.contains(&b'?') {
                    verdicts.fail(first, Failure::new(Kind::Permanent, String::from_utf8_lossy(value)));
                    continue;
                }
                for part in value.split(|byte| *byte == b',').filter(|part| !part.is_empty()) {
                    let port = u16::from(part[0] == b'!');
                    let value = Field::Bytes(verdicts.push_bytes(part));
                    let output = Output {
                        port,
                        key: Field::Inherited,
                        value,
                        headers: HeaderList::Inherited,
                        timestamp: None,
                        partition: None,
                    };
                    verdicts.push_output(output);
                }
                verdicts.answer(first);
            }
            between();
        }
    }

    /// Runs values through `stages` splitters (port 0 handed on, the last one's to topic 0; port 1 to topic 1 + stage),
    /// and prints answers as `topic:value` joined by spaces, or `failed in STAGE`.
    fn check(stages: usize, values: &[&str], expected: &[&str]) {
        check_bounded(stages, Splitter(usize::MAX, usize::MAX), values, expected);
    }

    fn check_bounded(stages: usize, worker: Splitter, values: &[&str], expected: &[&str]) {
        let chain: Vec<_> = (0..stages)
            .map(|stage| Stage {
                worker: 0,
                targets: vec![
                    if stage + 1 == stages { Target::Topic(0) } else { Target::Next },
                    Target::Topic(1 + stage as u16),
                ],
            })
            .collect();
        let events: Vec<_> = values
            .iter()
            .map(|value| Event {
                topic: "t",
                partition: 0,
                offset: 0,
                timestamp: 7,
                key: Some(b"k"),
                value: Some(value.as_bytes()),
                headers: Headers::Empty,
            })
            .collect();
        let mut arenas: Vec<_> = (0..stages).map(|_| Verdicts::default()).collect();
        let call = Call { route: "r", generation: 1, attempt: 1 };
        let run = run(&chain, 0, &mut [worker], &call, &events, &mut arenas, &mut || ());
        let print = |answer: &Answer| match answer {
            Answer::Failed { stage, .. } => {
                format!("failed in {}", stage.expect("a plugin failed"))
            }
            Answer::Ready(range) => {
                let ready = &run.ready[range.start as usize..range.end as usize];
                assert!(ready.iter().all(|ready| ready.key == Some(b"k") && ready.timestamp == 7));
                let print =
                    |ready: &Ready<'_>| format!("{}:{}", ready.topic, String::from_utf8_lossy(ready.value.unwrap()));
                let made_by = |topic: u16| topic.checked_sub(1).or((stages as u16).checked_sub(1));
                assert!(ready.iter().all(|ready| ready.stage == made_by(ready.topic)));
                ready.iter().map(print).collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(run.answers.iter().map(print).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn without_plugins_events_pass_as_they_are() {
        check(0, &["a,b", ""], &["0:a,b", "0:"]);
    }

    #[test]
    fn one_plugin_answers_each_event() {
        check(1, &["a,b", "", "c?", "!d,e"], &["0:a 0:b", "", "failed in 0", "1:!d 0:e"]);
    }

    #[test]
    fn a_chain_keeps_the_order_of_outputs_and_fails_whole() {
        check(2, &["a,!x,b", "!y", "", "?"], &["0:a 1:!x 0:b", "1:!y", "", "failed in 0"]);
        check(3, &["a", "b,c"], &["0:a", "0:b 0:c"]);
    }

    #[test]
    fn a_review_shows_what_each_stage_saw_and_said() {
        let stage = |target| Stage { worker: 0, targets: vec![target, Target::Topic(1)] };
        let chain = [stage(Target::Next), stage(Target::Topic(0))];
        let event = |value: &'static str| Event {
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp: 7,
            key: None,
            value: Some(value.as_bytes()),
            headers: Headers::Empty,
        };
        let events = ["a,!x,b", "?", "c", "d"].map(event);
        let mut arenas = [Verdicts::default(), Verdicts::default()];
        let call = Call { route: "r", generation: 1, attempt: 1 };
        run(&chain, 0, &mut [Splitter(usize::MAX, usize::MAX)], &call, &events, &mut arenas, &mut || ());
        let mut seen = Vec::new();
        review(&chain, &events[..3], &arenas, &mut |stage, events, verdicts| {
            for (index, event) in events.iter().enumerate() {
                let said = match verdicts.get(index) {
                    Verdict::Outputs(outputs) => outputs.len().to_string(),
                    Verdict::Failed(failure) => failure.kind.to_string(),
                };
                seen.push(format!("{stage} {}: {said}", String::from_utf8_lossy(event.value.unwrap_or_default())));
            }
        });
        assert_eq!(seen, ["0 a,!x,b: 3", "0 ?: permanent", "0 c: 1", "1 a: 1", "1 b: 1", "1 c: 1"]);
    }

    #[test]
    fn events_that_were_not_answered_are_left_for_later() {
        let bounded = |events_max| Splitter(events_max, usize::MAX);
        check_bounded(1, bounded(2), &["a", "b", "c"], &["0:a", "0:b"]);
        check_bounded(2, bounded(3), &["a,b", "c,d", "e"], &["0:a 0:b"]);
        check_bounded(2, bounded(2), &["a,b,c", "d"], &["failed in 1"]);
    }

    #[test]
    fn the_first_event_is_answered_whole_however_long_that_takes() {
        let hurried = |events_max| Splitter(usize::MAX, events_max);
        check_bounded(1, hurried(1), &["a", "b"], &["0:a"]);
        check_bounded(2, hurried(1), &["a,!x,b", "c"], &["0:a 1:!x 0:b"]);
        check_bounded(2, hurried(2), &["a,b,c", "d"], &["0:a 0:b 0:c"]);
        check_bounded(3, hurried(1), &["a,b", "c"], &["0:a 0:b"]);
        check_bounded(2, hurried(1), &["?", "c"], &["failed in 0"]);
        check_bounded(2, hurried(1), &["", "c"], &[""]);
    }
}
