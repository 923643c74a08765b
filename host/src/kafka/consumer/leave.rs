//! Leaving a group so that it knows: librdkafka's own way says nothing to the broker where the member has no partitions, or is
//! joining at that moment (2.12.1, from its source and its log), and the group then waits for the member until its session
//! times out, with all partitions that were on their way.

use std::time::{Duration, Instant};

use rdkafka::bindings as rdsys;

use super::{Consumer, Error, Happening, take_error};

/// How long to wait for the broker to have heard of a member that has just begun to join: it can't be taken back before.
const JOIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How far a member is with leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It isn't.
    No,
    /// It waits for its name in the group, without which it can't leave.
    Joining {
        /// No longer than this.
        until: Instant,
    },
    /// It reads no topics any more, and loses its name once it has left.
    Unsubscribed,
    /// The client's part of it ends.
    Closing,
}

impl Consumer {
    /// Leaves the group, for at most so long: what is assigned is given back, nothing is committed. Whether it has been left.
    ///
    /// # Errors
    /// Where the client can't go on; the group then finds out by itself.
    pub fn leave(&mut self, timeout: Duration) -> Result<bool, Error> {
        let deadline = Instant::now() + timeout;
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Joining { until: Instant::now() + JOIN_TIMEOUT.min(timeout) };
        }
        while !self.has_left()? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            match self.poll(Duration::from_millis(5)) {
                // None of them: the group is being left.
                Some(Happening::Assign(_)) => self.assign([].into_iter())?,
                Some(Happening::Revoke { partitions, .. }) => {
                    self.unassign(partitions.iter().map(|(topic, partition)| (&**topic, *partition)))?;
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Goes on with leaving, as far as it can be done now.
    fn has_left(&mut self) -> Result<bool, Error> {
        loop {
            self.leaving = match self.leaving {
                Leaving::No => return Ok(false),
                Leaving::Joining { until } if self.is_subscribed() && !self.is_member() && Instant::now() < until => {
                    return Ok(false);
                }
                Leaving::Joining { .. } => {
                    self.subscribe([])?;
                    Leaving::Unsubscribed
                }
                Leaving::Unsubscribed if self.is_member() || self.rebalancing => return Ok(false),
                Leaving::Unsubscribed => {
                    self.close()?;
                    Leaving::Closing
                }
                // SAFETY: the client is live.
                Leaving::Closing => return Ok(unsafe { rdsys::rd_kafka_consumer_closed(self.client.raw()) != 0 }),
            };
        }
    }

    /// Whether it has joined, or is about to, or would be if it could.
    fn is_subscribed(&self) -> bool {
        let mut topics = std::ptr::null_mut();
        // SAFETY: the client is live, and the list ours to destroy where there is no error.
        unsafe {
            let code = rdsys::rd_kafka_subscription(self.client.raw(), &mut topics);
            if code != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || topics.is_null() {
                return false;
            }
            let subscribed = (*topics).cnt > 0;
            rdsys::rd_kafka_topic_partition_list_destroy(topics);
            subscribed
        }
    }

    /// Whether the group knows it by a name: from the broker's first answer on, until it says that it leaves.
    fn is_member(&self) -> bool {
        // SAFETY: the client is live; the name ends in NUL, and is ours to free.
        unsafe {
            let name = rdsys::rd_kafka_memberid(self.client.raw());
            if name.is_null() {
                return false;
            }
            let known = *name != 0;
            rdsys::rd_kafka_mem_free(self.client.raw(), name.cast());
            known
        }
    }

    fn close(&mut self) -> Result<(), Error> {
        // SAFETY: the client and the queue are live. The queue is the one that the group's events come through already.
        let result = unsafe { take_error(rdsys::rd_kafka_consumer_close_queue(self.client.raw(), self.events.raw())) };
        self.surface("leave the group", result)
    }

    /// Answers what the group has asked, with nothing, whichever of both it was: an answer moves the client only from the
    /// state that waits for it. A client that waits to hear what is assigned never ends, and whoever ends it waits for ever
    /// (2.12.1, `rd_kafka_cgrp_try_terminate`).
    fn answer_with_nothing(&mut self) {
        let answers = [self.assign([].into_iter()), self.unassign([].into_iter())];
        for error in answers.into_iter().filter_map(Result::err) {
            tracing::debug!(%error, "The group is left without its answer.");
        }
    }
}

impl Drop for Consumer {
    /// Leaves the group as well as it can be done without waiting long.
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        if self.rebalancing {
            self.answer_with_nothing();
        }
        match self.leave(PATIENCE) {
            Ok(true) => {}
            // The group may have asked since it was listened to last.
            Ok(false) => self.answer_with_nothing(),
            Err(error) => {
                tracing::debug!(%error, "The group is left without handing its partitions over.");
                self.answer_with_nothing();
            }
        }
    }
}
