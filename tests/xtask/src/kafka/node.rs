//! One node of Apache Kafka: its files, its ports, and its process, which may end and begin again.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Interrupt, LOOK_INTERVAL, Running};
use crate::{Failure, workspace};

/// What the broker itself says when it serves; its port is open before that.
const READY: &str = "Kafka Server started";

const READY_WITHIN: Duration = Duration::from_secs(120);

/// A node. Dropped, it is killed.
#[derive(Debug)]
pub struct Node {
    jars: PathBuf,
    folder: PathBuf,
    port: u16,
    running: Option<Running>,
}

/// A node's place in its cluster.
#[derive(Debug, Clone, Copy)]
struct Place {
    id: usize,
    nodes: usize,
    port: u16,
    controller_port: u16,
}

impl Place {
    /// Fills in what is between two `@` of the settings.
    fn fill(self, template: &str, folder: &Path) -> String {
        let Self { id, nodes, port, controller_port } = self;
        let (roles, controller) = match id {
            1 => ("broker,controller", format!(",CONTROLLER://127.0.0.1:{controller_port}")),
            _ => ("broker", String::new()),
        };
        template
            .replace("@FOLDER@", &folder.display().to_string())
            .replace("@ROLES@", roles)
            .replace("@ID@", &id.to_string())
            .replace("@LISTENERS@", &format!("PLAINTEXT://127.0.0.1:{port}{controller}"))
            .replace("@CONTROLLER_PORT@", &controller_port.to_string())
            .replace("@NODES@", &nodes.to_string())
            .replace("@NODES_MIN@", &nodes.div_ceil(2).to_string())
    }
}

impl Node {
    /// The only node of its cluster, in a folder of its own, which is made anew. It doesn't run yet.
    ///
    /// # Errors
    /// Where its files can't be written, or Java doesn't format its storage.
    pub fn format(jars: &Path, folder: &Path, interrupt: &Interrupt) -> Result<Self, Failure> {
        let [port, controller_port] = free_ports()?;
        Self::format_one(jars, folder, Place { id: 1, nodes: 1, port, controller_port }, interrupt)
    }

    /// Three nodes of one cluster, in folders below this one. The first is the controller, too, and can't be missed.
    ///
    /// # Errors
    /// As [`Self::format`].
    pub fn format_three(jars: &Path, folder: &Path, interrupt: &Interrupt) -> Result<[Self; 3], Failure> {
        let [controller_port, ports @ ..] = free_ports::<4>()?;
        let format = |id: usize| {
            let place = Place { id, nodes: 3, port: ports[id - 1], controller_port };
            Self::format_one(jars, &folder.join(format!("node-{id}")), place, interrupt)
        };
        Ok([format(1)?, format(2)?, format(3)?])
    }

    fn format_one(jars: &Path, folder: &Path, place: Place, interrupt: &Interrupt) -> Result<Self, Failure> {
        let files = workspace::root().join("tests/kafka");
        workspace::fresh_folder(folder)?;
        let properties = place.fill(&workspace::read(&files.join("server.properties"))?, folder);
        workspace::write(&folder.join("server.properties"), &properties)?;
        workspace::copy(&files.join("log4j2.properties"), &folder.join("log4j2.properties"))?;
        format_storage(jars, folder, place.id == 1, interrupt)?;
        Ok(Self { jars: jars.to_owned(), folder: folder.to_owned(), port: place.port, running: None })
    }

    /// `host:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Gives it further settings, from its next start on.
    ///
    /// # Errors
    /// Where its files can't be written.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<(), Failure> {
        let path = self.folder.join("server.properties");
        let mut properties = workspace::read(&path)?;
        properties.extend(settings.iter().map(|(name, value)| format!("{name}={value}\n")));
        workspace::write(&path, &properties)
    }

    /// Starts it, on what it has, and waits until it serves.
    ///
    /// # Errors
    /// Where it ends, or doesn't serve in time.
    pub fn start(&mut self, interrupt: &Interrupt) -> Result<(), Failure> {
        let log = self.folder.join("server.log");
        let running = self.running.insert(launch(&self.jars, &self.folder, &log, interrupt)?);
        let end = Instant::now() + READY_WITHIN;
        while !fs::read_to_string(&log).is_ok_and(|text| text.contains(READY)) {
            interrupt.check()?;
            if let Some(status) = running.ended()? {
                return Err(format!("Kafka ended while it started ({status}):\n{}", tail(&log)));
            }
            if Instant::now() > end {
                return Err(format!("Kafka didn't start within {READY_WITHIN:?}:\n{}", tail(&log)));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    fn running(&mut self) -> Result<&mut Running, Failure> {
        self.running.as_mut().ok_or_else(|| "Kafka doesn't run".to_owned())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Where it doesn't run.
    pub fn signal(&mut self, signal: Signal) -> Result<(), Failure> {
        self.running()?.signal(signal);
        Ok(())
    }

    /// Kills it as `kill -9` does. It can be started again.
    ///
    /// # Errors
    /// Where it doesn't run.
    pub fn kill(&mut self) -> Result<(), Failure> {
        self.running()?;
        self.running = None;
        Ok(())
    }

    /// Asks it to stop, and kills it when it hasn't within `patience`.
    ///
    /// # Errors
    /// Where it doesn't run.
    pub fn stop(&mut self, patience: Duration) -> Result<ExitStatus, Failure> {
        self.running()?.stop(patience)
    }

    /// Waits until it ends by itself; stops it when this process is asked to stop.
    ///
    /// # Errors
    /// Where it doesn't run.
    pub fn wait(&mut self, interrupt: &Interrupt) -> Result<ExitStatus, Failure> {
        self.running()?.wait(interrupt)
    }
}

/// Ports that are free now. Kafka can't be given port 0, since clients are told the port that its file names.
fn free_ports<const COUNT: usize>() -> Result<[u16; COUNT], Failure> {
    let take = || TcpListener::bind("127.0.0.1:0").and_then(|taken| Ok((taken.local_addr()?.port(), taken)));
    // All are held until the last is found, so that none comes twice.
    let taken: Result<Vec<_>, _> = (0..COUNT).map(|_| take()).collect();
    let taken = taken.map_err(|error| format!("no free port: {error}"))?;
    Ok(std::array::from_fn(|index| taken[index].0))
}

fn java(jars: &Path, folder: &Path) -> Command {
    let mut java = Command::new("java");
    java.arg(format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.properties").display()));
    java.arg("-cp").arg(format!("{}/*", jars.display()));
    java.stdin(Stdio::null());
    java
}

fn format_storage(jars: &Path, folder: &Path, is_controller: bool, interrupt: &Interrupt) -> Result<(), Failure> {
    let log = folder.join("format.log");
    let mut format = java(jars, folder);
    format.args(["-Xmx128m", "-XX:TieredStopAtLevel=1"]);
    format.args(["kafka.tools.StorageTool", "format", "--cluster-id", "bWlkcGxhbmUtdGVzdHMtMQ"]);
    if is_controller {
        format.arg("--standalone");
    }
    format.arg("--config");
    format.arg(folder.join("server.properties"));
    redirect(&mut format, &log)?;
    let status = Running::start_under("Kafka's storage tool", &mut format, interrupt)?.wait(interrupt)?;
    if status.success() { Ok(()) } else { Err(format!("its storage can't be formatted:\n{}", tail(&log))) }
}

fn launch(jars: &Path, folder: &Path, log: &Path, interrupt: &Interrupt) -> Result<Running, Failure> {
    let mut server = java(jars, folder);
    server.args(["-Xms256m", "-Xmx1g", "-XX:+UseG1GC", "-Djava.awt.headless=true", "kafka.Kafka"]);
    server.arg(folder.join("server.properties"));
    redirect(&mut server, log)?;
    Running::start_under("Kafka", &mut server, interrupt)
}

fn redirect(command: &mut Command, log: &Path) -> Result<(), Failure> {
    let refuse = |error| format!("`{}` can't be written: {error}", log.display());
    let file = File::create(log).map_err(refuse)?;
    command.stderr(file.try_clone().map_err(refuse)?).stdout(file);
    Ok(())
}

/// The end of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
