//! Going over to another generation, between two batches: nothing that was handed to a plugin is unanswered then. What is in
//! flight settles as it would have; plugins that did not change keep their instances; partitions stay where they are unless
//! their topics are read no more, or only now.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Shard;
use super::carry::Flow;
use super::group::{POSITIONS_TIMEOUT, commits_first};
use crate::data::engine::{Input, LaneId};
use crate::data::handover::Cutover;
use crate::data::program::Program;
use crate::kafka::{self, Partition, start};

/// How long it is waited for that nothing is in flight, before routes go to another group.
const DRY_TIMEOUT: Duration = Duration::from_secs(5);

impl Shard {
    /// Has the transaction end, where there is a generation to go over to: one transaction sees one generation.
    pub(super) fn reach_boundary(&mut self) -> Result<(), kafka::Error> {
        let Some((version, next)) = self.flow.handover.newer(self.version) else { return Ok(()) };
        self.flow.end_transaction(&self.program)?;
        if next.positions.is_some() && self.dry != Some(version) {
            self.flow.run_dry(&self.program)?;
            self.dry = Some(version);
        }
        Ok(())
    }

    /// Takes the newest generation, if there is one that this shard doesn't follow yet. A shard that is to stop doesn't: it
    /// takes no more events, and to subscribe anew while it leaves would keep the group from whoever stays.
    pub(super) fn cut_over(&mut self) -> Result<(), kafka::Error> {
        self.flow.take_commands(&self.program)?;
        if self.flow.draining {
            return Ok(());
        }
        let Some((version, next)) = self.flow.handover.newer(self.version) else { return Ok(()) };
        if !self.flow.engine.is_between_transactions() {
            // It was put down while events were waited for: after them.
            return Ok(());
        }
        if next.positions.is_some() && self.dry != Some(version) {
            // Likewise: where partitions stand is said once nothing is in flight.
            return Ok(());
        }
        let begun = Instant::now();
        self.version = version;
        // Where the group only reads other topics than before, nothing else is different: breakers and halts stay as they are.
        let before = (!Arc::ptr_eq(&self.program, &next.program)).then_some(&*self.program);
        if let Some(before) = before {
            self.calls.adopt(before, &next.program);
        }
        self.flow.cut_over(before, &next)?;
        self.program = Arc::clone(&next.program);
        let (group, generation) = (&self.program.group, self.program.generation);
        let pause_us = begun.elapsed().as_micros() as u64;
        tracing::debug!(group, generation, pause_us, "The shard has gone over.");
        Ok(())
    }
}

impl Flow {
    /// `before` is what was followed until now, unless that is what is followed on.
    fn cut_over(&mut self, before: Option<&Program>, next: &Cutover) -> Result<(), kafka::Error> {
        let program = &next.program;
        if let Some(before) = before {
            self.take_reports()?;
            let numbers = before.renumbered(program);
            self.sink.renumber(&numbers);
            self.step(Input::Swapped { routes: &numbers })?;
        }
        self.sink.adopt(&next.outputs)?;
        self.starts = Arc::clone(&next.starts);
        if let Some(positions) = &next.positions {
            // Whoever asked may have given up.
            let _ = positions.lock().unwrap_or_else(PoisonError::into_inner).send(self.positions());
        }
        if before.is_some() {
            self.follow_routes(program)?;
        }
        if self.topics != next.topics {
            self.topics.clone_from(&next.topics);
            self.consumer.subscribe(next.topics.iter().map(String::as_str))?;
            self.settle_for_none();
        }
        self.health.follows(program.generation);
        Ok(())
    }

    /// Lets what is in flight settle, for a while: of a route that moves to another group, this one knows nothing any more once
    /// it has gone over.
    fn run_dry(&mut self, program: &Program) -> Result<(), kafka::Error> {
        let deadline = Instant::now() + DRY_TIMEOUT;
        let is_wet = |flow: &Self| flow.sink.in_flight() > 0 || flow.sink.has_reports();
        while is_wet(self) && !self.draining && Instant::now() < deadline {
            self.wait_for_reports(Duration::from_millis(1))?;
            self.attend(program)?;
        }
        Ok(())
    }

    /// Where a group goes on that gets routes of this one: whatever is in flight all the same may fail, and be of none of them.
    fn positions(&self) -> Vec<(Partition, i64)> {
        let position =
            |(id, lane): (LaneId, &crate::data::lane::Lane)| Some((lane.partition.clone(), self.engine.unsettled(id)?));
        self.lanes.iter().filter_map(position).collect()
    }

    /// Gives each partition the routes that read it now. One that none reads is closed where it stands, so that its events
    /// are there for whoever reads the topic again.
    fn follow_routes(&mut self, program: &Program) -> Result<(), kafka::Error> {
        let (mut ids, mut retired) = (Vec::new(), Vec::new());
        for (id, lane) in self.lanes.iter_mut() {
            lane.routes = program.index.routes(&lane.partition.0);
            lane.metadata = program.commit_metadata(lane.topic_id.as_ref());
            // Its routes have other numbers, and other versions.
            lane.counted.clear();
            // It would name the version that fails now, not the one that failed then.
            if let Some(stop) = &mut lane.stop {
                stop.failures.clear();
            }
            let going = self.going.iter().any(|going| going.lanes.contains(&id));
            if lane.routes.is_empty() && !going && !self.retired.contains(&lane.partition) {
                ids.push(id);
                retired.push(lane.partition.clone());
            }
        }
        for partition in retired {
            self.retire(partition)?;
        }
        if !ids.is_empty() {
            self.step(Input::Revoked { lanes: &ids })?;
        }
        let reads = |partition: &mut Partition| program.index.reads(&partition.0);
        self.returning.extend(self.retired.extract_if(.., reads));
        self.failures.forget_routes();
        self.apply_pauses(program)
    }

    /// Reads a partition no more, though it stays assigned until the group has noticed.
    pub(super) fn retire(&mut self, partition: Partition) -> Result<(), kafka::Error> {
        if let Err(error) = self.consumer.pause([(&*partition.0, partition.1)].into_iter()) {
            // Not paused, it goes on delivering; what belongs to no lane is dropped.
            tracing::debug!(%error, topic = &*partition.0, partition = partition.1, "A partition could not be paused.");
        }
        self.retired.push(partition);
        Ok(())
    }

    /// Reads on with partitions that were retired and are wanted again before the group took them. Where the broker doesn't
    /// answer, the next turn tries again.
    pub(super) fn come_back(&mut self, program: &Program) -> Result<(), kafka::Error> {
        let ready = |partition: &mut Partition| self.lanes.find(partition).is_none();
        let partitions: Vec<_> = self.returning.extract_if(.., ready).collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let found = self.know_topics(&partitions).and_then(|()| {
            let Self { consumer, topic_ids, starts, .. } = &mut *self;
            let metadata = |topic: &str| program.commit_metadata(topic_ids.get(topic));
            start::positions(consumer, &partitions, starts, metadata, commits_first(program), POSITIONS_TIMEOUT)
        });
        match found {
            Ok(positions) => {
                for position in positions {
                    let partition: Partition = (position.topic, position.partition);
                    if program.index.reads(&partition.0) {
                        // It is assigned all the time, and only paused. To assign it anew could pass for the answer to a
                        // rebalance that has just begun.
                        let lane = self.take_on(program, partition, position.offset, !position.first)?;
                        self.resume(lane, position.offset);
                        self.check_topic(lane, &position.metadata)?;
                    } else {
                        self.retired.push(partition);
                    }
                }
                Ok(())
            }
            Err(error @ kafka::Error::Fatal { .. }) => Err(error),
            Err(error) => {
                self.not_told(&error, program);
                self.returning.extend(partitions);
                Ok(())
            }
        }
    }
}
