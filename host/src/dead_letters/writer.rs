//! What a redrive writes: outputs, new letters and marks, a transaction for each part. One that isn't known to be committed is
//! settled by another producer under the same transactional id; what was redriven is then read back, never remembered.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::marks::{self, Mark};
use super::{Error, Letter};
use crate::control::topics::Sizes;
use crate::data::answers::Product;
use crate::data::chain::Ready;
use crate::data::engine::{LaneId, Outcome, Refused, Seq};
use crate::data::event::Event;
use crate::data::failure::Failure;
use crate::data::lane::Lane;
use crate::data::letter::{self, REDRIVEN};
use crate::data::origin::LaneLabel;
use crate::data::program::Program;
use crate::data::route::Plan;
use crate::data::sink::{Full, Origin, Sink};
use crate::kafka::{self, Connection, ProducerSettings, TransactionError, settings};

/// How long one call may take, before the time is looked at.
const CALL_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a part may take to be acknowledged, and its commit to be answered, while the broker still waits for both.
const PART_TIMEOUT: Duration = Duration::from_secs(5);
/// How often producers may be told that another one has their name, which they have just taken over.
const TAKE_OVERS_MAX: u32 = 3;
/// Between two looks at what was acknowledged.
const POLL: Duration = Duration::from_millis(1);

/// How the transaction of a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is committed.
    Committed,
    /// It isn't, or nobody knows: what was redriven has to be read back.
    Lost,
}

/// The producer of one topic's redrive.
pub(super) struct Writer {
    topic: String,
    sink: Sink,
    /// The number of the topic of the marks.
    marks: u16,
    timeout: Duration,
    /// The event that is written, or was last.
    seq: Seq,
    /// The letters of the part, by their events' numbers.
    part: Vec<(Seq, (i32, i64))>,
    /// Whether the part can't be committed any more.
    broken: bool,
    /// Why the producer can't go on, if it can't.
    fatal: Option<kafka::Error>,
    /// What brokers refused of what letters led to, by letter.
    refused: HashMap<(i32, i64), Vec<Refused>>,
}

impl Writer {
    /// Takes the redrive of a topic over from whoever had it: a transaction that was left open is aborted.
    ///
    /// # Errors
    /// Where the broker doesn't answer in time, or refuses.
    pub(super) fn open(
        topic: &str,
        program: &Program,
        sizes: &Sizes,
        connection: &Connection,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let mut topics = program.topics.clone();
        topics.push(marks::topic_of(topic));
        let marks = u16::try_from(topics.len() - 1).expect("the config bounds the number of topics");
        let settings = ProducerSettings {
            connection: connection.clone(),
            client_id: "midplane-cli".to_owned(),
            transactional_id: Some(format!("midplane.redrive.{topic}")),
            buffer_bytes: settings::PRODUCER_BUFFER_BYTES * 2,
            record_bytes_max: settings::RECORD_BYTES_MAX,
            batch_bytes_max: sizes
                .batch_bytes_max(topics.iter().map(String::as_str))
                .unwrap_or(settings::BATCH_BYTES_MAX),
        };
        let topics: Vec<_> =
            topics.into_iter().map(|name| (name.clone(), sizes.record_bytes_max(&name, connection))).collect();
        let mut sink = Sink::new(settings, &topics)?;
        sink.carry_on(REDRIVEN);
        let mut writer = Self {
            topic: topic.to_owned(),
            sink,
            marks,
            timeout,
            seq: 0,
            part: Vec::new(),
            broken: false,
            fatal: None,
            refused: HashMap::new(),
        };
        writer.take_over()?;
        Ok(writer)
    }

    /// Why an output's topic would never take it, if that is known.
    pub(super) fn refusal(&mut self, ready: &Ready<'_>) -> Option<Failure> {
        self.sink.refusal(ready)
    }

    /// What brokers refused before of what a letter leads to, and the names of the topics.
    pub(super) fn refused(&self, letter: &Letter<'_>) -> impl Iterator<Item = (Refused, &str)> {
        let refused = self.refused.get(&(letter.partition, letter.offset)).into_iter().flatten();
        refused.map(|refused| (*refused, self.sink.topic_name(refused.output)))
    }

    /// What went wrong last, for people.
    pub(super) fn trouble(&self) -> String {
        match self.sink.trouble() {
            Some((topic, code)) => format!("topic `{topic}`: {code}"),
            None => "the broker doesn't answer".to_owned(),
        }
    }

    /// Begins what one letter leads to.
    pub(super) fn begin(&mut self, letter: &Letter<'_>) {
        self.seq += 1;
        self.part.push((self.seq, (letter.partition, letter.offset)));
    }

    /// Writes what a route has for the event: its outputs, or a new letter.
    pub(super) fn product(
        &mut self,
        letter: &Letter<'_>,
        (event, route): (&Event<'_>, u16),
        plan: &Plan,
        product: &Product<'_, '_>,
        attempts: u32,
    ) {
        match product {
            Product::Outputs(outputs) => {
                for (index, ready) in (0..).zip(*outputs) {
                    self.insist((event, route), |sink, origin| sink.output(origin, plan, index, ready));
                }
            }
            Product::Failed { failure, stage } => {
                let cut = letter::cut_of(self.refused(letter).map(|(refused, _)| refused), route);
                self.insist((event, route), |sink, origin| sink.letter(origin, plan, (failure, *stage, attempts), cut));
            }
        }
    }

    /// Writes that the letter is redriven.
    pub(super) fn mark(&mut self, letter: &Letter<'_>, of: (&Event<'_>, u16), mark: &Mark) {
        let (topic, key, value) = (self.marks, Mark::key(letter), mark.value());
        self.insist(of, |sink, origin| sink.note(origin, topic, key.as_bytes(), &value));
    }

    /// Hands one message over, waiting for room if there is none.
    fn insist(
        &mut self,
        (event, route): (&Event<'_>, u16),
        mut produce: impl FnMut(&mut Sink, Origin<'_>) -> Result<(), Full>,
    ) {
        let lane = Lane {
            partition: (event.topic.into(), event.partition),
            routes: [].into(),
            label: LaneLabel::new(event.topic, event.partition),
            begin: 0,
            next: 0,
            topic_id: None,
            metadata: String::new(),
            stop: None,
            counted: std::collections::BTreeSet::new(),
        };
        let deadline = Instant::now() + PART_TIMEOUT;
        while !self.broken {
            let origin = Origin { id: LaneId(0), lane: &lane, seq: self.seq, route, event };
            match produce(&mut self.sink, origin) {
                Ok(()) => return,
                Err(Full) if Instant::now() >= deadline => self.broken = true,
                Err(Full) => self.poll(POLL),
            }
        }
    }

    /// Takes what the producer reports. One that can't go on has written nothing of the part that counts.
    fn poll(&mut self, timeout: Duration) {
        if let Err(error) = self.sink.poll(timeout) {
            tracing::warn!(topic = self.topic, %error, "The producer can't go on.");
            self.fatal.get_or_insert(error);
            self.broken = true;
        }
    }

    /// Commits the part, if all of it was written.
    ///
    /// # Errors
    /// Where another redrive has taken over, or no producer can be had.
    pub(super) fn commit(&mut self) -> Result<Ended, Error> {
        let part = std::mem::take(&mut self.part);
        if !self.is_written(&part) {
            return self.replace().map(|()| Ended::Lost);
        }
        // Another producer has the broker end this part, and what an earlier one has left with it.
        let meets_remains = self.sink.meets_remains(PART_TIMEOUT).unwrap_or_else(|error| {
            tracing::warn!(topic = self.topic, %error, "What the broker has left open is not known.");
            true
        });
        if meets_remains {
            self.sink.aborted();
            return self.replace().map(|()| Ended::Lost);
        }
        let ending = self.sink.producer().ending();
        match self.try_commit() {
            Ok(()) => {
                self.sink.committed();
                // Its errors come as events, which are served here. One that can't go on is found so by the next part.
                self.poll(Duration::ZERO);
                if !self.broken && self.sink.producer().is_suspect(ending) {
                    self.renew()?;
                }
                Ok(Ended::Committed)
            }
            Err(TransactionError::Fenced { message }) if !self.sink.is_late() => Err(self.fenced(message)),
            Err(error) => {
                tracing::warn!(topic = self.topic, %error, "A part was not committed: what was redriven is read back.");
                self.replace().map(|()| Ended::Lost)
            }
        }
    }

    /// Waits for what the brokers say of the part. Whether they have all of it.
    fn is_written(&mut self, part: &[(Seq, (i32, i64))]) -> bool {
        let deadline = Instant::now() + PART_TIMEOUT;
        let mut written = true;
        loop {
            self.poll(POLL);
            let refused = &mut self.refused;
            self.sink.reports(|reports| {
                for report in reports {
                    written &= report.outcome == Outcome::Acked;
                    let letter = part.iter().find(|(seq, _)| *seq == report.seq).map(|(_, letter)| *letter);
                    if let (Outcome::Refused(it), Some(letter)) = (report.outcome, letter) {
                        refused.entry(letter).or_default().push(it);
                    }
                }
            });
            if self.broken || self.sink.in_flight() == 0 {
                return written && !self.broken;
            }
            if Instant::now() >= deadline {
                return false;
            }
        }
    }

    fn try_commit(&mut self) -> Result<(), TransactionError> {
        let deadline = Instant::now() + PART_TIMEOUT;
        self.sink.commits();
        loop {
            match self.sink.producer().commit_transaction(CALL_TIMEOUT) {
                Err(TransactionError::Pending { .. }) if Instant::now() < deadline => {}
                ended => return ended,
            }
        }
    }

    /// Another producer takes the place of one that failed, unless that failed because another redrive has taken over.
    fn replace(&mut self) -> Result<(), Error> {
        match self.fatal.take() {
            Some(kafka::Error::Fatal { code, message }) if code.is_fenced() && !self.sink.is_late() => {
                Err(self.fenced(message))
            }
            _ => self.renew(),
        }
    }

    /// Another producer takes the place of this one, and settles what it left.
    fn renew(&mut self) -> Result<(), Error> {
        (self.fatal, self.broken) = (None, false);
        self.sink.renew()?;
        self.take_over()
    }

    fn take_over(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        let mut in_vain = 0;
        loop {
            match self.sink.producer().init_transactions(CALL_TIMEOUT) {
                Ok(()) => return Ok(()),
                Err(TransactionError::Pending { .. }) if Instant::now() < deadline => {}
                Err(TransactionError::Pending { .. }) => return Err(Error::Silent(self.timeout)),
                Err(error) if error.is_final() || in_vain >= TAKE_OVERS_MAX => {
                    return Err(Error::Transaction { topic: self.topic.clone(), error });
                }
                // The broker may be ending the former one's transaction at this moment.
                Err(error) => {
                    tracing::debug!(%error, "The producer could not take its name over: another one tries.");
                    in_vain += 1;
                    self.sink.renew()?;
                }
            }
        }
    }

    fn fenced(&self, message: String) -> Error {
        Error::Fenced { topic: self.topic.clone(), message }
    }
}
