//! The settings of the Kafka client that users may set: not those that Midplane owns, and only with leave those that load
//! code or read files on the host. What remains is for librdkafka to judge. Never makes a client.

use std::collections::BTreeMap;
use std::path::Path;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::fields::{Fields, Located, Mismatch, Reader};
use super::names;
use super::problem::Problem;
use super::text::Text;
use super::tree::{Name, Node, Value};

/// What Midplane owns, and why: correctness, order and bounded memory hang on these.
const OWNED: &[(&[&str], &str)] = &[
    (&["bootstrap.servers", "metadata.broker.list"], "use `bootstrap_servers` of `[broker]`"),
    (&["group.id"], "use `group` of a route: the name of a group is its id"),
    (&["client.id"], "use `instance` of `[host]`: each client's id is made of it"),
    (
        &[
            "group.instance.id",
            "group.protocol",
            "group.protocol.type",
            "group.remote.assignor",
            "partition.assignment.strategy",
            "rebalance_cb",
        ],
        "members of a group must agree on how partitions are assigned",
    ),
    (
        &[
            "auto.commit.enable",
            "auto.commit.interval.ms",
            "enable.auto.commit",
            "enable.auto.offset.store",
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
            "offset_commit_cb",
        ],
        "use `commit_interval` of the group: only what is settled is committed",
    ),
    (&["auto.offset.reset"], "use `start` and `out_of_range` of the group"),
    (&["check.crcs", "enable.partition.eof", "isolation.level"], "what an event is must not differ between hosts"),
    (
        &[
            "acks",
            "delivery.timeout.ms",
            "enable.gapless.guarantee",
            "enable.idempotence",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "message.send.max.retries",
            "message.timeout.ms",
            "queuing.strategy",
            "request.required.acks",
            "retries",
            "transactional.id",
            "msg_order_cmp",
        ],
        "use `guarantee` of the group: no output may be lost, doubled or reordered",
    ),
    (
        &["partitioner", "partitioner_cb", "sticky.partitioning.linger.ms"],
        "keys land where Java's default partitioner puts them",
    ),
    (
        &[
            "background_event_cb",
            "consume.callback.max.messages",
            "consume_cb",
            "delivery.report.only.error",
            "dr_cb",
            "dr_msg_cb",
            "enabled_events",
            "error_cb",
            "log.queue",
            "log_cb",
            "produce.offset.report",
            "stats_cb",
            "throttle_cb",
        ],
        "every delivery is reported to the engine, which decides what is settled",
    ),
    (
        &[
            "fetch.queue.backoff.ms",
            "queue.buffering.backpressure.threshold",
            "queue.buffering.max.kbytes",
            "queue.buffering.max.messages",
            "queued.max.messages.kbytes",
            "queued.min.messages",
        ],
        "buffers are sized by Midplane, so that memory stays bounded",
    ),
    (&["allow.auto.create.topics"], "use `create_topics` of `[broker]`"),
    (
        &[
            "closesocket_cb",
            "connect_cb",
            "default_topic_conf",
            "interceptors",
            "internal.termination.signal",
            "oauthbearer_token_refresh_cb",
            "opaque",
            "open_cb",
            "resolve_cb",
            "socket_cb",
            "ssl.certificate.verify_cb",
            "ssl_ca",
            "ssl_certificate",
            "ssl_engine_callback_data",
            "ssl_key",
        ],
        "it is set by programs, not by settings",
    ),
];

/// What loads or runs code on the host, wherever it lies.
const LOADS_CODE: &[&str] =
    &["plugin.library.paths", "sasl.kerberos.kinit.cmd", "ssl.engine.id", "ssl.engine.location", "ssl.providers"];

/// What reads a file: fine inside the config's folder.
const READS_FILES: &[&str] = &[
    "https.ca.location",
    "sasl.kerberos.keytab",
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.jwt.template.file",
    "sasl.oauthbearer.assertion.private.key.file",
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.crl.location",
    "ssl.key.location",
    "ssl.keystore.location",
];

/// What people do set, for the hint of an unknown name; librdkafka can't list what it knows.
const COMMON: &[&str] = &[
    "batch.num.messages",
    "batch.size",
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "heartbeat.interval.ms",
    "linger.ms",
    "log.connection.close",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "message.copy.max.bytes",
    "message.max.bytes",
    "metadata.max.age.ms",
    "queue.buffering.max.ms",
    "receive.message.max.bytes",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.kerberos.principal",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "socket.timeout.ms",
    "ssl.ca.pem",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "ssl.sigalgs.list",
    "statistics.interval.ms",
    "topic.metadata.refresh.interval.ms",
    "transaction.timeout.ms",
];

/// Reads `client` and `allow` of `[broker]`.
pub(super) fn read(broker: &Fields<'_>, reader: &mut Reader<'_>) -> BTreeMap<String, String> {
    let allow = broker.texts("allow", reader);
    for name in &allow {
        check_allowed(name, reader);
    }
    let mut settings = BTreeMap::new();
    let Some(table) = broker.node("client").and_then(|node| reader.table(node, &broker.key("client"))) else {
        return settings;
    };
    for (name, node) in &table.entries {
        if let Some(value) = setting(name, node, &allow, reader) {
            settings.insert(name.text.clone(), value);
        }
    }
    settings
}

fn check_allowed(name: &Located<Text>, reader: &mut Reader<'_>) {
    let known = || LOADS_CODE.iter().chain(READS_FILES).copied();
    if known().all(|known| known != name.value.value) {
        let message = format!("`{}` needs no leave, in `broker.allow`", name.written);
        let hint = names::did_you_mean(&name.written, known());
        reader.report(
            Problem::error(name.at, &name.written, message)
                .expected("the name of a client setting that loads code or reads files")
                .hint_if(hint),
        );
    }
}

/// The value for librdkafka; None where it is refused.
fn setting(name: &Name, node: &Node, allow: &[Located<Text>], reader: &mut Reader<'_>) -> Option<String> {
    let key = name.text.as_str();
    if let Some((_, instead)) = OWNED.iter().find(|(names, _)| names.contains(&key)) {
        let message = format!("`{key}` is a client setting that Midplane owns");
        reader.report(Problem::error(name.at, key, message).hint(*instead));
        return None;
    }
    let (value, secret) = match &node.value {
        Value::Text(text) => (text.value.clone(), text.secret),
        Value::Integer(_) | Value::Float(_) | Value::Flag(_) => (node.written.clone(), false),
        Value::Broken => return None,
        _ => {
            let expected = format!("a string, not {}", node.kind());
            reader.refuse(node, &format!("broker.client.{key}"), Mismatch::new("a setting", expected));
            return None;
        }
    };
    let allowed = allow.iter().any(|allowed| allowed.value.value == key);
    if LOADS_CODE.contains(&key) {
        if !allowed {
            let message = format!("`{key}` loads or runs code on this host");
            reader.report(Problem::error(name.at, key, message).hint(leave(key)));
        }
        // librdkafka would load the code in order to judge the setting.
        return allowed.then_some(value);
    }
    if READS_FILES.contains(&key) && value != "probe" {
        return file(name, node, &value, allowed, reader);
    }
    judge(name, node, &value, secret, reader)
}

fn leave(key: &str) -> String {
    format!("if that is meant, say so in `[broker]`: `allow = [\"{key}\"]`")
}

/// A path for librdkafka, which would start relative ones at the working directory.
fn file(name: &Name, node: &Node, value: &str, allowed: bool, reader: &mut Reader<'_>) -> Option<String> {
    let key = name.text.as_str();
    let path = reader.path(value);
    if !allowed && !is_inside(reader.folder, &path) {
        let message = format!("`{}` lies outside the folder of the config, in `broker.client.{key}`", node.written);
        reader.report(Problem::error(node.at, &node.written, message).hint(leave(key)));
        return None;
    }
    if !path.exists() {
        let message = format!("`{}` does not exist, in `broker.client.{key}`", node.written);
        reader.report(
            Problem::error(node.at, &node.written, message).expected("a file, its path from the folder of the config"),
        );
        return None;
    }
    Some(path.to_string_lossy().into_owned())
}

/// Links are followed: what they lead to is what is read.
fn is_inside(folder: &Path, path: &Path) -> bool {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(folder) = folder.canonicalize() else { return false };
    // What doesn't exist is as far inside as its nearest ancestor that does, unless it climbs.
    let climbs = path.components().any(|part| part == std::path::Component::ParentDir);
    let existing = path.ancestors().find_map(|ancestor| {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        ancestor.canonicalize().ok().map(|resolved| (resolved, ancestor == path))
    });
    existing.is_some_and(|(resolved, whole)| resolved.starts_with(&folder) && (whole || !climbs))
}

/// Asks librdkafka.
fn judge(name: &Name, node: &Node, value: &str, secret: bool, reader: &mut Reader<'_>) -> Option<String> {
    let key = name.text.as_str();
    let refusal = match ClientConfig::new().set(key, value).create_native_config() {
        Ok(_) => return Some(value.to_owned()),
        Err(refusal) => refusal,
    };
    if let KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..) = refusal {
        let known = COMMON.iter().chain(LOADS_CODE).chain(READS_FILES).copied();
        let message = format!("`{key}` is no setting of the client");
        reader.report(
            Problem::error(name.at, key, message)
                .expected("a setting of librdkafka")
                .hint_if(names::did_you_mean(key, known)),
        );
        return None;
    }
    let reason = match refusal {
        // Its words hold the value.
        KafkaError::ClientConfig(_, reason, ..) if !secret && !reason.is_empty() => reason,
        _ => "another value".to_owned(),
    };
    let message = format!("`{}` is refused by the client, in `broker.client.{key}`", node.written);
    reader.report(Problem::error(node.at, &node.written, message).expected(match reason.as_str() {
        "another value" => reason,
        _ => format!("a value that librdkafka takes: {reason}"),
    }));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafka_knows_every_name() {
        // Not those that take pointers, or that would load code here and now.
        let owned = OWNED.iter().flat_map(|(names, _)| names.iter()).filter(|name| name.contains(".ms"));
        for name in COMMON.iter().chain(READS_FILES).chain(owned) {
            let refusal = ClientConfig::new().set(*name, "1").create_native_config().err();
            let is_unknown =
                matches!(refusal, Some(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, ..)));
            assert!(!is_unknown, "`{name}`");
        }
    }

    #[test]
    fn links_out_of_the_folder_are_outside() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("config");
        std::fs::create_dir(&folder).expect("a folder");
        std::fs::write(root.path().join("outside.pem"), "").expect("a file");
        std::fs::write(folder.join("inside.pem"), "").expect("a file");
        std::os::unix::fs::symlink("../outside.pem", folder.join("link.pem")).expect("a link");
        let check = |path: &str, expected| assert_eq!(is_inside(&folder, &folder.join(path)), expected, "{path}");
        check("inside.pem", true);
        check("./inside.pem", true);
        check("missing.pem", true);
        check("new/missing.pem", true);
        check("link.pem", false);
        check("../outside.pem", false);
        check("../missing.pem", false);
        check("new/../../missing.pem", false);
        check("/etc/passwd", false);
    }
}
