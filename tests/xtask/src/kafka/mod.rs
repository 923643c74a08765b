//! The Apache Kafka of the tests: fetched once with Maven, run with Java, one node, on free ports of loopback, files in the
//! target folder, or in memory where it is measured. Started by whoever needs it, and stopped with it.

mod node;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use self::node::Node;
use crate::process::{Interrupt, Running};
use crate::{Failure, workspace};

/// The environment variable that names a running Kafka to be used instead.
pub const VARIABLE: &str = "MIDPLANE_TEST_BROKERS";

/// The environment variable that names the folder of Kafka's jars, for tests that run one of their own.
pub const JARS_VARIABLE: &str = "MIDPLANE_KAFKA_JARS";

/// What Kafka 4 needs.
const JAVA_MIN: u32 = 17;

const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Where Linux has a file system in memory, and what has to be free there to be used.
const MEMORY: &str = "/dev/shm";
const MEMORY_FREE_MIN: u64 = 4 << 30;

/// A node that a busy machine gives no time isn't missed by its controller, which takes the partitions' leaders away: with one node
/// there are no others, and Kafka 4.3 and 4.4 end transactions without their markers meanwhile (KAFKA-20734). One that is killed and
/// started again would have to wait for as long.
pub const NEVER_MISSED: (&str, &str) = ("broker.session.timeout.ms", "120000");

/// Where a Kafka keeps its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// With its other files.
    Target,
    /// In memory, where there is enough of it: so that no disk is measured.
    Memory,
}

/// A Kafka for tests. Dropped, it is stopped if it was started here.
#[derive(Debug)]
pub struct Kafka {
    address: String,
    started: Option<Node>,
    /// Its folder, where that is in memory and goes with it.
    memory: Option<PathBuf>,
}

impl Kafka {
    /// The one that the environment names, or one of our own.
    pub fn find_or_start(interrupt: &Interrupt, data: Data) -> Result<Self, Failure> {
        match std::env::var(VARIABLE) {
            Ok(address) if !address.trim().is_empty() => Ok(Self { address, started: None, memory: None }),
            _ => start(interrupt, data).map_err(|failure| {
                format!(
                    "no Apache Kafka to test against: {failure}\nName a running one with `{VARIABLE}=HOST:PORT`, or leave \
                     its tests out with `cargo verify --without-kafka`."
                )
            }),
        }
    }

    /// `host:port`
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Some(node) = &mut self.started {
            let _ = node.stop(STOP_WITHIN);
        }
        if let Some(memory) = &self.memory {
            // Left for the next run if it can't be removed now.
            let _ = fs::remove_dir_all(memory);
        }
    }
}

/// `cargo xtask kafka`
pub fn serve(interrupt: &Interrupt, data: Data) -> Result<(), Failure> {
    let mut kafka = start(interrupt, data)?;
    eprintln!("Apache Kafka serves at {}: {VARIABLE}={} cargo test …", kafka.address, kafka.address);
    let Some(node) = &mut kafka.started else { return Ok(()) };
    let status = node.wait(interrupt)?;
    if interrupt.raised() { Ok(()) } else { Err(format!("Kafka ended by itself: {status}")) }
}

fn start(interrupt: &Interrupt, data: Data) -> Result<Kafka, Failure> {
    let jars = jars(interrupt)?;
    let memory = if data == Data::Memory { memory() } else { None };
    let home = home()?;
    let (parent, stem) = match memory {
        Some(memory) => (memory, "midplane-kafka-"),
        None => (home.as_path(), "run-"),
    };
    // One folder a run: two may go on beside each other.
    let folder = parent.join(format!("{stem}{}", std::process::id()));
    let mut node = Node::format(&jars, &folder, interrupt)?;
    node.set(&[NEVER_MISSED])?;
    node.start(interrupt)?;
    remove_others(parent, stem, &folder);
    Ok(Kafka { address: node.address(), started: Some(node), memory: memory.map(|_| folder) })
}

fn home() -> Result<PathBuf, Failure> {
    Ok(workspace::target()?.join("kafka"))
}

/// The folder of Kafka's jars, which are fetched if they aren't there.
///
/// # Errors
/// Where there is no Java for them, or they can't be fetched.
pub fn jars(interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    check_java()?;
    fetch(&workspace::root().join("tests/kafka/pom.xml"), &home()?, interrupt)
}

/// The file system in memory, if there is one with enough room.
fn memory() -> Option<&'static Path> {
    let memory = Path::new(MEMORY);
    let room = rustix::fs::statvfs(memory).ok().map(|room| room.f_bavail.saturating_mul(room.f_frsize));
    if room.is_some_and(|bytes| bytes >= MEMORY_FREE_MIN) {
        return Some(memory);
    }
    eprintln!("`{MEMORY}` has less than {} GiB free: Kafka writes to disk, and is slower.", MEMORY_FREE_MIN >> 30);
    None
}

fn check_java() -> Result<(), Failure> {
    let wanted = format!("Kafka 4 needs Java {JAVA_MIN} or newer");
    let output = Command::new("java").arg("-version").output();
    let output = output.map_err(|error| format!("{wanted}, and `java` can't be run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    match java_version(&text) {
        Some(version) if version >= JAVA_MIN => Ok(()),
        Some(version) => Err(format!("{wanted}, and `java` is version {version}")),
        None => Err(format!("{wanted}, and `java -version` says `{}`", text.trim())),
    }
}

/// The major version in `openjdk version "17.0.15" 2025-04-15`; `"1.8.0_1"` is the 8 of old.
fn java_version(text: &str) -> Option<u32> {
    let version = text.split('"').nth(1)?;
    let mut parts = version.split(['.', '-', '+', '_']);
    match parts.next()?.parse().ok()? {
        1 => parts.next()?.parse().ok(),
        major => Some(major),
    }
}

/// The folder of jars. It counts once its marker holds the list that it was fetched by: an interrupted fetch, or a change
/// of the list, is fetched again.
fn fetch(pom: &Path, home: &Path, interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let jars = home.join("jars");
    let marker = home.join("jars.complete");
    let wanted = workspace::read(pom)?;
    if fs::read_to_string(&marker).is_ok_and(|fetched| fetched == wanted) {
        return Ok(jars);
    }
    eprintln!("Fetching Apache Kafka with Maven, once (44 MiB)…");
    workspace::fresh_folder(&jars)?;
    let mut maven = Command::new("mvn");
    maven.args(["--quiet", "--batch-mode", "--file"]).arg(pom).arg("dependency:copy-dependencies");
    maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", jars.display()));
    let status = Running::start("Maven (`mvn`)", &mut maven)?.wait(interrupt)?;
    if !status.success() {
        return Err(format!("Maven didn't fetch it ({status})"));
    }
    workspace::write(&marker, &wanted)?;
    Ok(jars)
}

/// Removes what earlier runs left, unless they still go on.
fn remove_others(parent: &Path, stem: &str, own: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_prefix(stem)) else { continue };
        if path != own && !Path::new("/proc").join(id).exists() {
            // Left for the next run if it can't be removed now.
            let _ = fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javas_of_all_ages_say_their_version() {
        for (text, expected) in [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime Environment", Some(17)),
            ("java version \"1.8.0_401\"", Some(8)),
            ("openjdk version \"25\" 2025-09-16", Some(25)),
            ("openjdk version \"26-ea\" 2026-03-17", Some(26)),
            ("command not found", None),
        ] {
            assert_eq!(java_version(text), expected, "{text}");
        }
    }
}
