//! Where the events live: the embedded broker in this process, or Kafka. Opens the one that the config means; reads and
//! writes no event.

use midplane_embedded_broker::{Broker as Embedded, Settings, TopicSettings};

use super::address::{self, Published};
use crate::config::model::{self, Config, Selector};
use crate::kafka::Connection;

/// The broker of this host.
pub struct Broker {
    connection: Connection,
    embedded: Option<(Embedded, Published)>,
}

/// Why the embedded broker doesn't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It doesn't start, or doesn't stop.
    #[error(transparent)]
    Embedded(#[from] midplane_embedded_broker::Error),
    /// Its address can't be written where commands look for it.
    #[error("cannot write the embedded broker's address file")]
    Address(#[source] std::io::Error),
}

impl Broker {
    /// Starts the embedded broker, with all topics that the config names, or notes where Kafka is.
    ///
    /// # Errors
    /// Where the embedded broker can't start.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        match &config.broker {
            model::Broker::Kafka(kafka) => Ok(Self {
                connection: Connection { bootstrap: kafka.bootstrap_servers.clone(), client: kafka.client.clone() },
                embedded: None,
            }),
            model::Broker::Embedded(embedded) => {
                let broker = Embedded::start(settings(config, embedded)).await?;
                let bootstrap = broker.bootstrap_servers();
                let published = Published::new(address::broker_file(&embedded.data_directory), &bootstrap);
                let published = published.map_err(Error::Address)?;
                let connection = Connection { bootstrap, client: std::collections::BTreeMap::new() };
                Ok(Self { connection, embedded: Some((broker, published)) })
            }
        }
    }

    /// How clients reach it.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The embedded broker's address, if it is that.
    pub fn embedded_address(&self) -> Option<String> {
        self.embedded.as_ref().map(|_| self.connection.bootstrap.clone())
    }

    /// Stops the embedded broker, everything on disk.
    ///
    /// # Errors
    /// Where something could not be written.
    pub async fn close(self) -> Result<(), Error> {
        match self.embedded {
            Some((broker, _published)) => Ok(broker.shutdown().await?),
            None => Ok(()),
        }
    }
}

/// How the embedded broker of a config is started: it makes every topic that the config names.
pub fn settings(config: &Config, embedded: &model::Embedded) -> Settings {
    let mut topics = embedded.topics.clone();
    for name in named_topics(config) {
        topics.entry(name).or_insert(model::EmbeddedTopic { partitions: 1, compacted: false });
    }
    let topic = |topic: model::EmbeddedTopic| TopicSettings {
        partitions: u32::try_from(topic.partitions).unwrap_or(1),
        compacted: topic.compacted,
    };
    Settings {
        listen: embedded.listen,
        advertise: embedded.advertise.clone(),
        data_directory: embedded.data_directory.clone(),
        retention: embedded.retention,
        topics: topics.into_iter().map(|(name, settings)| (name, topic(settings))).collect(),
        ..Settings::default()
    }
}

fn named_topics(config: &Config) -> impl Iterator<Item = String> {
    config.routes.iter().flat_map(|route| {
        let inputs = route.from.iter().filter_map(|from| match from {
            Selector::Topic(topic) => Some(topic.clone()),
            Selector::Pattern(_) => None,
        });
        inputs.chain(route.to.values().cloned()).chain([route.failure.dead_letter.clone()])
    })
}
