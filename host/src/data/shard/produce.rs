//! Handing messages over to the producer: waits for room, for a while, and keeps the group's member alive meanwhile.

use std::time::{Duration, Instant};

use super::carry::Flow;
use crate::data::answers::Product;
use crate::data::engine::{LaneId, Seq};
use crate::data::event::Event;
use crate::data::lane::Lane;
use crate::data::letter::Cut;
use crate::data::route::Plan;
use crate::data::sink::{Full, Origin, Sink};
use crate::kafka;

/// How long production waits for room before the partition is parked, and others have their turn.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// What something is produced for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) id: LaneId,
    pub(super) seq: Seq,
    pub(super) route: u16,
    /// What its letter has to go without, since its topic has refused it before.
    pub(super) cut: Cut,
}

impl Flow {
    /// Waits until the next event may be produced, for a while. Reports are taken and the member is kept alive meanwhile,
    /// so that a broker that is away costs nothing but time.
    pub(super) fn make_room(&mut self, mut admits: impl FnMut(&Sink) -> bool) -> Result<bool, kafka::Error> {
        if self.sink.has_room() && (!self.sink.is_tight() || admits(&self.sink)) {
            return Ok(true);
        }
        let deadline = Instant::now() + ROOM_WAIT;
        // With a producer that is to be replaced, there is nothing to wait for.
        while Instant::now() < deadline && self.settling.is_none() {
            self.poll_sink(Duration::from_millis(5))?;
            self.keep_alive();
            if self.sink.has_room() && admits(&self.sink) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Produces what one route has for one event. False where there was no room for all of it.
    pub(super) fn produce(
        &mut self,
        Place { id, seq, route, cut }: Place,
        event: &Event<'_>,
        plan: &Plan,
        product: &Product<'_, '_>,
        attempts: Option<u32>,
    ) -> Result<bool, kafka::Error> {
        match product {
            Product::Outputs(outputs) => {
                for (index, ready) in outputs.iter().enumerate() {
                    if !self.insist(id, |sink, lane| {
                        sink.output(Origin { id, lane, seq, route, event }, plan, index as u32, ready)
                    })? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Product::Failed { failure, stage } => {
                let Some(attempts) = attempts else { return Ok(true) };
                tracing::debug!(route = plan.id, kind = %failure.kind, reason = failure.message, offset = event.offset, "An event goes to the dead letters.");
                self.insist(id, |sink, lane| {
                    sink.letter(Origin { id, lane, seq, route, event }, plan, (failure, *stage, attempts), cut)
                })
            }
        }
    }

    /// Hands one message over, waiting for room if there is none: the rest of its event is in flight already.
    fn insist(
        &mut self,
        id: LaneId,
        mut produce: impl FnMut(&mut Sink, &Lane) -> Result<(), Full>,
    ) -> Result<bool, kafka::Error> {
        // Set where there is no room: the clock costs more than the rest of this, and there mostly is.
        let mut deadline = None;
        loop {
            let Some(lane) = self.lanes.get(id) else { return Ok(false) };
            match produce(&mut self.sink, lane) {
                Ok(()) => return Ok(true),
                Err(Full) if self.now() >= *deadline.get_or_insert(self.now() + ROOM_WAIT) => return Ok(false),
                Err(Full) => {
                    self.poll_sink(Duration::from_millis(5))?;
                    self.keep_alive();
                }
            }
        }
    }
}
