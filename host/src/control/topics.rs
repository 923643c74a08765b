//! The topics that a config needs: waited for, made or refused before anything runs, and watched while it runs. Decides
//! nothing about events.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::config::model::{Broker, Config, Selector, Start};
use crate::data::program::Program;
use crate::kafka::start::{self, Begin};
use crate::kafka::topics::{NewTopic, TopicInfo, Topics};
use crate::kafka::{self, Connection, Consumer, ConsumerSettings, Partition};

/// How long the broker may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before the broker is asked again what it could not say.
const AGAIN_INTERVAL: Duration = Duration::from_millis(200);
/// How long a topic that was just made may take to be in the broker's answers, and how often it is looked for.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(2);
const VISIBLE_INTERVAL: Duration = Duration::from_millis(100);
/// Topics that belong to brokers and tools; patterns never match them.
const INTERNAL_PREFIX: &str = "__";

/// Why the topics are not as they have to be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Topics that routes write to don't exist, and nobody may make them.
    #[error("{}", missing_message(.0))]
    Missing(Vec<String>),
    /// Topics that routes write to may not be written to.
    #[error("{}", forbidden_message(.0))]
    Forbidden(Vec<String>),
    /// The broker refused.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// The host was told to stop while it waited.
    #[error("stopped while waiting for the broker")]
    Stopped,
}

fn missing_message(topics: &[String]) -> String {
    let mut message = "topics that routes write to do not exist:".to_owned();
    for topic in topics {
        message.push_str(&format!("\n  {topic}"));
    }
    message.push_str("\nMake them with\n  midplane topic create");
    for topic in topics {
        message.push_str(&format!(" {topic}"));
    }
    message.push_str("\nor set `create_topics = true` in [broker].");
    message
}

fn forbidden_message(topics: &[String]) -> String {
    let mut message = "topics that routes write to may not be written to by this host's user:".to_owned();
    for topic in topics {
        message.push_str(&format!("\n  {topic}"));
    }
    message.push_str("\nGrant it `Write` on them, with the broker's access control.");
    message
}

/// How long a broker is waited for that doesn't answer.
#[derive(Debug, Clone, Copy)]
pub struct Patience<'a> {
    stopping: &'a AtomicBool,
    until: Option<Instant>,
}

impl<'a> Patience<'a> {
    /// For as long as it takes, until the host is told to stop: at the start there is nothing else to do.
    pub fn endless(stopping: &'a AtomicBool) -> Self {
        Self { stopping, until: None }
    }

    /// Once, and a little more: a host that runs has other things to do, and comes back to it.
    pub fn short(stopping: &'a AtomicBool) -> Self {
        Self { stopping, until: Some(Instant::now() + ANSWER_TIMEOUT) }
    }

    /// What is made of an answer that may be another one later, where it isn't waited for any more.
    fn end(&self, error: kafka::Error) -> Result<kafka::Error, Error> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Error::Stopped);
        }
        if self.until.is_some_and(|until| Instant::now() >= until) { Err(error.into()) } else { Ok(error) }
    }
}

/// Waits until the broker answers, and says so.
///
/// # Errors
/// Where the host is told to stop meanwhile, or patience ends.
pub fn wait_for(topics: &Topics, patience: Patience<'_>) -> Result<Vec<TopicInfo>, Error> {
    let mut said = false;
    loop {
        match topics.list(ANSWER_TIMEOUT) {
            Ok(list) => {
                if said {
                    tracing::info!("The broker answers.");
                }
                return Ok(list);
            }
            Err(error @ (kafka::Error::Unreachable { .. } | kafka::Error::Refused { .. })) => {
                let error = patience.end(error)?;
                tracing::warn!(%error, "The broker does not answer; waiting for it.");
                said = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes the topics that are missing, as far as the config says so: on the embedded broker all that it names, on Kafka those
/// that routes write to, if at all. Refuses where one that routes write to is missing still. Says which topics to be read are
/// missing: those may come later. Gives all topics that there are.
///
/// # Errors
/// Where topics are missing, or can't be made, or where the host is told to stop while it waits for the broker, or patience
/// ends.
pub fn prepare(config: &Config, topics: &Topics, patience: Patience<'_>) -> Result<Vec<TopicInfo>, Error> {
    let present = wait_for(topics, patience)?;
    let made: Vec<&str> = match &config.broker {
        Broker::Embedded(_) => written(config).chain(read(config)).collect(),
        Broker::Kafka(kafka) if kafka.create_topics => written(config).collect(),
        Broker::Kafka(_) => Vec::new(),
    };
    let new = missing(made.into_iter(), &present);
    if !new.is_empty() {
        make(topics, &new)?;
        tracing::info!(topics = new.into_iter().collect::<Vec<_>>().join(","), "Topics were made.");
    }
    let present = wait_for_named(config, topics, patience)?;
    let unwritable = missing(written(config), &present);
    for topic in missing(read(config), &present).difference(&unwritable) {
        tracing::warn!(topic, "A topic that is to be read does not exist; it is read once it does.");
    }
    if !unwritable.is_empty() {
        return Err(Error::Missing(unwritable.into_iter().map(str::to_owned).collect()));
    }
    match &config.broker {
        Broker::Kafka(_) => check_access(config, topics)?,
        Broker::Embedded(_) => {}
    }
    Ok(present)
}

/// Refuses where the broker says that a topic which routes write to may not be written to. What it doesn't say is found out by
/// writing: the partition of the event then waits.
fn check_access(config: &Config, topics: &Topics) -> Result<(), Error> {
    let names: BTreeSet<&str> = written(config).collect();
    let names: Vec<_> = names.into_iter().collect();
    let access = match topics.may_write(&names, ANSWER_TIMEOUT) {
        Ok(access) => access,
        Err(error) => {
            tracing::debug!(%error, "The broker does not say which topics may be written to.");
            return Ok(());
        }
    };
    let forbidden = names.iter().zip(access).filter(|(_, may)| *may == Some(false));
    let forbidden: Vec<_> = forbidden.map(|(topic, _)| (*topic).to_owned()).collect();
    if forbidden.is_empty() { Ok(()) } else { Err(Error::Forbidden(forbidden)) }
}

/// Makes topics, also where others make them at the same time: of several hosts that start at once, each finds the same ones
/// missing.
///
/// # Errors
/// Where one can't be made.
pub fn make(topics: &Topics, names: &BTreeSet<&str>) -> Result<(), Error> {
    let new: Vec<_> = names.iter().map(|name| NewTopic { name: (*name).to_owned(), ..NewTopic::default() }).collect();
    let is_there = |error: &kafka::Error| error.code() == Some(kafka::Code::TOPIC_ALREADY_EXISTS);
    match topics.create(&new, ANSWER_TIMEOUT) {
        // The answer says so of one, and nothing of the others.
        Err(error) if is_there(&error) => {
            new.iter().try_for_each(|topic| match topics.create(std::slice::from_ref(topic), ANSWER_TIMEOUT) {
                Err(error) if !is_there(&error) => Err(error.into()),
                _ => Ok(()),
            })
        }
        made => Ok(made?),
    }
}

/// Waits until the broker answers, and lists what the config names, if it is there: a topic that was made a moment ago is
/// not in every answer yet.
fn wait_for_named(config: &Config, topics: &Topics, patience: Patience<'_>) -> Result<Vec<TopicInfo>, Error> {
    let deadline = Instant::now() + VISIBLE_TIMEOUT;
    loop {
        let present = wait_for(topics, patience)?;
        let all_there = missing(written(config).chain(read(config)), &present).is_empty();
        if all_there || Instant::now() >= deadline {
            return Ok(present);
        }
        std::thread::sleep(VISIBLE_INTERVAL);
    }
}

fn written(config: &Config) -> impl Iterator<Item = &str> {
    let topics = config.routes.iter().flat_map(|route| route.to.values().chain([&route.failure.dead_letter]));
    topics.map(String::as_str)
}

fn read(config: &Config) -> impl Iterator<Item = &str> {
    config.routes.iter().flat_map(|route| &route.from).filter_map(|from| match from {
        Selector::Topic(topic) => Some(topic.as_str()),
        Selector::Pattern(_) => None,
    })
}

fn missing<'c>(named: impl Iterator<Item = &'c str>, present: &[TopicInfo]) -> BTreeSet<&'c str> {
    let present: BTreeSet<&str> = present.iter().map(|topic| topic.name.as_str()).collect();
    named.filter(|topic| !present.contains(topic)).collect()
}

/// What was found at the start.
#[derive(Debug, Default, Clone)]
pub struct Found {
    /// The topics that there are.
    pub present: Vec<TopicInfo>,
    /// What those take that routes write to.
    pub sizes: Sizes,
}

/// What the topics take that routes write to.
#[derive(Debug, Default, Clone)]
pub struct Sizes {
    /// By topic, the bytes of the largest batch. Of a topic that isn't here, the broker didn't say it.
    batch_bytes_max: BTreeMap<String, usize>,
    /// Those that are compacted.
    compacted: BTreeSet<String>,
}

impl Sizes {
    /// The largest batch that every one of these topics takes. None where the broker said it of none of them.
    pub fn batch_bytes_max<'t>(&self, topics: impl Iterator<Item = &'t str>) -> Option<usize> {
        topics.filter_map(|topic| self.batch_bytes_max.get(topic)).copied().min()
    }

    /// The largest record that is worth trying on a topic. Where the client compresses, only the broker can tell.
    pub fn record_bytes_max(&self, topic: &str, connection: &Connection) -> usize {
        let known = self.batch_bytes_max.get(topic).copied().filter(|_| !connection.compresses());
        known.unwrap_or(usize::MAX).min(kafka::settings::RECORD_BYTES_MAX)
    }
}

/// Asks what the topics take that routes write to. Where the broker doesn't say, it is found out by trying.
pub fn sizes(topics: &Topics, programs: &[Arc<Program>]) -> Sizes {
    let written = programs
        .iter()
        .flat_map(|program| program.written().into_iter().map(|number| program.topics[usize::from(number)].as_str()));
    let written: BTreeSet<&str> = written.collect();
    let written: Vec<_> = written.into_iter().collect();
    let (mut batch_bytes_max, mut compacted) = (BTreeMap::new(), BTreeSet::new());
    match topics.settings(&written, ANSWER_TIMEOUT) {
        Ok(settings) => {
            for (&topic, of) in written.iter().zip(settings) {
                batch_bytes_max.extend(of.batch_bytes_max.map(|bytes| (topic.to_owned(), bytes)));
                compacted.extend(of.cleanup.filter(|cleanup| cleanup.compacts).map(|_| topic.to_owned()));
            }
            if batch_bytes_max.len() < written.len() {
                let unknown = written.len() - batch_bytes_max.len();
                tracing::info!(unknown, "The broker does not say of all topics how large a record they take.");
            }
        }
        Err(error) => tracing::warn!(%error, "The broker does not say how large a record its topics take."),
    }
    Sizes { batch_bytes_max, compacted }
}

/// What follows from the compaction of topics that routes write to, a sentence each. None of it is refused: it may be meant, or
/// never happen.
pub fn doubts(programs: &[Arc<Program>], sizes: &Sizes) -> BTreeSet<String> {
    let is_compacted = |program: &Program, topic: u16| sizes.compacted.contains(&program.topics[usize::from(topic)]);
    let mut doubts = BTreeSet::new();
    for program in programs {
        let letters: BTreeSet<u16> = program.plans.iter().map(|plan| plan.dead_letter).collect();
        for number in program.written().into_iter().filter(|number| is_compacted(program, *number)) {
            let topic = &program.topics[usize::from(number)];
            doubts.insert(match letters.contains(&number) {
                true => format!(
                    "dead-letter topic `{topic}` is compacted: the letter of an event without a key can't be written to it, and its \
                     partition stands until it can; of the letters of a key only the newest stays. Give it `cleanup.policy=delete`, \
                     or name another topic as `dead_letter`"
                ),
                false => format!(
                    "topic `{topic}` is compacted: an output without a key is refused, and its event dead-lettered (`rejected`); of \
                     the outputs of a key only the newest stays. If that is not meant, give it `cleanup.policy=delete`"
                ),
            });
        }
    }
    doubts
}

/// The topics that a group reads: those that its routes name, and those there are that a pattern matches.
pub fn of_group(program: &Program, present: &[TopicInfo]) -> Vec<String> {
    let mut topics: BTreeSet<String> = program.index.named().map(str::to_owned).collect();
    if program.index.has_patterns() {
        let matched = present.iter().filter(|topic| !topic.name.starts_with(INTERNAL_PREFIX));
        topics.extend(matched.filter(|topic| program.index.reads(&topic.name)).map(|topic| topic.name.clone()));
    }
    topics.into_iter().collect()
}

/// Decides where a group begins that has never been seen, and commits that; not for topics whose routes come from another
/// group, which go on where that one stood.
///
/// # Errors
/// Where the broker refuses.
pub fn begin(
    connection: &Connection,
    client_id: &str,
    program: &Arc<Program>,
    start: Start,
    present: &[TopicInfo],
    moved: &BTreeSet<String>,
    patience: Patience<'_>,
) -> Result<(), Error> {
    let read = of_group(program, present);
    let topics = present.iter().filter(|topic| read.contains(&topic.name) && !moved.contains(&topic.name));
    let topics: Vec<_> = topics.cloned().collect();
    let settings = settings(connection, client_id, &program.group);
    let begin = match start {
        Start::Earliest => Begin::Earliest,
        Start::Latest => Begin::Latest,
        Start::At(time) => Begin::At(time),
    };
    let metadata = program.commit_metadata(None);
    let resolve = || start::resolve(&settings, &topics, begin, &metadata, ANSWER_TIMEOUT);
    let outcome = insist(&program.group, patience, resolve)?;
    tracing::debug!(group = program.group, ?outcome, "The group's start is decided.");
    Ok(())
}

/// Asks for a group's offsets until the broker says them, or refuses, or patience ends.
fn insist<T>(group: &str, patience: Patience<'_>, ask: impl Fn() -> Result<T, kafka::Error>) -> Result<T, Error> {
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if error.may_pass() => {
                let error = patience.end(error)?;
                tracing::warn!(group, %error, "The group's offsets cannot be read; trying again.");
                std::thread::sleep(AGAIN_INTERVAL);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Has the broker keep where a group goes on that doesn't run yet, with topics that it gets from others: where those stand. As
/// long as those go on themselves, its place is only `held`: whatever happens to this process, the group begins there at the
/// latest, and [`take_over`] says it better.
///
/// # Errors
/// Where the broker refuses.
pub fn hold(
    connection: &Connection,
    client_id: &str,
    program: &Program,
    from: &[(&str, Vec<&TopicInfo>)],
    held: bool,
    patience: Patience<'_>,
) -> Result<(), Error> {
    let metadata = if held { program.held_metadata() } else { program.commit_metadata(None) };
    insist(&program.group, patience, || {
        let mut starts = HashMap::new();
        for (origin, topics) in from {
            starts.extend(offsets(connection, client_id, origin, topics)?);
        }
        if !starts.is_empty() {
            start::take_over(&settings(connection, client_id, &program.group), &starts, &metadata, ANSWER_TIMEOUT)?;
        }
        Ok(())
    })
}

/// A client that names a group.
fn settings(connection: &Connection, client_id: &str, group: &str) -> ConsumerSettings {
    ConsumerSettings {
        connection: connection.clone(),
        group: group.to_owned(),
        client_id: client_id.to_owned(),
        buffer_bytes: kafka::settings::CONSUMER_BUFFER_BYTES,
    }
}

/// Commits where a group without members goes on with partitions that another group had so far: what happens to this process
/// next doesn't change it.
///
/// # Errors
/// Where the broker doesn't answer, or refuses.
pub fn take_over(
    connection: &Connection,
    client_id: &str,
    program: &Program,
    starts: &HashMap<Partition, i64>,
) -> Result<(), Error> {
    let settings = settings(connection, client_id, &program.group);
    start::take_over(&settings, starts, &program.commit_metadata(None), ANSWER_TIMEOUT)?;
    Ok(())
}

/// What a group has committed for the partitions of some topics.
///
/// # Errors
/// Where the broker doesn't answer, or refuses.
pub fn committed(
    connection: &Connection,
    client_id: &str,
    group: &str,
    topics: &[&TopicInfo],
) -> Result<Vec<(Partition, i64)>, Error> {
    Ok(offsets(connection, client_id, group, topics)?)
}

fn offsets(
    connection: &Connection,
    client_id: &str,
    group: &str,
    topics: &[&TopicInfo],
) -> Result<Vec<(Partition, i64)>, kafka::Error> {
    let mut client = Consumer::new(&settings(connection, client_id, group))?;
    let partitions = topics.iter().flat_map(|topic| (0..topic.partitions).map(|number| (topic.name.as_str(), number)));
    let partitions: Vec<_> = partitions.collect();
    let committed = client.committed(partitions.into_iter(), ANSWER_TIMEOUT)?;
    Ok(committed.into_iter().filter_map(|found| Some(((found.topic, found.partition), found.offset?))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_topic_bounds_batches_and_each_bounds_its_records() {
        let sizes = Sizes {
            compacted: BTreeSet::new(),
            batch_bytes_max: BTreeMap::from([("a".to_owned(), 5000), ("b".to_owned(), 2000)]),
        };
        let batch = |topics: &[&str]| sizes.batch_bytes_max(topics.iter().copied());
        assert_eq!(batch(&["a", "b", "unknown"]), Some(2000));
        assert_eq!(batch(&["a"]), Some(5000));
        assert_eq!(batch(&["unknown"]), None);
        let record = |topic, codec: Option<&str>| {
            let client = codec.map(|codec| ("compression.type".to_owned(), codec.to_owned())).into_iter().collect();
            sizes.record_bytes_max(topic, &Connection { bootstrap: String::new(), client })
        };
        assert_eq!(record("b", None), 2000);
        assert_eq!(record("b", Some("none")), 2000);
        assert_eq!(record("b", Some("zstd")), kafka::settings::RECORD_BYTES_MAX);
        assert_eq!(record("unknown", None), kafka::settings::RECORD_BYTES_MAX);
    }

    #[test]
    fn missing_topics_come_with_the_command_that_makes_them() {
        let message = Error::Missing(vec!["a".to_owned(), "b".to_owned()]).to_string();
        assert_eq!(
            message,
            "topics that routes write to do not exist:\n  a\n  b\nMake them with\n  midplane topic create a b\n\
             or set `create_topics = true` in [broker]."
        );
    }
}
