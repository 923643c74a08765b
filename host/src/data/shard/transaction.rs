//! The shard's transactions, under exactly-once: what is written becomes visible with the positions that it moves, or never.
//! Commits and aborts; where neither is known to have happened, another producer takes over under the same name, which settles
//! it, and the group says where its partitions stand. Decides nothing about events, and never goes on from memory.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::carry::Flow;
use crate::data::engine::{Action, Input, LaneId};
use crate::data::program::Program;
use crate::kafka::{self, Code, TransactionError};

/// How long one call may take at first, and at most where the broker takes its time: the member is kept alive in between.
const CALL_TIMEOUT: Duration = Duration::from_millis(300);
const CALL_TIMEOUT_MAX: Duration = Duration::from_millis(2400);
/// How long a commit is tried before its producer is given up, in which time the broker still waits for it.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often producers may be told that another one has their name, which they have just taken over.
const TAKE_OVERS_MAX: u32 = 3;
/// A producer whose name was taken over a second time within so long has a rival. Once it may be the broker, which thinks that a
/// transaction took too long: its clock was set, say.
const RIVAL_WITHIN: Duration = Duration::from_secs(600);
/// How often the log says that the group's offsets can't be read back.
const SAY_INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait before another producer tries what one could not.
const RENEW_INTERVAL: Duration = Duration::from_millis(200);
/// How long what is in flight may take to be acknowledged or refused, before a producer with other batches takes the place of its
/// own. Another topic, which takes nothing, would have everything wait for as long as that lasts.
const RESIZE_TIMEOUT: Duration = Duration::from_secs(10);
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
    Resize {
        /// When it was found that batches have to have another size.
        since: Instant,
    },
    /// At least once: the producer can't go on, and another one has to take its place.
    Replace,
}

/// How long a call is waited for: longer each time that the broker didn't answer it in time. A call that is made again asks the
/// broker again, so that a far one would never be heard.
#[derive(Debug)]
pub(super) struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(CALL_TIMEOUT)
    }
}

impl Patience {
    fn disappointed(&mut self) {
        self.0 = (self.0 * 2).min(CALL_TIMEOUT_MAX);
    }

    /// After an answer that took so long.
    fn answered(&mut self, took: Duration) {
        if took < self.0 / 4 {
            self.0 = (self.0 / 2).max(CALL_TIMEOUT);
        }
    }
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

    /// What is left to do once batches are to have another size, which takes another producer. What comes after a transaction that
    /// was given up, or is settled already, meets one that has nothing in flight.
    fn other_batches(settling: Option<Self>, transactional: bool) -> Self {
        match settling {
            None if !transactional => Self::Resize { since: Instant::now() },
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
            self.wait_for_reports(Duration::from_millis(1))?;
            self.attend(program)?;
        }
        Ok(())
    }

    /// Has the transaction end, if one is open, as soon as it can, and waits for that.
    pub(super) fn end_transaction(&mut self, program: &Program) -> Result<(), kafka::Error> {
        if self.engine.is_between_transactions() {
            return Ok(());
        }
        self.step(Input::Barrier)?;
        self.settle_before_more(program)
    }

    /// Waits for what the producer reports, while nothing is given to it: no batch waits for more records.
    pub(super) fn wait_for_reports(&mut self, timeout: Duration) -> Result<(), kafka::Error> {
        self.poll_sink(Duration::ZERO)?;
        if self.sink.has_reports() {
            return Ok(());
        }
        self.sink.producer().send_now();
        self.poll_sink(timeout)
    }

    /// Takes what the producer reports. Under exactly-once, one that can't go on is replaced: what it wrote is settled by the next.
    pub(super) fn poll_sink(&mut self, timeout: Duration) -> Result<(), kafka::Error> {
        let polled = self.sink.poll(timeout);
        if self.sink.wants_other_batches() {
            self.settling = Some(Settling::other_batches(self.settling, self.sink.transactional_id().is_some()));
        }
        let Err(kafka::Error::Fatal { code, message }) = polled else { return polled };
        let transactional = self.sink.transactional_id().is_some();
        if transactional && code.is_fenced() {
            self.settling = Some(self.fenced(&message)?);
            return Ok(());
        }
        tracing::warn!(shard = self.name, error = %code, reason = message, "The producer can't go on: it is replaced.");
        self.settling = Some(match transactional {
            true => Settling::Renew { committed: false },
            false => Settling::Replace,
        });
        Ok(())
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
        if let Some(settling) = self.aborts_remains() {
            self.settling = Some(settling);
            return Ok(());
        }
        let ending = self.sink.producer().ending();
        match self.try_commit(positions, Instant::now() + COMMIT_TIMEOUT) {
            Ok(()) => {
                self.sink.committed();
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

    /// What is left to do where the transaction must not be committed, since the broker has left an earlier one in its partitions.
    fn aborts_remains(&mut self) -> Option<Settling> {
        match self.sink.meets_remains(self.patience.0) {
            Ok(false) => None,
            Ok(true) => {
                tracing::warn!(
                    shard = self.name,
                    "The broker may have left a transaction open that is over: this one is aborted with it, and its events run again."
                );
                Some(Settling::Abort)
            }
            Err(error) => {
                self.patience.disappointed();
                tracing::warn!(shard = self.name, %error, "What the broker has left open is not known: the transaction's events run again.");
                Some(Settling::Renew { committed: false })
            }
        }
    }

    fn try_commit(&mut self, positions: &[(LaneId, i64)], deadline: Instant) -> Result<(), TransactionError> {
        self.sink.begin()?;
        let written = Instant::now();
        self.insist_on(deadline, |flow, timeout| {
            flow.sink.producer().send_offsets(&flow.consumer, flow.offsets(positions).into_iter(), timeout)
        })?;
        let offsets_us = written.elapsed().as_micros() as u64;
        self.sink.commits();
        self.insist_on(deadline, |flow, timeout| flow.sink.producer().commit_transaction(timeout))?;
        let (open_us, end_us) = (self.sink.open_for().as_micros() as u64, written.elapsed().as_micros() as u64);
        tracing::debug!(shard = self.name, open_us, offsets_us, end_us, "A transaction was committed.");
        Ok(())
    }

    /// Goes on with a call until it is done, or can't be. The member is kept alive in between.
    fn insist_on(
        &mut self,
        deadline: Instant,
        call: impl Fn(&Self, Duration) -> Result<(), TransactionError>,
    ) -> Result<(), TransactionError> {
        loop {
            let begun = Instant::now();
            match call(self, self.patience.0) {
                Err(TransactionError::Pending { code }) => {
                    self.patience.disappointed();
                    if Instant::now() >= deadline {
                        let message = "the broker doesn't answer".to_owned();
                        return Err(TransactionError::Unknown { code, message });
                    }
                    self.keep_alive();
                }
                done => {
                    self.patience.answered(begun.elapsed());
                    return done;
                }
            }
        }
    }

    /// What an error of the producer's leaves to be done.
    fn after(&mut self, error: TransactionError) -> Result<Settling, kafka::Error> {
        match error {
            TransactionError::Abort { .. } => Ok(Settling::Abort),
            TransactionError::Pending { .. } | TransactionError::Unknown { .. } => {
                Ok(Settling::Renew { committed: false })
            }
            TransactionError::Fenced { message } => self.fenced(&message),
        }
    }

    /// The broker fences whoever is late, and whoever has a rival that writes under its name. The first is replaced; with a
    /// rival, to go on would be to fence each other for ever.
    fn fenced(&mut self, message: &str) -> Result<Settling, kafka::Error> {
        if !self.sink.is_late() {
            let before = self.fenced_at.replace(Instant::now());
            if before.is_some_and(|before| before.elapsed() < RIVAL_WITHIN) {
                return Err(self.rival(message));
            }
            tracing::warn!(
                shard = self.name,
                reason = message,
                "The producer's name was taken over, by the broker or by a second host: it is replaced once."
            );
        }
        Ok(Settling::Renew { committed: false })
    }

    /// Somebody else writes under this shard's name.
    fn rival(&self, message: &str) -> kafka::Error {
        let name = self.sink.transactional_id().unwrap_or_default();
        let message = format!(
            "another producer has taken over the transactional id `{name}`: does a second host run with this host's \
             data directory or `host.instance`? ({message})"
        );
        kafka::Error::Fatal { code: Code::FENCED, message }
    }

    /// The broker will say the same until somebody does something.
    fn refused(&self, error: TransactionError) -> kafka::Error {
        let name = self.sink.transactional_id().unwrap_or_default();
        match kafka::Error::from(error) {
            kafka::Error::Fatal { code: code @ Code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, message } => {
                let message = format!(
                    "the broker refuses the transactional id `{name}` to this host's user, who needs the rights `Write` and \
                     `Describe` on it ({message})"
                );
                kafka::Error::Fatal { code, message }
            }
            error => error,
        }
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
                Settling::Resize { since } => self.resize(since)?,
                Settling::Replace => self.replace()?,
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
        match self.sink.producer().init_transactions(self.patience.0) {
            Ok(()) => {
                self.taken_over_in_vain = 0;
                Ok(next)
            }
            Err(TransactionError::Pending { code }) => {
                self.patience.disappointed();
                tracing::debug!(shard = self.name, %code, "The producer has not taken its name over yet.");
                Ok(self.settling)
            }
            // The broker may be ending the former one's transaction at this moment.
            Err(TransactionError::Fenced { message })
                if self.settling == Some(Settling::Begin) || self.taken_over_in_vain >= TAKE_OVERS_MAX =>
            {
                Err(self.rival(&message))
            }
            Err(error) if error.is_final() => Err(self.refused(error)),
            Err(error) => {
                tracing::warn!(shard = self.name, %error, "The producer could not take its name over: another one tries.");
                std::thread::sleep(RENEW_INTERVAL);
                self.taken_over_in_vain = self.taken_over_in_vain.saturating_add(1);
                let committed = self.settling == Some(Settling::TakeOver { committed: true });
                Ok(Some(Settling::Renew { committed }))
            }
        }
    }

    /// What the former producer had in flight may be written or not: all of that runs again.
    fn replace(&mut self) -> Result<Option<Settling>, kafka::Error> {
        self.sink.renew()?;
        self.settling = None;
        self.step(Input::ProducerLost)?;
        Ok(None)
    }

    /// What was refused is told before, so that no event is forgotten.
    fn resize(&mut self, since: Instant) -> Result<Option<Settling>, kafka::Error> {
        self.take_reports()?;
        if self.sink.in_flight() > 0 || self.sink.has_reports() {
            if since.elapsed() < RESIZE_TIMEOUT {
                return Ok(Some(Settling::Resize { since }));
            }
            let in_flight = self.sink.in_flight();
            tracing::warn!(
                shard = self.name,
                in_flight,
                "Batches are to be smaller, and a topic takes nothing: its events run again."
            );
            return self.replace();
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
            let refuses = self.sink.refuses_to_begin();
            return Ok(Some(if refuses { Settling::Renew { committed: false } } else { Settling::ReadBack }));
        }
        let ending = self.sink.producer().ending();
        match self.sink.producer().abort_transaction(self.patience.0) {
            Ok(()) => {
                self.sink.aborted();
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
        let committed = match self.consumer.committed(partitions.into_iter(), self.patience.0) {
            Ok(committed) => committed,
            Err(error @ kafka::Error::Fatal { .. }) => return Err(error),
            Err(error) => {
                self.patience.disappointed();
                if self.read_back_said.is_none_or(|said| said.elapsed() >= SAY_INTERVAL) {
                    // The first time is usual: positions of a transaction that ends are waited for.
                    if self.read_back_said.replace(Instant::now()).is_some() {
                        tracing::warn!(shard = self.name, %error, "The group's offsets can't be read back: nothing goes on before that.");
                    }
                }
                return Ok(self.settling);
            }
        };
        self.read_back_said = None;
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
