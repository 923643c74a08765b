//! A shard's place in its group: partitions that come, from where they are read, partitions that go, and leaving.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::carry::{Flow, Going};
use super::said::lacks;
use super::transaction::Settling;
use crate::config::model::{Guarantee, OutOfRange};
use crate::data::engine::{Input, LaneId};
use crate::data::lane::Lane;
use crate::data::note::Note;
use crate::data::origin::LaneLabel;
use crate::data::program::Program;
use crate::data::stop::Unreadable;
use crate::kafka::start::{self, Begin};
use crate::kafka::{self, Code, Happening, Partition, TopicId};

/// How long a turn may wait for the group's offsets: the consumer is polled in between.
pub(super) const POSITIONS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the broker may take to say where a partition begins or ends.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(2);
/// How long leaving the group may take: a round that is under way has to end before, which others hear of with a heartbeat.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(8);

impl Flow {
    /// Deals with what happened to the group since the last turn.
    pub(super) fn take_happenings(&mut self, program: &Program) -> Result<(), kafka::Error> {
        while let Some(happening) = self.happenings.pop_front().or_else(|| self.consumer.poll(Duration::ZERO)) {
            self.happened(happening, program)?;
        }
        if self.said.not_before().is_some_and(|time| self.now() < time) {
            return Ok(());
        }
        // Of a transaction that another host has left open, positions may still come.
        if !self.coming.is_empty() && self.settling != Some(Settling::Begin) {
            self.begin(program)?;
        }
        if !self.returning.is_empty() {
            self.come_back(program)?;
        }
        Ok(())
    }

    /// Keeps the member alive while a batch is worked on: what happens is dealt with at the next turn.
    pub(super) fn keep_alive(&mut self) {
        self.health.turned(self.lanes.len());
        while let Some(happening) = self.consumer.poll(Duration::ZERO) {
            self.happenings.push_back(happening);
        }
    }

    fn happened(&mut self, happening: Happening, program: &Program) -> Result<(), kafka::Error> {
        match happening {
            Happening::Assign(partitions) => {
                tracing::info!(shard = self.name, partitions = partitions.len(), which = %listed(&partitions), "Partitions were assigned.");
                if partitions.is_empty() {
                    self.consumer.assign(std::iter::empty())?;
                    self.health.assigned();
                }
                self.coming.extend(partitions);
                Ok(())
            }
            Happening::Revoke { partitions, lost } => self.revoke(partitions, lost),
            // What partitions began with was committed beside what the engine decides.
            Happening::Committed { token: start::TOKEN, .. } => Ok(()),
            Happening::Committed { error, offsets, .. } => self.committed(error, &offsets, program),
            Happening::Error { code, fatal: true, message } => Err(kafka::Error::Fatal { code, message }),
            Happening::Error { code, message, .. } => {
                if self.said.is_news("consumer", Some(code), self.now()) {
                    let lacks = lacks(Some(code), &program.group);
                    tracing::warn!(error = %code, reason = message, lacks, "The consumer reports an error.");
                }
                if code == Code::UNKNOWN_TOPIC_OR_PARTITION {
                    self.missing.insert(message);
                    self.settle_for_none();
                }
                Ok(())
            }
        }
    }

    /// A client whose topics are all missing joins no group before there is one: it has what it can have. Of each it says so once,
    /// whatever it is subscribed to later.
    pub(super) fn settle_for_none(&self) {
        let is_missing = |topic: &String| {
            let named = format!(": {topic}: ");
            self.missing.iter().any(|message| message.contains(&named))
        };
        if self.topics.iter().all(is_missing) {
            self.health.assigned();
        }
    }

    fn committed(
        &mut self,
        error: Option<Code>,
        offsets: &[(Partition, i64, Option<Code>)],
        program: &Program,
    ) -> Result<(), kafka::Error> {
        let refused = error.or_else(|| offsets.iter().find_map(|(.., error)| *error));
        if let Some(error) = refused.filter(|_| self.said.is_news("commit", refused, self.now())) {
            let lacks = lacks(refused, &program.group);
            tracing::warn!(%error, lacks, "A commit failed, or part of it; it is tried again.");
        }
        let accepted = offsets.iter().filter(|(_, _, refused)| error.is_none() && refused.is_none());
        let accepted: Vec<_> = accepted.filter_map(|(partition, ..)| self.lanes.find(partition)).collect();
        self.step(Input::CommitDone { accepted: &accepted })
    }

    /// Finds out where the partitions that came begin, and begins. Where the broker doesn't answer, the next turn tries
    /// again: nothing is fetched until then.
    fn begin(&mut self, program: &Program) -> Result<(), kafka::Error> {
        let coming = self.coming.clone();
        let found = self.know_topics(&coming).and_then(|()| {
            let Self { consumer, topic_ids, starts, .. } = &mut *self;
            let metadata = |topic: &str| program.commit_metadata(topic_ids.get(topic));
            start::positions(consumer, &coming, starts, metadata, commits_first(program), POSITIONS_TIMEOUT)
        });
        let positions = match found {
            Ok(positions) => positions,
            Err(error @ kafka::Error::Fatal { .. }) => return Err(error),
            Err(error) => {
                self.not_told(&error, program);
                return Ok(());
            }
        };
        self.consumer.assign(positions.iter().map(|at| (&*at.topic, at.partition, at.offset)))?;
        self.coming.clear();
        for position in positions {
            let partition = (position.topic, position.partition);
            if program.index.reads(&partition.0) {
                let lane = self.take_on(program, partition, position.offset, !position.first)?;
                self.check_topic(lane, &position.metadata)?;
            } else {
                // The assignment is older than the generation: its events are not to be read, least of all passed.
                self.retire(partition)?;
            }
        }
        self.health.assigned();
        Ok(())
    }

    /// The broker didn't say where partitions go on: it is asked again in a moment.
    pub(super) fn not_told(&mut self, error: &kafka::Error, program: &Program) {
        let now = self.now();
        self.said.refused(now);
        if self.said.is_news("offsets", error.code(), now) {
            let lacks = lacks(error.code(), &program.group);
            tracing::warn!(shard = self.name, %error, lacks, "The group's offsets could not be read; trying again.");
        }
    }

    /// Makes a lane of a partition that is read from an offset on, which the group has `committed` or not.
    pub(super) fn take_on(
        &mut self,
        program: &Program,
        partition: Partition,
        offset: i64,
        committed: bool,
    ) -> Result<LaneId, kafka::Error> {
        tracing::debug!(topic = &*partition.0, partition = partition.1, offset, "A partition begins.");
        let routes = program.index.routes(&partition.0);
        let label = LaneLabel::new(&partition.0, partition.1);
        let topic_id = self.topic_ids.get(&partition.0).cloned();
        let metadata = program.commit_metadata(topic_id.as_ref());
        let (begin, next) = (offset, offset);
        let lane =
            Lane { routes, label, partition, begin, next, topic_id, metadata, stop: None, counted: BTreeSet::new() };
        let paused = self.paused_by(&lane, program).is_some();
        let lane = self.lanes.insert(lane);
        self.step(Input::Assigned { lane, position: offset, committed })?;
        if paused {
            self.step(Input::Paused { lanes: &[lane] })?;
        }
        Ok(lane)
    }

    /// Finds out which topics partitions are of, by their ids.
    pub(super) fn know_topics(&mut self, partitions: &[Partition]) -> Result<(), kafka::Error> {
        let topics: BTreeSet<&Arc<str>> = partitions.iter().map(|(topic, _)| topic).collect();
        let names: Vec<&str> = topics.iter().map(|topic| &***topic).collect();
        let mut ids = self.consumer.topic_ids(&names, OFFSETS_TIMEOUT)?;
        for topic in topics {
            match ids.remove(&**topic) {
                Some(id) => self.topic_ids.insert(Arc::clone(topic), id),
                None => self.topic_ids.remove(topic),
            };
        }
        Ok(())
    }

    /// Halts a partition whose committed offset is one of another topic, which had its name before.
    pub(super) fn check_topic(&mut self, id: LaneId, metadata: &[u8]) -> Result<(), kafka::Error> {
        let before = Note::read(metadata).and_then(|note| note.topic_id());
        let now = self.lanes.get(id).and_then(|lane| lane.topic_id.clone());
        match (before, now) {
            (Some(before), Some(now)) if before != now => {
                if let Some(lane) = self.lanes.get_mut(id) {
                    // What is committed stays an offset of the former one, until somebody says otherwise.
                    lane.metadata = String::from_utf8_lossy(metadata).into_owned();
                    lane.topic_id = Some(before.clone());
                }
                self.halt_unreadable(id, Unreadable::Recreated { before, now })
            }
            _ => Ok(()),
        }
    }

    fn revoke(&mut self, partitions: Vec<Partition>, lost: bool) -> Result<(), kafka::Error> {
        tracing::info!(shard = self.name, partitions = partitions.len(), which = %listed(&partitions), lost, "Partitions were revoked.");
        self.coming.retain(|partition| !partitions.contains(partition));
        self.retired.retain(|partition| !partitions.contains(partition));
        self.returning.retain(|partition| !partitions.contains(partition));
        let lanes: Vec<LaneId> = partitions.iter().filter_map(|partition| self.lanes.find(partition)).collect();
        self.going.push(Going { partitions, lanes: lanes.clone() });
        if lost {
            self.step(Input::Lost { lanes: &lanes })?
        } else {
            self.step(Input::Revoked { lanes: &lanes })?
        }
        self.finish_going()
    }

    /// Whether a lane's partition is being taken away.
    pub(super) fn is_going(&self, id: LaneId) -> bool {
        self.going.iter().any(|going| going.lanes.contains(&id))
    }

    /// Gives back the partitions of a revocation whose lanes are all released.
    pub(super) fn finish_going(&mut self) -> Result<(), kafka::Error> {
        while let Some(index) = self.going.iter().position(|going| going.lanes.is_empty()) {
            let going = self.going.remove(index);
            let partitions: Vec<_> = going.partitions.iter().map(|(topic, number)| (&**topic, *number)).collect();
            self.consumer.unassign(partitions.into_iter())?;
        }
        Ok(())
    }

    /// Leaves the group. Everything is drained by now: what is still revoked is given back at once.
    pub(super) fn leave(&mut self) -> Result<(), kafka::Error> {
        self.answer_group()?;
        if !self.consumer.leave(LEAVE_TIMEOUT)? {
            tracing::warn!(
                shard = self.name,
                "The group was not left in time: it waits for this member's session to end."
            );
        }
        Ok(())
    }

    /// Answers all that the group has said, with nothing: a client with a question that nobody answers never ends.
    pub(super) fn answer_group(&mut self) -> Result<(), kafka::Error> {
        for going in std::mem::take(&mut self.going) {
            let partitions: Vec<_> = going.partitions.iter().map(|(topic, number)| (&**topic, *number)).collect();
            self.consumer.unassign(partitions.into_iter())?;
        }
        // What waits for an answer is answered with what the group takes back anyway.
        for happening in std::mem::take(&mut self.happenings) {
            match happening {
                Happening::Assign(_) => self.consumer.assign(std::iter::empty())?,
                Happening::Revoke { partitions, .. } => {
                    let partitions: Vec<_> = partitions.iter().map(|(topic, number)| (&**topic, *number)).collect();
                    self.consumer.unassign(partitions.into_iter())?;
                }
                Happening::Committed { .. } | Happening::Error { .. } => {}
            }
        }
        if !self.coming.is_empty() {
            self.consumer.assign(std::iter::empty())?;
        }
        Ok(())
    }
}

/// Whether where a partition begins is committed by itself. Exactly once it is part of the first transaction: a commit beside
/// those may come later than they do, and take the group back.
pub(super) fn commits_first(program: &Program) -> bool {
    program.guarantee == Guarantee::AtLeastOnce
}

/// The offset to read from isn't in the log (any more): the group's policy. Where the broker doesn't say where the log
/// begins or ends, a later turn tries again: nothing is fetched until then.
pub(super) fn out_of_range(program: &Program, flow: &mut Flow, id: LaneId) -> Result<(), kafka::Error> {
    let Some(lane) = flow.lanes.get(id) else { return Ok(()) };
    let partition = lane.partition.clone();
    if flow.is_going(id) || lane.routes.is_empty() || !flow.engine.runs(id) {
        // Whoever gets the partition, or reads its topic again, or goes on with it, finds out for themselves.
        return Ok(());
    }
    if !flow.engine.is_committed(id) {
        // What was read before is settled first: of what goes on elsewhere nothing runs again.
        let run = flow.lanes.run(id);
        flow.step(Input::Barrier)?;
        flow.ranges.extend(run.map(|run| (id, run)));
        return Ok(());
    }
    let (topic, number) = (&*partition.0, partition.1);
    match flow.halt_if_made_anew(id) {
        Ok(false) => {}
        Ok(true) => return Ok(()),
        Err(error @ kafka::Error::Fatal { .. }) => return Err(error),
        Err(error) => return flow.ask_again(id, &error),
    }
    let begin = match program.out_of_range {
        OutOfRange::Earliest => Begin::Earliest,
        OutOfRange::Latest => Begin::Latest,
        OutOfRange::Halt => {
            flow.failures.out_of_range(&program.group, topic);
            return flow.halt_unreadable(id, Unreadable::OutOfRange);
        }
    };
    let offset = match flow.consumer.offsets_at([(topic, number, begin)].into_iter(), OFFSETS_TIMEOUT) {
        Ok(offsets) => offsets[0],
        Err(error @ kafka::Error::Fatal { .. }) => return Err(error),
        Err(error) => return flow.ask_again(id, &error),
    };
    flow.failures.out_of_range(&program.group, topic);
    let before = flow.engine.position(id);
    let lost = before.map(|before| (offset - before).max(0));
    tracing::warn!(
        topic,
        partition = number,
        before,
        offset,
        lost,
        "The offset to read from is not in the log: the partition goes on elsewhere (`out_of_range`)."
    );
    // As if it were assigned anew: what was known of it is about a log that isn't there any more.
    flow.step(Input::Lost { lanes: &[id] })?;
    flow.consumer.restart(topic, number, offset)?;
    flow.take_on(program, partition.clone(), offset, false).map(drop)
}

impl Flow {
    /// Halts a partition whose topic is another one by now than when it was assigned. Whether it is so.
    fn halt_if_made_anew(&mut self, id: LaneId) -> Result<bool, kafka::Error> {
        let Some(lane) = self.lanes.get(id) else { return Ok(false) };
        let Some(before) = lane.topic_id.clone() else { return Ok(false) };
        let topic = Arc::clone(&lane.partition.0);
        let now = self.consumer.topic_ids(&[&topic], OFFSETS_TIMEOUT)?.remove(&*topic);
        match now.filter(|now| *now != before) {
            Some(now) => {
                self.topic_ids.insert(topic, now.clone());
                self.halt_unreadable(id, Unreadable::Recreated { before, now }).map(|()| true)
            }
            None => Ok(false),
        }
    }

    /// Whether a lane was begun on another topic than the one that is known to have its name now.
    pub(super) fn made_anew(&self, id: LaneId) -> Option<Unreadable> {
        let lane = self.lanes.get(id)?;
        let (before, now) = (lane.topic_id.clone()?, self.topic_ids.get(&lane.partition.0).cloned()?);
        (before != now).then_some(Unreadable::Recreated { before, now })
    }

    /// Looks again at partitions whose topics seem to be others than when they were assigned: a client that reads on by a topic's
    /// name alone may not notice.
    pub(super) fn compare_topics(&mut self, ids: &HashMap<String, TopicId>) -> Result<(), kafka::Error> {
        let differs = |(_, lane): &(LaneId, &Lane)| {
            lane.topic_id.as_ref().is_some_and(|known| ids.get(lane.topic()).is_some_and(|id| id != known))
        };
        let differing: Vec<_> = self.lanes.iter().filter(differs).map(|(id, _)| id).collect();
        for id in differing {
            if self.is_unreadable(id) || self.is_going(id) {
                continue;
            }
            match self.halt_if_made_anew(id) {
                Err(error @ kafka::Error::Fatal { .. }) => return Err(error),
                // Whoever compares does so again.
                Err(error) => tracing::debug!(%error, "Which topic a partition is of is not known at present."),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// The broker didn't say where a partition goes on: a later turn tries again.
    fn ask_again(&mut self, id: LaneId, error: &kafka::Error) -> Result<(), kafka::Error> {
        let Some(lane) = self.lanes.get(id) else { return Ok(()) };
        let (topic, partition) = (lane.topic(), lane.number());
        tracing::warn!(topic, partition, %error, "The ends of a partition could not be read; trying again.");
        self.ranges.extend(self.lanes.run(id).map(|run| (id, run)));
        Ok(())
    }
}

/// Partitions for the log: the first few, in order.
fn listed(partitions: &[Partition]) -> String {
    const FEW: usize = 8;
    let mut names: Vec<_> = partitions.iter().map(|(topic, number)| format!("{topic}/{number}")).collect();
    names.sort();
    let more = names.len().saturating_sub(FEW);
    names.truncate(FEW);
    let list = names.join(", ");
    if more == 0 { list } else { format!("{list} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_the_first_few_partitions() {
        let partitions = |count| (0..count).rev().map(|number| ("t".into(), number)).collect::<Vec<Partition>>();
        assert_eq!(listed(&partitions(0)), "");
        assert_eq!(listed(&partitions(2)), "t/0, t/1");
        assert_eq!(listed(&partitions(9)), "t/0, t/1, t/2, t/3, t/4, t/5, t/6, t/7 and 1 more");
    }
}
