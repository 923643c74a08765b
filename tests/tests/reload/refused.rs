//! Reloads that must not be, each tried under a load: what is live stays as it is, and the refusal says why.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use midplane_tests::access::{Guarded, forbid};
use midplane_tests::wait::wait_until;
use midplane_tests::{Broker, Host, on_each_broker, plugins};

use crate::load::{Course, Load};
use crate::setting::{Marker, PATIENCE, Running, Setting, marked};

const COURSE: Course = Course { from: "in", to: "out", rate: 200, outputs: 2 };

/// The pin of no version.
const NO_VERSION: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What makes a reload a bad one, by the name of the snapshot that shows what is said.
type Case = (&'static str, fn(&Setting<'_>));

const CASES: &[Case] = &[
    ("half-a-file", |setting| {
        let bytes = version(1);
        setting.install("marker", &bytes[..bytes.len() / 2]);
    }),
    ("not-wasm", |setting| setting.install("marker", b"#!/bin/sh\nexit 0\n")),
    ("wrong-world", |setting| setting.install("marker", b"\0asm\x0d\0\x01\0")),
    ("newer-interface", |setting| setting.install("marker", &replaced(&version(1), "@0.1.0", "@0.9.0"))),
    ("import-not-granted", |setting| {
        let sleeper = fs::read(plugins::wasm("sleeper")).expect("the plugin's file");
        setting.install("marker", &replaced(&sleeper, "wasi:io/streams", "wasi:http/types"));
    }),
    ("too-large", |setting| {
        let draft = setting.folder.path().join("draft");
        let mut file = File::create(&draft).expect("a file");
        file.write_all(b"\0asm\x0d\0\x01\0").and_then(|()| file.set_len(200 << 20)).expect("room");
        fs::rename(draft, setting.plugin("marker")).expect("a file");
    }),
    ("missing-port", |setting| {
        let to = r#"to = { alert = "letters~", default = "out~" }"#;
        setting.configure(&good().replace(r#"to = "out~""#, to));
    }),
    ("configure-fails", |setting| setting.configure(&with_faulty("fail"))),
    ("configure-traps", |setting| setting.configure(&with_faulty("trap"))),
    ("another-pin", |setting| {
        setting.configure(&format!("{}\n[plugin.marker]\nsha256 = \"{NO_VERSION}\"\n", good()));
    }),
    ("config-with-errors", |setting| {
        setting.configure(&good().replace("shards = 2", "shards = 0\nshrads = 2"));
    }),
    ("group-dropped", |setting| {
        setting.configure(&good().replace("group = \"group~\"", "group = \"other~\"").replace("[routes.", "[routes.x"));
    }),
    ("plugin-unknown", |setting| setting.configure(&good().replace("\"marker\"", "\"marcer\""))),
    ("topic-missing", |setting| setting.configure(&good().replace("to = \"out~\"", "to = \"missing~\""))),
    ("needs-a-restart", |setting| {
        setting.configure(&format!("{}\n[host]\ndrain_timeout = \"7s\"\n", good()));
    }),
];

/// What takes the ten seconds that `configure` has, and nothing of a broker: it is tried on one.
const LOOPING: Case = ("configure-loops", |setting| setting.configure(&with_faulty("loop")));

/// What only Apache Kafka has: topics with rules of who may write to them.
const GUARDED: Case =
    ("topic-forbidden", |setting| setting.configure(&good().replace("to = \"out~\"", "to = \"guarded~\"")));

/// What is live.
fn good() -> String {
    marked("marked", 2)
}

fn with_faulty(configure: &str) -> String {
    let through = format!(r#"through = ["marker", {{ plugin = "faulty", config = {{ configure = "{configure}" }} }}]"#);
    good().replace("through = \"marker\"", &through)
}

fn version(mark: u32) -> Vec<u8> {
    Marker::new().version(mark).0
}

/// Bytes with another text of the same length in them.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths are written before texts");
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from.as_bytes()) {
        at += found;
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    assert_ne!(at, 0, "`{from}` is not there");
    bytes
}

/// Everything as it was.
fn put_back(setting: &Setting<'_>) {
    setting.configure(&good());
    setting.install("marker", &version(0));
}

/// A message without what differs from run to run, or from compiler to compiler.
fn comparable(setting: &Setting<'_>, message: &str) -> String {
    let mut text = setting.unnamed(message);
    for mark in [0, 1] {
        let sha256 = midplane::digest::hex(&midplane::digest::of(&version(mark)));
        text = text.replace(&sha256, "VERSION").replace(&sha256[..8], "VERSION");
    }
    // How much longer than its deadline it took is no matter.
    match text.split_once("deadline of 10s (") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|it: char| it.is_ascii_digit() || it == '.');
            format!("{before}deadline of 10s (10.…{rest}")
        }
        None => text,
    }
}

/// Starts a host that the cases are tried on, with a load.
fn start<'b>(broker: &'b Broker, spawn: impl Fn(&Setting<'_>) -> Host) -> (Setting<'b>, Running, Load) {
    let setting = Setting::flowing(broker, &good());
    setting.install("marker", &version(0));
    setting.install("faulty", &fs::read(plugins::wasm("faulty")).expect("the plugin's file"));
    let host = Running::of(spawn(&setting));
    host.host.wait_ready();
    let load = Load::start(&setting, COURSE);
    load.wait_for_generation("marked", host.number());
    (setting, host, load)
}

/// A good version is taken up, and the load has never noticed anything: so many generations made outputs, no other ones.
fn finish(setting: &Setting<'_>, host: Running, load: Load, generations: usize) {
    setting.install("marker", &version(2));
    let generation = host.reload_to_another();
    load.wait_for_generation("marked", generation);
    load.dry_up();
    setting.wait_settled("group", "in");
    let _log = host.stop();
    let outputs = load.finish();
    assert_eq!(outputs.generations("marked"), generations, "what was refused made outputs");
    assert_eq!(setting.all("letters"), []);
}

/// The case of a plugin that is waited for.
fn looping(setting: &Setting<'_>) -> Option<&'static Case> {
    setting.broker.is_embedded().then_some(&LOOPING)
}

/// The case of a topic that may not be written to, where the broker knows such rules.
fn guarded(setting: &Setting<'_>) -> Option<Case> {
    setting.create("guarded", 1);
    let forbidden =
        !setting.broker.is_embedded() && forbid(setting.broker.servers(), Guarded::Topic(&setting.named("guarded~")));
    forbidden.then_some(GUARDED)
}

on_each_broker!(
    fn a_bad_reload_changes_nothing_and_says_why(broker: &Broker) {
        let (setting, host, load) = start(broker, |setting| setting.folder.spawn(&[]));
        let before = host.generation();
        for (name, spoil) in CASES.iter().chain(looping(&setting)).chain(guarded(&setting).as_ref()) {
            spoil(&setting);
            let answer = host.reload();
            assert_eq!(answer.code, 422, "{name}: {}", answer.body);
            let message = answer.json()["error"].as_str().expect("a message").to_owned();
            let now = host.generation();
            assert_eq!(now["last_refused"]["error"], message, "{name}");
            for key in ["generation", "hash", "config_sha256", "plugins"] {
                assert_eq!(now[key], before[key], "{name}");
            }
            load.wait_for_more();
            // A machine that gives a plugin no ten seconds in a hundred can't tell that it loops, and says so.
            if *name != LOOPING.0 || !message.contains("this host let the plugin have") {
                let mut settings = insta::Settings::clone_current();
                settings.set_prepend_module_to_snapshot(false);
                settings.set_omit_expression(true);
                settings.bind(|| insta::assert_snapshot!(*name, comparable(&setting, &message)));
            }

            put_back(&setting);
            let answer = host.reload();
            assert_eq!((answer.code, &answer.json()["changed"]), (200, &false.into()), "{name}: {}", answer.body);
            assert!(host.generation()["last_refused"].is_null(), "{name}: what was refused is out of the way");
        }
        finish(&setting, host, load, 2);
    }
);

on_each_broker!(
    fn a_plugin_that_is_deleted_keeps_serving(broker: &Broker) {
        let (setting, host, load) = start(broker, |setting| setting.folder.spawn(&[]));
        let before = host.generation();
        let spoils: [&dyn Fn(); 2] = [&|| fs::remove_file(setting.plugin("marker")).expect("a file"), &|| {
            let plugins = setting.folder.path().join("plugins");
            fs::remove_dir_all(&plugins).and_then(|()| fs::create_dir(&plugins)).expect("a folder");
        }];
        for spoil in spoils {
            spoil();
            // Whether that is refused or not, nothing else comes of it.
            host.reload();
            let now = host.generation();
            for key in ["generation", "hash", "plugins"] {
                assert_eq!(now[key], before[key]);
            }
            load.wait_for_more();
            put_back(&setting);
            let answer = host.reload();
            assert_eq!((answer.code, &answer.json()["changed"]), (200, &false.into()), "{}", answer.body);
        }
        finish(&setting, host, load, 2);
    }
);

on_each_broker!(
    fn a_disk_that_is_full_changes_nothing(broker: &Broker) {
        if !can_mount() {
            eprintln!("left out: this system lets nobody mount a small file system of his own");
            return;
        }
        // In a mount namespace of its own, the host has its data directory on a file system with little room.
        let (setting, host, load) = start(broker, |setting| {
            let data = setting.folder.path().join("midplane-data");
            fs::create_dir(&data).expect("a folder");
            let mount = format!("mount -t tmpfs -o size=4m none '{}' && exec \"$@\"", data.display());
            setting.folder.spawn_by(&["unshare", "-Urm", "sh", "-c", &mount, "sh"])
        });
        let before = host.generation();
        // The host's view of its own folder.
        let data = format!("/proc/{}/root{}/midplane-data", host.host.id(), setting.folder.path().display());
        let filler = PathBuf::from(data).join("filler");
        let mut file = File::create(&filler).expect("a file in the host's file system");
        while file.write_all(&[1; 4096]).is_ok() {}
        while file.write_all(&[1]).is_ok() {}

        setting.install("marker", &version(1));
        let answer = host.reload();
        assert_eq!(answer.code, 422, "{}", answer.body);
        let now = host.generation();
        for key in ["generation", "hash", "plugins"] {
            assert_eq!(now[key], before[key], "{}", answer.body);
        }
        assert!(answer.body.contains("midplane-data"), "it says which folder: {}", answer.body);
        load.wait_for_more();
        drop(file);
        fs::remove_file(filler).expect("a file");
        // Nobody has to ask again.
        let version = Marker::new().version(1).1;
        wait_until("the version is live once there is room", PATIENCE, || host.version("marker") == version);
        load.wait_for_generation("marked", host.number());
        finish(&setting, host, load, 3);
    }
);

/// Whether a process may have a file system of its own here.
fn can_mount() -> bool {
    let mount = "mount -t tmpfs -o size=1m none /mnt";
    let tried = std::process::Command::new("unshare").args(["-Urm", "sh", "-c", mount]).output();
    tried.is_ok_and(|output| output.status.success())
}
