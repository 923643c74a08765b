//! Every way in which people deploy, noticed without anybody asking for it: one change, one generation.

use std::fs::{self, File};
use std::io::Write;
use std::ops::RangeInclusive;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use midplane_tests::wait::wait_until;
use midplane_tests::{Broker, on_each_broker};
use rustix::process::Signal;

use crate::load::{Course, Load};
use crate::setting::{Marker, PATIENCE, Running, Setting, marked};

const COURSE: Course = Course { from: "in", to: "out", rate: 500, outputs: 2 };

/// Between two pieces of a file that is written slowly.
const PIECE_INTERVAL: Duration = Duration::from_millis(60);

/// A host whose plugin directory is written to.
struct Deployment<'b> {
    host: Running,
    load: Load,
    setting: Setting<'b>,
    marker: Marker,
    mark: u32,
    number: u64,
}

impl<'b> Deployment<'b> {
    fn start(broker: &'b Broker) -> Self {
        let setting = Setting::flowing(broker, &marked("marked", 1));
        let marker = Marker::new();
        setting.install("marker", &marker.version(0).0);
        let host = setting.start();
        let load = Load::start(&setting, COURSE);
        let number = host.number();
        load.wait_for_generation("marked", number);
        Self { setting, marker, host, load, mark: 0, number }
    }

    /// The version that is deployed next.
    fn next(&mut self) -> Vec<u8> {
        self.mark += 1;
        self.marker.version(self.mark).0
    }

    /// Waits until the newest version makes outputs, and so many generations were made since the last time.
    #[track_caller]
    fn assert_live(&mut self, what: &str, generations: RangeInclusive<u64>) {
        let version = self.marker.version(self.mark).1;
        wait_until(&format!("{what}: the version is live"), PATIENCE, || self.host.version("marker") == version);
        self.assert_published(what, generations);
    }

    #[track_caller]
    fn assert_published(&mut self, what: &str, generations: RangeInclusive<u64>) {
        let number = self.host.number();
        let published = number - self.number;
        assert!(generations.contains(&published), "{what}: {published} generations were published");
        self.number = number;
        self.load.wait_for_generation("marked", number);
    }

    /// Nothing has changed, and nothing does when somebody asks.
    #[track_caller]
    fn assert_unchanged(&self, what: &str) {
        let answer = self.host.reload();
        assert_eq!(answer.code, 200, "{what}: {}", answer.body);
        assert_eq!(answer.json()["changed"], false, "{what}");
        assert_eq!(self.host.number(), self.number, "{what}");
        assert!(self.host.generation()["last_refused"].is_null(), "{what}");
    }

    fn folder(&self) -> &Path {
        self.setting.folder.path()
    }

    /// Ends the load, and judges it.
    fn finish(self) {
        self.load.dry_up();
        self.setting.wait_settled("group", "in");
        let _log = self.host.stop();
        self.load.finish().assert_versions("marked", &[].into());
        assert_eq!(self.setting.all("letters"), []);
    }
}

/// Writes a file in place, in pieces, as a slow copy does.
fn write_slowly(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).expect("a file");
    for piece in bytes.chunks(bytes.len().div_ceil(10)) {
        file.write_all(piece).expect("room");
        let begin = Instant::now();
        wait_until("the next piece is due", PATIENCE, || begin.elapsed() >= PIECE_INTERVAL);
    }
}

/// Makes a link lead elsewhere, in one step, as Kubernetes does.
fn switch(link: &Path, target: &str) {
    let draft = link.with_file_name("next-link");
    symlink(target, &draft).expect("a link");
    fs::rename(draft, link).expect("a link");
}

on_each_broker!(
    fn files_are_taken_up_however_they_are_written(broker: &Broker) {
        let mut it = Deployment::start(broker);
        let path = it.setting.plugin("marker");

        let bytes = it.next();
        write_slowly(&path, &bytes);
        it.assert_live("written slowly in place", 1..=1);

        let bytes = it.next();
        it.setting.install("marker", &bytes);
        it.assert_live("renamed over", 1..=1);

        fs::remove_file(&path).expect("a file");
        it.load.wait_for_more();
        let bytes = it.next();
        fs::write(&path, bytes).expect("a file");
        it.assert_live("deleted and made again", 1..=1);

        File::open(&path).and_then(|file| file.set_modified(SystemTime::now())).expect("a file");
        it.assert_unchanged("touched");
        let bytes = fs::read(&path).expect("a file");
        fs::write(&path, &bytes).expect("a file");
        it.assert_unchanged("the same bytes, in place");
        it.setting.install("marker", &bytes);
        it.assert_unchanged("the same bytes, renamed over");

        for _ in 0..50 {
            let bytes = it.next();
            it.setting.install("marker", &bytes);
        }
        it.assert_live("fifty versions in a row", 1..=3);

        it.setting.configure(&marked("marked", 2));
        let number = it.number;
        wait_until("another config is live", PATIENCE, || it.host.number() > number);
        it.assert_published("another config", 1..=1);
        it.finish();
    }
);

on_each_broker!(
    fn links_and_folders_are_taken_up_when_they_are_switched(broker: &Broker) {
        let mut it = Deployment::start(broker);
        let plugins = it.folder().join("plugins");
        let path = it.setting.plugin("marker");

        // A mounted ConfigMap: the file leads to `..data`, which leads to the folder of a version.
        let present = fs::read(&path).expect("a file");
        fs::create_dir(plugins.join("..1")).expect("a folder");
        fs::write(plugins.join("..1/marker.wasm"), present).expect("a file");
        symlink("..1", plugins.join("..data")).expect("a link");
        switch(&path, "..data/marker.wasm");
        it.assert_unchanged("a link to the same bytes");
        for version in ["..2", "..3"] {
            let bytes = it.next();
            fs::create_dir(plugins.join(version)).expect("a folder");
            fs::write(plugins.join(version).join("marker.wasm"), bytes).expect("a file");
            switch(&plugins.join("..data"), version);
            it.assert_live("the link to the data switched", 1..=1);
        }

        for release in ["release-1", "release-2"] {
            let bytes = it.next();
            fs::create_dir(it.folder().join(release)).expect("a folder");
            fs::write(it.folder().join(release).join("marker.wasm"), bytes).expect("a file");
        }
        it.mark -= 1;
        fs::rename(&plugins, it.folder().join("release-0")).expect("a folder");
        symlink("release-1", &plugins).expect("a link");
        it.assert_live("the folder replaced", 1..=1);
        it.mark += 1;
        switch(&plugins, "release-2");
        it.assert_live("the link to the folder switched", 1..=1);
        fs::remove_file(&plugins).expect("a link");
        it.load.wait_for_more();
        fs::rename(it.folder().join("release-1"), &plugins).expect("a folder");
        it.mark -= 1;
        it.assert_live("the folder gone, and another in its place", 1..=1);
        it.mark += 1;

        // The config as a mounted ConfigMap.
        let config = it.setting.folder.config();
        let text = fs::read_to_string(&config).expect("a config");
        for (version, shards) in [("..a", 1), ("..b", 2)] {
            fs::create_dir(it.folder().join(version)).expect("a folder");
            let text = text.replace("shards = 1", &format!("shards = {shards}"));
            fs::write(it.folder().join(version).join("midplane.toml"), text).expect("a file");
        }
        symlink("..a", it.folder().join("..data")).expect("a link");
        switch(&config, "..data/midplane.toml");
        it.assert_unchanged("a link to the same config");
        switch(&it.folder().join("..data"), "..b");
        let number = it.number;
        wait_until("the other config is live", PATIENCE, || it.host.number() > number);
        it.assert_published("the link to the config switched", 1..=1);
        it.finish();
    }
);

on_each_broker!(
    fn a_signal_asks_for_a_reload(broker: &Broker) {
        let mut it = Deployment::start(broker);
        let bytes = it.next();
        it.setting.install("marker", &bytes);
        it.host.host.signal(Signal::HUP);
        it.host.host.wait_for_entry("A reload was asked for by a signal.");
        it.assert_live("by a signal", 1..=1);
        it.host.host.signal(Signal::HUP);
        it.host.host.wait_for_entry("Nothing has changed.");
        it.assert_unchanged("by a signal, without a change");
        it.finish();
    }
);
