//! What was read of a load, and what must hold of it: nothing lost, repeated or out of order, every event answered by one
//! generation, generations that never go back.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::load::PARTITIONS;

/// One output.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Since the load began.
    pub(crate) sent: Duration,
    pub(crate) arrived: Duration,
    /// The partition that it was read from.
    place: i32,
    /// The partition and the offset of its event, and which output of that it is.
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    index: u32,
    /// The number of its event.
    event: u64,
    /// Two hosts have two names for the same route here.
    pub(crate) route: String,
    pub(crate) generation: u64,
    /// The first digits of the plugin's version, and the plugin's own mark. None without a plugin.
    pub(crate) version: Option<u32>,
    pub(crate) mark: Option<u32>,
}

impl Output {
    /// Reads the headers and the value of one.
    pub(crate) fn of(message: &BorrowedMessage<'_>, arrived: Duration) -> Self {
        let headers = message.headers().expect("an output has headers");
        let header = |name: &str| {
            let found = headers.iter().filter(|header| header.key == name).last()?;
            Some(std::str::from_utf8(found.value?).expect("text"))
        };
        let value = std::str::from_utf8(message.payload().unwrap_or_default()).expect("text");
        let (event, sent_us) = value.split_once(' ').expect("a number and a time");
        let origin = Origin::parse(header("midplane-origin").expect("an origin"));
        let mark = header("mark").map(|mark| mark.trim_start_matches("marker-").parse().expect("a number"));
        Self {
            sent: Duration::from_micros(sent_us.parse().expect("a number")),
            arrived,
            place: message.partition(),
            partition: origin.partition,
            offset: origin.offset,
            index: origin.index,
            event: event.parse().expect("a number"),
            route: origin.route.to_owned(),
            generation: origin.generation,
            version: origin.version,
            mark,
        }
    }

    /// How long its event was on the way.
    pub(crate) fn latency(&self) -> Duration {
        self.arrived.saturating_sub(self.sent)
    }
}

/// What the header says: `TOPIC/PARTITION/OFFSET/INDEX ROUTE@GENERATION PLUGIN@SHA8`.
struct Origin<'a> {
    partition: i32,
    offset: i64,
    index: u32,
    route: &'a str,
    generation: u64,
    version: Option<u32>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Self {
        let parse = || {
            let mut words = text.split(' ');
            let mut place = words.next()?.rsplit('/');
            let (index, offset, partition) = (place.next()?, place.next()?, place.next()?);
            let (route, generation) = words.next()?.split_once('@')?;
            let version = words.next().and_then(|plugin| plugin.split_once('@'));
            let version = version.map(|(_, digits)| u32::from_str_radix(digits, 16)).transpose().ok()?;
            Some(Self {
                partition: partition.parse().ok()?,
                offset: offset.parse().ok()?,
                index: index.parse().ok()?,
                route,
                generation: generation.parse().ok()?,
                version,
            })
        };
        parse().unwrap_or_else(|| panic!("not an origin: `{text}`"))
    }
}

/// All outputs that were read, as they came.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    list: Vec<Output>,
    newest: BTreeMap<String, u64>,
    newest_event: u64,
    /// Of each event.
    each: usize,
}

impl Outputs {
    pub(crate) fn push(&mut self, output: Output) {
        let newest = self.newest.entry(output.route.clone()).or_default();
        *newest = output.generation.max(*newest);
        self.newest_event = self.newest_event.max(output.event);
        self.list.push(output);
    }

    /// Says how many outputs an event has.
    pub(crate) fn expect(&mut self, each: usize) {
        self.each = each;
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Output> {
        self.list.iter()
    }

    /// The newest generation that an output of a route has.
    pub(crate) fn newest(&self, route: &str) -> u64 {
        self.newest.get(route).copied().unwrap_or(0)
    }

    /// The highest number of an event that has an output.
    pub(crate) fn newest_event(&self) -> u64 {
        self.newest_event
    }

    /// By the partition and offset of the event, in the order in which they were read.
    fn by_event(&self) -> BTreeMap<(i32, i64), Vec<&Output>> {
        let mut events: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for output in &self.list {
            events.entry((output.partition, output.offset)).or_default().push(output);
        }
        events
    }

    /// Every event that was sent has all its outputs, each once; and what else holds of a load that nobody kills.
    pub(crate) fn assert_once(&self, sent: u64) {
        let indexes: Vec<_> = (0..self.each as u32).collect();
        let events = self.by_event();
        for event in 0..sent {
            let at = place_of(event);
            let found: Vec<_> = events.get(&at).into_iter().flatten().map(|output| output.index).collect();
            assert_eq!(found, indexes, "the outputs of event {event}, which is {at:?}: {:?}", events.get(&at));
        }
        assert_eq!(events.len() as u64, sent, "events that were never sent");
        self.assert_numbers();
        self.assert_order();
        self.assert_one_generation(&events);
        self.assert_generations_rise();
    }

    /// Every event that was sent has all its outputs at least once, all made by one generation.
    pub(crate) fn assert_nothing_lost(&self, sent: u64) {
        let events = self.by_event();
        for event in 0..sent {
            let mut made: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            for output in events.get(&place_of(event)).into_iter().flatten() {
                made.entry(output.generation).or_default().push(output.index);
            }
            let whole = |indexes: &Vec<u32>| (0..self.each as u32).all(|index| indexes.contains(&index));
            assert!(made.values().any(whole), "event {event} has no whole answer: {made:?}");
        }
        self.assert_numbers();
    }

    /// The place of an event and its number agree: what is judged by one holds for the other.
    fn assert_numbers(&self) {
        for output in &self.list {
            assert_eq!(place_of(output.event), (output.partition, output.offset), "{output:?}");
        }
    }

    /// Of each pair of partitions the events, and of each event the outputs, come in their order.
    fn assert_order(&self) {
        let mut newest = BTreeMap::new();
        for output in &self.list {
            let now = (output.offset, output.index);
            if let Some(before) = newest.insert((output.place, output.partition), now) {
                assert!(before < now, "{before:?} came before {output:?}");
            }
        }
    }

    fn assert_one_generation(&self, events: &BTreeMap<(i32, i64), Vec<&Output>>) {
        for outputs in events.values() {
            let made_by = |output: &Output| (output.route.clone(), output.generation, output.version, output.mark);
            let first = made_by(outputs[0]);
            assert!(outputs.iter().all(|output| made_by(output) == first), "made by several generations: {outputs:?}");
        }
    }

    /// Per partition and host, from event to event.
    fn assert_generations_rise(&self) {
        let mut newest = BTreeMap::new();
        for ((partition, _), outputs) in self.by_event() {
            let output = outputs[0];
            let before = newest.insert((partition, &output.route), output.generation);
            assert!(before.is_none_or(|before| before <= output.generation), "after {before:?} came {output:?}");
        }
    }

    /// Each generation of a route ran one version, and that one made the mark that it should: as it was published, where that
    /// is known.
    pub(crate) fn assert_versions(&self, route: &str, published: &BTreeMap<u64, (u32, u32)>) {
        let mut known = published.clone();
        for output in self.list.iter().filter(|output| output.route == route) {
            let found = (output.version.expect("a plugin's version"), output.mark.expect("a plugin's mark"));
            assert_eq!(*known.entry(output.generation).or_insert(found), found, "{output:?}");
        }
    }

    /// How many generations of a route made outputs.
    pub(crate) fn generations(&self, route: &str) -> usize {
        let generations = self.list.iter().filter(|output| output.route == route).map(|output| output.generation);
        generations.collect::<std::collections::BTreeSet<_>>().len()
    }
}

/// The partition and the offset of an event.
fn place_of(event: u64) -> (i32, i64) {
    ((event % PARTITIONS as u64) as i32, (event / PARTITIONS as u64) as i64)
}

/// The judges themselves: they would be of no use if they let things pass.
mod judges {
    use super::*;

    /// An output of an event, as generation 1 or a later one would make it.
    fn output(event: u64, index: u32, generation: u64) -> Output {
        let (partition, offset) = place_of(event);
        Output {
            sent: Duration::ZERO,
            arrived: Duration::ZERO,
            place: partition,
            partition,
            offset,
            index,
            event,
            route: "r".to_owned(),
            generation,
            version: Some(generation as u32),
            mark: Some(generation as u32),
        }
    }

    /// Events 0 to 8, two outputs each, by generation 1, the last ones by generation 2; changed by a case.
    fn check(change: impl FnOnce(&mut Vec<Output>)) {
        let made_by = |event| if event < 6 { 1 } else { 2 };
        let mut list: Vec<_> =
            (0..9).flat_map(|event| [0, 1].map(|index| output(event, index, made_by(event)))).collect();
        change(&mut list);
        let mut outputs = Outputs::default();
        outputs.expect(2);
        list.into_iter().for_each(|output| outputs.push(output));
        outputs.assert_once(9);
        outputs.assert_versions("r", &BTreeMap::from([(1, (1, 1)), (2, (2, 2))]));
    }

    #[test]
    fn an_origin_is_read() {
        let origin = Origin::parse("a/b/3/41/2 r@7 p@000000ff");
        assert_eq!((origin.partition, origin.offset, origin.index), (3, 41, 2));
        assert_eq!((origin.route, origin.generation, origin.version), ("r", 7, Some(255)));
        assert_eq!(Origin::parse("b/3/41/2 r@7").version, None);
    }

    #[test]
    fn what_is_whole_passes() {
        check(|_| {});
    }

    #[test]
    #[should_panic(expected = "the outputs of event 8")]
    fn a_lost_output_is_seen() {
        check(|list| drop(list.pop()));
    }

    #[test]
    #[should_panic(expected = "the outputs of event 0")]
    fn a_repeated_output_is_seen() {
        check(|list| list.push(output(0, 1, 1)));
    }

    #[test]
    #[should_panic(expected = "came before")]
    fn another_order_is_seen() {
        // Events 0 and 4 are of the same partition.
        check(|list| [0, 1].iter().for_each(|index| list.swap(*index, index + 8)));
    }

    #[test]
    #[should_panic(expected = "made by several generations")]
    fn an_event_between_two_generations_is_seen() {
        check(|list| list[10].generation = 2);
    }

    #[test]
    #[should_panic(expected = "after Some(2) came")]
    fn a_generation_that_goes_back_is_seen() {
        check(|list| {
            for index in [0, 1] {
                list[index] = output(0, index as u32, 2);
            }
        });
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn a_mark_of_another_version_is_seen() {
        check(|list| list[0..2].iter_mut().for_each(|output| output.mark = Some(2)));
    }
}
