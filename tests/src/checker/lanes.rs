//! Order: of the events of each partition in each partition that they go to, of keys, of generations.

use std::collections::{BTreeMap, BTreeSet};

use midplane::config::model::Guarantee;

use super::finding::{Kind, Verdict};
use super::origin::Origin;
use super::run::{Event, Found, Look, Run, Topic};

/// Judges one look.
pub(super) fn check(run: &Run, look: &Look, verdict: &mut Verdict) {
    let events: BTreeMap<_, _> = run.events.iter().map(|event| (event.place, event)).collect();
    for topic in &look.topics {
        let mut lanes: BTreeMap<(i32, i32), Vec<Origin>> = BTreeMap::new();
        for found in &topic.records {
            lanes.entry((found.at, found.origin.place.partition)).or_default().push(found.origin);
            if let Some(event) = events.get(&found.origin.place) {
                check_key(topic, found, event, verdict);
            }
        }
        for lane in lanes.values() {
            match run.guarantee {
                Guarantee::ExactlyOnce => check_order(&topic.name, lane, verdict),
                Guarantee::AtLeastOnce => check_fall_backs(run, &topic.name, lane, verdict),
            }
        }
    }
    check_generations(run, look, verdict);
}

fn check_key(topic: &Topic, found: &Found, event: &Event, verdict: &mut Verdict) {
    if found.key != event.key {
        verdict.find(Kind::Rekeyed, || format!("{found:?} in {}, of {event:?}", topic.name));
    }
    let Some(key) = &found.key else { return };
    let place = partition_of(key, topic.partitions);
    if place != found.at {
        verdict.find(Kind::Misplaced, || format!("{found:?} in {}, not in partition {place}", topic.name));
    }
}

/// What comes again is judged as repeated: here the first time counts.
fn check_order(topic: &str, lane: &[Origin], verdict: &mut Verdict) {
    let mut seen = BTreeSet::new();
    for &origin in lane {
        let newest = seen.last().copied();
        if seen.insert(origin)
            && let Some(newest) = newest
            && newest > origin
        {
            verdict.find(Kind::Disordered, || format!("{origin:?} after {newest:?} in {topic}"));
        }
    }
}

/// At least once, each interruption lets a lane fall back once, to where the group stood then at the earliest.
fn check_fall_backs(run: &Run, topic: &str, lane: &[Origin], verdict: &mut Verdict) {
    let partition = lane.first().map_or(0, |origin| origin.place.partition);
    let mut interruptions = run.interruptions.iter().map(|positions| positions.get(&partition).copied().unwrap_or(0));
    for pair in lane.windows(2) {
        let (before, now) = (pair[0], pair[1]);
        // Those that are passed over made it repeat nothing.
        if before >= now && !interruptions.any(|position| position <= now.place.offset) {
            verdict.find(Kind::Disordered, || format!("{now:?} after {before:?} in {topic}"));
        }
    }
}

/// Within a partition of the input, generations never go back: in the order in which outputs are read, and from event to event.
fn check_generations(run: &Run, look: &Look, verdict: &mut Verdict) {
    let (mut read, mut made, mut versions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (topic, it) in look.topics.iter().enumerate() {
        for found in &it.records {
            let Some(maker) = &found.maker else { continue };
            let (place, now) = (found.origin.place, maker.generation);
            if let Some(before) = read.insert((topic, found.at, place.partition, &maker.route), now)
                && before > now
                && run.numberings == 1
            {
                verdict.find(Kind::GenerationFellBack, || format!("{now} after {before}: {found:?} in {}", it.name));
            }
            // Whoever repeats an event may be of a later one than who answers the next for the first time.
            let first = made.entry((place.partition, &maker.route)).or_insert_with(BTreeMap::new);
            let first = first.entry(place.offset).or_insert(now);
            *first = now.min(*first);
            let known = *versions.entry((&maker.route, now)).or_insert(&maker.versions);
            if *known != maker.versions {
                verdict.find(Kind::TwoVersions, || format!("`{known}` and that of {found:?}"));
            }
        }
    }
    // At least once, whoever was killed had events in hand whose outputs go to several partitions: those of a later event may
    // have been written, and those of one before it not.
    let in_part = run.guarantee == Guarantee::AtLeastOnce && !run.interruptions.is_empty();
    if run.numberings > 1 || in_part {
        return;
    }
    for ((partition, route), events) in made {
        let mut newest = 0;
        for (offset, generation) in events {
            if generation < newest {
                let what =
                    || format!("{generation} after {newest} at offset {offset} of partition {partition}, `{route}`");
                verdict.find(Kind::GenerationFellBack, what);
            }
            newest = generation.max(newest);
        }
    }
}

/// Where a key belongs, as Java's clients have it: murmur2 without its sign.
pub(super) fn partition_of(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions
}

/// The hash by which Java's clients choose a key's partition.
fn murmur2(key: &[u8]) -> u32 {
    const MIX: u32 = 0x5bd1_e995;
    let mix = |word: u32| {
        let word = word.wrapping_mul(MIX);
        (word ^ (word >> 24)).wrapping_mul(MIX)
    };
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        hash = hash.wrapping_mul(MIX) ^ mix(u32::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(MIX);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(MIX);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::murmur2;

    #[test]
    fn the_hash_is_javas() {
        // As Kafka's own test of `Utils.murmur2` has them.
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expected, "{key}");
        }
    }
}
