//! Writes runs in which all is well, as hosts of either guarantee would leave them: transactions that commit and abort, kills
//! that leave work unfinished, generations that rise.

use midplane::config::model::Guarantee;

use super::super::lanes::partition_of;
use super::super::{Event, Found, Look, Maker, Origin, Place, Positions, Product, Run, Topic};
use crate::random::Random;
use crate::usage::Usage;

/// The topics of a run, by their numbers.
pub(super) const OUT: usize = 0;
pub(super) const ALERTS: usize = 1;
pub(super) const LETTERS: usize = 2;

/// A run that is being written.
struct Author {
    random: Random,
    run: Run,
    topics: Vec<Topic>,
    /// How far each partition was worked on, and how far it is committed.
    worked: Positions,
    committed: Positions,
    generation: u64,
}

/// The run of a seed.
pub(super) fn write(seed: u64, guarantee: Guarantee) -> Run {
    let mut random = Random::new(seed);
    let partitions = 1 + random.below(4) as i32;
    let events = (0..partitions).flat_map(|partition| {
        let count = 20 + random.below(30) as i64;
        (0..count).map(|offset| event(Place { partition, offset }, &mut random)).collect::<Vec<_>>()
    });
    let events: Vec<_> = events.collect();
    let topics = [("out", 1 + random.below(4)), ("alerts", 1 + random.below(3)), ("letters", 1)];
    let topic = |(name, partitions): (&str, usize)| Topic {
        name: name.to_owned(),
        partitions: partitions as i32,
        records: Vec::new(),
    };
    let usage = Usage { threads: 20, descriptors: 80, resident_kib: 100_000 };
    let (committed, interruptions, looks) = (Vec::new(), Vec::new(), Vec::new());
    let usages = vec![(usage, usage)];
    let run = Run { guarantee, events, committed, interruptions, looks, numberings: 1, usages };
    let start: Positions = (0..partitions).map(|partition| (partition, 0)).collect();
    let (worked, topics) = (start.clone(), topics.map(topic).to_vec());
    let mut author = Author { random, run, topics, worked, committed: start, generation: 1 };
    author.write();
    author.run
}

fn event(place: Place, random: &mut Random) -> Event {
    let products = match random.below(10) {
        0 => vec![],
        1 => vec![(LETTERS, Product::Letter)],
        2 | 3 => vec![(OUT, Product::Output(0)), (ALERTS, Product::Output(1))],
        4 => vec![(OUT, Product::Output(0)), (OUT, Product::Output(1)), (ALERTS, Product::Output(2))],
        _ => vec![(OUT, Product::Output(0))],
    };
    Event { place, key: Some(format!("{}-{}", place.partition, random.below(5)).into_bytes()), products }
}

/// What makes outputs in a generation.
pub(super) fn maker(generation: u64) -> Maker {
    Maker { route: "r".to_owned(), generation, versions: format!("p@{generation:08x}") }
}

/// A product of an event, as a generation writes it.
pub(super) fn record(event: &Event, product: Product, generation: u64, partitions: i32) -> Found {
    let key = event.key.clone();
    Found {
        at: key.as_deref().map_or(0, |key| partition_of(key, partitions)),
        key,
        origin: Origin { place: event.place, product },
        maker: (product != Product::Letter).then(|| maker(generation)),
    }
}

impl Author {
    fn write(&mut self) {
        while self.worked != self.run.ends() {
            match self.run.guarantee {
                Guarantee::AtLeastOnce => self.work_and_commit(),
                Guarantee::ExactlyOnce => self.transact(),
            }
            self.generation += u64::from(self.random.chance(100));
        }
        self.commit();
        self.look();
    }

    /// Some events; whatever is written counts at once, and is committed later.
    fn work_and_commit(&mut self) {
        self.work();
        if self.random.chance(300) {
            self.commit();
        }
        if self.random.chance(60) {
            self.write_half();
            self.worked.clone_from(&self.committed);
            self.run.interruptions.push(self.committed.clone());
            self.look();
        }
    }

    /// Some events, in one transaction: it commits, or leaves no trace.
    fn transact(&mut self) {
        let lengths: Vec<_> = self.topics.iter().map(|topic| topic.records.len()).collect();
        (0..=self.random.below(3)).for_each(|_| self.work());
        if self.random.chance(150) {
            self.topics.iter_mut().zip(lengths).for_each(|(topic, length)| topic.records.truncate(length));
            self.worked.clone_from(&self.committed);
        } else {
            self.commit();
        }
        if self.random.chance(100) {
            self.look();
        }
    }

    /// The next events of a partition.
    fn work(&mut self) {
        let partition = self.random.below(self.worked.len()) as i32;
        for _ in 0..=self.random.below(6) {
            let Some(event) = self.next(partition) else { return };
            for &(topic, product) in &event.products {
                self.append(&event, topic, product);
            }
            self.worked.insert(partition, event.place.offset + 1);
        }
    }

    /// The first product of the next event, as a kill leaves it.
    fn write_half(&mut self) {
        let partition = self.random.below(self.worked.len()) as i32;
        let Some(event) = self.next(partition) else { return };
        if let Some(&(topic, product)) = event.products.first() {
            self.append(&event, topic, product);
        }
    }

    fn next(&self, partition: i32) -> Option<Event> {
        let place = Place { partition, offset: self.worked[&partition] };
        self.run.events.iter().find(|event| event.place == place).cloned()
    }

    fn append(&mut self, event: &Event, topic: usize, product: Product) {
        let it = &mut self.topics[topic];
        it.records.push(record(event, product, self.generation, it.partitions));
    }

    fn commit(&mut self) {
        self.committed.clone_from(&self.worked);
        self.run.committed.push(self.committed.clone());
    }

    fn look(&mut self) {
        self.run.looks.push(Look { committed: self.committed.clone(), topics: self.topics.clone() });
    }
}
