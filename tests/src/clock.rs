//! A clock of the day that a test sets, for a process that is started by it. What counts the time that has passed goes on as it
//! does: only who asks how late it is, or waits until it is so late, sees it jump.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// What stands in for the C library's functions.
const SOURCE: &str = include_str!("clock.c");
/// The environment variable that names its file.
const VARIABLE: &str = "MIDPLANE_TEST_CLOCK";

/// The clock. Processes that run by it end before it is dropped.
#[derive(Debug)]
pub struct Clock {
    ahead: File,
    words: [String; 3],
    _folder: TempDir,
}

impl Clock {
    /// One that is right.
    ///
    /// # Panics
    /// When there is no C compiler, which the build needs anyway.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| -> PathBuf { folder.path().join(name) };
        fs::write(path("clock.c"), SOURCE).expect("a source file");
        let library = path("clock.so");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-pthread", "-o"])
            .args([&library, &path("clock.c")])
            .output()
            .expect("a C compiler");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        let ahead = File::create_new(path("ahead")).expect("a file");
        let words = [
            "env".to_owned(),
            format!("LD_PRELOAD={}", library.display()),
            format!("{VARIABLE}={}", path("ahead").display()),
        ];
        let clock = Self { ahead, words, _folder: folder };
        clock.set(0);
        clock
    }

    /// What stands before the command line of a process that is to run by it.
    pub fn words(&self) -> [&str; 3] {
        self.words.each_ref().map(String::as_str)
    }

    /// From now on it is so many seconds ahead of what is right, or behind it.
    ///
    /// # Panics
    /// When its file can't be written.
    pub fn set(&self, ahead_s: i64) {
        self.ahead.write_all_at(&(ahead_s * 1_000_000_000).to_ne_bytes(), 0).expect("a file");
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_process_sees_the_time_that_was_set() {
        let clock = Clock::new();
        for ahead_s in [0, 3600, -86_400] {
            clock.set(ahead_s);
            let [program, first, second] = clock.words();
            let output = Command::new(program).args([first, second, "date", "+%s"]).output().expect("`date` runs");
            let seen: i64 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number of seconds");
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
            assert!((seen - ahead_s - now).abs() < 600, "{seen} is not {ahead_s} s ahead of {now}");
        }
    }
}
