//! The program under test: found where `cargo verify` says, or built, once for each process of tests.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The environment variable that names the built program.
pub const VARIABLE: &str = "MIDPLANE_BINARY";

/// The `midplane` program.
///
/// # Panics
/// When it can't be built.
pub fn midplane() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| std::env::var_os(VARIABLE).map_or_else(build, PathBuf::from))
}

/// Cargo's target folder, where whatever tests need beside the code is kept.
///
/// # Panics
/// When this process is no test of cargo's.
pub fn target_directory() -> PathBuf {
    // target/PROFILE/deps/TEST-HASH
    let test = std::env::current_exe().expect("a test knows its own file");
    test.ancestors().nth(3).expect("cargo keeps tests three folders deep").to_owned()
}

/// The workspace's folder.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let target = target_directory();
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--bin", "midplane", "--target-dir"])
        .arg(&target)
        .current_dir(workspace())
        .status()
        .expect("cargo runs");
    assert!(built.success(), "the program doesn't build");
    target.join("debug").join("midplane")
}

/// How a command ended.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output of a command that must have worked.
    ///
    /// # Panics
    /// When it didn't.
    pub fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }
}

/// Runs one command to its end, in a folder, with bytes on standard input.
///
/// # Panics
/// When it can't be started.
pub fn run_in(folder: &Path, args: &[&str], input: &[u8]) -> Finished {
    let mut child = Command::new(midplane())
        .args(args)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        // Help is as wide as it says.
        .env_remove("COLUMNS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        // Written beside the reading: neither waits for a full pipe. A command that doesn't read is fine.
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().expect("the program ends")
    });
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Finished { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Runs one command to its end, in the temporary folder of the system, without input.
///
/// # Panics
/// When it can't be started.
pub fn run(args: &[&str]) -> Finished {
    run_in(&std::env::temp_dir(), args, b"")
}
