//! Every key that the file may have: its kind, its default, what it is for. The reader takes kinds and defaults from here,
//! the hint of an unknown key its names, the JSON Schema its text; so the three can't differ. Never reads a file.

/// A table of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// What it is for.
    pub(super) doc: &'static str,
    /// In the order in which people would write them.
    pub(super) keys: &'static [Key],
}

impl Section {
    /// The key of a name.
    pub(super) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// One key of a table.
#[derive(Debug)]
pub(super) struct Key {
    /// As it is written.
    pub(super) name: &'static str,
    /// What may stand there.
    pub(super) kind: Kind,
    /// What holds where it isn't written, as TOML would have it but for the quotes.
    pub(super) default: Option<&'static str>,
    /// What it is for, for editors.
    pub(super) doc: &'static str,
}

impl Key {
    const fn new(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { name, kind, default: None, doc }
    }

    const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}

/// What may stand as a value.
#[derive(Debug)]
pub(super) enum Kind {
    /// Any string.
    Text,
    /// A path; relative ones start at the folder of the config.
    Path,
    /// A name that Kafka takes for a topic.
    Topic,
    /// A name that fits into headers, metrics and file names.
    Name,
    /// `ADDRESS:PORT` to listen on.
    Address,
    /// A span of time with its unit.
    Duration,
    /// A number of bytes with its unit.
    Size,
    /// A whole number within bounds, both included.
    Integer { min: i64, max: i64 },
    /// A number within bounds, both included.
    Number { min: f64, max: f64 },
    /// `true` or `false`.
    Flag,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// 64 hexadecimal digits.
    Sha256,
    /// A list of strings.
    Texts,
    /// Settings of the client: strings, numbers or flags by name.
    Settings,
    /// A table of the user's own, handed on as JSON.
    Object,
    /// One table.
    One(&'static Section),
    /// One table, or `false` where there is to be none.
    Switch(&'static Section),
    /// Tables by name.
    Many(&'static Section),
    /// A topic, a pattern, or a list of both.
    From,
    /// A plugin, a table that names one, or a list of both.
    Through,
    /// A topic, or a table from port to topic.
    To,
    /// `earliest`, `latest` or a time.
    Start,
    /// A share such as `5%`.
    Share,
}

const ANY_COUNT: Kind = Kind::Integer { min: 1, max: 1_000_000_000 };
const SHARE: Kind = Kind::Number { min: 0.0, max: 1.0 };

/// The file itself.
pub(super) static ROOT: Section = Section {
    doc: "The config of Midplane: routes of events from Kafka topics, through WebAssembly plugins, to topics.",
    keys: &[
        Key::new(
            "include",
            Kind::Texts,
            "Further files with the same tables, as globs from this file's folder. No name may occur twice.",
        ),
        Key::new("host", Kind::One(&HOST), HOST.doc),
        Key::new("broker", Kind::One(&BROKER), BROKER.doc),
        Key::new("embedded_broker", Kind::One(&EMBEDDED_BROKER), EMBEDDED_BROKER.doc),
        Key::new("admin", Kind::One(&ADMIN), ADMIN.doc),
        Key::new("plugins", Kind::One(&PLUGINS), PLUGINS.doc),
        Key::new("plugin", Kind::Many(&PLUGIN), PLUGIN.doc),
        Key::new("groups", Kind::Many(&GROUP), GROUP.doc),
        Key::new("routes", Kind::Many(&ROUTE), ROUTE.doc),
    ],
};

/// `[host]`
pub(super) static HOST: Section = Section {
    doc: "This process.",
    keys: &[
        Key::new(
            "data_directory",
            Kind::Path,
            "Where this host keeps its id, generations, compiled plugins and decisions. Locked while it runs.",
        )
        .or("midplane-data"),
        Key::new("instance", Kind::Name, "Names this host to the broker. Default: the random id in data_directory."),
        Key::new("drain_timeout", Kind::Duration, "How long a stop may take before it counts as not clean.").or("30s"),
        Key::new("generations", Kind::Integer { min: 1, max: 10_000 }, "How many generations are kept for rollback.")
            .or("10"),
        Key::new(
            "stack",
            Kind::Size,
            "Stack of a call of a plugin, at most 16MiB. A deeper recursion fails the event (`stack`).",
        )
        .or("1MiB"),
    ],
};

/// `[broker]`
pub(super) static BROKER: Section = Section {
    doc: "Kafka. Without this table an embedded broker starts; both are an error.",
    keys: &[
        Key::new("bootstrap_servers", Kind::Text, "Where to find the cluster: HOST:PORT, several with commas."),
        Key::new("client", Kind::Settings, "Settings of the Kafka client (librdkafka), apart from those that Midplane owns."),
        Key::new("allow", Kind::Texts, "Client settings that load code or read files outside this folder, permitted one by one."),
        Key::new("create_topics", Kind::Flag, "Whether missing output and dead-letter topics are made. If not, they are refused, with the command that makes them.").or("false"),
    ],
};

/// `[embedded_broker]`
pub(super) static EMBEDDED_BROKER: Section = Section {
    doc: "The broker inside this process, for one machine. It creates every topic that the config names.",
    keys: &[
        Key::new("listen", Kind::Address, "Where it listens. Port 0 is any free one.").or("127.0.0.1:9092"),
        Key::new("advertise", Kind::Text, "HOST:PORT that clients are told. Default: the address listened on."),
        Key::new("data_directory", Kind::Path, "Where it keeps its topics. Locked while it runs.")
            .or("midplane-data/broker"),
        Key::new("retention", Kind::Duration, "How long events are kept.").or("7d"),
        Key::new("topics", Kind::Many(&TOPIC), "Topics by name, where one partition is not what is wanted."),
    ],
};

/// `[embedded_broker.topics.NAME]`
pub(super) static TOPIC: Section = Section {
    doc: "A topic of the embedded broker.",
    keys: &[
        Key::new("partitions", Kind::Integer { min: 1, max: 10_000 }, "How many partitions it has.").or("1"),
        Key::new("compacted", Kind::Flag, "Whether only the newest event of a key is kept.").or("false"),
    ],
};

/// `[admin]`
pub(super) static ADMIN: Section = Section {
    doc: "Health, metrics, API and dashboard.",
    keys: &[
        Key::new("listen", Kind::Address, "Where to listen. Any address that is not loopback needs a token_file.")
            .or("127.0.0.1:8090"),
        Key::new("token_file", Kind::Path, "A file with the token that requests must bring."),
    ],
};

/// `[plugins]`
pub(super) static PLUGINS: Section = Section {
    doc: "Where plugins come from.",
    keys: &[
        Key::new("directory", Kind::Path, "Every *.wasm in it is a plugin, named after its file.").or("plugins"),
        Key::new(
            "poll_interval",
            Kind::Duration,
            "How often the directory is compared with what runs, beside file system notifications.",
        )
        .or("2s"),
        Key::new(
            "public_keys",
            Kind::Texts,
            "Minisign's public keys, as lines of base64. Where there are any, NAME.wasm needs a signature NAME.wasm.minisig beside it.",
        ),
    ],
};

/// `[plugin.NAME]`
pub(super) static PLUGIN: Section = Section {
    doc: "Settings of one plugin.",
    keys: &[
        Key::new("sha256", Kind::Sha256, "A pin: no other version is loaded."),
        Key::new("deadline", Kind::Duration, "CPU time of the plugin's own for one event; waiting counts too.")
            .or("100ms"),
        Key::new("memory", Kind::Size, "Linear memory of one instance.").or("64MiB"),
        Key::new("output", Kind::Size, "Bytes of the outputs of one event.").or("8MiB"),
        Key::new("outputs", ANY_COUNT, "Outputs of one event.").or("10000"),
        Key::new("table", ANY_COUNT, "Table elements of one instance.").or("100000"),
        Key::new("log_rate", Kind::Size, "Log of the plugin a second. More is cut and counted.").or("64KiB"),
        Key::new("config", Kind::Object, "Given to `configure` as JSON. A route's keys win over these."),
        Key::new("allow", Kind::One(&GRANTS), GRANTS.doc),
        Key::new("rollout", Kind::One(&ROLLOUT), ROLLOUT.doc),
    ],
};

/// `[plugin.NAME.allow]`
pub(super) static GRANTS: Section = Section {
    doc: "What the plugin may see beyond its events. Nothing is granted by default.",
    keys: &[
        Key::new("clock", Kind::Flag, "The real clocks, in place of the newest event's timestamp.").or("false"),
        Key::new("random", Kind::Flag, "Real randomness, in place of what is seeded by the events.").or("false"),
        Key::new("env", Kind::Texts, "Environment variables of the host, by name."),
    ],
};

/// `[plugin.NAME.rollout]`
pub(super) static ROLLOUT: Section = Section {
    doc: "How a new version takes over.",
    keys: &[
        Key::new(
            "mode",
            Kind::Choice(&["direct", "shadow", "canary"]),
            "At once, compared without effect, or for a share of the events first.",
        )
        .or("direct"),
        Key::new("share", Kind::Share, "The share of the keys whose events a canary gets.").or("5%"),
        Key::new("events", ANY_COUNT, "Events that must have gone well.").or("10000"),
        Key::new("time", Kind::Duration, "Time that must have gone well.").or("10m"),
        Key::new("errors_max", SHARE, "The share of failures that is tolerated.").or("0.01"),
        Key::new("latency_max", Kind::Duration, "The latency of one event that is tolerated.").or("5ms"),
        Key::new("differences_max", SHARE, "The share of differing outputs that is tolerated.").or("0.0"),
    ],
};

/// `[groups.NAME]`
pub(super) static GROUP: Section = Section {
    doc: "A Kafka consumer group; its name is the group id, as it is. Its routes stand and fall together, per partition.",
    keys: &[
        Key::new("guarantee", Kind::Choice(&["at-least-once", "exactly-once"]), "What holds over crashes.").or("at-least-once"),
        Key::new("commit_interval", Kind::Duration, "How long settled events wait for their commit.").or("100ms"),
        Key::new("shards", Kind::Integer { min: 1, max: 1024 }, "Threads. Default: the cores divided among the groups, at least 1, at most the partitions."),
        Key::new("start", Kind::Start, "Where to begin what is there when the group is first seen. What appears later is read from its first event.").or("earliest"),
        Key::new("out_of_range", Kind::Choice(&["halt", "earliest", "latest"]), "What happens where a committed offset isn't there any more.").or("halt"),
        Key::new("retired", Kind::Flag, "Says that a group has no routes any more, deliberately: a reload that drops a group is refused otherwise.").or("false"),
    ],
};

/// `[routes.NAME]`
pub(super) static ROUTE: Section = Section {
    doc: "From topics, where a filter holds, through plugins, to topics. Only `from` has no default.",
    keys: &[
        Key::new("from", Kind::From, "Topics, or /patterns/ in Rust's regex syntax."),
        Key::new("where", Kind::Text, "A CEL expression that events must meet. Default: all do."),
        Key::new(
            "on_filter_error",
            Kind::Choice(&["dead-letter", "drop", "match"]),
            "What a filter that can't be evaluated means. A missing field is no error, it doesn't match.",
        )
        .or("dead-letter"),
        Key::new("through", Kind::Through, "Plugins, each fed by the `default` port of the one before."),
        Key::new("to", Kind::To, "The topic of each port. A string binds `default`."),
        Key::new(
            "group",
            Kind::Text,
            "The consumer group. It needs no table of its own; with [broker] it must be named.",
        )
        .or("default"),
        Key::new("provenance", Kind::Flag, "Whether outputs carry the `midplane-origin` header.").or("true"),
        Key::new("allow_loop", Kind::Flag, "Whether the route may feed itself, directly or through others.")
            .or("false"),
        Key::new("id", Kind::Name, "What state, letters and metrics hang on. Default: the route's name."),
        Key::new("was", Kind::Name, "The id that the route had before: what hangs on it is moved."),
        Key::new("failure", Kind::One(&FAILURE), FAILURE.doc),
    ],
};

/// A table in `through`
pub(super) static STAGE: Section = Section {
    doc: "One plugin of a chain.",
    keys: &[
        Key::new("plugin", Kind::Name, "Its name: that of its file, without .wasm."),
        Key::new("config", Kind::Object, "Keys that win over those of the plugin's own table."),
    ],
};

/// `[routes.NAME.failure]`
pub(super) static FAILURE: Section = Section {
    doc: "What becomes of events that fail.",
    keys: &[
        Key::new(
            "attempts",
            Kind::Integer { min: 1, max: 1_000_000 },
            "Calls for one event, the first included, when it fails transiently.",
        )
        .or("10"),
        Key::new("backoff", Kind::One(&BACKOFF), BACKOFF.doc),
        Key::new(
            "on_permanent",
            Kind::Choice(&["dead-letter", "drop", "halt"]),
            "What a permanent failure means. `halt` stops the partition, for the whole group.",
        )
        .or("dead-letter"),
        Key::new(
            "dead_letter",
            Kind::Topic,
            "The topic of its letters. Default: the route's id with the suffix .dead-letters.",
        ),
        Key::new("breaker", Kind::Switch(&BREAKER), BREAKER.doc),
    ],
};

/// `backoff`
pub(super) static BACKOFF: Section = Section {
    doc: "The waits between the calls for one event.",
    keys: &[
        Key::new("first", Kind::Duration, "After the first failure; doubled from then on.").or("100ms"),
        Key::new("max", Kind::Duration, "The longest wait.").or("10s"),
        Key::new("jitter", SHARE, "The share of a wait that is random.").or("0.2"),
    ],
};

/// `breaker`
pub(super) static BREAKER: Section = Section {
    doc: "When a route's group pauses where it reads, because too much of the route fails for good; `false`: never.",
    keys: &[
        Key::new("failures", SHARE, "The share of failures that is too much.").or("0.5"),
        Key::new("events", Kind::Integer { min: 1, max: 1_000_000 }, "Of how many of its last events.").or("100"),
        Key::new("probe", Kind::Duration, "How long it pauses before one event of each partition is tried.").or("30s"),
    ],
};
