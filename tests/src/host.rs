//! The host as a process of its own, on a folder that outlives it: started, watched, stopped, killed, started again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::binary;
use crate::http::{self, Answer};
use crate::wait::{DEADLINE, wait_for};

/// What a shard says when it has ended.
const STOPPED: &str = "The shard has stopped.";

/// A config in a temporary folder, and whatever the hosts that run on it leave there.
#[derive(Debug)]
pub struct Folder {
    folder: TempDir,
}

impl Folder {
    /// A folder with this `midplane.toml`. Where the text has no `[admin]`, the surface takes any free port.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn new(config: &str) -> Self {
        let folder = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        folder.write(config);
        folder
    }

    /// Writes `midplane.toml` anew.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write(&self, config: &str) {
        let admin = if config.contains("[admin]") { "" } else { "\n[admin]\nlisten = \"127.0.0.1:0\"\n" };
        fs::write(self.config(), format!("{config}{admin}")).expect("a config");
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The path of `midplane.toml`.
    pub fn config(&self) -> PathBuf {
        self.path().join("midplane.toml")
    }

    /// Starts a host and waits until it is ready.
    ///
    /// # Panics
    /// When it isn't in time.
    pub fn start(&self) -> Host {
        let host = self.spawn(&[]);
        host.wait_ready();
        host
    }

    /// Starts a host with further arguments, and doesn't wait.
    ///
    /// # Panics
    /// When the program can't be started.
    pub fn spawn(&self, args: &[&str]) -> Host {
        self.spawn_program(by(&[]), "run", args)
    }

    /// Starts the embedded broker alone, and waits until it listens.
    ///
    /// # Panics
    /// When it doesn't in time.
    pub fn start_broker(&self) -> Host {
        self.start_broker_by(&[])
    }

    /// As [`Self::start_broker`], by another program: see [`Self::spawn_by`].
    ///
    /// # Panics
    /// When it doesn't listen in time, or that program can't be started.
    pub fn start_broker_by(&self, program: &[&str]) -> Host {
        let broker = self.spawn_program(by(program), "broker", &[]);
        broker.wait_for_entry("Embedded broker listens.");
        broker
    }

    /// Starts a host by another program, which is given the host's command line behind these words and becomes the host.
    ///
    /// # Panics
    /// When that program can't be started.
    pub fn spawn_by(&self, program: &[&str]) -> Host {
        self.spawn_program(by(program), "run", &[])
    }

    /// Starts a host that is another program than the one under test, with some environment variables, and waits until it is ready.
    ///
    /// # Panics
    /// When it can't be started, or isn't ready in time.
    pub fn start_program(&self, program: &Path, variables: &[(&str, &str)]) -> Host {
        let mut command = Command::new(program);
        command.envs(variables.iter().copied());
        let host = self.spawn_program(command, "run", &[]);
        host.wait_ready();
        host
    }

    fn spawn_program(&self, mut program: Command, command: &str, args: &[&str]) -> Host {
        let mut child = program
            .args([command, "--log-format", "json", "--config"])
            .arg(self.config())
            .args(args)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("piped");
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            }
        });
        Host { child, log, reader: Some(reader) }
    }
}

/// The program, behind another one's words if there are any.
fn by(program: &[&str]) -> Command {
    let Some((first, others)) = program.split_first() else { return Command::new(binary::midplane()) };
    let mut command = Command::new(first);
    command.args(others).arg(binary::midplane());
    command
}

/// A running host. Dropped, it is killed, and its log is shown where the test failed.
#[derive(Debug)]
pub struct Host {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Host {
    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it logged so far, line by line.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The entries of its log with this message.
    pub fn entries(&self, message: &str) -> Vec<Value> {
        let entries = self.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        entries.filter(|entry| entry["message"] == message).collect()
    }

    /// Waits for an entry with this message.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn wait_for_entry(&self, message: &str) -> Value {
        wait_for(&format!("log entry `{message}`"), DEADLINE, || self.entries(message).into_iter().next())
    }

    /// How often the group took partitions away from it, since it was not heard of.
    pub fn lost_partitions(&self) -> usize {
        self.entries("Partitions were revoked.").iter().filter(|entry| entry["lost"] == true).count()
    }

    /// Whether it has been given partitions.
    pub fn has_partitions(&self) -> bool {
        self.entries("Partitions were assigned.").iter().any(|entry| entry["partitions"].as_u64() > Some(0))
    }

    /// Whether one of its shards has ended.
    pub fn has_stopped(&self) -> bool {
        !self.entries(STOPPED).is_empty()
    }

    /// How many events its shards answered that have ended.
    pub fn worked(&self) -> u64 {
        self.entries(STOPPED).iter().filter_map(|entry| entry["events"].as_u64()).sum()
    }

    /// The embedded broker's address.
    ///
    /// # Panics
    /// When it isn't logged in time.
    pub fn broker(&self) -> String {
        let entry = self.wait_for_entry("Embedded broker listens.");
        entry["address"].as_str().expect("an address").to_owned()
    }

    /// The admin surface's address.
    ///
    /// # Panics
    /// When it isn't logged in time.
    pub fn admin(&self) -> String {
        let entry = self.wait_for_entry("Admin surface listens.");
        entry["address"].as_str().expect("an address").to_owned()
    }

    /// Asks the admin surface.
    ///
    /// # Panics
    /// When it doesn't answer.
    pub fn get(&self, path: &str) -> Answer {
        http::get(&self.admin(), path).expect("the admin surface answers")
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it isn't in time, or ends before.
    pub fn wait_ready(&self) {
        let address = self.admin();
        wait_for("the host is ready", DEADLINE, || {
            http::get(&address, "/readyz").ok().filter(|answer| answer.code == 200)
        });
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(id, signal).expect("a process of ours");
    }

    /// Asks it to stop, and waits until it has.
    ///
    /// # Panics
    /// When it doesn't in time.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait(DEADLINE).code()
    }

    /// Asks it to stop, and waits until it has. Gives the exit code, and everything that it logged.
    ///
    /// # Panics
    /// When it doesn't in time.
    pub fn finish(mut self) -> (Option<i32>, Vec<String>) {
        self.signal(Signal::TERM);
        let code = self.wait(DEADLINE).code();
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is read to its end");
        }
        (code, self.log())
    }

    /// Kills it as `kill -9` does.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait(DEADLINE);
    }

    /// Waits until it has ended, whoever ended it.
    ///
    /// # Panics
    /// When it doesn't in time.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        wait_for("the host ends", deadline, || self.child.try_wait().expect("a child of ours"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("the log of host {}:\n{}", self.id(), self.log().join("\n"));
        }
    }
}
