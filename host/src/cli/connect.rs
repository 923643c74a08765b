//! Finds the broker that a command talks to, from the config or the command line, and makes sure that it answers. Holds no
//! event.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::metadata::Metadata;

use super::{ConfigArgs, Failure};
use crate::config::model::{Broker, Config, Embedded};
use crate::control::address;
use crate::kafka::Connection;

/// How often a broker that is about to start is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long a client that could not connect is asked for more of what it has to say about it.
const COMPLAINT_WAIT: Duration = Duration::from_millis(20);
const COMPLAINTS_MAX: usize = 16;

/// Which broker, and for how long to try.
#[derive(Debug, Clone, Args)]
pub(super) struct ConnectArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The broker, instead of the one that the config names (which is then not read)
    #[arg(long, value_name = "HOST:PORT,…")]
    bootstrap_servers: Option<String>,

    /// How long to try to reach the broker before giving up with exit code 4
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

/// A duration as the config has them: `250ms`, `10s`, `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration = text.parse().map_err(|_| "expected a duration such as `10s`".to_owned())?;
    Duration::try_from(duration).map_err(|_| "expected a duration that isn't negative".to_owned())
}

/// A broker that a client can be made for.
#[derive(Debug)]
pub(super) struct Endpoint {
    bootstrap_servers: String,
    client: Vec<(String, String)>,
    deadline: Instant,
    timeout: Duration,
}

impl Endpoint {
    /// The broker of a config.
    ///
    /// # Errors
    /// When that is an embedded broker on any free port, and none runs.
    pub(super) fn of(config: &Config, timeout: Duration) -> Result<Self, Failure> {
        let deadline = Instant::now() + timeout;
        let (bootstrap_servers, client) = match &config.broker {
            Broker::Kafka(kafka) => (kafka.bootstrap_servers.clone(), kafka.client.clone().into_iter().collect()),
            Broker::Embedded(embedded) => (embedded_address(embedded, deadline)?, Vec::new()),
        };
        Ok(Self { bootstrap_servers, client, deadline, timeout })
    }

    /// For the clients that hosts use.
    pub(super) fn connection(&self) -> Connection {
        Connection { bootstrap: self.bootstrap_servers.clone(), client: self.client.iter().cloned().collect() }
    }
}

impl ConnectArgs {
    /// The broker that the arguments mean.
    ///
    /// # Errors
    /// When the config is refused, or it means an embedded broker on any free port and none runs.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Failure> {
        let Some(servers) = &self.bootstrap_servers else {
            return Endpoint::of(&self.config.load_with_warnings()?.config, self.timeout);
        };
        let deadline = Instant::now() + self.timeout;
        Ok(Endpoint { bootstrap_servers: servers.clone(), client: Vec::new(), deadline, timeout: self.timeout })
    }
}

/// Where an embedded broker is found. One on any free port has written its address next to its data; it may be about to.
fn embedded_address(embedded: &Embedded, deadline: Instant) -> Result<String, Failure> {
    if let Some(advertise) = &embedded.advertise
        && !advertise.ends_with(":0")
    {
        return Ok(advertise.clone());
    }
    if embedded.listen.port() != 0 {
        let mut listen = embedded.listen;
        if listen.ip().is_unspecified() {
            listen.set_ip(if listen.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
        }
        return Ok(listen.to_string());
    }
    let file = address::broker_file(&embedded.data_directory);
    loop {
        if let Some(address) = address::read(&file) {
            return Ok(address);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::unreachable(format!(
                "no embedded broker runs: the config gives it any free port (`listen = \"{}\"`), and there is no `{}` with \
                 its address; start one with `midplane run` or `midplane broker`",
                embedded.listen,
                file.display(),
            )));
        }
        std::thread::sleep(left.min(LOOK_INTERVAL));
    }
}

impl Endpoint {
    /// The settings that every client of a command starts from.
    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.extend(self.client.iter().cloned());
        config.set("bootstrap.servers", &self.bootstrap_servers).set("client.id", "midplane-cli");
        config
    }

    /// The time that is left to reach the broker.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// How long each later request may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Waits for the broker's first answer: about one topic, or about all. It asks through a consumer of its own, which tells
    /// why it can't connect when it is polled, and which makes no topic by asking for it, as a producer might.
    ///
    /// # Errors
    /// When there is none in time.
    pub(super) fn metadata(&self, topic: Option<&str>) -> Result<Metadata, Failure> {
        let probe: BaseConsumer<Context> =
            self.client().create_with_context(Context::default()).map_err(Failure::usage)?;
        probe.fetch_metadata(topic, self.left()).map_err(|error| {
            // A client that tries again at once would never be done complaining.
            let _ = (0..COMPLAINTS_MAX).find(|_| probe.poll(COMPLAINT_WAIT).is_none());
            self.unreachable(probe.context(), &error)
        })
    }

    /// What is said of a broker that doesn't answer: who it is, what the client saw last, what to do.
    pub(super) fn unreachable(&self, context: &Context, error: &dyn std::fmt::Display) -> Failure {
        let reason = context.last().unwrap_or_else(|| error.to_string());
        Failure::unreachable(format!(
            "no answer from the broker `{}` within {:?}: {reason}; is it running, and is the address right?",
            self.bootstrap_servers, self.timeout,
        ))
    }
}

/// Keeps why librdkafka last failed to connect: it says so in its log only, and in the result that it timed out.
#[derive(Debug, Default)]
pub(super) struct Context {
    last: Mutex<Option<String>>,
}

impl Context {
    fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, reason = message, "Client log.");
        if facility == "FAIL" {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(complaint(message).to_owned());
        }
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "Client error.");
    }
}

impl ConsumerContext for Context {}

/// `[thrd:HOST/bootstrap]: HOST/bootstrap: Connect to … failed: Connection refused (after 0ms in state CONNECT)` without the
/// names of threads and states.
fn complaint(message: &str) -> &str {
    let message = message.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, rest)| rest);
    let message = message.split_once("/bootstrap: ").map_or(message, |(_, rest)| rest);
    message.rsplit_once(" (after ").map_or(message, |(rest, _)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_lose_their_threads_and_states() {
        for (message, expected) in [
            (
                "[thrd:127.0.0.1:1/bootstrap]: 127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection \
                 refused (after 0ms in state CONNECT)",
                "Connect to ipv4#127.0.0.1:1 failed: Connection refused",
            ),
            ("[thrd:main]: 1/1 brokers are down", "1/1 brokers are down"),
            ("plain", "plain"),
        ] {
            assert_eq!(complaint(message), expected);
        }
    }

    #[test]
    fn durations_are_those_of_the_config() {
        for (text, expected) in [
            ("10s", Some(Duration::from_secs(10))),
            ("250ms", Some(Duration::from_millis(250))),
            ("1m 30s", Some(Duration::from_secs(90))),
            ("0s", Some(Duration::ZERO)),
            ("10", None),
            ("-1s", None),
            ("soon", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
    }

    fn embedded(listen: &str, advertise: Option<&str>, folder: &std::path::Path) -> Embedded {
        Embedded {
            listen: listen.parse().expect("an address"),
            advertise: advertise.map(str::to_owned),
            data_directory: folder.to_owned(),
            retention: Duration::from_secs(1),
            topics: Default::default(),
        }
    }

    #[test]
    fn an_embedded_broker_is_found_by_its_port_or_its_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let find = |listen, advertise| embedded_address(&embedded(listen, advertise, folder.path()), Instant::now());
        let found = |listen, advertise| find(listen, advertise).expect("an address");
        assert_eq!(found("127.0.0.1:9092", None), "127.0.0.1:9092");
        assert_eq!(found("0.0.0.0:9092", None), "127.0.0.1:9092");
        assert_eq!(found("0.0.0.0:9092", Some("edge-7:9092")), "edge-7:9092");
        let failure = find("127.0.0.1:0", None).expect_err("no broker");
        assert_eq!(failure.exit, super::super::Exit::Unreachable);
        let path = address::broker_file(folder.path());
        let _published = address::Published::new(path, "127.0.0.1:4711").expect("writable");
        assert_eq!(found("127.0.0.1:0", None), "127.0.0.1:4711");
    }
}
