//! The topics that a config needs: waited for, made or refused before anything runs, and watched while it runs. Decides
//! nothing about events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::model::{Broker, Config, Selector, Start};
use crate::data::program::Program;
use crate::kafka::start::{self, Begin};
use crate::kafka::topics::{NewTopic, TopicInfo, Topics};
use crate::kafka::{self, Connection, ConsumerSettings};

/// How long the broker may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Topics that belong to brokers and tools; patterns never match them.
const INTERNAL_PREFIX: &str = "__";

/// Why the topics are not as they have to be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Topics that routes write to don't exist, and nobody may make them.
    #[error("{}", missing_message(.0))]
    Missing(Vec<String>),
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

/// Waits until the broker answers, and says so, for as long as it takes.
///
/// # Errors
/// Where the host is told to stop meanwhile.
pub fn wait_for(topics: &Topics, stopping: &AtomicBool) -> Result<Vec<TopicInfo>, Error> {
    let mut said = false;
    loop {
        match topics.list(ANSWER_TIMEOUT) {
            Ok(list) => {
                if said {
                    tracing::info!("The broker answers.");
                }
                return Ok(list);
            }
            Err(_) if stopping.load(Ordering::Relaxed) => return Err(Error::Stopped),
            Err(error @ (kafka::Error::Unreachable { .. } | kafka::Error::Refused { .. })) => {
                tracing::warn!(%error, "The broker does not answer; waiting for it.");
                said = true;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Makes the topics that routes write to and that are missing, where the config says so, and refuses to run without them
/// where it doesn't. Says which topics to be read are missing: those may come later.
///
/// # Errors
/// Where topics are missing, or can't be made.
pub fn prepare(config: &Config, topics: &Topics, present: &[TopicInfo]) -> Result<(), Error> {
    let present: BTreeSet<&str> = present.iter().map(|topic| topic.name.as_str()).collect();
    let written = config.routes.iter().flat_map(|route| route.to.values().chain([&route.failure.dead_letter]));
    let missing: BTreeSet<&str> = written.map(String::as_str).filter(|topic| !present.contains(topic)).collect();
    let read = config.routes.iter().flat_map(|route| &route.from).filter_map(|from| match from {
        Selector::Topic(topic) => Some(topic.as_str()),
        Selector::Pattern(_) => None,
    });
    for topic in read.collect::<BTreeSet<_>>().difference(&present) {
        if !missing.contains(topic) {
            tracing::warn!(topic, "A topic that is to be read does not exist; it is read once it does.");
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    if matches!(&config.broker, Broker::Kafka(kafka) if !kafka.create_topics) {
        return Err(Error::Missing(missing.into_iter().map(str::to_owned).collect()));
    }
    let new: Vec<_> = missing.iter().map(|name| NewTopic { name: (*name).to_owned(), ..NewTopic::default() }).collect();
    topics.create(&new, ANSWER_TIMEOUT)?;
    tracing::info!(topics = missing.into_iter().collect::<Vec<_>>().join(","), "Topics were made.");
    Ok(())
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

/// Decides where a group begins that has never been seen, and commits that.
///
/// # Errors
/// Where the broker refuses.
pub fn begin(
    connection: &Connection,
    client_id: &str,
    program: &Arc<Program>,
    start: Start,
    present: &[TopicInfo],
    stopping: &AtomicBool,
) -> Result<(), Error> {
    let read = of_group(program, present);
    let topics: Vec<_> = present.iter().filter(|topic| read.contains(&topic.name)).cloned().collect();
    let settings = ConsumerSettings {
        connection: connection.clone(),
        group: program.group.clone(),
        client_id: client_id.to_owned(),
        buffer_bytes: kafka::settings::CONSUMER_BUFFER_BYTES,
    };
    let begin = match start {
        Start::Earliest => Begin::Earliest,
        Start::Latest => Begin::Latest,
        Start::At(time) => Begin::At(time),
    };
    loop {
        match start::resolve(&settings, &topics, begin, &program.commit_metadata(), ANSWER_TIMEOUT) {
            Ok(outcome) => {
                tracing::debug!(group = program.group, ?outcome, "The group's start is decided.");
                return Ok(());
            }
            Err(_) if stopping.load(Ordering::Relaxed) => return Err(Error::Stopped),
            Err(error @ kafka::Error::Unreachable { .. }) => {
                tracing::warn!(group = program.group, %error, "The group's offsets cannot be read; trying again.");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
