//! What a partition remembers of single events over a rewind: how often their routes failed, and which outputs were refused.
//!
//! Kept by offset, since a rewound event is delivered under another number; only for events that are not settled, so that it
//! is bounded by what was delivered. It is empty on the usual path, and lost with the assignment.

use std::collections::VecDeque;

use super::input::Refused;

/// What is remembered of a partition's events, by offset.
#[derive(Debug, Default)]
pub(super) struct Memory {
    events: VecDeque<Remembered>,
}

/// What is remembered of one event.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    offset: i64,
    /// How often it stopped its partition by a transient failure.
    pub(super) stops: u32,
    failures: Vec<(u16, u32)>,
    refusals: Vec<Refused>,
}

impl Memory {
    /// Whether there is nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What there is of an event.
    pub(super) fn get(&self, offset: i64) -> Option<&Remembered> {
        let index = self.events.binary_search_by_key(&offset, |event| event.offset).ok()?;
        self.events.get(index)
    }

    /// Takes what is known of routes over to the numbers that they have now.
    pub(super) fn renumber(&mut self, routes: &[Option<u16>]) {
        let number = |route: u16| routes.get(usize::from(route)).copied().flatten();
        for event in &mut self.events {
            event.failures = std::mem::take(&mut event.failures)
                .into_iter()
                .filter_map(|(route, count)| Some((number(route)?, count)))
                .collect();
            event.refusals = std::mem::take(&mut event.refusals)
                .into_iter()
                .filter_map(|refused| Some(Refused { route: number(refused.route)?, ..refused }))
                .collect();
        }
    }

    /// The event's place, to be added to.
    pub(super) fn entry(&mut self, offset: i64) -> &mut Remembered {
        let index = self.events.binary_search_by_key(&offset, |event| event.offset).unwrap_or_else(|index| {
            self.events.insert(index, Remembered { offset, ..Remembered::default() });
            index
        });
        &mut self.events[index]
    }

    /// Forgets the events below an offset: they are settled.
    pub(super) fn forget_below(&mut self, offset: i64) {
        while self.events.front().is_some_and(|event| event.offset < offset) {
            self.events.pop_front();
        }
    }

    /// What was refused of events among some offsets (rising), with the event's index.
    pub(super) fn refusals_among<'a>(&'a self, offsets: &'a [i64]) -> impl Iterator<Item = (usize, Refused)> + 'a {
        self.events
            .iter()
            .filter_map(|event| Some((offsets.binary_search(&event.offset).ok()?, event)))
            .flat_map(|(index, event)| event.refusals.iter().map(move |&refused| (index, refused)))
    }
}

impl Remembered {
    /// How often a route failed transiently for this event, and was to be called again.
    pub(super) fn failures(&self, route: u16) -> u32 {
        self.failures.iter().find(|(of, _)| *of == route).map_or(0, |(_, count)| *count)
    }

    /// Counts one more.
    pub(super) fn add_failure(&mut self, route: u16) {
        match self.failures.iter_mut().find(|(of, _)| *of == route) {
            Some((_, count)) => *count += 1,
            None => self.failures.push((route, 1)),
        }
    }

    /// Notes what was refused. Once is enough: a route's messages for one topic fail or pass together.
    pub(super) fn add_refusal(&mut self, refused: Refused) {
        if !self.refusals.contains(&refused) {
            self.refusals.push(refused);
        }
    }
}
