//! Where a group begins to read: decided by the host, once, and committed, so that librdkafka never decides it.
//!
//! `start` holds for what is there when the group is first seen, which is when it has no committed offset for any partition
//! of its topics: then [`resolve`] commits a position for all of them, before any shard subscribes. What appears later
//! begins with its first event: [`positions`] finds that when a partition is assigned.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::consumer::{Committed, Consumer, Partition};
use super::error::{Code, Error};
use super::settings::ConsumerSettings;
use super::topics::TopicInfo;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// The first event that is there.
    Earliest,
    /// The next event that comes.
    Latest,
    /// The first event at or after a time, in milliseconds since the Unix epoch; the next one that comes where there is none.
    At(i64),
}

/// What [`resolve`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The group was seen before: nothing was changed.
    Seen,
    /// It is new, and begins where it was told to; so many partitions.
    Begun(usize),
    /// Others are reading with it right now, and have decided.
    Elsewhere,
}

/// The end of what is committed with a place that is only held: where a group will go on at the latest, if nobody says it better.
pub const HELD: &str = r#","held":true}"#;

/// The token of the commits that [`positions`] makes: their answers come through [`Consumer::poll`] like all others.
pub const TOKEN: usize = usize::MAX;

/// Decides where a group begins with these topics, if it is new. To be called before a shard of it subscribes.
///
/// # Errors
/// Where the broker doesn't answer in time, or refuses.
pub fn resolve(
    settings: &ConsumerSettings,
    topics: &[TopicInfo],
    begin: Begin,
    metadata: &str,
    timeout: Duration,
) -> Result<Outcome, Error> {
    let deadline = Instant::now() + timeout;
    // A client that names the group without being a member: its commits carry no generation, and are taken as long as the
    // group has no members.
    let mut client = Consumer::new(settings)?;
    let partitions: Vec<(&str, i32)> = topics
        .iter()
        .flat_map(|topic| (0..topic.partitions).map(move |partition| (topic.name.as_str(), partition)))
        .collect();
    let committed = client.committed(partitions.iter().copied(), left(deadline))?;
    if partitions.is_empty() || committed.iter().any(|partition| partition.offset.is_some()) {
        return Ok(Outcome::Seen);
    }
    let offsets =
        client.offsets_at(partitions.iter().map(|(topic, partition)| (*topic, *partition, begin)), left(deadline))?;
    let positions =
        partitions.iter().zip(&offsets).map(|((topic, partition), offset)| (*topic, *partition, *offset, metadata));
    outcome(client.commit_sync(positions, left(deadline)), partitions.len())
}

/// Commits where a group goes on with partitions that another group had so far, if it has no offset for them, or only one that
/// was held. To be called before a shard of it subscribes.
///
/// # Errors
/// Where the broker doesn't answer in time, or refuses.
pub fn take_over(
    settings: &ConsumerSettings,
    starts: &HashMap<Partition, i64>,
    metadata: &str,
    timeout: Duration,
) -> Result<Outcome, Error> {
    let deadline = Instant::now() + timeout;
    let mut client = Consumer::new(settings)?;
    let partitions = starts.keys().map(|(topic, partition)| (&**topic, *partition));
    let committed = client.committed(partitions.collect::<Vec<_>>().into_iter(), left(deadline))?;
    let new = committed.iter().filter(|partition| partition.offset.is_none() || is_held(partition));
    let start = |new: &Committed| starts.get(&(Arc::clone(&new.topic), new.partition)).copied();
    let positions: Vec<_> = new.filter_map(|new| Some((&*new.topic, new.partition, start(new)?, metadata))).collect();
    if positions.is_empty() {
        return Ok(Outcome::Seen);
    }
    let count = positions.len();
    outcome(client.commit_sync(positions.into_iter(), left(deadline)), count)
}

fn is_held(committed: &Committed) -> bool {
    committed.metadata.ends_with(HELD.as_bytes())
}

fn outcome(committed: Result<(), Error>, partitions: usize) -> Result<Outcome, Error> {
    match committed {
        Ok(()) => Ok(Outcome::Begun(partitions)),
        Err(error) if error.code().is_some_and(has_members) => Ok(Outcome::Elsewhere),
        Err(error) => Err(error),
    }
}

/// What a broker says to a commit without a generation where the group has members.
fn has_members(code: Code) -> bool {
    matches!(code, Code::UNKNOWN_MEMBER_ID | Code::ILLEGAL_GENERATION | Code::REBALANCE_IN_PROGRESS)
}

/// Where a partition that was assigned goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
    /// What was committed with it.
    pub metadata: Vec<u8>,
    /// Whether nothing was committed, so that this is its first event.
    pub first: bool,
}

/// Where partitions that were just assigned go on: what is committed, and, where nothing is, or a place is only held, what
/// `starts` says; where that doesn't either, the first event; that one is committed at once where `commits` says so, with the
/// metadata for its topic (see [`TOKEN`]).
///
/// # Errors
/// Where the broker doesn't answer in time, or refuses.
pub fn positions(
    consumer: &mut Consumer,
    partitions: &[Partition],
    starts: &HashMap<Partition, i64>,
    metadata: impl Fn(&str) -> String,
    commits: bool,
    timeout: Duration,
) -> Result<Vec<Position>, Error> {
    let deadline = Instant::now() + timeout;
    let committed = consumer.committed(partitions.iter().map(|(topic, partition)| (&**topic, *partition)), timeout)?;
    let known = |new: &Committed| starts.get(&(Arc::clone(&new.topic), new.partition)).copied();
    let is_new = |found: &Committed| found.offset.is_none() || is_held(found) && known(found).is_some();
    let new: Vec<_> = committed.iter().filter(|found| is_new(found)).collect();
    let begin = new.iter().map(|new| (&*new.topic, new.partition, Begin::Earliest));
    let mut offsets = consumer.offsets_at(begin, left(deadline))?;
    for (offset, new) in offsets.iter_mut().zip(&new) {
        // What was deleted meanwhile can't be read any more.
        *offset = known(new).map_or(*offset, |start| start.max(*offset));
    }
    if commits && !new.is_empty() {
        let texts: Vec<_> = new.iter().map(|new| metadata(&new.topic)).collect();
        let first = new.iter().zip(&offsets).zip(&texts);
        let first = first.map(|((new, offset), text)| (&*new.topic, new.partition, *offset, text.as_str()));
        consumer.commit(first, TOKEN)?;
    }
    let mut offsets = offsets.into_iter();
    Ok(committed
        .into_iter()
        .map(|found| {
            let first = is_new(&found);
            // There is one for each that is new.
            let offset = if first { offsets.next() } else { found.offset }.unwrap_or(0);
            let metadata = if first { metadata(&found.topic).into_bytes() } else { found.metadata };
            Position { topic: found.topic, partition: found.partition, offset, metadata, first }
        })
        .collect())
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}
