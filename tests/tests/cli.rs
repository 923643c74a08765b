//! The command line as people and scripts meet it: help, exit codes, `topic`, `broker`, and the admin surface of `run`. The
//! program runs as a process; what routes do to events is for other tests.

use std::sync::Arc;

use midplane::control::admin::{Access, Admin};
use midplane::control::config_view::ConfigView;
use midplane::control::order::{self, Refusal, RefusalKind};
use midplane::control::overview::Overview;
use midplane::control::status::{Listen, Status};
use midplane_tests::binary::{Finished, run, run_in};
use midplane_tests::{Broker, DEADLINE, Folder, Host, on_each_broker, plugins, wait_until};
use serde_json::{Value, json};

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";

/// An embedded broker on any free port, and a topic of two partitions.
const EMBEDDED: &str = "\
[embedded_broker]
listen = \"127.0.0.1:0\"
topics = { payments = { partitions = 2 } }
";

fn check(finished: &Finished, code: i32, said: &str) {
    assert_eq!(finished.code, Some(code), "{}{}", finished.stdout, finished.stderr);
    assert!(finished.stderr.contains(said), "expected `{said}` in: {}", finished.stderr);
}

#[test]
fn help_is_for_newcomers() {
    let commands: [&[&str]; 35] = [
        &[],
        &["run"],
        &["check"],
        &["plan"],
        &["status"],
        &["reload"],
        &["rollback"],
        &["resume"],
        &["plugin"],
        &["plugin", "inspect"],
        &["plugin", "list"],
        &["plugin", "pin"],
        &["plugin", "unpin"],
        &["plugin", "promote"],
        &["plugin", "abort"],
        &["plugin", "rollback"],
        &["route"],
        &["route", "pause"],
        &["route", "resume"],
        &["partition"],
        &["partition", "list"],
        &["partition", "resume"],
        &["partition", "skip"],
        &["broker"],
        &["topic"],
        &["topic", "list"],
        &["topic", "create"],
        &["topic", "delete"],
        &["topic", "produce"],
        &["topic", "consume"],
        &["dlq"],
        &["dlq", "list"],
        &["dlq", "show"],
        &["dlq", "redrive"],
        &["completions"],
    ];
    for command in commands {
        let help = run(&[command, &["--help"]].concat()).success();
        insta::assert_snapshot!([&["help"], command].concat().join("-"), help);
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for (args, said) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&[], "Usage: midplane <COMMAND>"),
        (&["topic", "create"], "<TOPIC>"),
        (&["topic", "list", "--timeout", "soon"], "expected a duration such as `10s`"),
        (&["topic", "create", "a", "--partitions", "0"], "0 is not in 1.."),
        (&["topic", "produce", "a", "--header", "ce_type"], "expected NAME=VALUE"),
        (&["rollback", "--to", "the-last-one"], "invalid digit found in string"),
        (&["plugin", "pin", "mask", "v2"], "`v2` is no version, expected 4 to 64 hexadecimal digits"),
        (&["plugin", "rollback"], "<NAME>"),
        (&["partition", "skip", "payments"], "expected TOPIC/PARTITION, such as `payments/3`"),
        (&["partition", "skip", "payments/3", "--to=-1"], "-1 is not in 0.."),
        (&["completions", "tcsh"], "[possible values: bash, elvish, fish, powershell, zsh]"),
    ] {
        check(&run(args), 2, said);
    }
}

#[test]
fn a_refused_config_ends_with_3() {
    let folder = Folder::new("[routes.a]\nfrom = \"in\"\ntoo = \"out\"\n");
    let commands: [&[&str]; 4] = [&["run"], &["check"], &["broker"], &["topic", "list"]];
    for command in commands {
        check(&run_in(folder.path(), command, b""), 3, "midplane.toml:3:1: error: unknown key `too`");
        let absent = [command, &["--config", "absent.toml"]].concat();
        check(&run_in(folder.path(), &absent, b""), 3, "absent.toml");
    }
    let kafka = Folder::new("[broker]\nbootstrap_servers = \"kafka:9092\"\n");
    check(&run_in(kafka.path(), &["broker"], b""), 3, "leaves nothing to serve");
}

#[test]
fn a_plugin_that_refuses_its_config_is_told_from_the_start() {
    let folder = Folder::new(&format!(
        "[embedded_broker]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[plugins]\ndirectory = '{}'\n\
         [routes.good]\nfrom = \"in\"\nthrough = \"faulty\"\nto = \"out\"\n\
         [routes.bad]\nfrom = \"in\"\nto = \"out\"\nthrough = {{ plugin = \"faulty\", config = {{ configure = \"fail\" }} }}\n",
        plugins::directory().display()
    ));
    for command in ["check", "run"] {
        let finished = run_in(folder.path(), &[command], b"");
        check(
            &finished,
            3,
            "midplane.toml:14:22: error: plugin `faulty` refuses its config: told to fail in `configure`",
        );
        check(&finished, 3, "in `routes.bad`");
        check(&finished, 3, "`[plugin.faulty.config]`");
        check(&finished, 3, "1 error");
    }
}

#[test]
fn what_is_doubtful_about_a_config_is_told_by_every_command_that_uses_it() {
    let folder = Folder::new(&format!("{EMBEDDED}[groups.unused]\nshards = 1\n"));
    let said = "midplane.toml:4:9: warning: `unused`";
    check(&run_in(folder.path(), &["topic", "list", "--timeout", "100ms"], b""), 4, said);
    let broker = folder.start_broker();
    broker.broker();
    let log = broker.log().join("\n");
    assert!(log.contains(said) && !log.contains("there are no `routes`"), "{log}");
    assert_eq!(broker.stop(), Some(0));
}

#[test]
fn a_broker_that_does_not_answer_ends_with_4_and_the_reason() {
    let commands: [&[&str]; 5] = [
        &["topic", "list"],
        &["topic", "create", "a"],
        &["topic", "delete", "a"],
        &["topic", "produce", "a"],
        &["topic", "consume", "a"],
    ];
    let arguments = ["--bootstrap-servers", NOBODY, "--timeout", "2s"];
    // Each waits for all of its time, so they wait beside each other.
    std::thread::scope(|scope| {
        for command in commands {
            scope.spawn(move || {
                let finished = run(&[command, &arguments].concat());
                check(&finished, 4, "");
                assert_eq!(
                    finished.stderr,
                    "midplane: no answer from the broker `127.0.0.1:1` within 2s: Connect to ipv4#127.0.0.1:1 failed: \
                     Connection refused; is it running, and is the address right?\n"
                );
            });
        }
    });
    let folder = Folder::new(EMBEDDED);
    check(
        &run_in(folder.path(), &["topic", "list", "--timeout", "100ms"], b""),
        4,
        "start one with `midplane run` or `midplane broker`",
    );
}

#[test]
fn a_host_that_does_not_answer_ends_with_4_and_what_to_do() {
    let nobody = Folder::new(&format!("[admin]\nlisten = \"{NOBODY}\"\n"));
    // Its surface takes any free port, and it isn't there to say which.
    let unknown = Folder::new("");
    let commands: [&[&str]; 6] =
        [&["status"], &["reload"], &["rollback"], &["resume"], &["plugin", "list"], &["plugin", "pin", "mask"]];
    for command in commands {
        let ask = |folder: &Folder| run_in(folder.path(), &[command, &["--timeout", "10ms"]].concat(), b"");
        check(&ask(&nobody), 4, "no answer from the host at `127.0.0.1:1` within 10ms: Connection refused");
        check(&ask(&unknown), 4, "start one with `midplane run`");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    check(&run_in(folder.path(), &["status"], b""), 3, "`midplane.toml`");
}

/// The admin surface of a host whose orders are refused.
struct Surface {
    address: String,
    status: Status,
    _runtime: tokio::runtime::Runtime,
}

impl Surface {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let admin = runtime.block_on(Admin::bind("127.0.0.1:0".parse().expect("an address"))).expect("a free port");
        let address = admin.address().to_string();
        let (orders, mut receiver) = order::channel();
        let status = Status::new(Listen { admin: address.clone(), broker: None });
        runtime.spawn(admin.serve(status.clone(), Access::new(None), orders, std::future::pending()));
        runtime.spawn(async move {
            while let Some(order::Request { order, reply }) = receiver.recv().await {
                let refusal = Refusal::new(RefusalKind::Conflict, format!("{order:?} contradicts the config"));
                let _ = reply.send(Err(refusal));
            }
        });
        Self { address, status, _runtime: runtime }
    }

    /// Shows the config that is in the folder now as what is live.
    fn shows(&self, folder: &Folder) {
        let config = midplane::config::load(&folder.config()).expect("a valid config").config;
        self.status.overview(Arc::new(Overview {
            generation: 7,
            hash: "3f".repeat(32),
            config_sha256: midplane::digest::hex(&config.sha256),
            config_file: folder.config().display().to_string(),
            published_at: "2026-01-01T00:00:00Z".to_owned(),
            instance: "host-7".to_owned(),
            held: None,
            drift: Vec::new(),
            plugins: Vec::new(),
            groups: Vec::new(),
            history: Vec::new(),
            config: ConfigView::of(&config),
        }));
    }
}

#[test]
fn a_refused_order_ends_with_3_and_the_reason() {
    let surface = Surface::start();
    let folder = Folder::new(&format!("[admin]\nlisten = \"{}\"\n", surface.address));
    for (command, order) in [
        (&["reload"][..], "Reload"),
        (&["rollback"], "Rollback { to: None }"),
        (&["rollback", "--to", "41"], "Rollback { to: Some(41) }"),
        (&["resume"], "Resume"),
        (&["plugin", "pin", "mask"], "Pin { plugin: \"mask\", version: None }"),
        (&["plugin", "pin", "mask", "1F2e"], "Pin { plugin: \"mask\", version: Some(\"1f2e\") }"),
        (&["plugin", "unpin", "mask"], "Unpin { plugin: \"mask\" }"),
        (&["plugin", "promote", "mask"], "Promote { plugin: \"mask\" }"),
        (&["plugin", "abort", "mask"], "Abort { plugin: \"mask\" }"),
        (&["plugin", "rollback", "mask"], "RollbackPlugin { plugin: \"mask\", to: None }"),
        (&["plugin", "rollback", "mask", "--to", "1f2e"], "RollbackPlugin { plugin: \"mask\", to: Some(\"1f2e\") }"),
        (&["route", "pause", "large"], "PauseRoute { route: \"large\" }"),
        (&["route", "resume", "large"], "ResumeRoute { route: \"large\" }"),
        (
            &["partition", "resume", "in/3", "--group", "g"],
            "Partition { target: Target { topic: \"in\", partition: 3, group: Some(\"g\") }, wish: Again }",
        ),
        (
            &["partition", "skip", "in/3", "--to", "9"],
            "Partition { target: Target { topic: \"in\", partition: 3, group: None }, wish: Skip { at: None, to: Some(9) } }",
        ),
    ] {
        check(&run_in(folder.path(), command, b""), 3, &format!("midplane: {order} contradicts the config"));
    }
}

#[test]
fn a_plan_tells_what_a_reload_would_change() {
    let surface = Surface::start();
    let admin = format!("[admin]\nlisten = \"{}\"\n", surface.address);
    let routes = "[routes.copy]\nfrom = \"payments\"\nto = \"copies\"\n";
    let folder = Folder::new(&format!("{admin}{EMBEDDED}{routes}"));
    let broker = folder.start_broker();
    run_in(folder.path(), &["topic", "produce", "payments"], b"first\nsecond\nthird\n").success();
    surface.shows(&folder);
    let plan = |args: &[&str]| run_in(folder.path(), &[&["plan"], args].concat(), b"");
    let same = plan(&[]).success();
    assert!(same.ends_with("\nnothing would change\n"), "{same}");
    folder.write(&format!(
        "{admin}{EMBEDDED}{routes}where = \"event.text != ''\"\n[routes.more]\nfrom = \"payments\"\nto = \"more\"\n"
    ));
    let changed = plan(&["--output", "json"]);
    assert_eq!(changed.code, Some(10), "{}{}", changed.stdout, changed.stderr);
    let changed: Value = serde_json::from_str(&changed.stdout).expect("JSON");
    assert_eq!(changed["routes"][0]["name"], "copy");
    assert_eq!(changed["routes"][0]["keys"][0], json!({"key": "where", "from": null, "to": "event.text != ''"}));
    assert_eq!((&changed["routes"][1]["name"], &changed["routes"][1]["change"]), (&json!("more"), &json!("added")));
    let partitions = changed["begins"][0]["partitions"].as_array().expect("a list");
    let waiting: i64 = partitions.iter().filter_map(|partition| partition["waiting"].as_i64()).sum();
    assert_eq!((partitions.len(), waiting), (2, 3), "{changed:#}");
    assert_eq!(changed["topics"][0], json!({"topic": "more", "role": "output", "made": true}));
    let text = plan(&[]);
    assert_eq!(text.code, Some(10));
    assert!(text.stdout.contains("+ route   more\n    failure.dead_letter: more.dead-letters\n"), "{}", text.stdout);
    folder.write(&format!("{admin}{EMBEDDED}{routes}[host]\ngenerations = 3\n"));
    let refused = plan(&[]);
    assert_eq!(refused.code, Some(3));
    assert!(refused.stdout.contains("! `host.generations` needs a restart to change\n"), "{}", refused.stdout);
    folder.write(&format!("{admin}{EMBEDDED}[routes.copy]\nform = \"payments\"\n"));
    check(&plan(&[]), 3, "unknown key `form`");
    folder.write(&format!("{admin}{EMBEDDED}{routes}"));
    assert_eq!(broker.stop(), Some(0));
    check(&plan(&["--timeout", "10ms"]), 4, "no embedded broker runs");
}

#[test]
fn a_plugin_is_inspected_without_a_host() {
    let folder = Folder::new("[plugin.identity]\n");
    std::fs::create_dir(folder.path().join("plugins")).expect("a folder");
    let file = plugins::wasm("fraud-score");
    std::fs::copy(&file, folder.path().join("plugins/fraud-score.wasm")).expect("a plugin");
    std::fs::write(folder.path().join("plugins/broken.wasm"), b"\0asm").expect("a file");
    let inspect = |args: &[&str]| run_in(folder.path(), &[&["plugin", "inspect"], args].concat(), b"");
    let by_name = inspect(&["fraud-score"]).success();
    let bytes = std::fs::read(&file).expect("a plugin");
    let version = midplane::digest::hex(&midplane::digest::of(&bytes));
    let shown = by_name.replace(&version, "VERSION").replace(&bytes.len().to_string(), "SIZE");
    insta::assert_snapshot!("plugin-inspect", shown);
    let by_path = inspect(&[file.to_str().expect("a path in UTF-8"), "--output", "json"]).success();
    let by_path: Value = serde_json::from_str(&by_path).expect("JSON");
    assert_eq!(by_path["sha256"], version);
    assert_eq!(by_path["plugin"]["interface"], "batch-processor");
    assert_eq!(by_path["refused"], Value::Null);
    let refused = inspect(&["plugins/broken.wasm"]);
    check(&refused, 3, "plugin `broken` is not WebAssembly: it is cut short\n  hint: ");
    assert!(refused.stdout.contains("size       4 bytes\n"), "{}", refused.stdout);
    check(&inspect(&["absent"]), 1, "`plugins/absent.wasm` can't be read");
}

#[test]
fn what_is_asked_for_and_done_ends_with_0() {
    assert!(run(&["--version"]).success().starts_with("midplane "));
    assert!(run(&["completions", "bash"]).success().contains("complete -F _midplane"));
    let schema: Value = serde_json::from_str(&run(&["check", "--schema"]).success()).expect("JSON");
    assert!(schema["properties"]["routes"].is_object(), "{schema:#}");
}

/// `midplane topic …` on a broker.
fn topic(broker: &Broker, args: &[&str], input: &[u8]) -> Finished {
    let args = [&["topic"], args, &["--bootstrap-servers", broker.servers(), "--timeout", "60s"]].concat();
    run_in(&std::env::temp_dir(), &args, input)
}

/// Every event of a topic, as `--output json` writes it, by value.
fn events(broker: &Broker, name: &str, count: usize) -> Vec<Value> {
    let count = count.to_string();
    let args = ["consume", name, "--from-beginning", "--max-events", &count, "--output", "json"];
    parse(&topic(broker, &args, b"").success())
}

fn parse(lines: &str) -> Vec<Value> {
    let mut events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    events.sort_by_key(|event| event["value"].to_string());
    events
}

/// How many partitions `topic list` says that a topic has.
fn listed(broker: &Broker, name: &str) -> Option<u64> {
    let rows: Value = serde_json::from_str(&topic(broker, &["list", "--output", "json"], b"").success()).expect("JSON");
    let row = rows.as_array().expect("a list").iter().find(|row| row["topic"] == name)?;
    row["partitions"].as_u64()
}

on_each_broker!(
    fn topics_are_made_listed_and_deleted(broker: &Broker) {
        let name = broker.unique("made");
        let create = ["create", name.as_str(), "--partitions", "3", "--set", "cleanup.policy=delete"];
        topic(broker, &create, b"").success();
        wait_until("the topic is listed", DEADLINE, || listed(broker, &name) == Some(3));
        check(&topic(broker, &create, b""), 1, &format!("can't create `{name}`: it is there already"));
        topic(broker, &[&create[..], &["--if-not-exists"]].concat(), b"").success();
        topic(broker, &["delete", &name], b"").success();
        wait_until("the topic is gone", DEADLINE, || listed(broker, &name).is_none());
        check(&topic(broker, &["delete", &name], b""), 1, "there is no such topic");
        check(&topic(broker, &["create", "no/name"], b""), 1, "not a topic name");
        check(&topic(broker, &["create", &name, "--set", "no.such=1"], b""), 1, "the broker refuses a setting");
    }
);

on_each_broker!(
    fn a_topic_that_is_not_there_is_not_made_by_naming_it(broker: &Broker) {
        let name = broker.unique("absent");
        for command in ["produce", "consume"] {
            check(&topic(broker, &[command, &name], b"a\n"), 1, &format!("`midplane topic create {name}` makes it"));
        }
        assert_eq!(listed(broker, &name), None);
    }
);

on_each_broker!(
    fn events_come_out_whole_as_they_went_in(broker: &Broker) {
        let name = broker.topic("whole", 3);
        let args = ["produce", &name, "--key-separator", "|", "--header", "ce_type=payment", "--header", "note=a=b"];
        topic(broker, &args, b"card-7|{\"amount\": 12}\nno key\n\xff|\xff\x00\n|a|b").success();
        let mut events = events(broker, &name, 4);
        for event in &mut events {
            let event = event.as_object_mut().expect("an object");
            assert!(
                event.remove("timestamp").and_then(|value| value.as_i64()).is_some_and(|time| time > 1_700_000_000_000)
            );
            assert!(event.remove("partition").and_then(|value| value.as_i64()).is_some_and(|id| (0..3).contains(&id)));
            assert!(
                event.remove("offset").and_then(|value| value.as_i64()).is_some_and(|offset| (0..4).contains(&offset))
            );
        }
        let headers = json!([{"name": "ce_type", "value": "payment"}, {"name": "note", "value": "a=b"}]);
        let event = |key: Value, value: Value| json!({"topic": name, "key": key, "value": value, "headers": headers});
        assert_eq!(
            events,
            [
                event(json!(""), json!("a|b")),
                event(Value::Null, json!("no key")),
                event(json!("card-7"), json!("{\"amount\": 12}")),
                event(json!({"base64": "/w=="}), json!({"base64": "/wA="})),
            ]
        );
    }
);

on_each_broker!(
    fn keys_decide_the_partition_as_with_javas_clients(broker: &Broker) {
        let name = broker.topic("keys", 5);
        topic(broker, &["produce", &name, "--key-separator", ":"], b"21:a\nfoobar:b\na-little-bit-long-string:c\n")
            .success();
        let partitions: Vec<Value> = events(broker, &name, 3).iter().map(|event| event["partition"].clone()).collect();
        // The keys and hashes of Kafka's own tests of murmur2: 1173551340, 1357151166, 1161502112.
        assert_eq!(partitions, [0, 1, 2]);
    }
);

on_each_broker!(
    fn events_without_a_key_are_spread(broker: &Broker) {
        let name = broker.topic("spread", 4);
        let lines: String = (0..200).map(|number| format!("{number}\n")).collect();
        topic(broker, &["produce", &name], lines.as_bytes()).success();
        let events = events(broker, &name, 200);
        let on = |partition: i64| events.iter().filter(|event| event["partition"] == partition).count();
        assert!((0..4).all(|partition| on(partition) > 0), "{:?}", [0, 1, 2, 3].map(on));
        let one = broker.topic("one", 4);
        topic(broker, &["produce", &one, "--partition", "2"], lines.as_bytes()).success();
        assert!(self::events(broker, &one, 200).iter().all(|event| event["partition"] == 2));
    }
);

on_each_broker!(
    fn text_is_the_values_and_the_keys_where_asked_for(broker: &Broker) {
        let name = broker.topic("text", 1);
        let read =
            |args: &[&str]| topic(broker, &[&["consume", &name, "--from-beginning"], args].concat(), b"").success();
        assert_eq!(read(&["--until-end"]), "");
        topic(broker, &["produce", &name, "--key-separator", "="], b"k=first\nsecond\n").success();
        assert_eq!(read(&["--max-events", "1"]), "first\n");
        assert_eq!(read(&["--until-end"]), "first\nsecond\n");
        assert_eq!(read(&["--until-end", "--key-separator", ": "]), "k: first\n: second\n");
        assert_eq!(read(&["--max-events", "0"]), "");
    }
);

#[test]
fn the_embedded_broker_alone_keeps_events_over_a_kill() {
    let folder = Folder::new(EMBEDDED);
    let broker = folder.start_broker();
    // Found by the config, which says "any free port".
    run_in(folder.path(), &["topic", "produce", "payments"], b"first\nsecond\n").success();
    broker.kill();
    let broker = folder.start_broker();
    let address = broker.broker();
    let consume = ["topic", "consume", "payments", "--from-beginning", "--until-end", "--output", "json"];
    let events = parse(&run(&[&consume[..], &["--bootstrap-servers", &address]].concat()).success());
    let values: Vec<&Value> = events.iter().map(|event| &event["value"]).collect();
    assert_eq!(values, ["first", "second"]);
    assert_eq!(broker.stop(), Some(0));
}

/// The answer's code, and the keys of its object.
fn keys(host: &Host, path: &str) -> (u16, Vec<String>) {
    let answer = host.get(path);
    let keys = answer.json().as_object().expect("an object").keys().cloned().collect();
    (answer.code, keys)
}

#[test]
fn the_admin_surface_says_what_runs() {
    let folder = Folder::new(&format!(
        "{EMBEDDED}[plugin.identity]\n[routes.copy]\nfrom = \"payments\"\nthrough = \"identity\"\nto = \"copies\"\n"
    ));
    let plugin = folder.path().join("plugins/identity.wasm");
    std::fs::create_dir(folder.path().join("plugins")).expect("a folder");
    std::fs::copy(plugins::wasm("identity"), &plugin).expect("a plugin");
    let host = folder.start();
    assert_eq!(keys(&host, "/healthz"), (200, vec!["ok".to_owned(), "reasons".to_owned()]));
    assert_eq!(keys(&host, "/readyz"), (200, vec!["ok".to_owned(), "reasons".to_owned()]));
    let report = host.get("/api/v1/generation").json();
    let sha256 = |path| midplane::digest::hex(&midplane::digest::of(&std::fs::read(path).expect("a file")));
    assert_eq!(report["generation"], 1);
    assert_eq!(report["hash"].as_str().map(str::len), Some(64));
    assert_eq!(report["config_sha256"].as_str().map(str::len), Some(64));
    assert_eq!(report["listen"], json!({"admin": host.admin(), "broker": host.broker()}));
    assert_eq!(report["last_refused"], Value::Null);
    let identity = &report["plugins"]["identity"];
    assert_eq!(identity["sha256"], sha256(plugin));
    assert!(identity["bytes"].as_u64() > Some(0) && identity["loaded_at"].is_string(), "{identity:#}");
    assert_eq!(identity["candidate"], Value::Null);
    assert_eq!(host.get("/nowhere").code, 404);
    assert_eq!(host.stop(), Some(0));
}

#[test]
fn a_clean_stop_says_nothing_alarming() {
    let folder = Folder::new(&format!(
        "{EMBEDDED}[admin]\nlisten = \"127.0.0.1:0\"\n[routes.copy]\nfrom = \"payments\"\nto = \"copies\"\n"
    ));
    let (code, log) = folder.start().finish();
    let log = log.join("\n");
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("\"ERROR\"") && !log.contains("\"WARN\""), "{log}");
}

#[test]
fn orders_are_waited_for_and_say_how_they_went() {
    let routes = "[routes.copy]\nfrom = \"payments\"\nto = \"copies\"\n";
    let folder = Folder::new(&format!("{EMBEDDED}{routes}"));
    let host = folder.start();
    let command = |args: &[&str]| run_in(folder.path(), args, b"");
    let generation = |args: &[&str]| {
        let done: Value =
            serde_json::from_str(&command(&[args, &["--output", "json"]].concat()).success()).expect("JSON");
        done["generation"].as_u64().expect("a number")
    };
    assert_eq!(generation(&["reload"]), 1);
    folder.write(&format!("{EMBEDDED}{routes}where = \"event.text != ''\"\n"));
    // The host may see it by itself before it is asked.
    assert!(matches!(command(&["plan"]).code, Some(0 | 10)));
    assert_eq!(generation(&["reload"]), 2);
    assert!(command(&["plan"]).success().ends_with("\nnothing would change\n"));
    assert_eq!(generation(&["rollback"]), 3);
    let held = command(&["plan"]).success();
    assert!(held.contains("is held since") && held.contains("where: nothing -> event.text != ''"), "{held}");
    let status = command(&["status"]).success();
    assert!(status.contains("\nheld        the contents of generation 1, since "), "{status}");
    assert_eq!(generation(&["resume"]), 4);
    folder.write(&format!("{EMBEDDED}[routes.copy]\nform = \"payments\"\n"));
    check(&command(&["reload"]), 3, "unknown key `form`");
    let status = command(&["status"]).success();
    assert!(status.contains("\ngeneration  4 (") && status.contains("\nrefused     a reload at "), "{status}");
    assert_eq!(host.stop(), Some(0));
}
