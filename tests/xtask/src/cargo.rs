//! Calls of cargo. All of them build the same profile with the same features, so that the compiler of plugins, librdkafka
//! and OpenSSL are compiled once and for all.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use crate::process::{Interrupt, Running};
use crate::{Failure, workspace};

/// Cargo, in the workspace's folder and with the target folder of this run.
pub(crate) fn command() -> Result<Command, Failure> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(workspace::root()).env("CARGO_TARGET_DIR", workspace::target()?);
    Ok(command)
}

/// Runs it to its end, its progress in view.
pub(crate) fn run(what: &str, command: &mut Command, interrupt: &Interrupt) -> Result<(), Failure> {
    let status = Running::start("cargo", command)?.wait(interrupt)?;
    interrupt.check()?;
    if status.success() { Ok(()) } else { Err(format!("{what} failed: see above ({status})")) }
}

/// Builds the host. Asking for the whole workspace's features, not for one package's, is what makes later builds reuse it.
pub(crate) fn build_host(interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let mut build = command()?;
    build.args(["build", "--workspace", "--bin", "midplane"]);
    run("building the host", &mut build, interrupt)?;
    host_binary()
}

/// Where the host's program is, once it is built.
pub(crate) fn host_binary() -> Result<PathBuf, Failure> {
    Ok(workspace::target()?.join("debug").join("midplane"))
}
