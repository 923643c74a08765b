//! Notices that the files of a config, or the plugins, are others than they were. Compares contents: a notification or a
//! time stamp is never believed, it only is an occasion to look, and where none comes, looking now and then does as well.
//!
//! What is being written is left alone: a change counts once two looks have found the same. Never reads what a file means.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::Inputs;
use crate::digest;

/// How long files have to stay as they are before they count as written: copying is done in bursts far closer than this.
pub const SETTLE: Duration = Duration::from_millis(300);
/// The same where somebody asks for a reload, and waits for it: they have written what they wanted to.
pub const SETTLE_ASKED: Duration = Duration::from_millis(10);

/// What the inputs held at a time: equal where every name and every byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot(digest::Bytes);

impl Snapshot {
    /// Reads them all.
    pub fn of(inputs: &Inputs) -> Self {
        let mut hash = Sha256::new();
        for path in &inputs.files {
            add(&mut hash, path);
        }
        for folder in &inputs.folders {
            // Those of them that count are among the files; of one that comes, nobody knows yet.
            paths(folder, |_| true).iter().for_each(|path| add_name(&mut hash, path));
        }
        if let Some(plugins) = &inputs.plugins {
            let counts = |path: &Path| path.extension().is_some_and(|of| of == "wasm" || of == "minisig");
            paths(plugins, counts).iter().for_each(|path| add(&mut hash, path));
        }
        Self(hash.finalize().into())
    }
}

/// The folders in which something happens when they change: their own, and those that hold a folder or a link that may be
/// switched.
fn watched(inputs: &Inputs) -> BTreeSet<PathBuf> {
    let folders = || inputs.folders.iter().chain(&inputs.plugins);
    let targets: Vec<_> = inputs.files.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let parents = inputs.files.iter().chain(&targets).chain(folders()).map(|path| parent(path));
    folders().cloned().chain(parents).collect()
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => path.to_owned(),
    }
}

/// The files of a folder for which something holds. None where there is no folder.
fn paths(folder: &Path, holds: impl Fn(&Path) -> bool) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| holds(path) && path.is_file()).collect()
}

fn add_name(hash: &mut Sha256, path: &Path) {
    let name = path.as_os_str().as_encoded_bytes();
    hash.update((name.len() as u64).to_le_bytes());
    hash.update(name);
}

/// Adds a file's name and content, each of known length, so that no two different inputs look alike.
fn add(hash: &mut Sha256, path: &Path) {
    add_name(hash, path);
    match digest_of(path) {
        Ok(content) => hash.update(content),
        Err(error) => hash.update(digest::of(error.kind().to_string().as_bytes())),
    }
}

/// In pieces: a plugin may have a hundred megabytes.
fn digest_of(path: &Path) -> io::Result<digest::Bytes> {
    let mut file = File::open(path)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(&piece[..length]),
        }
    }
}

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
enum Finding {
    /// What was taken up last.
    Same,
    /// Something else, that may still be being written: look again after so long.
    Writing(Duration),
    /// Something else, and it stays.
    Changed,
}

/// What was taken up, and what was found since.
#[derive(Debug)]
struct Looks {
    taken: Snapshot,
    /// And when it was found first.
    found: Option<(Snapshot, Instant)>,
}

impl Looks {
    fn look(&mut self, now: Snapshot, at: Instant) -> Finding {
        if now == self.taken {
            self.found = None;
            return Finding::Same;
        }
        match self.found {
            Some((found, since)) if found == now => match SETTLE.checked_sub(at - since) {
                Some(left) if !left.is_zero() => Finding::Writing(left),
                _ => Finding::Changed,
            },
            _ => {
                self.found = Some((now, at));
                Finding::Writing(SETTLE)
            }
        }
    }
}

/// Watches the inputs of the live generation.
pub struct Watch {
    inputs: Inputs,
    poll_interval: Duration,
    looks: Looks,
    happened: Arc<Notify>,
    /// None where the system has no notifications to give: then there is only polling.
    watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Watches inputs that were taken up as they are in a snapshot.
    pub fn new(inputs: Inputs, taken: Snapshot, poll_interval: Duration) -> Self {
        let happened = Arc::new(Notify::new());
        let wake = Arc::clone(&happened);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading a file is an event too; one's own looks must not be the occasion for the next.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                wake.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "Files can't be watched: they are looked at now and then.");
        });
        let looks = Looks { taken, found: None };
        let mut watch = Self { inputs, poll_interval, looks, happened, watcher: watcher.ok() };
        watch.listen();
        watch
    }

    /// Watches other inputs, or the same ones in other places. Whether they are others.
    pub fn follow(&mut self, inputs: Inputs, poll_interval: Duration) -> bool {
        let before = std::mem::replace(&mut self.inputs, inputs);
        self.poll_interval = poll_interval;
        if let Some(watcher) = &mut self.watcher {
            for folder in watched(&before) {
                // It may be gone, and its watch with it.
                let _ = watcher.unwatch(&folder);
            }
        }
        self.listen();
        self.inputs != before
    }

    fn listen(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in watched(&self.inputs) {
            if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
                tracing::debug!(%error, folder = %folder.display(), "A folder can't be watched: it is looked at now and then.");
            }
        }
    }

    /// What the inputs hold now.
    pub async fn look(&self) -> Snapshot {
        let inputs = self.inputs.clone();
        super::blocking(move || Snapshot::of(&inputs)).await
    }

    /// Says that the inputs, as they are in a snapshot, were taken up, whatever became of it.
    pub fn take(&mut self, snapshot: Snapshot) {
        self.looks = Looks { taken: snapshot, found: None };
    }

    /// Waits until the inputs are others than those last taken up, and are not being written any more. To be called again
    /// after it was cancelled: what it knows stays.
    pub async fn changed(&mut self) -> Snapshot {
        loop {
            let now = self.look().await;
            match self.looks.look(now, Instant::now()) {
                Finding::Changed => return now,
                // Each piece that is written would be an occasion: what counts is the time that has passed.
                Finding::Writing(wait) => tokio::time::sleep(wait).await,
                Finding::Same => {
                    let _ = tokio::time::timeout(self.poll_interval, self.happened.notified()).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Case {
        folder: tempfile::TempDir,
        inputs: Inputs,
    }

    impl Case {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let plugins = folder.path().join("plugins");
            fs::create_dir(&plugins).expect("a folder");
            fs::write(folder.path().join("midplane.toml"), "a").expect("a file");
            fs::write(plugins.join("p.wasm"), "1").expect("a file");
            let files = [folder.path().join("midplane.toml")].into();
            let inputs = Inputs { files, plugins: Some(plugins), ..Inputs::default() };
            Self { folder, inputs }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn watch(&self, poll_interval: Duration) -> Watch {
            Watch::new(self.inputs.clone(), Snapshot::of(&self.inputs), poll_interval)
        }
    }

    /// Long enough for a test to fail by it.
    const NEVER: Duration = Duration::from_secs(600);

    #[test]
    fn only_names_and_contents_count() {
        let case = Case::new();
        let before = Snapshot::of(&case.inputs);
        let same = |what: &str| assert_eq!(Snapshot::of(&case.inputs), before, "{what}");
        let differs = |what: &str| assert_ne!(Snapshot::of(&case.inputs), before, "{what}");
        fs::write(case.path("plugins/p.wasm"), "1").expect("a file");
        same("the same bytes again");
        fs::write(case.path("plugins/notes.txt"), "1").expect("a file");
        same("a file of another kind");
        fs::write(case.path("plugins/q.wasm"), "1").expect("a file");
        differs("one more");
        fs::rename(case.path("plugins/q.wasm"), case.path("q")).expect("a file");
        same("gone again");
        fs::remove_file(case.path("midplane.toml")).expect("a file");
        differs("a file that is gone");
        fs::write(case.path("midplane.toml"), "b").expect("a file");
        differs("other bytes");
    }

    #[tokio::test]
    async fn every_way_of_deploying_is_noticed() {
        let case = Case::new();
        fs::create_dir(case.path("v2")).expect("a folder");
        fs::write(case.path("v2/p.wasm"), "5").expect("a file");
        let steps: [(&str, &dyn Fn()); 5] = [
            ("overwritten", &|| fs::write(case.path("plugins/p.wasm"), "2").expect("a file")),
            ("renamed over", &|| {
                fs::write(case.path("draft"), "3").expect("a file");
                fs::rename(case.path("draft"), case.path("plugins/p.wasm")).expect("a file");
            }),
            ("deleted and made again", &|| {
                fs::remove_file(case.path("plugins/p.wasm")).expect("a file");
                fs::write(case.path("plugins/p.wasm"), "4").expect("a file");
            }),
            ("the folder switched", &|| {
                fs::rename(case.path("plugins"), case.path("v1")).expect("a folder");
                symlink(case.path("v2"), case.path("plugins")).expect("a link");
            }),
            ("the link switched", &|| {
                symlink(case.path("v1"), case.path("link")).expect("a link");
                fs::rename(case.path("link"), case.path("plugins")).expect("a link");
            }),
        ];
        let mut watch = case.watch(NEVER);
        for (what, step) in steps {
            step();
            let found = tokio::time::timeout(Duration::from_secs(20), watch.changed()).await;
            watch.take(found.unwrap_or_else(|_| panic!("{what}: not noticed")));
            watch.follow(case.inputs.clone(), NEVER);
        }
    }

    #[tokio::test]
    async fn without_notifications_looking_does() {
        let case = Case::new();
        let mut watch = case.watch(Duration::from_millis(5));
        watch.watcher = None;
        fs::write(case.path("midplane.toml"), "b").expect("a file");
        assert_eq!(watch.changed().await, Snapshot::of(&case.inputs));
    }

    #[test]
    fn what_is_being_written_is_left_alone() {
        let start = Instant::now();
        let mut looks = Looks { taken: Snapshot([0; 32]), found: None };
        let mut check = |content, after_ms, expected| {
            assert_eq!(looks.look(Snapshot([content; 32]), start + Duration::from_millis(after_ms)), expected);
        };
        check(0, 0, Finding::Same);
        check(1, 10, Finding::Writing(SETTLE));
        check(1, 210, Finding::Writing(Duration::from_millis(100)));
        check(2, 300, Finding::Writing(SETTLE));
        check(0, 310, Finding::Same);
        check(2, 320, Finding::Writing(SETTLE));
        check(2, 620, Finding::Changed);
    }
}
