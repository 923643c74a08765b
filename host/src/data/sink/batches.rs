//! How large batches are, where a topic has refused some: smaller for a while, to tell the guilty records from their neighbours.

use std::time::{Duration, Instant};

use super::{LOOK_TIMEOUT, Sink};

/// How long batches stay as small as was guessed, where the broker doesn't say how large they may be.
const GUESS_LASTS: Duration = Duration::from_secs(600);

impl Sink {
    /// Whether another producer is to write batches of another size: smaller ones, since a topic refused some, nobody knows
    /// for which of their records; or larger ones again, where the size was guessed some time ago.
    pub fn wants_other_batches(&self) -> bool {
        self.refused.is_some() || self.guessed.is_some_and(|(at, _)| at.elapsed() >= GUESS_LASTS)
    }

    /// Makes batches as small as the topic takes them now that refused some. Where the broker doesn't say that, so small that
    /// each of the refused records goes alone, which tells the guilty from their neighbours.
    pub(super) fn shrink_batches(&mut self) {
        let before = self.settings.batch_bytes();
        let Some((number, smallest)) = self.refused.take() else {
            if let Some((_, bytes)) = self.guessed.take() {
                self.settings.batch_bytes_max = bytes;
            }
            return;
        };
        let output = &mut self.outputs[usize::from(number)];
        let said = self.producer.batch_bytes_max(output.topic, LOOK_TIMEOUT).unwrap_or_else(|error| {
            tracing::debug!(topic = output.name, %error, "The broker doesn't say how large a record its topic takes.");
            None
        });
        let lower = said.filter(|bytes| *bytes < before);
        if let Some(bytes) = lower.filter(|_| !self.settings.connection.compresses()) {
            output.record_bytes_max = output.record_bytes_max.min(bytes);
        }
        if lower.is_none() {
            let (_, bytes) = self.guessed.unwrap_or((Instant::now(), before));
            self.guessed = Some((Instant::now(), bytes));
        }
        self.settings.batch_bytes_max = lower.unwrap_or(smallest).min(before);
        let batch_bytes = self.settings.batch_bytes();
        tracing::warn!(
            topic = output.name,
            before,
            batch_bytes,
            "A topic refused a batch whole: smaller ones are written, to tell the guilty records from the others."
        );
    }
}
