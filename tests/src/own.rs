//! Brokers of a test's own, as processes: stopped, killed and started again, on what they have written.

use std::net::TcpListener;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;
use xtask::kafka::{JARS_VARIABLE, Node};
use xtask::process::Interrupt;

use crate::{Broker, Folder, Host};

/// A broker of a test's own. Dropped, it is killed.
#[derive(Debug)]
pub struct Own {
    servers: String,
    process: Process,
}

/// What runs. Its folder is dropped last.
#[derive(Debug)]
enum Process {
    Embedded { running: Option<Host>, folder: Folder, by: Vec<String> },
    Kafka { node: Node, _folder: TempDir },
}

impl Own {
    /// The embedded broker, in a process.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn embedded() -> Self {
        Self::embedded_by(&[])
    }

    /// The embedded broker, started by another program, which is given its command line behind these words and becomes it.
    /// Its log is in the folder `broker` below the one that it is started in.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn embedded_by(by: &[&str]) -> Self {
        // Its address has to stay. The port is free, and hardly anybody takes it in between.
        let taken = TcpListener::bind("127.0.0.1:0").and_then(|taken| taken.local_addr()).expect("a free port");
        let config = format!("[embedded_broker]\nlisten = '{taken}'\ndata_directory = 'broker'\n");
        let folder = Folder::new(&config);
        std::fs::create_dir(folder.path().join("broker")).expect("a folder");
        let by = by.iter().map(|&word| word.to_owned()).collect();
        let mut own = Self { servers: taken.to_string(), process: Process::Embedded { running: None, folder, by } };
        own.start();
        own
    }

    /// An Apache Kafka of one node.
    ///
    /// # Panics
    /// When it doesn't start, or nobody has said where Kafka's jars are.
    pub fn kafka() -> Self {
        Self::kafka_with(&[])
    }

    /// As [`Self::kafka`], with further settings of the broker's.
    ///
    /// # Panics
    /// Likewise.
    pub fn kafka_with(settings: &[(&str, &str)]) -> Self {
        let jars = jars();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let node = Node::format(&jars, &folder.path().join("node"), &Interrupt::never());
        let node = node.and_then(|node| node.set(settings).map(|()| node));
        let node = node.unwrap_or_else(|failure| panic!("{failure}"));
        let mut own = Self { servers: node.address(), process: Process::Kafka { node, _folder: folder } };
        own.start();
        own
    }

    /// As tests see it, whichever process runs at the time.
    pub fn broker(&self) -> Broker {
        Broker::at(&self.servers, matches!(self.process, Process::Embedded { .. }), 1)
    }

    /// The embedded broker's process.
    ///
    /// # Panics
    /// Where it isn't the embedded one, or doesn't run.
    pub fn host(&self) -> &Host {
        match &self.process {
            Process::Embedded { running, .. } => running.as_ref().expect("it runs"),
            Process::Kafka { .. } => panic!("Kafka is no host"),
        }
    }

    /// The folder that the embedded broker is started in.
    ///
    /// # Panics
    /// Where it isn't the embedded one.
    pub fn folder(&self) -> &Folder {
        match &self.process {
            Process::Embedded { folder, .. } => folder,
            Process::Kafka { .. } => panic!("Kafka has no such folder"),
        }
    }

    /// Starts it, on what it has written, and waits until it serves.
    ///
    /// # Panics
    /// When it doesn't in time.
    pub fn start(&mut self) {
        match &mut self.process {
            Process::Embedded { running, folder, by } => {
                let by: Vec<_> = by.iter().map(String::as_str).collect();
                *running = Some(folder.start_broker_by(&by));
            }
            Process::Kafka { node, .. } => {
                node.start(&Interrupt::never()).unwrap_or_else(|failure| panic!("{failure}"))
            }
        }
    }

    /// Kills it as `kill -9` does.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn kill(&mut self) {
        match &mut self.process {
            Process::Embedded { running, .. } => running.take().expect("it runs").kill(),
            Process::Kafka { node, .. } => node.kill().unwrap_or_else(|failure| panic!("{failure}")),
        }
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn signal(&mut self, signal: Signal) {
        match &mut self.process {
            Process::Embedded { running, .. } => running.as_ref().expect("it runs").signal(signal),
            Process::Kafka { node, .. } => node.signal(signal).unwrap_or_else(|failure| panic!("{failure}")),
        }
    }
}

/// The folder of Kafka's jars.
fn jars() -> PathBuf {
    let jars = std::env::var_os(JARS_VARIABLE).unwrap_or_else(|| {
        panic!(
            "`{JARS_VARIABLE}` names no folder with Kafka's jars; `cargo verify` fetches them to `target/kafka/jars` and sets \
             it, `--without-kafka` leaves these tests out"
        )
    });
    PathBuf::from(jars)
}

/// An Apache Kafka of three nodes, each with a copy of everything. Dropped, it is killed.
#[derive(Debug)]
pub struct Cluster {
    nodes: [Node; 3],
    _folder: TempDir,
}

impl Cluster {
    /// Starts it.
    ///
    /// # Panics
    /// When it doesn't start, or nobody has said where Kafka's jars are.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Self::start`], with further settings of each broker's.
    ///
    /// # Panics
    /// Likewise.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let nodes = Node::format_three(&jars(), folder.path(), &Interrupt::never());
        let mut nodes = nodes.unwrap_or_else(|failure| panic!("{failure}"));
        for node in &nodes {
            node.set(settings).unwrap_or_else(|failure| panic!("{failure}"));
        }
        // Beside each other: each takes seconds.
        std::thread::scope(|scope| {
            for node in &mut nodes {
                scope.spawn(|| node.start(&Interrupt::never()).unwrap_or_else(|failure| panic!("{failure}")));
            }
        });
        Self { nodes, _folder: folder }
    }

    /// As tests see it, by the node that stays.
    pub fn broker(&self) -> Broker {
        self.broker_of(self.nodes.len() as i32)
    }

    /// As [`Self::broker`], with so many copies of topics that are made.
    pub fn broker_of(&self, copies: i32) -> Broker {
        Broker::at(&self.nodes[0].address(), false, copies)
    }

    /// Kills one of the two nodes that can be missed, as `kill -9` does.
    ///
    /// # Panics
    /// When it doesn't run.
    pub fn kill(&mut self, node: usize) {
        self.nodes[1 + node].kill().unwrap_or_else(|failure| panic!("{failure}"));
    }

    /// Starts it again.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn start_again(&mut self, node: usize) {
        self.nodes[1 + node].start(&Interrupt::never()).unwrap_or_else(|failure| panic!("{failure}"));
    }
}
