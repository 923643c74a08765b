//! The log: input partitions with gaps, the group's committed offsets, and what was produced. Checks what must hold of it at
//! any time: nothing is committed that isn't in the log, and no commit goes back.

use std::collections::{HashMap, HashSet};

use super::script::{Behaviour, Event, Outcome};

/// Stands for a letter where an output has its index.
pub(super) const LETTER: u8 = 15;

/// A message of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub(super) partition: usize,
    /// Index of the event in its partition.
    pub(super) event: usize,
    pub(super) route: usize,
    /// Index among the outputs of the route, or [`LETTER`].
    pub(super) part: u8,
    pub(super) channel: usize,
}

/// Who reads a partition: a lane of a host, once.
pub(super) type Reader = u64;

#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) events: Vec<Event>,
    /// The end of the log: control records may precede it.
    pub(super) end: i64,
    pub(super) committed: Option<i64>,
    pub(super) reader: Option<Reader>,
    /// By event, then route: a bit for each part that is in the log.
    produced: Vec<Vec<u16>>,
    /// Events that were found complete.
    complete: usize,
    /// By channel: what was produced by the partition's reader of that time, as (event, route, part).
    written: HashMap<usize, Vec<(usize, usize, u8)>>,
}

impl Partition {
    /// Whether a position was committed, or one before it with no event in between.
    pub(super) fn has_committed(&self, position: i64) -> bool {
        let committed = self.committed.unwrap_or(0);
        committed <= position && !self.events.iter().any(|event| (committed..position).contains(&event.offset))
    }
}

#[derive(Debug)]
pub(super) struct Broker {
    pub(super) partitions: Vec<Partition>,
    /// Which channels don't take anything now.
    pub(super) blocked: Vec<bool>,
}

impl Broker {
    pub(super) fn new(partitions: usize, channels: usize) -> Self {
        Self { partitions: (0..partitions).map(|_| Partition::default()).collect(), blocked: vec![false; channels] }
    }

    pub(super) fn add_event(&mut self, partition: usize, event: Event) {
        let partition = &mut self.partitions[partition];
        partition.end = event.offset + 1;
        partition.produced.push(vec![0; event.behaviours.len()]);
        partition.events.push(event);
    }

    /// A transaction ended: a control record.
    pub(super) fn add_control_record(&mut self, partition: usize) {
        self.partitions[partition].end += 1;
    }

    /// Whether the broker refuses a message for good.
    pub(super) fn refuses(&self, message: &Message) -> bool {
        let event = &self.partitions[message.partition].events[message.event];
        matches!(event.behaviours[message.route], Behaviour::TooLarge(count) if message.part == count - 1)
    }

    pub(super) fn append(&mut self, message: &Message, reader: Reader) {
        let partition = &mut self.partitions[message.partition];
        partition.produced[message.event][message.route] |= 1 << message.part;
        let outcome = partition.events[message.event].behaviours[message.route].outcome();
        let expected = match outcome {
            Outcome::Outputs(count) => message.part < count,
            Outcome::Letter => message.part == LETTER,
        };
        // Outputs of a route whose last one is refused are written once, and then replaced by a letter. What a former
        // reader still had on its way comes when it comes. Neither has an order.
        if expected && partition.reader == Some(reader) {
            let written = partition.written.entry(message.channel).or_default();
            written.push((message.event, message.route, message.part));
        }
    }

    /// Whether it is accepted: only the reader's commits are.
    pub(super) fn commit(&mut self, index: usize, reader: Reader, position: i64) -> bool {
        let partition = &mut self.partitions[index];
        if partition.reader != Some(reader) {
            return false;
        }
        assert!(
            partition.committed.is_none_or(|before| position >= before),
            "partition {index}: commit of {position} after {:?}",
            partition.committed
        );
        assert!(position <= partition.end, "partition {index}: commit of {position} past the end");
        partition.committed = Some(position);
        while let Some(event) = partition.events.get(partition.complete)
            && event.offset < position
        {
            for (route, behaviour) in event.behaviours.iter().enumerate() {
                let has = partition.produced[partition.complete][route];
                let wants = match behaviour.outcome() {
                    Outcome::Outputs(count) => (1_u16 << count) - 1,
                    Outcome::Letter => 1 << LETTER,
                };
                assert!(
                    has & wants == wants,
                    "partition {index}: {position} was committed, but event {} has no outcome on route {route}",
                    event.offset
                );
            }
            partition.complete += 1;
        }
        true
    }

    /// Whether everything was read and committed.
    pub(super) fn is_done(&self) -> bool {
        self.partitions.iter().all(|partition| partition.committed == Some(partition.end))
    }

    /// For each partition and topic, the messages are in the order of the events, then of the routes, then of the outputs,
    /// once all repeats but the last are taken away.
    pub(super) fn check_order(&self) {
        for (index, partition) in self.partitions.iter().enumerate() {
            for (channel, written) in &partition.written {
                let mut seen = HashSet::new();
                let mut last = *written.last().expect("a channel is listed with its first message");
                for &message in written.iter().rev() {
                    if seen.insert(message) {
                        assert!(
                            message <= last,
                            "partition {index}, channel {channel}: {message:?} stands before {last:?}"
                        );
                        last = message;
                    }
                }
            }
        }
    }

    /// No letter where an output was due.
    pub(super) fn check_letters(&self) {
        for (index, partition) in self.partitions.iter().enumerate() {
            for (event, produced) in partition.events.iter().zip(&partition.produced) {
                for (behaviour, parts) in event.behaviours.iter().zip(produced) {
                    let due = behaviour.outcome() == Outcome::Letter;
                    let letter = parts & (1 << LETTER) != 0;
                    assert!(due || !letter, "partition {index}: a letter of event {}", event.offset);
                }
            }
        }
    }
}
