//! Calls of cargo. All of them build the same profile with the same features, so that the compiler of plugins, librdkafka
//! and OpenSSL are compiled once and for all.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

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

/// The host's program alone.
const HOST: [&str; 4] = ["build", "--workspace", "--bin", "midplane"];

/// Builds the host. Asking for the whole workspace's features, not for one package's, is what makes later builds reuse it.
pub(crate) fn build_host(interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let mut build = command()?;
    build.args(HOST);
    run("building the host", &mut build, interrupt)?;
    host_binary()
}

/// Whether [`build_host`] has nothing to do: a dependency of tests alone that asks for more of what the host is made of would
/// make people wait for most of it a second time, and would go unnoticed.
pub(crate) fn host_is_built(interrupt: &Interrupt) -> Result<(), Failure> {
    let mut build = command()?;
    build.args(HOST).args(["--quiet", "--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
    let mut running = Running::start("cargo", &mut build)?;
    let stdout = running.child().stdout.take().ok_or("cargo build has no output")?;
    let stale = stale(BufReader::new(stdout).lines().map_while(Result::ok));
    let status = running.wait(interrupt)?;
    interrupt.check()?;
    match (status.success(), stale.as_slice()) {
        (false, _) => Err(format!("building the host failed: see above ({status})")),
        (true, []) => Ok(()),
        (true, stale) => Err(format!(
            "these were built again for the host alone, with other features than for all targets: {}; `cargo tree -e features` \
             shows who asks for what",
            stale.join(", ")
        )),
    }
}

/// The packages that cargo had to build, from its messages.
fn stale(messages: impl Iterator<Item = String>) -> Vec<String> {
    let built = messages.filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(&line).ok()?;
        let is_stale = message["reason"] == "compiler-artifact" && message["fresh"] == false;
        is_stale.then(|| message["target"]["name"].as_str().unwrap_or_default().to_owned())
    });
    built.collect()
}

/// Where the host's program is, once it is built.
pub(crate) fn host_binary() -> Result<PathBuf, Failure> {
    Ok(workspace::target()?.join("debug").join("midplane"))
}

/// Builds what is measured, as it is measured: the host, and what measures it. Where these programs are is what comes back.
pub(crate) fn build_measured(interrupt: &Interrupt) -> Result<PathBuf, Failure> {
    let mut build = command()?;
    build.args(["build", "--release", "--package", "midplane", "--package", "midplane-bench"]);
    run("building what is measured", &mut build, interrupt)?;
    Ok(workspace::target()?.join("release"))
}

#[cfg(test)]
mod tests {
    use super::stale;

    #[test]
    fn what_was_built_is_told_from_what_was_there() {
        let artifact = |name: &str, fresh: bool| {
            format!(r#"{{"reason":"compiler-artifact","target":{{"name":"{name}"}},"fresh":{fresh}}}"#)
        };
        let messages = [artifact("old", true), artifact("new", false), r#"{"reason":"build-finished"}"#.to_owned()];
        assert_eq!(stale(messages.into_iter()), ["new"]);
    }
}
