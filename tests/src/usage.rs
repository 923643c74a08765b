//! What a process holds of its machine, as the kernel counts it.

use std::fs;
use std::time::{Duration, Instant};

/// Between two looks at a process.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Threads, descriptors and memory of a process.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Threads.
    pub threads: usize,
    /// Open descriptors.
    pub descriptors: usize,
    /// Memory that is held, in KiB.
    pub resident_kib: i64,
}

impl Usage {
    /// Of a running process.
    ///
    /// # Panics
    /// When it has ended.
    pub fn of(id: u32) -> Self {
        let count = |folder: &str| fs::read_dir(format!("/proc/{id}/{folder}")).expect("a running process").count();
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel counts it");
        let resident_kib = line.trim().trim_end_matches(" kB").parse().expect("a number");
        Self { threads: count("task"), descriptors: count("fd"), resident_kib }
    }
}

/// What part of its threads and descriptors a process may hold more than before and still hold what it did: connections are
/// made when they are needed, each with its thread. A client that is left behind has more, or has them again and again.
const NOISE_PART: usize = 8;
/// Likewise in memory: allocators have their noise.
const NOISE_KIB: i64 = 64 << 10;

impl Usage {
    /// Whether a process holds more than it did before.
    pub fn exceeds(self, before: Self) -> bool {
        let more = |now: usize, before: usize| now > before + before / NOISE_PART;
        more(self.threads, before.threads)
            || more(self.descriptors, before.descriptors)
            || self.resident_kib > before.resident_kib + NOISE_KIB
    }

    /// What the same process holds once that doesn't exceed this, or after a while.
    ///
    /// # Panics
    /// When it has ended.
    pub fn settled(self, id: u32, within: Duration) -> Self {
        let end = Instant::now() + within;
        loop {
            let now = Self::of(id);
            if !now.exceeds(self) || Instant::now() >= end {
                return now;
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// What the middle, the slowest hundredth and the slowest of some times are, in milliseconds.
pub fn percentiles(mut times_ms: Vec<f64>) -> String {
    if times_ms.is_empty() {
        return "none".to_owned();
    }
    times_ms.sort_by(f64::total_cmp);
    let at = |part: f64| times_ms[((times_ms.len() - 1) as f64 * part).round() as usize];
    format!("p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms ({} of them)", at(0.5), at(0.99), at(1.0), times_ms.len())
}
