//! A config in a form that can be compared and shown: every key with its value as the file would have it, defaults applied.
//! Secrets are digests, which tell that a value is another one and not what it is. Never reads a file.
//!
//! Every structure of the model is taken apart whole, so that a key that is added there can't be forgotten here.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::model::{
    Admin, Backoff, Breaker, Broker, Config, Embedded, EmbeddedTopic, FailurePolicy, Grants, Group, Host, Kafka,
    Limits, OnFilterError, OnPermanent, OutOfRange, PluginSettings, Plugins, Rollout, RolloutMode, Route, Secret,
    Selector, Stage, Start,
};
use crate::config::{print_duration, print_size};
use crate::digest;

/// Keys and values. Keys are as the file has them, with dots in between.
pub type Settings = BTreeMap<String, Value>;

/// What a key is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// As the file would have it.
    Shown(String),
    /// Something that may be a secret.
    Hidden {
        /// The beginning of a digest over key and value: enough to tell one from another, of little use for guessing.
        digest: String,
    },
}

/// A config.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigView {
    /// All that stands in no table of a plugin, a group or a route.
    pub settings: Settings,
    /// `[plugin.NAME]`, those that routes name among them, without `config`: that is the routes'.
    pub plugin: BTreeMap<String, Settings>,
    /// `[groups.NAME]`, those that routes name.
    pub groups: BTreeMap<String, Settings>,
    /// In the order of the file.
    pub routes: Vec<RouteView>,
    /// Names of groups that are dropped deliberately.
    pub retired: Vec<String>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// Its table's name.
    pub name: String,
    /// What state and letters hang on.
    pub id: String,
    /// Its group.
    pub group: String,
    /// Topics, and patterns between slashes.
    pub from: Vec<String>,
    /// Plugins.
    pub through: Vec<StageView>,
    /// Port to topic.
    pub to: BTreeMap<String, String>,
    /// The topic of its letters.
    pub dead_letter: String,
    /// Everything else.
    pub settings: Settings,
}

/// One plugin of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    /// Its name.
    pub plugin: String,
    /// What `configure` gets, its tables taken apart. Numbers and flags are shown: what comes from the environment or from
    /// a file is never one.
    pub config: Settings,
}

impl ConfigView {
    /// The view of a config.
    pub fn of(config: &Config) -> Self {
        let Config { path: _, sha256: _, host, broker, admin, plugins, plugin, groups, routes, retired } = config;
        let mut settings = Settings::new();
        add_host(&mut settings, host);
        match broker {
            Broker::Kafka(kafka) => add_kafka(&mut settings, kafka),
            Broker::Embedded(embedded) => add_embedded(&mut settings, embedded),
        }
        add_admin(&mut settings, admin);
        let Plugins { directory, poll_interval, public_keys } = plugins;
        add(&mut settings, "plugins.directory", path(directory));
        add(&mut settings, "plugins.poll_interval", print_duration(*poll_interval));
        let keys: Vec<_> = public_keys.iter().map(|key| key.id.as_str()).collect();
        add(&mut settings, "plugins.public_keys", keys.join(", "));
        Self {
            settings,
            plugin: plugin.iter().map(|(name, settings)| (name.clone(), plugin_settings(settings))).collect(),
            groups: groups.iter().map(|group| (group.name.clone(), group_settings(group))).collect(),
            routes: routes.iter().map(|route| RouteView::of(route, &groups[route.group].name)).collect(),
            retired: retired.clone(),
        }
    }
}

impl RouteView {
    fn of(route: &Route, group: &str) -> Self {
        let Route {
            name,
            id,
            was,
            from,
            filter,
            on_filter_error,
            through,
            to,
            group: _,
            provenance,
            allow_loop,
            failure,
        } = route;
        let FailurePolicy { attempts, backoff, breaker, on_permanent, dead_letter } = failure;
        let Backoff { first, max, jitter } = backoff;
        let mut settings = Settings::new();
        if let Some(was) = was {
            add(&mut settings, "was", was.clone());
        }
        if let Some(filter) = filter {
            add(&mut settings, "where", filter.source().trim().to_owned());
        }
        add(&mut settings, "on_filter_error", on_filter_error_word(*on_filter_error).to_owned());
        add(&mut settings, "provenance", provenance.to_string());
        add(&mut settings, "allow_loop", allow_loop.to_string());
        add(&mut settings, "failure.attempts", attempts.to_string());
        add(&mut settings, "failure.backoff.first", print_duration(*first));
        add(&mut settings, "failure.backoff.max", print_duration(*max));
        add(&mut settings, "failure.backoff.jitter", jitter.to_string());
        match breaker {
            None => add(&mut settings, "failure.breaker", "false".to_owned()),
            Some(Breaker { failures, events, probe }) => {
                add(&mut settings, "failure.breaker.failures", failures.to_string());
                add(&mut settings, "failure.breaker.events", events.to_string());
                add(&mut settings, "failure.breaker.probe", print_duration(*probe));
            }
        }
        add(&mut settings, "failure.on_permanent", on_permanent_word(*on_permanent).to_owned());
        Self {
            name: name.clone(),
            id: id.clone(),
            group: group.to_owned(),
            from: from.iter().map(selector).collect(),
            through: through.iter().map(StageView::of).collect(),
            to: to.clone(),
            dead_letter: dead_letter.clone(),
            settings,
        }
    }

    /// All of its keys, as its table has them.
    pub fn keys(&self) -> Settings {
        let Self { name: _, id, group, from, through, to, dead_letter, settings } = self;
        let mut keys = settings.clone();
        add(&mut keys, "id", id.clone());
        add(&mut keys, "group", group.clone());
        add(&mut keys, "from", from.join(", "));
        if !through.is_empty() {
            let plugins: Vec<_> = through.iter().map(|stage| stage.plugin.as_str()).collect();
            add(&mut keys, "through", plugins.join(" -> "));
        }
        for (number, stage) in through.iter().enumerate() {
            let named_once = through.iter().filter(|other| other.plugin == stage.plugin).count() == 1;
            let place = if named_once { stage.plugin.clone() } else { format!("{}.{}", number + 1, stage.plugin) };
            keys.extend(stage.config.iter().map(|(key, value)| (format!("through.{place}.{key}"), value.clone())));
        }
        keys.extend(to.iter().map(|(port, topic)| (format!("to.{port}"), Value::Shown(topic.clone()))));
        add(&mut keys, "failure.dead_letter", dead_letter.clone());
        keys
    }
}

impl StageView {
    fn of(stage: &Stage) -> Self {
        let Stage { plugin, config } = stage;
        let mut settings = Settings::new();
        add_json(&mut settings, "config", config);
        Self { plugin: plugin.clone(), config: settings }
    }
}

fn add(settings: &mut Settings, key: &str, value: String) {
    settings.insert(key.to_owned(), Value::Shown(value));
}

/// The key is digested as well, so that equal secrets don't look equal, and tables made for one key are of no use for others.
fn add_secret(settings: &mut Settings, key: String, value: &str) {
    let digest = digest::short(&digest::of(format!("midplane config\0{key}\0{value}").as_bytes()));
    settings.insert(key, Value::Hidden { digest });
}

fn add_json(settings: &mut Settings, key: &str, value: &serde_json::Value) {
    match value {
        serde_json::Value::Object(object) => {
            for (name, value) in object {
                add_json(settings, &format!("{key}.{name}"), value);
            }
        }
        serde_json::Value::Bool(_) | serde_json::Value::Number(_) => add(settings, key, value.to_string()),
        value => add_secret(settings, key.to_owned(), &value.to_string()),
    }
}

fn add_host(settings: &mut Settings, host: &Host) {
    let Host { data_directory, instance, drain_timeout, generations, stack_bytes } = host;
    add(settings, "host.data_directory", path(data_directory));
    if let Some(instance) = instance {
        add(settings, "host.instance", instance.clone());
    }
    add(settings, "host.drain_timeout", print_duration(*drain_timeout));
    add(settings, "host.generations", generations.to_string());
    add(settings, "host.stack", print_size(*stack_bytes as u64));
}

fn add_kafka(settings: &mut Settings, kafka: &Kafka) {
    let Kafka { bootstrap_servers, client, create_topics } = kafka;
    add(settings, "broker.bootstrap_servers", bootstrap_servers.clone());
    add(settings, "broker.create_topics", create_topics.to_string());
    for (name, value) in client {
        add_secret(settings, format!("broker.client.\"{name}\""), value);
    }
}

fn add_embedded(settings: &mut Settings, embedded: &Embedded) {
    let Embedded { listen, advertise, data_directory, retention, topics } = embedded;
    add(settings, "embedded_broker.listen", listen.to_string());
    if let Some(advertise) = advertise {
        add(settings, "embedded_broker.advertise", advertise.clone());
    }
    add(settings, "embedded_broker.data_directory", path(data_directory));
    add(settings, "embedded_broker.retention", print_duration(*retention));
    for (name, EmbeddedTopic { partitions, compacted }) in topics {
        add(settings, &format!("embedded_broker.topics.{name}.partitions"), partitions.to_string());
        add(settings, &format!("embedded_broker.topics.{name}.compacted"), compacted.to_string());
    }
}

fn add_admin(settings: &mut Settings, admin: &Admin) {
    let Admin { listen, token } = admin;
    add(settings, "admin.listen", listen.to_string());
    if let Some(Secret(token)) = token {
        add_secret(settings, "admin.token_file".to_owned(), token);
    }
}

fn plugin_settings(plugin: &PluginSettings) -> Settings {
    let PluginSettings { sha256, limits, grants, rollout } = plugin;
    let Limits { deadline, memory_bytes, output_bytes, outputs, table_elements, log_bytes_per_second } = limits;
    let Grants { clock, random, env } = grants;
    let mut settings = Settings::new();
    if let Some(sha256) = sha256 {
        add(&mut settings, "sha256", digest::hex(sha256));
    }
    add(&mut settings, "deadline", print_duration(*deadline));
    add(&mut settings, "memory", print_size(*memory_bytes as u64));
    add(&mut settings, "output", print_size(*output_bytes as u64));
    add(&mut settings, "outputs", outputs.to_string());
    add(&mut settings, "table", table_elements.to_string());
    add(&mut settings, "log_rate", print_size(*log_bytes_per_second as u64));
    add(&mut settings, "allow.clock", clock.to_string());
    add(&mut settings, "allow.random", random.to_string());
    add(&mut settings, "allow.env", env.join(", "));
    add_rollout(&mut settings, rollout);
    settings
}

/// A rollout's `mode`, as the file has it.
pub(super) fn rollout_word(mode: RolloutMode) -> &'static str {
    match mode {
        RolloutMode::Direct => "direct",
        RolloutMode::Shadow => "shadow",
        RolloutMode::Canary => "canary",
    }
}

fn add_rollout(settings: &mut Settings, rollout: &Rollout) {
    let Rollout { mode, share, events, time, errors_max, latency_max, differences_max } = rollout;
    add(settings, "rollout.mode", rollout_word(*mode).to_owned());
    // Shares such as 7% are no binary fractions: rounded, they are what the file says.
    add(settings, "rollout.share", format!("{}%", (share * 1e8).round() / 1e6));
    add(settings, "rollout.events", events.to_string());
    add(settings, "rollout.time", print_duration(*time));
    add(settings, "rollout.errors_max", errors_max.to_string());
    add(settings, "rollout.latency_max", print_duration(*latency_max));
    add(settings, "rollout.differences_max", differences_max.to_string());
}

fn group_settings(group: &Group) -> Settings {
    let Group { name: _, guarantee, commit_interval, shards, start, out_of_range, routes: _ } = group;
    let mut settings = Settings::new();
    add(&mut settings, "guarantee", guarantee.to_string());
    add(&mut settings, "commit_interval", print_duration(*commit_interval));
    if let Some(shards) = shards {
        add(&mut settings, "shards", shards.to_string());
    }
    add(&mut settings, "start", start_word(*start));
    add(&mut settings, "out_of_range", out_of_range_word(*out_of_range).to_owned());
    settings
}

/// From wherever it is looked at: a host and a command that are started in different folders mean the same.
fn path(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn selector(selector: &Selector) -> String {
    match selector {
        Selector::Topic(topic) => topic.clone(),
        Selector::Pattern(pattern) => format!("/{pattern}/"),
    }
}

fn start_word(start: Start) -> String {
    match start {
        Start::Earliest => "earliest".to_owned(),
        Start::Latest => "latest".to_owned(),
        Start::At(time) => {
            jiff::Timestamp::from_millisecond(time).map_or_else(|_| time.to_string(), |time| time.to_string())
        }
    }
}

fn out_of_range_word(out_of_range: OutOfRange) -> &'static str {
    match out_of_range {
        OutOfRange::Halt => "halt",
        OutOfRange::Earliest => "earliest",
        OutOfRange::Latest => "latest",
    }
}

fn on_filter_error_word(on_filter_error: OnFilterError) -> &'static str {
    match on_filter_error {
        OnFilterError::DeadLetter => "dead-letter",
        OnFilterError::Drop => "drop",
        OnFilterError::Match => "match",
    }
}

fn on_permanent_word(on_permanent: OnPermanent) -> &'static str {
    match on_permanent {
        OnPermanent::DeadLetter => "dead-letter",
        OnPermanent::Drop => "drop",
        OnPermanent::Halt => "halt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        [broker]
        bootstrap_servers = "kafka-1:9092"
        client = { "security.protocol" = "sasl_ssl", "sasl.password" = "${PASSWORD}" }

        [admin]
        listen = "127.0.0.1:0"

        [plugin.score]
        sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        memory = "32MiB"
        config = { threshold = 0.9, key = "${PASSWORD}", deep = { flag = true, list = [1] } }

        [groups.payments]
        start = "2026-01-01T00:00:00Z"
        shards = 2

        [routes.large]
        from = ["payments", "/^eu-.*$/"]
        where = "event.json.amount > 10"
        through = ["score", { plugin = "score", config = { threshold = 0.5 } }]
        to = { default = "scored", alert = "alerts" }
        group = "payments"
    "#;

    fn view(config: &str, password: &str) -> ConfigView {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("midplane.toml");
        std::fs::write(&file, config).expect("writable");
        let variable = |name: &str| (name == "PASSWORD").then(|| password.to_owned());
        let loaded = crate::config::load_with(&file, &variable).unwrap_or_else(|problems| panic!("{problems}"));
        let mut view = ConfigView::of(&loaded.config);
        for value in view.settings.values_mut() {
            if let Value::Shown(text) = value {
                *text = text.replace(&path(folder.path()), "FOLDER");
            }
        }
        view
    }

    #[test]
    fn a_view_has_every_key_and_no_secret() {
        let view = view(CONFIG, "open sesame");
        let json = serde_json::to_string_pretty(&view).expect("JSON");
        assert!(!json.contains("sesame"), "{json}");
        insta::assert_snapshot!(json);
        assert_eq!(serde_json::from_str::<ConfigView>(&json).expect("a view"), view);
    }

    #[test]
    fn the_keys_of_a_route_are_those_of_its_table() {
        let view = view(CONFIG, "open sesame");
        let keys: Vec<String> = view.routes[0]
            .keys()
            .into_iter()
            .map(|(key, value)| match value {
                Value::Shown(text) => format!("{key} = {text}"),
                Value::Hidden { .. } => format!("{key} is hidden"),
            })
            .collect();
        insta::assert_snapshot!(keys.join("\n"));
    }

    #[test]
    fn another_secret_is_another_digest_under_each_key() {
        let (first, second) = (view(CONFIG, "first"), view(CONFIG, "second"));
        let password = "broker.client.\"sasl.password\"";
        assert_ne!(first.settings[password], second.settings[password]);
        let (stage, key) = (&first.routes[0].through[0].config, "config.key");
        assert!(matches!(stage[key], Value::Hidden { .. }));
        assert_ne!(stage[key], first.settings[password]);
        assert_ne!(stage[key], second.routes[0].through[0].config[key]);
        assert_eq!(first, view(CONFIG, "first"));
    }
}
