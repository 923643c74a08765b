//! What became of events: read back from topics, by where each output and each letter says that it comes from.

use std::collections::BTreeMap;

use midplane_tests::Record;

/// What an event became: its outputs by their number, or a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Product {
    /// The output with this number.
    Output(u32),
    /// A dead letter.
    Letter,
}

/// Where a record comes from, as its headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) product: Product,
}

/// The route that an output says it came through.
pub(crate) fn route(record: &Record) -> &str {
    let header = record.header_text("midplane-origin").expect("an output has an origin");
    let (_, route) = header.split_once(' ').expect("a route follows the position");
    route.split('@').next().expect("there is a first part")
}

/// Reads the origin of an output or of a letter.
pub(crate) fn origin(record: &Record) -> Origin {
    let number = |name: &str| record.header_text(name).map(|text| text.parse().expect("a number"));
    if let Some(offset) = number("midplane-error-offset") {
        let partition = number("midplane-error-partition").expect("a letter names its partition");
        return Origin { partition: partition as i32, offset, product: Product::Letter };
    }
    let header = record.header_text("midplane-origin").unwrap_or_else(|| panic!("no origin: {record:?}"));
    let position = header.split(' ').next().expect("there is a first part");
    let mut parts = position.rsplitn(4, '/').map(str::parse::<i64>);
    let mut part = || parts.next().and_then(Result::ok).unwrap_or_else(|| panic!("not an origin: `{header}`"));
    let (index, offset, partition) = (part(), part(), part());
    Origin { partition: partition as i32, offset, product: Product::Output(index as u32) }
}

/// How often each origin is there.
pub(crate) fn count<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeMap<Origin, usize> {
    let mut counts = BTreeMap::new();
    for record in records {
        *counts.entry(origin(record)).or_default() += 1;
    }
    counts
}

/// Asserts that whatever is expected is there, and nothing else, and that only those repeat which may.
pub(crate) fn assert_outcomes(
    expected: &BTreeMap<Origin, usize>,
    found: &BTreeMap<Origin, usize>,
    may_repeat: impl Fn(&Origin) -> bool,
) {
    let some = |origins: Vec<&Origin>| (origins.len(), origins.into_iter().take(5).copied().collect::<Vec<_>>());
    let none = (0, Vec::new());
    assert_eq!(some(expected.keys().filter(|origin| !found.contains_key(origin)).collect()), none, "lost");
    assert_eq!(some(found.keys().filter(|origin| !expected.contains_key(origin)).collect()), none, "unexpected");
    let repeated = found.iter().filter(|(origin, count)| **count > expected[origin] && !may_repeat(origin));
    assert_eq!(some(repeated.map(|(origin, _)| origin).collect()), none, "repeated");
}

/// Where a topic's records fall back behind what came before them from the same partition: the partition, and the offset
/// that the repetition begins with. Empty where the order of every input partition holds in every output partition.
pub(crate) fn fall_backs(records: &[Record]) -> Vec<(i32, i64)> {
    let mut newest: BTreeMap<(Option<i32>, i32), Origin> = BTreeMap::new();
    let mut found = Vec::new();
    for record in records {
        let origin = origin(record);
        if let Some(before) = newest.insert((record.partition, origin.partition), origin)
            && before >= origin
        {
            found.push((origin.partition, origin.offset));
        }
    }
    found
}

/// Asserts that every key is in one partition alone.
pub(crate) fn assert_keys_stay(records: &[Record]) {
    let mut places = BTreeMap::new();
    for record in records {
        let place = *places.entry(record.key.clone()).or_insert(record.partition);
        assert_eq!(place, record.partition, "the key {:?} is in two partitions", record.key);
    }
}

/// The judges themselves: they would be of no use if they let things pass.
mod judges {
    use super::*;

    fn output(partition: i32, from: i32, offset: i64, index: u32) -> Record {
        Record::new("k", "v")
            .to(partition)
            .header("midplane-origin", format!("a/b/{from}/{offset}/{index} r@1 p@00000000"))
    }

    fn letter(from: i32, offset: i64) -> Record {
        let letter = Record::new("k", "v").to(0).header("midplane-error-partition", from.to_string());
        letter.header("midplane-error-offset", offset.to_string())
    }

    #[test]
    fn origins_are_read_from_outputs_and_letters() {
        assert_eq!(origin(&output(0, 3, 41, 2)), Origin { partition: 3, offset: 41, product: Product::Output(2) });
        assert_eq!(origin(&letter(3, 41)), Origin { partition: 3, offset: 41, product: Product::Letter });
        assert_eq!(route(&output(0, 3, 41, 2)), "r");
    }

    #[test]
    fn what_falls_back_is_seen_for_each_pair_of_partitions() {
        let check = |records: &[Record], expected: &[(i32, i64)]| assert_eq!(fall_backs(records), expected);
        check(&[], &[]);
        check(&[output(0, 0, 1, 0), output(0, 0, 1, 1), output(0, 1, 0, 0), output(0, 0, 5, 0), letter(0, 5)], &[]);
        check(&[output(0, 0, 7, 0), output(1, 0, 3, 0), output(0, 1, 3, 0)], &[]);
        check(&[output(0, 0, 7, 0), output(0, 0, 7, 0)], &[(0, 7)]);
        check(&[output(0, 0, 7, 1), output(0, 0, 7, 0)], &[(0, 7)]);
        check(&[output(0, 2, 7, 0), output(0, 2, 8, 0), output(0, 2, 3, 0), output(0, 2, 4, 0)], &[(2, 3)]);
    }

    fn assert_found(records: &[Record], repeated_from: i64) {
        let expected = count(&[output(0, 0, 1, 0), output(0, 0, 2, 0)]);
        assert_outcomes(&expected, &count(records), |origin| origin.offset >= repeated_from);
    }

    #[test]
    fn what_is_complete_passes() {
        assert_found(&[output(0, 0, 1, 0), output(0, 0, 2, 0)], i64::MAX);
        assert_found(&[output(0, 0, 1, 0), output(0, 0, 2, 0), output(0, 0, 2, 0)], 2);
    }

    #[test]
    #[should_panic(expected = "lost")]
    fn what_is_lost_is_seen() {
        assert_found(&[output(0, 0, 2, 0)], 0);
    }

    #[test]
    #[should_panic(expected = "unexpected")]
    fn a_letter_in_place_of_nothing_is_seen() {
        assert_found(&[output(0, 0, 1, 0), output(0, 0, 2, 0), letter(0, 2)], 0);
    }

    #[test]
    #[should_panic(expected = "repeated")]
    fn what_repeats_though_committed_is_seen() {
        assert_found(&[output(0, 0, 1, 0), output(0, 0, 1, 0), output(0, 0, 2, 0)], 2);
    }
}
