//! The log: input partitions with gaps, the group's committed offsets, and what was produced. Checks what must hold of it at
//! any time: nothing is committed that isn't in the log, and no commit goes back.

use std::collections::{HashMap, HashSet};

use midplane::config::model::Guarantee;

use super::host::Sent;
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

/// A producer, with the right to write into its transaction.
pub(super) type Writer = u64;

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
        committed <= position && self.has_none_between(committed, position)
    }

    /// Whether two positions are the same for who reads on.
    pub(super) fn has_none_between(&self, one: i64, other: i64) -> bool {
        let between = one.min(other)..one.max(other);
        !self.events.iter().any(|event| between.contains(&event.offset))
    }
}

/// A producer's transaction.
#[derive(Debug, Default)]
struct Open {
    /// Counts the producer's transactions.
    number: u64,
    /// With the generation that made each.
    messages: Vec<(Message, Reader, u64)>,
}

/// An end of a transaction that nobody waits for.
#[derive(Debug)]
struct Stray {
    writer: Writer,
    number: u64,
    positions: Vec<(usize, Reader, i64)>,
}

#[derive(Debug)]
pub(super) struct Broker {
    pub(super) partitions: Vec<Partition>,
    /// By producer: what nobody sees yet.
    open: HashMap<Writer, Open>,
    /// Ends of transactions that were given up as lost, and are on their way.
    strays: Vec<Stray>,
    writers: Writer,
    /// Which channels don't take anything now.
    pub(super) blocked: Vec<bool>,
}

impl Broker {
    pub(super) fn new(partitions: usize, channels: usize) -> Self {
        Self {
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            open: HashMap::new(),
            strays: Vec::new(),
            writers: 0,
            blocked: vec![false; channels],
        }
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

    /// A message comes: into a transaction, or into the log.
    pub(super) fn append(&mut self, writer: Writer, guarantee: Guarantee, sent: &Sent) {
        let Sent { message, reader, generation, .. } = sent;
        match guarantee {
            Guarantee::AtLeastOnce => self.publish(message, *reader),
            // Of a producer that was fenced, nothing is taken.
            Guarantee::ExactlyOnce => {
                if let Some(open) = self.open.get_mut(&writer) {
                    open.messages.push((*message, *reader, *generation));
                }
            }
        }
    }

    fn publish(&mut self, message: &Message, reader: Reader) {
        let partition = &mut self.partitions[message.partition];
        partition.produced[message.event][message.route] |= 1 << message.part;
        let event = &partition.events[message.event];
        let letter = message.part == LETTER;
        let expected = match event.behaviours[message.route].outcome() {
            Outcome::Outputs(count) => message.part < count || letter && event.skipped,
            Outcome::Letter => letter,
            Outcome::Either => message.part == 0 || letter,
        };
        // Outputs of a route whose last one is refused are written once, and then replaced by a letter. What a former
        // reader still had on its way comes when it comes. Neither has an order.
        if expected && partition.reader == Some(reader) {
            let written = partition.written.entry(message.channel).or_default();
            written.push((message.event, message.route, message.part));
        }
    }

    /// Another producer.
    pub(super) fn new_writer(&mut self) -> Writer {
        self.writers += 1;
        self.open.insert(self.writers, Open::default());
        self.writers
    }

    /// A producer writes no more, and what it has not committed is gone.
    pub(super) fn fence(&mut self, writer: Writer) {
        self.open.remove(&writer);
    }

    /// Gives up what a producer has not committed.
    pub(super) fn abort(&mut self, writer: Writer) {
        self.end(writer);
    }

    fn end(&mut self, writer: Writer) -> Vec<(Message, Reader, u64)> {
        let Some(open) = self.open.get_mut(&writer) else { return Vec::new() };
        open.number += 1;
        std::mem::take(&mut open.messages)
    }

    /// The end of the transaction that is open is on its way, and nobody waits for it.
    pub(super) fn stray(&mut self, writer: Writer, positions: Vec<(usize, Reader, i64)>) {
        let number = self.open[&writer].number;
        self.strays.push(Stray { writer, number, positions });
    }

    /// Ends of transactions come late: they commit what is open then, unless its producer has been fenced.
    pub(super) fn let_strays_end(&mut self) {
        for Stray { writer, number, positions } in std::mem::take(&mut self.strays) {
            let Some(open) = self.open.get(&writer) else { continue };
            if open.number == number {
                self.commit_transaction(writer, &positions);
                continue;
            }
            let torn = open.messages.len();
            assert_eq!(torn, 0, "a transaction is torn: messages are committed without their positions");
        }
    }

    /// Commits a transaction whole, where all its partitions are still read by who says so.
    pub(super) fn commit_transaction(&mut self, writer: Writer, positions: &[(usize, Reader, i64)]) -> bool {
        let current = |&(index, reader, _): &(usize, Reader, i64)| self.partitions[index].reader == Some(reader);
        if !positions.iter().all(current) || !self.open.contains_key(&writer) {
            return false;
        }
        let messages = self.end(writer);
        let generations: HashSet<u64> = messages.iter().map(|(.., generation)| *generation).collect();
        assert!(generations.len() <= 1, "a transaction of generations {generations:?}");
        for (message, reader, _) in &messages {
            let Partition { committed, events, .. } = &self.partitions[message.partition];
            let offset = events[message.event].offset;
            let position =
                positions.iter().find(|(index, ..)| *index == message.partition).map(|(.., position)| *position);
            assert!(
                committed.is_none_or(|before| before <= offset) && position.is_some_and(|position| offset < position),
                "an output of event {offset} is committed, and the position goes from {committed:?} to {position:?}"
            );
            let bit = 1 << message.part;
            let produced = self.partitions[message.partition].produced[message.event][message.route];
            assert_eq!(produced & bit, 0, "an output of event {offset} is seen twice");
            let others = if message.part == LETTER { !bit } else { 1 << LETTER };
            assert_eq!(produced & others, 0, "event {offset} has outputs and a letter");
            self.publish(message, *reader);
        }
        positions.iter().all(|&(index, reader, position)| self.commit(index, reader, position))
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
                let letter = has & (1 << LETTER) != 0;
                let done = match behaviour.outcome() {
                    Outcome::Outputs(count) => {
                        let wants = (1_u16 << count) - 1;
                        has & wants == wants || letter && event.skipped
                    }
                    Outcome::Letter => letter,
                    Outcome::Either => letter || has & 1 != 0,
                };
                assert!(
                    done,
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
    /// once all repeats but the last are taken away. An event that got outputs first, and then a letter when it ran again, has no
    /// place in that.
    pub(super) fn check_order(&self, guarantee: Guarantee) {
        for (index, partition) in self.partitions.iter().enumerate() {
            let settled = |(event, route, _): &&(usize, usize, u8)| {
                let event = &partition.events[*event];
                !event.skipped && event.behaviours[*route].outcome() != Outcome::Either
            };
            for (channel, written) in &partition.written {
                let written: Vec<_> = written.iter().filter(settled).collect();
                let mut seen = HashSet::new();
                let Some(&&(mut last)) = written.last() else { continue };
                for &&message in written.iter().rev() {
                    let new = seen.insert(message);
                    assert!(new || guarantee == Guarantee::AtLeastOnce, "{message:?} is there twice");
                    if new {
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
                    let due = event.skipped || matches!(behaviour.outcome(), Outcome::Letter | Outcome::Either);
                    let letter = parts & (1 << LETTER) != 0;
                    assert!(due || !letter, "partition {index}: a letter of event {}", event.offset);
                }
            }
        }
    }
}
