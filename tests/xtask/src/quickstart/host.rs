//! The quickstart's host: a fresh folder, a process, an address.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::shown;
use crate::process::{Interrupt, LOOK_INTERVAL, Running};
use crate::{Failure, workspace};

const READY_WITHIN: Duration = Duration::from_secs(120);

/// Longer than the host's own limit for a drain.
const STOP_WITHIN: Duration = Duration::from_secs(45);

/// A running host.
#[derive(Debug)]
pub(super) struct Host {
    program: PathBuf,
    config: PathBuf,
    log: PathBuf,
    address: String,
    running: Running,
}

impl Host {
    /// Starts it on a fresh folder, and waits until it is ready.
    pub(super) fn start(program: &Path, interrupt: &Interrupt) -> Result<Self, Failure> {
        let target = workspace::target()?;
        let data = target.join("quickstart");
        refuse_second(&data)?;
        workspace::fresh_folder(&data)?;
        let config = config(&target, &data)?;
        copy_plugins(&target.join("plugins"), &data.join("plugins"), &config)?;
        let log = data.join("host.log");
        let file = File::create(&log).map_err(|error| format!("`{}` can't be written: {error}", log.display()))?;
        let mut run = Command::new(program);
        run.args(["run", "--log-format", "text", "--config"]).arg(&config).stdin(Stdio::null()).stderr(file);
        let running = Running::start("midplane run", &mut run)?;
        let program = program.to_owned();
        let mut host = Self { program, config, log, address: String::new(), running };
        host.wait_ready(&data, interrupt)?;
        let address = data.join("broker/address");
        workspace::read(&address)?.trim().clone_into(&mut host.address);
        Ok(host)
    }

    fn wait_ready(&mut self, data: &Path, interrupt: &Interrupt) -> Result<(), Failure> {
        let end = Instant::now() + READY_WITHIN;
        while !admin(data).is_some_and(|address| ready(&address)) {
            interrupt.check()?;
            self.check()?;
            if Instant::now() > end {
                return Err(format!("the host was not ready within {READY_WITHIN:?}:\n{}", self.log_text()));
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }

    /// Fails when it has ended.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        match self.running.ended()? {
            None => Ok(()),
            Some(status) => Err(format!("the host ended ({status}):\n{}", self.log_text())),
        }
    }

    /// Its broker's `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// A command of the same program, for the same broker.
    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).args(["--bootstrap-servers", &self.address]);
        command
    }

    /// The topics that its broker has.
    pub(super) fn topics(&self) -> Result<Vec<String>, Failure> {
        let output = self.command(&["topic", "list", "--output", "json"]).output();
        let output = output.map_err(|error| format!("midplane topic list can't be run: {error}"))?;
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("midplane topic list failed: {}", String::from_utf8_lossy(&output.stderr)))?;
        let rows = rows.as_array().into_iter().flatten();
        Ok(rows.filter_map(|row| row["topic"].as_str().map(str::to_owned)).collect())
    }

    /// Asks it to drain and stop.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        let status = self.running.stop(STOP_WITHIN)?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the host didn't stop cleanly ({status}):\n{}", self.log_text()))
        }
    }

    /// For people.
    pub(super) fn shown_program(&self) -> String {
        shown(&self.program)
    }

    /// For people.
    pub(super) fn shown_config(&self) -> String {
        shown(&self.config)
    }

    /// For people.
    pub(super) fn shown_log(&self) -> String {
        shown(&self.log)
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Two on one folder would pull it from under each other's feet.
fn refuse_second(data: &Path) -> Result<(), Failure> {
    match admin(data) {
        Some(address) if ready(&address) => {
            Err("another quickstart runs: stop it first (Ctrl-C in its terminal)".to_owned())
        }
        _ => Ok(()),
    }
}

/// The config as it stands, or a copy with the folders put right where cargo's target folder is elsewhere.
fn config(target: &Path, data: &Path) -> Result<PathBuf, Failure> {
    let root = workspace::root();
    let config = root.join("config/quickstart.toml");
    if target == root.join("target") {
        return Ok(config);
    }
    let text = workspace::read(&config)?.replace("../target", &target.display().to_string());
    let copy = data.join("quickstart.toml");
    workspace::write(&copy, &text)?;
    Ok(copy)
}

/// Gives the host the plugins that its config names, and no others: those would be warned of.
fn copy_plugins(from: &Path, to: &Path, config: &Path) -> Result<(), Failure> {
    workspace::fresh_folder(to)?;
    let config = workspace::read(config)?;
    for entry in
        std::fs::read_dir(from).map_err(|error| format!("`{}` can't be listed: {error}", from.display()))?.flatten()
    {
        let path = entry.path();
        let (Some(name), Some(stem)) = (path.file_name(), path.file_stem().and_then(|stem| stem.to_str())) else {
            continue;
        };
        if config.contains(&format!("\"{stem}\"")) {
            workspace::copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Where the host has written that its admin surface listens.
fn admin(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("admin-address")).ok()?;
    Some(text.trim().to_owned()).filter(|address| !address.is_empty())
}

/// Whether it says that it is ready.
fn ready(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let mut answer = String::new();
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").is_ok()
        && stream.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}
