//! Counts the instructions that a program executes, with valgrind's `callgrind`, in user space, thread by thread. Unlike
//! time, the count hardly depends on what else the machine does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Failure;

/// Where the counts of runs are written, each a profile that `callgrind_annotate` reads.
pub(crate) struct Counter {
    folder: PathBuf,
}

impl Counter {
    /// # Errors
    /// Where valgrind is missing.
    pub(crate) fn new(folder: PathBuf) -> Result<Self, Failure> {
        std::fs::create_dir_all(&folder)?;
        let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        match found {
            Ok(status) if status.success() => Ok(Self { folder }),
            _ => Err("instructions are counted with `valgrind`, which can't be run: install it".into()),
        }
    }

    /// What starts a program under it.
    pub(crate) fn launcher(&self, run: &str) -> Vec<String> {
        let out = format!("--callgrind-out-file={}", self.folder.join(file_name(run)).display());
        // Threads take turns in the simulator; without fairness one that waits for work keeps others from doing it.
        let args = ["valgrind", "--quiet", "--tool=callgrind", "--separate-threads=yes", "--fair-sched=yes", &out];
        args.map(str::to_owned).to_vec()
    }

    /// The instructions of a run that has ended: of the threads in which this function ran, and of all threads.
    pub(crate) fn read(&self, run: &str, function: &str) -> Result<Count, Failure> {
        let mut count = Count::default();
        // Each thread has a file of its own, whose name goes on with its number.
        let stem = format!("{}-", file_name(run));
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(&stem)) {
                let text = std::fs::read_to_string(entry.path())?;
                let instructions = total(&text).ok_or_else(|| format!("`{}` has no total", entry.path().display()))?;
                count.all += instructions;
                count.named += if text.contains(function) { instructions } else { 0 };
            }
        }
        if count.named == 0 { Err(format!("no thread ran `{function}`").into()) } else { Ok(count) }
    }
}

/// A program, or what runs it for us: a launcher with its arguments.
pub(crate) fn launched(launcher: &[String], program: &Path) -> Command {
    match launcher.split_first() {
        Some((launcher, args)) => {
            let mut command = Command::new(launcher);
            command.args(args).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Instructions of a run.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Count {
    /// Of the threads that were asked for.
    pub(crate) named: u64,
    /// Of all threads.
    pub(crate) all: u64,
}

/// The backlogs that a program is run over. What it executes more for the longer one, for each event more, is the cost of an
/// event: starting, joining and stopping are the same in both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backlogs {
    short: usize,
    long: usize,
}

impl Backlogs {
    /// Events of the shorter one, of those of the longer one.
    const SHORT_SHARE: usize = 5;

    pub(crate) fn new(long: usize) -> Self {
        Self { short: long / Self::SHORT_SHARE, long: long.max(1) }
    }

    /// Each of them: the events before it, and with it.
    pub(crate) fn ranges(self) -> [std::ops::Range<usize>; 2] {
        [0..self.short, self.short..self.long]
    }
}

/// Instructions of an event.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Instructions {
    /// On the threads that were asked for.
    pub(crate) named: f64,
    /// On all threads, the client's among them.
    pub(crate) all: f64,
}

impl Instructions {
    /// Takes the run over one of the backlogs in.
    pub(crate) fn add(&mut self, backlogs: Backlogs, events: usize, count: Count) {
        let Backlogs { short, long } = backlogs;
        let share = (if events == long { 1.0 } else { -1.0 }) / (long - short) as f64;
        self.named += share * count.named as f64;
        self.all += share * count.all as f64;
    }
}

fn file_name(run: &str) -> String {
    format!("callgrind.{run}")
}

/// The sum at the end of callgrind's file.
fn total(text: &str) -> Option<u64> {
    let sums = text.lines().rev().take(10).find_map(|line| line.strip_prefix("totals:"))?;
    sums.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_costs_what_a_longer_backlog_adds() {
        let backlogs = Backlogs::new(100);
        let mut instructions = Instructions::default();
        for (range, count) in backlogs.ranges().into_iter().zip([(1_020, 2_020), (1_100, 2_500)]) {
            instructions.add(backlogs, range.end, Count { named: count.0, all: count.1 });
        }
        assert_eq!((instructions.named, instructions.all), (1.0, 6.0));
    }

    #[test]
    fn the_total_is_the_first_figure_of_the_last_lines() {
        assert_eq!(total("events: Ir\nsummary: 12\n\nfn=(1) main\n3 4\n\ntotals: 1234567\n"), Some(1_234_567));
        assert_eq!(total("events: Ir sysCount\ntotals: 12 7\n"), Some(12));
        assert_eq!(total("events: Ir\n"), None);
    }
}
