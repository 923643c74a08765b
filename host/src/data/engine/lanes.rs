//! The lanes of a shard, by their number.

use super::input::{LaneId, Seq};
use super::lane::Lane;

/// The lanes, in places that are used again.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    slots: Vec<Slot>,
}

/// A place for a lane.
#[derive(Debug, Default)]
struct Slot {
    lane: Option<Lane>,
    /// Where the next lane in this place begins to number its events.
    next: Seq,
}

impl Lanes {
    /// Puts a lane in its place.
    pub(super) fn insert(&mut self, id: LaneId, position: i64, committed: bool) -> &mut Lane {
        let index = id.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        let slot = &mut self.slots[index];
        assert!(slot.lane.is_none(), "lane {} is assigned twice", id.0);
        slot.lane.insert(Lane::new(position, committed, slot.next))
    }

    /// Takes a lane out of its place, if there is one.
    pub(super) fn remove(&mut self, id: LaneId) -> bool {
        let Some(slot) = self.slots.get_mut(id.0 as usize) else {
            return false;
        };
        let Some(lane) = slot.lane.take() else {
            return false;
        };
        slot.next = lane.next();
        true
    }

    /// The lane of a number that came from outside.
    pub(super) fn get(&self, id: LaneId) -> Option<&Lane> {
        self.slots.get(id.0 as usize)?.lane.as_ref()
    }

    /// The lane of a number that came from outside.
    #[inline]
    pub(super) fn get_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.slots.get_mut(id.0 as usize)?.lane.as_mut()
    }

    /// The lane of a number that is known to be assigned.
    pub(super) fn known(&mut self, id: LaneId) -> &mut Lane {
        self.get_mut(id).expect("the lane is assigned")
    }

    /// The numbers of the lanes for which something holds.
    pub(super) fn ids(&self, holds: impl Fn(&Lane) -> bool) -> Vec<LaneId> {
        let numbered = self.slots.iter().zip(0..);
        numbered.filter(|(slot, _)| slot.lane.as_ref().is_some_and(&holds)).map(|(_, id)| LaneId(id)).collect()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.slots.iter().filter_map(|slot| slot.lane.as_ref())
    }
}
