//! The shard's transactions, under exactly-once: what is written becomes visible with the positions that it moves, or never.
//! Commits and aborts; where neither is known to have happened, another producer takes over under the same name, which settles
//! it, and the group says where its partitions stand. Decides nothing about events, and never goes on from memory.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::carry::Flow;
use crate::data::engine::{Action, Input, LaneId};
use crate::data::program::Program;
use crate::kafka::{self, Code, TransactionError};

/// How long one call may take: the member is kept alive in between.
const CALL_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a commit is tried before its producer is given up, in which time the broker still waits for it.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often producers may be told that another one has their name, which they have just taken over.
const TAKE_OVERS_MAX: u32 = 3;
/// How long to wait before another producer tries what one could not.
const RENEW_INTERVAL: Duration = Duration::from_millis(200);
/// How long a host that stops may take to abort what it leaves.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// What is left to do before another transaction may begin, or another event be answered. Each turn of the shard goes on with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settling {
    /// The producer has to take its name over, for the first time.
    Begin,
    /// The transaction has to be aborted.
    Abort,
    /// Another producer has to take the place of this one.
    Renew {
        /// Whether the transaction is known to be committed: then no event has to run again.
        committed: bool,
    },
    /// The producer is there, and has to take its name over.
    TakeOver {
        /// As above.
        committed: bool,
    },
    /// The group has to say where its partitions stand.
    ReadBack,
    /// At least once: what is in flight has to be acknowledged or refused, before another producer takes the place of this one.
    Shrink,
}

impl Settling {
    /// What is left to do once the engine has given the transaction up. Where its producer is being replaced already, that goes
    /// on: the new one has to take its name over, whatever happens meanwhile, or it could never begin a transaction.
    pub(super) fn given_up(settling: Option<Self>) -> Self {
        match settling {
            None => Self::Abort,
            Some(Self::Renew { .. }) => Self::Renew { committed: false },
            Some(Self::TakeOver { .. }) => Self::TakeOver { committed: false },
            Some(under_way) => under_way,
        }
    }

    /// What is left to do once batches have to be smaller, which takes another producer. What comes after a transaction that
    /// was given up, or is settled already, meets one that has nothing in flight.
    fn smaller_batches(settling: Option<Self>, transactional: bool) -> Self {
        match settling {
            None if !transactional => Self::Shrink,
            None | Some(Self::Abort) => Self::Renew { committed: false },
            Some(under_way) => under_way,
        }
    }
}

impl Flow {
    /// Whether the engine may be told of events: not while a transaction ends.
    pub(super) fn takes_events(&self) -> bool {
        self.settling.is_none() && self.engine.takes_events()
    }

    /// Attends to everything but events until more of them may be answered. Nothing waits where events are settled at least
    /// once.
    pub(super) fn settle_before_more(&mut self, program: &Program) -> Result<(), kafka::Error> {
        while !self.takes_events() && self.drained.is_none() {
            self.poll_sink(Duration::from_millis(1))?;
            self.attend(program)?;
        }
        Ok(())
    }

    /// Takes what the producer reports. Under exactly-once, one that can't go on is replaced: what it wrote is settled by the next.
    pub(super) fn poll_sink(&mut self, timeout: Duration) -> Result<(), kafka::Error> {
        let polled = self.sink.poll(timeout);
        if self.sink.wants_smaller_batches() {
            self.settling = Some(Settling::smaller_batches(self.settling, self.sink.transactional_id().is_some()));
        }
        match polled {
            Err(kafka::Error::Fatal { code, message }) if self.sink.transactional_id().is_some() => {
                if code.is_fenced() && !self.sink.is_late() {
                    return Err(self.fenced(&message));
                }
                tracing::warn!(shard = self.name, error = %code, message, "The producer can't go on: it is replaced.");
                self.settling = Some(Settling::Renew { committed: false });
                Ok(())
            }
            polled => polled,
        }
    }

    /// Commits what was written, with these positions.
    pub(super) fn commit_transaction(
        &mut self,
        positions: &[(LaneId, i64)],
        actions: &mut VecDeque<Action>,
    ) -> Result<(), kafka::Error> {
        if self.settling.is_some() {
            // The producer is to be replaced, and nothing of this transaction was sent.
            self.settling = Some(Settling::Renew { committed: false });
            return Ok(());
        }
        let ending = self.sink.producer().ending();
        match self.try_commit(positions, Instant::now() + COMMIT_TIMEOUT) {
            Ok(()) => {
                self.sink.ended();
                // Its errors come as events, which are served here.
                self.poll_sink(Duration::ZERO)?;
                if self.settling.is_some() || self.sink.producer().is_suspect(ending) {
                    self.settling = Some(Settling::Renew { committed: true });
                }
                let accepted: Vec<_> = positions.iter().map(|(id, _)| *id).collect();
                let mut more = Vec::new();
                self.engine.step(Input::CommitDone { accepted: &accepted }, self.now(), &mut more);
                actions.extend(more);
            }
            Err(error) => {
                tracing::warn!(shard = self.name, %error, "The transaction was not committed: its events run again.");
                self.settling = Some(match self.after(error)? {
                    // Positions of it may still be on their way: they must not meet a later transaction of the same producer.
                    Settling::Abort => Settling::Renew { committed: false },
                    settling => settling,
                });
            }
        }
        Ok(())
    }

    fn try_commit(&mut self, positions: &[(LaneId, i64)], deadline: Instant) -> Result<(), TransactionError> {
        self.sink.begin()?;
        self.insist_on(deadline, |flow| {
            flow.sink.producer().send_offsets(&flow.consumer, flow.offsets(positions).into_iter(), CALL_TIMEOUT)
        })?;
        self.insist_on(deadline, |flow| flow.sink.producer().commit_transaction(CALL_TIMEOUT))
    }

    /// Goes on with a call until it is done, or can't be. The member is kept alive in between.
    fn insist_on(
        &mut self,
        deadline: Instant,
        call: impl Fn(&Self) -> Result<(), TransactionError>,
    ) -> Result<(), TransactionError> {
        loop {
            match call(self) {
                Err(TransactionError::Pending { code }) if Instant::now() >= deadline => {
                    let message = "the broker doesn't answer".to_owned();
                    return Err(TransactionError::Unknown { code, message });
                }
                Err(TransactionError::Pending { .. }) => self.keep_alive(),
                done => return done,
            }
        }
    }

    /// What an error of the producer's leaves to be done.
    fn after(&self, error: TransactionError) -> Result<Settling, kafka::Error> {
        match error {
            TransactionError::Abort { .. } => Ok(Settling::Abort),
            TransactionError::Pending { .. } | TransactionError::Unknown { .. } => {
                Ok(Settling::Renew { committed: false })
            }
            // The broker fences whoever is late, too.
            TransactionError::Fenced { .. } if self.sink.is_late() => Ok(Settling::Renew { committed: false }),
            TransactionError::Fenced { message } => Err(self.fenced(&message)),
        }
    }

    /// Somebody else writes under this shard's name: to go on would be to fence each other for ever.
    fn fenced(&self, message: &str) -> kafka::Error {
        let name = self.sink.transactional_id().unwrap_or_default();
        let message = format!(
            "another producer has taken over the transactional id `{name}`: does a second host run with this host's \
             data directory or `host.instance`? ({message})"
        );
        kafka::Error::Fatal { code: Code::FENCED, message }
    }

    /// Goes on with what is left to do, as far as it can be done now.
    pub(super) fn settle(&mut self) -> Result<(), kafka::Error> {
        while let Some(settling) = self.settling {
            let next = match settling {
                Settling::Begin => self.take_over(None)?,
                Settling::Abort => self.abort()?,
                Settling::Renew { committed } => {
                    self.sink.renew()?;
                    Some(Settling::TakeOver { committed })
                }
                Settling::Shrink => self.shrink()?,
                Settling::TakeOver { committed: true } => self.take_over(None)?,
                Settling::TakeOver { committed: false } => self.take_over(Some(Settling::ReadBack))?,
                Settling::ReadBack => self.read_back()?,
            };
            if next == Some(settling) {
                break;
            }
            // What was read back has been told, and may have been answered by something else to settle.
            if self.settling == Some(settling) {
                self.settling = next;
            }
        }
        Ok(())
    }

    /// The producer takes its name over. What is left to do then is `next`.
    fn take_over(&mut self, next: Option<Settling>) -> Result<Option<Settling>, kafka::Error> {
        match self.sink.producer().init_transactions(CALL_TIMEOUT) {
            Ok(()) => {
                self.taken_over_in_vain = 0;
                Ok(next)
            }
            Err(TransactionError::Pending { code }) => {
                tracing::debug!(shard = self.name, %code, "The producer has not taken its name over yet.");
                Ok(self.settling)
            }
            // The broker may be ending the former one's transaction at this moment.
            Err(TransactionError::Fenced { message })
                if self.settling == Some(Settling::Begin) || self.taken_over_in_vain >= TAKE_OVERS_MAX =>
            {
                Err(self.fenced(&message))
            }
            Err(error) if error.is_final() => Err(error.into()),
            Err(error) => {
                tracing::warn!(shard = self.name, %error, "The producer could not take its name over: another one tries.");
                std::thread::sleep(RENEW_INTERVAL);
                self.taken_over_in_vain = self.taken_over_in_vain.saturating_add(1);
                let committed = self.settling == Some(Settling::TakeOver { committed: true });
                Ok(Some(Settling::Renew { committed }))
            }
        }
    }

    /// What was refused is told before, so that no event is forgotten.
    fn shrink(&mut self) -> Result<Option<Settling>, kafka::Error> {
        self.take_reports()?;
        if self.sink.in_flight() > 0 || self.sink.has_reports() {
            return Ok(Some(Settling::Shrink));
        }
        self.sink.renew()?;
        Ok(None)
    }

    fn abort(&mut self) -> Result<Option<Settling>, kafka::Error> {
        self.poll_sink(Duration::ZERO)?;
        if self.settling != Some(Settling::Abort) {
            return Ok(self.settling);
        }
        self.sink.forget_reports();
        if self.sink.in_flight() > 0 {
            // What is on its way may come after the end of this transaction, and would be part of the next: not of another
            // producer's.
            return Ok(Some(Settling::Renew { committed: false }));
        }
        if !self.sink.has_begun() {
            return Ok(Some(Settling::ReadBack));
        }
        let ending = self.sink.producer().ending();
        match self.sink.producer().abort_transaction(CALL_TIMEOUT) {
            Ok(()) => {
                self.sink.ended();
                self.poll_sink(Duration::ZERO)?;
                let suspect = self.sink.producer().is_suspect(ending);
                Ok(Some(if suspect { Settling::Renew { committed: false } } else { Settling::ReadBack }))
            }
            Err(error) => {
                tracing::warn!(shard = self.name, %error, "The transaction was not aborted: its producer is replaced.");
                match self.after(error)? {
                    // It can't be: that is what failed.
                    Settling::Abort => Ok(Some(Settling::Renew { committed: false })),
                    next => Ok(Some(next)),
                }
            }
        }
    }

    /// Asks the group where it stands, and tells the engine.
    fn read_back(&mut self) -> Result<Option<Settling>, kafka::Error> {
        let lanes: Vec<_> = self.lanes.iter().map(|(id, lane)| (id, lane.partition.clone(), lane.begin)).collect();
        let partitions: Vec<_> = lanes.iter().map(|(_, (topic, number), _)| (&**topic, *number)).collect();
        let committed = match self.consumer.committed(partitions.into_iter(), CALL_TIMEOUT) {
            Ok(committed) => committed,
            Err(error @ kafka::Error::Fatal { .. }) => return Err(error),
            Err(error) => {
                tracing::debug!(shard = self.name, %error, "The group's offsets could not be read back; trying again.");
                return Ok(self.settling);
            }
        };
        let position = |(id, (topic, number), begin): &(LaneId, kafka::Partition, i64)| {
            let found = committed.iter().find(|found| found.topic == *topic && found.partition == *number);
            // Where the offset that the group has isn't in the log, it was begun further on.
            (*id, found.and_then(|found| found.offset).map(|offset| offset.max(*begin)))
        };
        let positions: Vec<_> = lanes.iter().map(position).collect();
        self.settling = None;
        self.step(Input::Aborted { positions: &positions })?;
        Ok(None)
    }

    /// Aborts what a host leaves that stops without having settled, so that readers needn't wait for the broker to do it.
    pub(super) fn give_up_at_the_end(&mut self) -> Result<(), kafka::Error> {
        self.poll_sink(Duration::ZERO)?;
        if self.sink.has_begun()
            && self.sink.in_flight() == 0
            && let Err(error) = self.sink.producer().abort_transaction(END_TIMEOUT)
        {
            tracing::warn!(shard = self.name, %error, "The last transaction was not aborted: the broker will do it.");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_producer_that_is_being_replaced_takes_its_name_over_whatever_is_given_up_meanwhile() {
        let check = |settling, expected| assert_eq!(Settling::given_up(settling), expected);
        check(None, Settling::Abort);
        check(Some(Settling::Abort), Settling::Abort);
        for committed in [true, false] {
            check(Some(Settling::Renew { committed }), Settling::Renew { committed: false });
            check(Some(Settling::TakeOver { committed }), Settling::TakeOver { committed: false });
        }
        check(Some(Settling::ReadBack), Settling::ReadBack);
    }
}
