//! All tables but the routes: the host, the broker, the admin surface, plugins, groups.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::super::client;
use super::super::fields::{Fields, Located, Mismatch, Reader, located, name, topic};
use super::super::keys;
use super::super::model::{
    Admin, Embedded, EmbeddedTopic, Grants, Guarantee, Host, Limits, OutOfRange, Plugins, Rollout, RolloutMode,
    STACK_BYTES_MAX, Secret, Start,
};
use super::super::names;
use super::super::problem::{Place, Problem};
use super::super::public_key::PublicKey;
use super::super::tree::{Name, Node, Value};
use super::{AdminTable, BrokerTable, EmbeddedTable, GroupTable, PluginTable, section_or_default};

/// What one event's outputs may be allowed at most: what a batch of them holds is counted in 32 bits.
const OUTPUT_BYTES_MAX: usize = 1 << 30;

/// A key that a later version will know.
pub(super) fn not_yet(at: Place, offending: &str, key: &str, hint: &str, reader: &mut Reader<'_>) {
    let message = format!("`{offending}` is not supported yet, in `{key}`");
    reader.report(Problem::error(at, offending, message).hint(hint));
}

pub(super) fn host(root: &Fields<'_>, reader: &mut Reader<'_>) -> Host {
    section_or_default(root, "host", &keys::HOST, reader, |fields, reader| Host {
        data_directory: fields.path("data_directory", reader),
        instance: fields.parsed("instance", reader, name).map(|instance| instance.value),
        drain_timeout: fields.duration("drain_timeout", reader),
        generations: fields.integer("generations", reader).unwrap_or(1),
        stack_bytes: fields.size_up_to("stack", STACK_BYTES_MAX, reader),
    })
}

pub(super) fn broker(root: &Fields<'_>, reader: &mut Reader<'_>) -> Option<BrokerTable> {
    let fields = root.section("broker", reader)?;
    if fields.node("bootstrap_servers").is_none() {
        let message = "`bootstrap_servers` is missing, in `broker`";
        reader.report(
            Problem::error(fields.at, "bootstrap_servers", message)
                .expected("where to find Kafka")
                .hint("add `bootstrap_servers = \"HOST:PORT\"`, or leave the table out for an embedded broker"),
        );
    }
    let servers = fields.parsed("bootstrap_servers", reader, servers);
    Some(BrokerTable {
        at: fields.at,
        written_servers: servers.as_ref().map(|servers| servers.written.clone()).unwrap_or_default(),
        bootstrap_servers: servers.map(|servers| servers.value),
        client: client::read(&fields, reader),
        create_topics: fields.flag("create_topics", reader),
    })
}

fn servers(text: &str) -> Result<String, Mismatch> {
    if text.split(',').all(|server| is_endpoint(server.trim())) {
        Ok(text.to_owned())
    } else {
        let expected = "`HOST:PORT`, several with commas";
        let hint =
            (!text.is_empty() && !text.contains([',', ':', '/', ' '])).then(|| format!("did you mean `{text}:9092`?"));
        Err(Mismatch::new("a list of servers", expected).hint(hint))
    }
}

fn is_endpoint(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let host_is_sound = !host.is_empty() && !host.contains(['/', ' ', '@']);
        host_is_sound && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

pub(super) fn embedded(root: &Fields<'_>, reader: &mut Reader<'_>) -> Option<EmbeddedTable> {
    let fields = root.section("embedded_broker", reader)?;
    Some(one_embedded(&fields, fields.at, reader))
}

pub(super) fn one_embedded(fields: &Fields<'_>, at: Place, reader: &mut Reader<'_>) -> EmbeddedTable {
    let listen = fields.address("listen", reader);
    let advertise = fields.parsed("advertise", reader, |text| {
        if is_endpoint(text) {
            Ok(text.to_owned())
        } else {
            Err(Mismatch::new("an address that clients can be told", "`HOST:PORT`"))
        }
    });
    let retention = fields.duration("retention", reader);
    if let Some(node) = fields.node("retention").filter(|_| retention != default_retention()) {
        not_yet(node.at, &node.written, "embedded_broker.retention", "leave it out, or at `\"7d\"`", reader);
    }
    EmbeddedTable {
        at,
        value: Embedded {
            listen: listen.value,
            advertise: advertise.map(|advertise| advertise.value),
            data_directory: fields.path("data_directory", reader),
            retention: default_retention(),
            topics: topics(fields, reader),
        },
        listen,
    }
}

fn default_retention() -> std::time::Duration {
    std::time::Duration::from_secs(7 * 24 * 60 * 60)
}

fn topics(embedded: &Fields<'_>, reader: &mut Reader<'_>) -> std::collections::BTreeMap<String, EmbeddedTopic> {
    let mut topics = std::collections::BTreeMap::new();
    for (name, fields) in embedded.sections("topics", reader) {
        if !names::is_topic(&name.text) {
            let message = format!("`{}` is not a topic, in `embedded_broker.topics`", name.text);
            reader.report(Problem::error(name.at, &name.text, message).expected(names::TOPIC_RULE));
        }
        if let Some(node) = fields.node("compacted").filter(|node| matches!(node.value, Value::Flag(true))) {
            not_yet(
                node.at,
                &node.written,
                &fields.key("compacted"),
                "leave it out: the topic keeps all events",
                reader,
            );
        }
        let topic = EmbeddedTopic {
            partitions: fields.integer("partitions", reader).unwrap_or(1),
            compacted: fields.flag("compacted", reader),
        };
        topics.insert(name.text.clone(), topic);
    }
    topics
}

pub(super) fn admin(root: &Fields<'_>, reader: &mut Reader<'_>) -> AdminTable {
    section_or_default(root, "admin", &keys::ADMIN, reader, |fields, reader| {
        let listen = fields.address("listen", reader);
        AdminTable {
            token_named: fields.node("token_file").is_some(),
            value: Admin { listen: listen.value, token: token(fields, reader) },
            listen,
        }
    })
}

fn token(admin: &Fields<'_>, reader: &mut Reader<'_>) -> Option<Secret> {
    let file = admin.text("token_file", reader)?;
    let path = reader.path(&file.value.value);
    reader.files.insert(path.clone());
    let reason = match std::fs::read_to_string(path) {
        Ok(content) if !content.trim().is_empty() => return Some(Secret(content.trim().to_owned())),
        Ok(_) => "is empty".to_owned(),
        Err(error) => format!("can't be read: {}", reason(&error)),
    };
    let message = format!("`{}` {reason}, in `{}`", file.written, admin.key("token_file"));
    reader.report(
        Problem::error(file.at, &file.written, message)
            .expected("a file with the token, its path from the folder of the config"),
    );
    None
}

/// What the system says, without its number.
pub(in crate::config) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8".to_owned(),
        kind => kind.to_string(),
    }
}

pub(super) fn plugins(root: &Fields<'_>, reader: &mut Reader<'_>) -> (Plugins, Option<Located<PathBuf>>) {
    section_or_default(root, "plugins", &keys::PLUGINS, reader, |fields, reader| {
        let public_keys = public_keys(fields, reader);
        let directory = fields.path("directory", reader);
        let at = fields.node("directory").map(|node| located(node, directory.clone()));
        (Plugins { directory, poll_interval: fields.duration("poll_interval", reader), public_keys }, at)
    })
}

fn public_keys(plugins: &Fields<'_>, reader: &mut Reader<'_>) -> Vec<PublicKey> {
    let mut keys = Vec::new();
    for text in plugins.texts("public_keys", reader) {
        match PublicKey::parse(&text.value.value) {
            Some(key) => keys.push(key),
            None => {
                let message = format!("`{}` is not a public key of minisign, in `plugins.public_keys`", text.written);
                reader.report(
                    Problem::error(text.at, &text.written, message)
                        .expected("56 characters of base64, as `minisign -G` prints them and keeps in its `.pub` file")
                        .hint("`${file:minisign.pub}` puts the file's content in"),
                );
            }
        }
    }
    keys
}

pub(super) fn plugin(root: &Fields<'_>, reader: &mut Reader<'_>) -> Vec<PluginTable> {
    let tables = root.sections("plugin", reader);
    for (name, _) in tables.iter().filter(|(name, _)| !names::is_name(&name.text)) {
        let message = format!("`{}` is not a plugin's name, in `plugin`", name.text);
        reader.report(Problem::error(name.at, &name.text, message).expected(names::NAME_RULE));
    }
    tables.into_iter().map(|(name, fields)| one_plugin(name.clone(), &fields, reader)).collect()
}

pub(super) fn one_plugin(name: Name, fields: &Fields<'_>, reader: &mut Reader<'_>) -> PluginTable {
    PluginTable {
        name,
        sha256: fields.parsed("sha256", reader, sha256),
        limits: Limits {
            deadline: fields.duration("deadline", reader),
            memory_bytes: fields.size("memory", reader),
            output_bytes: fields.size_up_to("output", OUTPUT_BYTES_MAX, reader),
            outputs: fields.integer("outputs", reader).unwrap_or(1),
            table_elements: fields.integer("table", reader).unwrap_or(1),
            log_bytes_per_second: fields.size("log_rate", reader),
        },
        grants: grants(fields, reader),
        config: object(fields, reader),
        rollout: rollout(fields, reader),
    }
}

fn rollout(plugin: &Fields<'_>, reader: &mut Reader<'_>) -> Rollout {
    let modes = [RolloutMode::Direct, RolloutMode::Shadow, RolloutMode::Canary];
    section_or_default(plugin, "rollout", &keys::ROLLOUT, reader, |fields, reader| Rollout {
        mode: fields.choice("mode", modes, reader).value,
        share: fields.share("share", reader),
        events: fields.integer("events", reader).unwrap_or(1),
        time: fields.duration("time", reader),
        errors_max: fields.number("errors_max", reader),
        latency_max: fields.duration("latency_max", reader),
        differences_max: fields.number("differences_max", reader),
    })
}

/// A table of the user's own.
pub(super) fn object(fields: &Fields<'_>, reader: &mut Reader<'_>) -> Option<Node> {
    let node = fields.node("config")?;
    reader.table(node, &fields.key("config")).map(|_| node.clone())
}

fn grants(plugin: &Fields<'_>, reader: &mut Reader<'_>) -> Grants {
    section_or_default(plugin, "allow", &keys::GRANTS, reader, |fields, reader| Grants {
        clock: fields.flag("clock", reader),
        random: fields.flag("random", reader),
        env: fields.texts("env", reader).into_iter().map(|name| name.value.value).collect(),
    })
}

fn sha256(text: &str) -> Result<[u8; 32], Mismatch> {
    let mut bytes = [0; 32];
    let sound = text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !sound {
        let hint = format!("it has {} characters", text.chars().count());
        return Err(Mismatch::new("a SHA-256", "64 hexadecimal digits").hint(Some(hint)));
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
        *byte = digit(digits[0]) << 4 | digit(digits[1]);
    }
    Ok(bytes)
}

pub(super) fn groups(root: &Fields<'_>, reader: &mut Reader<'_>) -> Vec<GroupTable> {
    let tables = root.sections("groups", reader);
    for (name, _) in &tables {
        if let Err(mismatch) = group_name(&name.text) {
            let message = format!("`{}` is not {}, in `groups`", name.text, mismatch.what);
            reader.report(Problem::error(name.at, &name.text, message).expected(mismatch.expected));
        }
    }
    tables.into_iter().map(|(name, fields)| one_group(name.clone(), &fields, reader)).collect()
}

pub(super) fn one_group(name: Name, fields: &Fields<'_>, reader: &mut Reader<'_>) -> GroupTable {
    let out_of_range = [OutOfRange::Halt, OutOfRange::Earliest, OutOfRange::Latest];
    GroupTable {
        name,
        guarantee: fields.choice("guarantee", [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce], reader).value,
        commit_interval: fields.duration("commit_interval", reader),
        shards: fields.integer("shards", reader).and_then(NonZeroUsize::new),
        start: start(fields, reader),
        out_of_range: fields.choice("out_of_range", out_of_range, reader).value,
        retired: fields.flag("retired", reader),
    }
}

/// A group's name is a group id of Kafka, which takes nearly anything.
pub(super) fn group_name(text: &str) -> Result<String, Mismatch> {
    const LENGTH_MAX: usize = 249;
    if text.trim() == text && (1..=LENGTH_MAX).contains(&text.len()) && !text.contains(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(Mismatch::new("a group id", "1 to 249 bytes without control characters, no space at either end"))
    }
}

fn start(group: &Fields<'_>, reader: &mut Reader<'_>) -> Start {
    let Some(node) = group.node("start") else { return Start::Earliest };
    let expected = "`earliest`, `latest` or a time with its offset, such as `2026-01-31T06:00:00Z`";
    let (text, secret) = match &node.value {
        Value::Text(text) => (text.value.clone(), text.secret),
        Value::Datetime(datetime) => (datetime.to_string(), false),
        Value::Broken => return Start::Earliest,
        _ => (node.written.clone(), true),
    };
    match text.as_str() {
        "earliest" => Start::Earliest,
        "latest" => Start::Latest,
        _ => match text.parse::<jiff::Timestamp>() {
            Ok(time) => Start::At(time.as_millisecond()),
            Err(_) => {
                let without_offset = text.parse::<jiff::civil::DateTime>().is_ok() && !secret;
                let hint = if without_offset {
                    Some("add the offset from UTC, or `Z` for none".to_owned())
                } else {
                    names::did_you_mean(&text, ["earliest", "latest"]).filter(|_| !secret)
                };
                reader.refuse(node, &group.key("start"), Mismatch::new("a place to start", expected).hint(hint));
                Start::Earliest
            }
        },
    }
}

/// A topic that a route names.
pub(super) fn topic_at(node: &Node, key: &str, reader: &mut Reader<'_>) -> Option<Located<String>> {
    let text = reader.string(node, key)?;
    match topic(&text.value) {
        Ok(topic) => Some(located(node, topic)),
        Err(mismatch) => {
            reader.refuse(node, key, mismatch);
            None
        }
    }
}
