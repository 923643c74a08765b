//! A route whose plugin fails as its events say, another that subscribes to the same topic, and the commands about what failed.

use std::fs;
use std::ops::Deref;
use std::process::{Child, Command, Stdio};

use midplane_tests::binary::{self, Finished, run_in};
use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Broker, Host, Record, Scope, http, plugins, records};
use serde_json::Value;

/// `subject` fails as its events say, into letters, however many: no breaker stops it. `copy` is in another group.
pub(crate) const ROUTES: &str = r#"
[plugins]
directory = "plugins"
poll_interval = "100ms"

[routes.subject]
from = "in~"
through = "subject"
to = "out~"
group = "group~"
failure = { dead_letter = "letters~", attempts = 1, breaker = false }

[routes.copy]
from = "in~"
to = "copied~"
group = "other~"
failure = { dead_letter = "copy-letters~" }
"#;

/// Partitions of the input.
pub(crate) const PARTITIONS: i32 = 2;

/// A folder with a config and plugins, and topics of its own.
pub(crate) struct Case<'b> {
    scope: Scope<'b>,
}

impl<'b> Deref for Case<'b> {
    type Target = Scope<'b>;

    fn deref(&self) -> &Scope<'b> {
        &self.scope
    }
}

impl<'b> Case<'b> {
    /// The plugin `subject` is the one that does what its events say.
    pub(crate) fn new(broker: &'b Broker, config: &str) -> Self {
        let case = Self { scope: Scope::new(broker) };
        case.configure(config);
        case.install("subject", &built("faulty"));
        case.create("in", PARTITIONS);
        case
    }

    /// Another config.
    pub(crate) fn configure(&self, config: &str) {
        self.scope.configure("create_topics = true", config);
    }

    /// How many records the topic `STEM~` has, control records included: of one that is written to all the time, too.
    pub(crate) fn len(&self, stem: &str) -> i64 {
        records::len(self.broker.servers(), &self.name(stem))
    }

    /// Writes events with these values, for the partitions in turn, and waits until a host has settled them.
    pub(crate) fn fail<'v>(&self, values: impl IntoIterator<Item = &'v str>) {
        let record = |(partition, value): (i32, &str)| {
            let key = value.split(' ').next_back().unwrap_or_default();
            Record::new(key, value).header("own", "kept").to(partition)
        };
        self.produce("in", (0..PARTITIONS).cycle().zip(values).map(record));
        self.wait_settled();
    }

    /// Waits until both groups have committed all of the input.
    pub(crate) fn wait_settled(&self) {
        for group in ["group", "other"] {
            let (group, topic) = (self.name(group), self.name("in"));
            wait_until("everything is committed", DEADLINE * 3, || self.broker.lag(&group, &topic) == 0);
        }
    }

    /// Runs `midplane dlq …` to its end.
    pub(crate) fn dlq(&self, args: &[&str]) -> Finished {
        let (command, others) = args.split_first().expect("a command");
        run_in(self.folder.path(), &[&["dlq", command, "--timeout", "60s"], others].concat(), b"")
    }

    /// What `midplane dlq …` writes as JSON, which has to go well.
    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.dlq(&[args, &["--output", "json"]].concat()).success();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// What a redrive of all letters of `subject` says, which has to go well.
    #[track_caller]
    pub(crate) fn redrive(&self, args: &[&str]) -> Value {
        self.json(&[&["redrive", "--route", "subject"], args].concat())
    }

    /// Starts a redrive of all letters of `subject`, and doesn't wait.
    pub(crate) fn spawn_redrive(&self, args: &[&str]) -> Child {
        Command::new(binary::midplane())
            .args(["dlq", "redrive", "--route", "subject", "--execute", "--output", "json"])
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// The open and the redriven letters of all topics, as `dlq list` counts them.
    #[track_caller]
    pub(crate) fn counts(&self) -> (u64, u64) {
        let list = self.json(&["list"]);
        let sum = |name: &str| {
            let topics = list["topics"].as_array().expect("topics");
            topics.iter().map(|topic| topic[name].as_u64().expect("a number")).sum()
        };
        (sum("open"), sum("redriven"))
    }
}

/// A built plugin.
pub(crate) fn built(name: &str) -> Vec<u8> {
    fs::read(plugins::wasm(name)).expect("a built plugin")
}

/// The first digits of a version.
pub(crate) fn short(bytes: &[u8]) -> String {
    midplane::digest::short(&midplane::digest::of(bytes))
}

/// Has a host take its files up, and gives the generation that is live then.
pub(crate) fn reload(host: &Host) -> u64 {
    let answer = http::post(&host.admin(), "/api/v1/reload", "").expect("the admin surface answers");
    assert_eq!(answer.code, 200, "{}", answer.body);
    answer.json()["generation"].as_u64().expect("a number")
}

/// Stops a host, which must be a clean end.
pub(crate) fn stop(host: Host) {
    let (code, log) = host.finish();
    assert_eq!(code, Some(0), "{}", log.join("\n"));
}

/// How a process of ours ended that was started without waiting.
pub(crate) fn finished(child: Child) -> Finished {
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The result of the only route in the only topic of a report.
#[track_caller]
pub(crate) fn result(report: &Value) -> &Value {
    let routes = report["topics"][0]["routes"].as_array().expect("routes");
    assert_eq!((report["topics"].as_array().map(Vec::len), routes.len()), (Some(1), 1), "{report:#}");
    &routes[0]["result"]
}

/// The values, as text, in order.
pub(crate) fn sorted_texts(records: &[Record]) -> Vec<&str> {
    let mut texts: Vec<_> = records.iter().map(Record::text).collect();
    texts.sort_unstable();
    texts
}
