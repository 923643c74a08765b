//! What a broker is started with, and what is refused before anything is touched. It never reads a file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;

/// How long records are kept: seven days.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The most partitions that one topic may have.
pub const PARTITIONS_MAX: u32 = 10_000;

/// How to start a broker. The fields left to [`Settings::default`] are those that most callers don't care about.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// `host:port` that clients are told to connect to; without it they are told the address that they reached. A port 0
    /// stands for the port listened on.
    pub advertise: Option<String>,
    /// The folder that holds everything; made if it is missing, and locked while the broker runs.
    pub data_directory: PathBuf,
    /// How long records are kept, counted from when their segment was last written to.
    pub retention: Duration,
    /// Topics that must exist, by name: missing ones are created, those with too few partitions grow, none shrinks.
    pub topics: Vec<(String, TopicSettings)>,
    /// Whether a client that asks for a topic that doesn't exist, and allows its creation, gets it made (one partition).
    pub create_topics_on_demand: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            advertise: None,
            data_directory: PathBuf::from("midplane-data/broker"),
            retention: DEFAULT_RETENTION,
            topics: Vec::new(),
            create_topics_on_demand: false,
        }
    }
}

/// What a topic must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSettings {
    /// How many partitions, from 1 to [`PARTITIONS_MAX`].
    pub partitions: u32,
    /// Whether only the newest record of a key is kept. Refused for now.
    pub compacted: bool,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self { partitions: 1, compacted: false }
    }
}

impl Settings {
    /// Refuses what can't be served, before anything is written.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.retention != DEFAULT_RETENTION {
            return Err(Error::NotYet(format!(
                "a retention of {} s: only the default of {} s is supported",
                self.retention.as_secs(),
                DEFAULT_RETENTION.as_secs()
            )));
        }
        for (name, topic) in &self.topics {
            check_topic_name(name).map_err(|reason| Error::Topic { name: name.clone(), reason })?;
            if topic.compacted {
                return Err(Error::NotYet(format!("compaction, which topic `{name}` asks for")));
            }
            check_partitions(topic.partitions).map_err(|reason| Error::Topic { name: name.clone(), reason })?;
        }
        if let Some(advertise) = &self.advertise {
            Endpoint::parse(advertise, 0)?;
        }
        Ok(())
    }
}

/// What clients are told to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Endpoint {
    /// Reads `host:port`; `bound` stands in for a port 0.
    pub(crate) fn parse(text: &str, bound: u16) -> Result<Self, Error> {
        let refuse = || Error::Advertise(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(refuse)?;
        let port: u16 = port.parse().map_err(|_| refuse())?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(refuse());
        }
        Ok(Self { host: host.to_owned(), port: if port == 0 { bound } else { port } })
    }

    /// The endpoint of an address that something can connect to: nothing connects to "any address".
    pub(crate) fn of(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => "127.0.0.1".to_owned(),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => "::1".to_owned(),
            _ => address.ip().to_string(),
        };
        Self { host, port: address.port() }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Kafka's rule for the names of topics.
pub(crate) fn check_topic_name(name: &str) -> Result<(), String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 {
        return Err(format!("its name has {} characters, expected 1 to 249", name.chars().count()));
    }
    if name == "." || name == ".." {
        return Err("`.` and `..` are no names".to_owned());
    }
    match name.chars().find(|&c| !fine(c)) {
        Some(wrong) => {
            Err(format!("its name contains `{}`, expected a-z, A-Z, 0-9, `.`, `_` and `-`", wrong.escape_default()))
        }
        None => Ok(()),
    }
}

/// How many partitions a topic may have.
pub(crate) fn check_partitions(partitions: u32) -> Result<(), String> {
    if (1..=PARTITIONS_MAX).contains(&partitions) {
        Ok(())
    } else {
        Err(format!("{partitions} partitions, expected 1 to {PARTITIONS_MAX}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(Endpoint::parse(text, 7).ok().map(|e| e.to_string()).as_deref(), expected, "{text}");
        };
        check("localhost:9092", Some("localhost:9092"));
        check("localhost:0", Some("localhost:7"));
        check("[::1]:1", Some("[::1]:1"));
        check("localhost", None);
        check(":9092", None);
        check("a b:1", None);
        check("a:70000", None);
    }

    #[test]
    fn topic_names() {
        let check = |name: &str, fine: bool| assert_eq!(check_topic_name(name).is_ok(), fine, "{name}");
        check("orders.v1_a-B", true);
        check("", false);
        check(".", false);
        check("..", false);
        check("a/b", false);
        check("ä", false);
        check(&"x".repeat(249), true);
        check(&"x".repeat(250), false);
    }

    #[test]
    fn what_is_not_yet_supported_is_refused() {
        let check = |settings: Settings, expected: &str| {
            let message = settings.validate().expect_err("refused").to_string();
            assert!(message.contains(expected), "{message}");
        };
        check(
            Settings { retention: Duration::from_secs(60), ..Settings::default() },
            "not yet supported: a retention of 60 s",
        );
        let compacted = TopicSettings { partitions: 1, compacted: true };
        check(Settings { topics: vec![("t".into(), compacted)], ..Settings::default() }, "compaction, which topic `t`");
        let none = TopicSettings { partitions: 0, compacted: false };
        check(
            Settings { topics: vec![("t".into(), none)], ..Settings::default() },
            "0 partitions, expected 1 to 10000",
        );
        check(Settings { advertise: Some("x".into()), ..Settings::default() }, "`x`");
    }
}
