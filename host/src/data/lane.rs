//! The partitions that a shard has, by the number that the engine, the reports and the batches know them by. Finds a
//! record's lane by comparing a pointer and a number; looks its topic's name up once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::engine::LaneId;
use super::origin::LaneLabel;
use super::stop::Stop;
use crate::kafka::{Partition, Place, TopicId, TopicKey};

/// One assigned partition.
#[derive(Debug)]
pub struct Lane {
    /// Its topic and number.
    pub partition: Partition,
    /// The routes that read it, in the order of the config.
    pub routes: Arc<[u16]>,
    /// Its part of the origin header.
    pub label: LaneLabel,
    /// Where it was begun to be read.
    pub begin: i64,
    /// The lowest offset that is new: a rebalance in the middle of a read makes the client deliver some records twice.
    pub next: i64,
    /// What tells its topic from another one of its name, where the broker says it.
    pub topic_id: Option<TopicId>,
    /// What is committed beside its offsets.
    pub metadata: String,
    /// Why it stands, where it does, or did last.
    pub stop: Option<Stop>,
    /// The failures that were counted, by offset and route, of events that may run again.
    pub counted: BTreeSet<(i64, u16)>,
}

impl Lane {
    /// Whether a route's failure of an event is to be counted: not where the event has run before and failed as well. What is
    /// committed doesn't run again, and is forgotten.
    pub fn counts(&mut self, offset: i64, route: u16, committed: i64) -> bool {
        while self.counted.first().is_some_and(|(of, _)| *of < committed) {
            self.counted.pop_first();
        }
        self.counted.insert((offset, route))
    }

    /// It stands at an offset: since now, unless it stood there already.
    pub fn stop_at(&mut self, offset: i64) -> &mut Stop {
        self.stop.take_if(|stop| stop.offset != offset);
        self.stop.get_or_insert_with(|| Stop::at(offset))
    }

    /// Its topic's name.
    pub fn topic(&self) -> &str {
        &self.partition.0
    }

    /// Whether a record at this offset is new. If so, those up to it aren't any more.
    pub fn take(&mut self, offset: i64) -> bool {
        let new = offset >= self.next;
        self.next = self.next.max(offset + 1);
        new
    }

    /// Its number in the topic.
    pub fn number(&self) -> i32 {
        self.partition.1
    }
}

/// All of a shard's lanes. A number is used again once its lane is released.
#[derive(Debug, Default)]
pub struct Lanes {
    lanes: Vec<Option<Lane>>,
    /// By number, which run of reading has it, or had it last.
    runs: Vec<u64>,
    /// How many runs there ever were.
    run: u64,
    free: Vec<u32>,
    by_name: HashMap<Partition, LaneId>,
    /// By what records carry: good for as long as no partition goes.
    by_key: HashMap<(TopicKey, i32), LaneId>,
    last: Option<(TopicKey, i32, LaneId)>,
}

impl Lanes {
    /// Takes a partition on.
    pub fn insert(&mut self, lane: Lane) -> LaneId {
        let number = self.free.pop().unwrap_or_else(|| {
            self.lanes.push(None);
            self.runs.push(0);
            (self.lanes.len() - 1) as u32
        });
        let before = self.by_name.insert(lane.partition.clone(), LaneId(number));
        assert!(before.is_none(), "{:?} was assigned twice", lane.partition);
        self.lanes[number as usize] = Some(lane);
        self.begin_run(number);
        LaneId(number)
    }

    /// A partition is read anew from an offset on: what is in hand of it comes again.
    pub fn rewind(&mut self, id: LaneId, offset: i64) -> Option<&Lane> {
        self.get_mut(id)?.next = offset;
        self.begin_run(id.0);
        self.get(id)
    }

    fn begin_run(&mut self, number: u32) {
        self.run += 1;
        self.runs[number as usize] = self.run;
    }

    /// Gives a partition up.
    pub fn remove(&mut self, id: LaneId) -> Option<Lane> {
        let lane = self.lanes.get_mut(id.0 as usize)?.take()?;
        self.by_name.remove(&lane.partition);
        self.by_key.clear();
        self.last = None;
        self.free.push(id.0);
        Some(lane)
    }

    /// The lane of a number, unless it was given up.
    pub fn get(&self, id: LaneId) -> Option<&Lane> {
        self.lanes.get(id.0 as usize)?.as_ref()
    }

    /// Which run of reading has this number now: one begins with each assignment, and with each rewind. Records that were
    /// sorted under another one are not this lane's: the number may mean another partition meanwhile, or the same one read
    /// from elsewhere.
    pub fn run(&self, id: LaneId) -> Option<u64> {
        self.get(id).map(|_| self.runs[id.0 as usize])
    }

    /// The run that began last, of whichever lane.
    pub fn newest_run(&self) -> u64 {
        self.run
    }

    /// The lane of a partition, if it is assigned.
    pub fn find(&self, partition: &Partition) -> Option<LaneId> {
        self.by_name.get(partition).copied()
    }

    /// The lane of a record, if its partition is assigned.
    pub fn of(&mut self, place: Place<'_>) -> Option<LaneId> {
        let (key, number) = (place.topic_key(), place.partition());
        match self.last {
            Some((last_key, last_number, lane)) if last_key == key && last_number == number => return Some(lane),
            _ => {}
        }
        let lane = match self.by_key.get(&(key, number)) {
            Some(lane) => *lane,
            None => {
                let lane = self.find(&(Arc::from(place.topic()), number))?;
                self.by_key.insert((key, number), lane);
                lane
            }
        };
        self.last = Some((key, number, lane));
        Some(lane)
    }

    /// The lane of a number, to note what it delivered.
    pub fn get_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.lanes.get_mut(id.0 as usize)?.as_mut()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        self.lanes.iter().enumerate().filter_map(|(number, lane)| Some((LaneId(number as u32), lane.as_ref()?)))
    }

    /// All of them, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (LaneId, &mut Lane)> {
        self.lanes.iter_mut().enumerate().filter_map(|(number, lane)| Some((LaneId(number as u32), lane.as_mut()?)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(topic: &str, number: i32) -> Lane {
        Lane {
            partition: (Arc::from(topic), number),
            routes: Arc::new([]),
            label: LaneLabel::new(topic, number),
            begin: 0,
            next: 0,
            topic_id: None,
            metadata: String::new(),
            stop: None,
            counted: BTreeSet::new(),
        }
    }

    #[test]
    fn numbers_are_used_again_once_free() {
        let mut lanes = Lanes::default();
        let (a, b) = (lanes.insert(lane("t", 0)), lanes.insert(lane("t", 1)));
        assert_eq!((a, b, lanes.len()), (LaneId(0), LaneId(1), 2));
        assert_eq!(lanes.find(&(Arc::from("t"), 1)), Some(b));
        assert!(lanes.remove(a).is_some() && lanes.remove(a).is_none());
        assert_eq!(lanes.find(&(Arc::from("t"), 0)), None);
        assert_eq!(lanes.run(a), None);
        assert_eq!(lanes.insert(lane("u", 0)), LaneId(0));
        assert_eq!((lanes.run(LaneId(0)), lanes.run(b)), (Some(3), Some(2)));
        assert_eq!(lanes.iter().map(|(id, lane)| (id.0, lane.topic())).collect::<Vec<_>>(), [(0, "u"), (1, "t")]);
    }

    #[test]
    fn a_rewind_begins_another_run_and_takes_again() {
        let mut lanes = Lanes::default();
        let a = lanes.insert(lane("t", 0));
        assert!(lanes.get_mut(a).is_some_and(|lane| lane.take(7) && !lane.take(5)));
        let before = lanes.run(a);
        assert_eq!(lanes.rewind(a, 5).map(|lane| lane.next), Some(5));
        assert_ne!(lanes.run(a), before);
        assert!(lanes.get_mut(a).is_some_and(|lane| lane.take(5)));
        assert!(lanes.remove(a).is_some() && lanes.rewind(a, 5).is_none());
    }

    #[test]
    fn an_event_that_runs_again_is_counted_once() {
        let mut lane = lane("t", 0);
        assert!(lane.counts(5, 0, 0) && lane.counts(5, 1, 0) && lane.counts(8, 0, 0));
        // It is refused afterwards, and runs again with all behind it.
        assert!(lane.counts(4, 0, 3) && !lane.counts(5, 0, 3) && !lane.counts(5, 1, 3) && !lane.counts(8, 0, 3));
        assert!(lane.counts(9, 0, 8));
        assert_eq!(lane.counted, [(8, 0), (9, 0)].into());
    }

    #[test]
    fn what_is_delivered_twice_is_taken_once() {
        let mut lane = lane("t", 0);
        let taken: Vec<_> = [0, 1, 5, 1, 5, 6].into_iter().filter(|offset| lane.take(*offset)).collect();
        assert_eq!(taken, [0, 1, 5, 6]);
    }
}
