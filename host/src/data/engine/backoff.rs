//! How long to wait: doubled each time, bounded, with a share of chance from a seeded generator.

use std::time::Duration;

use crate::config::model::Backoff;

/// A small generator of random numbers (SplitMix64): good enough for jitter, and the same numbers from the same seed.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator that starts at a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number from 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The wait after the given number of failures, the last one included.
pub(crate) fn wait(backoff: &Backoff, failures: u32, random: &mut Random) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let full = backoff.first.saturating_mul(1 << doublings).min(backoff.max);
    full.mul_f64(1.0 - backoff.jitter.clamp(0.0, 1.0) * random.share())
}
