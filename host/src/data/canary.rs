//! Which events a candidate serves: a share of the keys, so that all events of a key go to one version, whatever partition they
//! are in. Pure. Splits what a route took by the versions that it is to run through, and joins the answers again, in the events'
//! order.

use std::sync::Arc;

use super::chain::{Answer, Run};
use super::event::Event;
use super::trial::Trial;

/// Candidates of one route that may serve at a time: each doubles the versions that the route has. Further ones wait.
pub const CANARIES_MAX: usize = 4;

/// A candidate that serves a share of the keys of one route.
#[derive(Debug, Clone)]
pub struct Canary {
    /// The first of the route's stages that it is in.
    pub stage: usize,
    /// Which keys.
    pub lot: Lot,
    /// Counts what comes of it.
    pub trial: Arc<Trial>,
}

/// The decision which keys go to a candidate: the same on every shard and host, over restarts, and another one for each route
/// and version. Never the partitioner's hash, which would send whole partitions one way.
#[derive(Debug, Clone, Copy)]
pub struct Lot {
    seed: u64,
    /// Points below it are drawn.
    limit: u64,
}

/// FNV-1a, 64 bits.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
/// Points are of so many bits: as many as a share of type `f64` tells apart.
const POINT_BITS: u32 = 53;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// Spreads over all bits what FNV leaves in the lower ones: the finalizer of MurmurHash3.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

impl Lot {
    /// For a share of the keys of a route, above 0 and at most 1.
    pub fn new(route: &str, version: &[u8; 32], share: f64) -> Self {
        let seed = fnv(fnv(fnv(FNV_OFFSET, route.as_bytes()), &[0]), version);
        Self { seed, limit: (share * (1_u64 << POINT_BITS) as f64) as u64 }
    }

    /// Whether an event goes to the candidate. One without a key goes by its place.
    pub fn draws(&self, event: &Event<'_>) -> bool {
        let hash = match event.key {
            Some(key) => fnv(fnv(self.seed, b"k"), key),
            None => {
                let place = fnv(fnv(self.seed, b"p"), event.topic.as_bytes());
                fnv(fnv(place, &event.partition.to_le_bytes()), &event.offset.to_le_bytes())
            }
        };
        mix(hash) >> (u64::BITS - POINT_BITS) < self.limit
    }
}

/// The events of a batch that run through the same versions.
#[derive(Debug)]
pub struct Share<'a> {
    /// Which versions: bit n is set where the route's nth canary serves.
    pub variant: u8,
    /// The events.
    pub events: Vec<Event<'a>>,
    /// Their indexes among those that were split, ascending.
    places: Vec<u32>,
}

impl Share<'_> {
    /// How many of its events are among the first so many of those that were split.
    pub fn within(&self, count: usize) -> usize {
        self.places.partition_point(|place| (*place as usize) < count)
    }
}

/// Sorts events by the versions that they are to run through. No share is empty.
pub fn split<'a>(canaries: &[Canary], events: impl Iterator<Item = Event<'a>>) -> Vec<Share<'a>> {
    let mut shares: Vec<Share<'a>> = Vec::new();
    for (place, event) in events.enumerate() {
        let bit = |(bit, canary): (usize, &Canary)| u8::from(canary.lot.draws(&event)) << bit;
        let variant = canaries.iter().enumerate().map(bit).sum();
        let index = shares.iter().position(|share| share.variant == variant).unwrap_or_else(|| {
            shares.push(Share { variant, events: Vec::new(), places: Vec::new() });
            shares.len() - 1
        });
        shares[index].events.push(event);
        shares[index].places.push(place as u32);
    }
    shares
}

/// The answers of all shares in the order of the events before they were split: for the first of them, up to one that its share
/// has not answered.
pub fn join<'a>(shares: &[Share<'_>], runs: Vec<Run<'a>>) -> Run<'a> {
    let mut joined = Run::default();
    let mut sources = Vec::with_capacity(runs.len());
    for (share, run) in shares.iter().zip(runs) {
        let base = joined.ready.len() as u32;
        joined.ready.extend(run.ready);
        joined.weight += run.weight;
        sources.push((share.variant, base, share.places.iter().copied().zip(run.answers).peekable()));
    }
    for place in 0.. {
        let next = sources.iter_mut().find_map(|(variant, base, answers)| {
            let (_, answer) = answers.next_if(|(at, _)| *at == place)?;
            Some((*variant, *base, answer))
        });
        let Some((variant, base, answer)) = next else { break };
        joined.answers.push(match answer {
            Answer::Ready(range) => Answer::Ready(range.start + base..range.end + base),
            failed @ Answer::Failed { .. } => failed,
        });
        joined.variants.push(variant);
    }
    joined
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::{Rollout, RolloutMode};
    use crate::data::chain::Ready;
    use crate::data::event::Headers;

    fn event(key: Option<&[u8]>, offset: i64) -> Event<'_> {
        Event { topic: "t", partition: 0, offset, timestamp: 0, key, value: None, headers: Headers::Empty }
    }

    fn canary(route: &str, version: u8, share: f64) -> Canary {
        let rollout = Rollout {
            mode: RolloutMode::Canary,
            share,
            events: 1,
            time: Duration::ZERO,
            errors_max: 0.0,
            latency_max: Duration::ZERO,
            differences_max: 0.0,
        };
        let lot = Lot::new(route, &[version; 32], share);
        Canary { stage: 0, lot, trial: Arc::new(Trial::new(rollout)) }
    }

    #[test]
    fn a_share_of_the_keys_is_drawn() {
        let keys: Vec<_> = (0..100_000).map(|number| format!("key-{number}")).collect();
        for share in [0.01, 0.05, 0.5, 1.0] {
            for route in ["a", "large-payments"] {
                let lot = Lot::new(route, &[7; 32], share);
                let drawn = |drawn: usize| (drawn as f64 / keys.len() as f64 - share).abs();
                let by_key = keys.iter().filter(|key| lot.draws(&event(Some(key.as_bytes()), 0))).count();
                let by_place = (0..keys.len()).filter(|offset| lot.draws(&event(None, *offset as i64))).count();
                assert!(drawn(by_key) < 0.01 && drawn(by_place) < 0.01, "{share}: {by_key} and {by_place}");
            }
        }
    }

    #[test]
    fn a_key_goes_one_way_wherever_its_events_are() {
        let lot = Lot::new("r", &[1; 32], 0.5);
        for key in 0..1_000_u32 {
            let key = key.to_be_bytes();
            let elsewhere = Event { topic: "u", partition: 9, ..event(Some(&key), 77) };
            assert_eq!(lot.draws(&event(Some(&key), 0)), lot.draws(&elsewhere));
        }
    }

    #[test]
    fn routes_and_versions_draw_other_keys() {
        let keys: Vec<_> = (0..10_000_u32).map(u32::to_be_bytes).collect();
        let drawn = |route: &str, version: u8| {
            let lot = Lot::new(route, &[version; 32], 0.5);
            keys.iter().map(|key| lot.draws(&event(Some(key), 0))).collect::<Vec<_>>()
        };
        let first = drawn("a", 1);
        for other in [drawn("b", 1), drawn("a", 2)] {
            let same = first.iter().zip(&other).filter(|(first, other)| first == other).count();
            assert!((4_700..5_300).contains(&same), "{same} of 10000 keys go the same way");
        }
    }

    #[test]
    fn what_was_split_is_joined_in_the_order_of_the_events() {
        let canaries = [canary("r", 1, 0.5), canary("r", 2, 0.3)];
        let keys: Vec<_> = (0..100_u32).map(u32::to_be_bytes).collect();
        let events: Vec<_> = keys.iter().zip(0..).map(|(key, offset)| event(Some(key), offset)).collect();
        let shares = split(&canaries, events.iter().copied());
        assert_eq!(shares.len(), 4);
        // The first output says which event it is of; one share leaves its last events for later.
        let ready = |event: &Event<'_>| Ready {
            topic: 0,
            stage: Some(0),
            key: None,
            value: None,
            headers: Headers::Empty,
            timestamp: event.offset,
            partition: None,
        };
        let run = |share: &Share<'_>, count: usize| Run {
            ready: share.events[..count].iter().map(ready).collect(),
            answers: (0..count as u32).map(|index| Answer::Ready(index..index + 1)).collect(),
            ..Run::default()
        };
        let check = |counts: &[usize], expected: usize| {
            let runs = shares.iter().zip(counts).map(|(share, count)| run(share, *count)).collect();
            let joined = join(&shares, runs);
            let offsets = joined.answers.iter().map(|answer| match answer {
                Answer::Ready(range) => joined.ready[range.start as usize].timestamp,
                Answer::Failed { .. } => unreachable!("none failed"),
            });
            assert_eq!(offsets.collect::<Vec<_>>(), (0..expected as i64).collect::<Vec<_>>());
            for (event, variant) in events.iter().zip(&joined.variants) {
                assert_eq!(*variant & 1 == 1, canaries[0].lot.draws(event));
                assert_eq!(*variant & 2 == 2, canaries[1].lot.draws(event));
            }
        };
        let mut counts: Vec<_> = shares.iter().map(|share| share.events.len()).collect();
        check(&counts, 100);
        counts[1] -= 1;
        check(&counts, *shares[1].places.last().expect("it has events") as usize);
        assert_eq!(shares[0].within(100), shares[0].events.len());
        assert_eq!(shares.iter().map(|share| share.within(10)).sum::<usize>(), 10);
    }
}
