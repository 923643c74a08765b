//! What was read of a load, and what must hold of it beside what the checker judges: when it came, and which version made it.

use std::collections::BTreeMap;
use std::time::Duration;

use midplane::config::model::Guarantee;
use midplane_tests::Record;
use midplane_tests::checker::{Event, Found, Look, Maker, Place, Positions, Product, Run, Topic};

use crate::load::{PARTITIONS, key};

/// One output.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Since the load began.
    pub(crate) sent: Duration,
    pub(crate) arrived: Duration,
    /// The number of its event.
    event: u64,
    found: Found,
    /// The plugin's own mark. None without a plugin.
    pub(crate) mark: Option<u32>,
}

impl Output {
    /// Reads the headers and the value of one.
    pub(crate) fn of(record: &Record, arrived: Duration) -> Self {
        let (event, sent_us) = record.text().split_once(' ').expect("a number and a time");
        let mark = record.header_text("mark");
        Self {
            sent: Duration::from_micros(sent_us.parse().expect("a number")),
            arrived,
            event: event.parse().expect("a number"),
            found: Found::of(record),
            mark: mark.map(|mark| mark.trim_start_matches("marker-").parse().expect("a number")),
        }
    }

    /// How long its event was on the way.
    pub(crate) fn latency(&self) -> Duration {
        self.arrived.saturating_sub(self.sent)
    }

    /// Where its event was.
    pub(crate) fn place(&self) -> Place {
        self.found.origin.place
    }

    fn maker(&self) -> &Maker {
        self.found.maker.as_ref().expect("an output says what made it")
    }

    /// Two hosts have two names for the same route here.
    pub(crate) fn route(&self) -> &str {
        &self.maker().route
    }

    pub(crate) fn generation(&self) -> u64 {
        self.maker().generation
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
        let newest = self.newest.entry(output.route().to_owned()).or_default();
        *newest = output.generation().max(*newest);
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

    /// Every event that was sent has all its outputs, each once; and what else holds of a load that nobody kills.
    pub(crate) fn assert_once(&self, sent: u64) {
        self.assert(sent, Guarantee::ExactlyOnce, 0);
    }

    /// Every event that was sent has all its outputs at least once, all made by one generation, though hosts were killed so
    /// often.
    pub(crate) fn assert_nothing_lost(&self, sent: u64, kills: usize) {
        self.assert(sent, Guarantee::AtLeastOnce, kills);
    }

    fn assert(&self, sent: u64, guarantee: Guarantee, kills: usize) {
        for output in &self.list {
            // What is judged by the one holds for the other.
            assert_eq!(place_of(output.event), output.found.origin.place, "{output:?}");
        }
        let products: Vec<_> = (0..self.each as u32).map(|index| (0, Product::Output(index))).collect();
        let event =
            |number| Event { place: place_of(number), key: Some(key(number).into_bytes()), products: products.clone() };
        let records = self.list.iter().map(|output| output.found.clone()).collect();
        let topic = Topic { name: "out".to_owned(), partitions: PARTITIONS, records };
        let mut run = Run {
            guarantee,
            events: (0..sent).map(event).collect(),
            committed: Vec::new(),
            interruptions: (0..kills).map(|_| Positions::new()).collect(),
            looks: Vec::new(),
            numberings: 1,
            usages: Vec::new(),
        };
        // Whoever asks has waited until all of it was committed.
        run.looks.push(Look { committed: run.ends(), topics: vec![topic] });
        run.check().assert();
    }

    /// Each generation of a route ran one version, and that one made the mark that it should: as it was published, where that
    /// is known.
    pub(crate) fn assert_versions(&self, route: &str, published: &BTreeMap<u64, (u32, u32)>) {
        let mut known = published.clone();
        for output in self.list.iter().filter(|output| output.route() == route) {
            let version = output.maker().version().expect("a plugin's version");
            let found = (version, output.mark.expect("a plugin's mark"));
            assert_eq!(*known.entry(output.generation()).or_insert(found), found, "{output:?}");
        }
    }

    /// How many generations of a route made outputs.
    pub(crate) fn generations(&self, route: &str) -> usize {
        let generations = self.list.iter().filter(|output| output.route() == route).map(Output::generation);
        generations.collect::<std::collections::BTreeSet<_>>().len()
    }
}

/// Where an event is.
fn place_of(event: u64) -> Place {
    Place { partition: (event % PARTITIONS as u64) as i32, offset: (event / PARTITIONS as u64) as i64 }
}
