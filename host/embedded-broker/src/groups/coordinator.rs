//! All groups of the broker: hands requests to their state machines, keeps those who wait for an answer, and lets time
//! pass for them. It owns the locks; decisions are the machines'.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::machine::{Answer, Group, Join, Joined, Millis, NotJoined, Synced, Token};
use super::offsets::{Committed, Offsets, Partition};
use crate::Error;

/// The groups, and what they committed.
#[derive(Debug)]
pub(crate) struct Coordinator {
    running: Mutex<Running>,
    offsets: Mutex<Offsets>,
    /// Told when a deadline may have come nearer.
    changed: Notify,
    started: Instant,
}

#[derive(Debug, Default)]
struct Running {
    /// Groups with members; the others are only offsets.
    groups: HashMap<String, Group>,
    last_token: Token,
    joins: HashMap<Token, oneshot::Sender<Result<Joined, NotJoined>>>,
    syncs: HashMap<Token, oneshot::Sender<Result<Synced, ResponseError>>>,
}

impl Running {
    fn token(&mut self) -> Token {
        self.last_token += 1;
        self.last_token
    }

    /// Keeps someone who waits; those whose connection is gone make room.
    fn keep<T>(waiting: &mut HashMap<Token, oneshot::Sender<T>>, token: Token) -> oneshot::Receiver<T> {
        if waiting.len() == waiting.capacity() {
            waiting.retain(|_, sender| !sender.is_closed());
        }
        let (sender, receiver) = oneshot::channel();
        waiting.insert(token, sender);
        receiver
    }

    fn deliver(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            // Whoever isn't there any more has lost the connection, and is found missing by its session.
            match answer {
                Answer::Join(token, outcome) => {
                    if let Some(sender) = self.joins.remove(&token) {
                        let _ = sender.send(outcome);
                    }
                }
                Answer::Sync(token, outcome) => {
                    if let Some(sender) = self.syncs.remove(&token) {
                        let _ = sender.send(outcome);
                    }
                }
            }
        }
    }
}

/// What a member brings to the second half of a round.
#[derive(Debug)]
pub(crate) struct Sync {
    pub(crate) group: String,
    pub(crate) member_id: String,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<(String, String)>,
    pub(crate) assignments: Vec<(String, Bytes)>,
}

impl Coordinator {
    /// A coordinator of groups that all have no members.
    pub(crate) fn new(offsets: Offsets) -> Self {
        Self {
            running: Mutex::default(),
            offsets: Mutex::new(offsets),
            changed: Notify::new(),
            started: Instant::now(),
        }
    }

    /// Joins a group; returns when the round of joining ends.
    pub(crate) async fn join(&self, group: &str, join: Join) -> Result<Joined, NotJoined> {
        let member_id = join.member_id.clone();
        let answer = {
            let now = self.now();
            let mut running = self.running();
            let token = running.token();
            let receiver = Running::keep(&mut running.joins, token);
            let answers = running.groups.entry(group.to_owned()).or_default().join(token, join, now);
            running.deliver(answers);
            running.groups.retain(|name, state| name != group || !state.is_idle());
            receiver
        };
        self.changed.notify_one();
        let lost = NotJoined { error: ResponseError::CoordinatorNotAvailable, member_id };
        answer.await.unwrap_or(Err(lost))
    }

    /// Asks for an assignment; returns when the leader has decided.
    pub(crate) async fn sync(&self, sync: Sync) -> Result<Synced, ResponseError> {
        let answer = {
            let now = self.now();
            let mut running = self.running();
            let token = running.token();
            let receiver = Running::keep(&mut running.syncs, token);
            let Some(group) = running.groups.get_mut(&sync.group) else { return Err(ResponseError::UnknownMemberId) };
            let protocol = sync.protocol.as_ref().map(|(kind, name)| (kind.as_str(), name.as_str()));
            let answers = group.sync(token, &sync.member_id, sync.generation, protocol, sync.assignments, now);
            running.deliver(answers);
            receiver
        };
        self.changed.notify_one();
        answer.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
    }

    /// A member says that it lives.
    pub(crate) fn heartbeat(&self, group: &str, member_id: &str, generation: i32) -> Result<(), ResponseError> {
        let now = self.now();
        let mut running = self.running();
        let group = running.groups.get_mut(group).ok_or(ResponseError::UnknownMemberId)?;
        group.heartbeat(member_id, generation, now)
    }

    /// A member goes.
    pub(crate) fn leave(&self, group: &str, member_id: &str) -> Result<(), ResponseError> {
        let now = self.now();
        let mut running = self.running();
        let state = running.groups.get_mut(group).ok_or(ResponseError::UnknownMemberId)?;
        let (outcome, answers) = state.leave(member_id, now);
        if state.is_idle() {
            running.groups.remove(group);
        }
        running.deliver(answers);
        drop(running);
        self.changed.notify_one();
        outcome
    }

    /// Whether offsets may be committed by whom.
    pub(crate) fn may_commit(&self, group: &str, member_id: &str, generation: i32) -> Result<(), ResponseError> {
        let now = self.now();
        match self.running().groups.get_mut(group) {
            Some(group) => group.may_commit(member_id, generation, now),
            None if generation < 0 => Ok(()),
            None => Err(ResponseError::UnknownMemberId),
        }
    }

    /// Commits offsets durably. Blocks on the file system.
    pub(crate) fn commit(&self, group: &str, offsets: Vec<(Partition, Committed)>) -> Result<(), Error> {
        self.offsets().commit(group, offsets)
    }

    /// Whether offsets may be committed by whom with a transaction. Unlike [`Coordinator::may_commit`], a producer that
    /// doesn't say for which member it does so is believed, and a round that is under way is no reason to refuse.
    pub(crate) fn may_commit_with_transaction(
        &self,
        group: &str,
        member_id: &str,
        generation: i32,
    ) -> Result<(), ResponseError> {
        match self.running().groups.get(group) {
            Some(group) => group.may_commit_with_transaction(member_id, generation),
            None if generation < 0 => Ok(()),
            None => Err(ResponseError::IllegalGeneration),
        }
    }

    /// Commits the offsets of a transaction durably, and has `then` done before anyone else commits any: done again after
    /// a crash in between, it must not undo what came later. Blocks on the file system.
    pub(crate) fn commit_transaction(
        &self,
        offsets: BTreeMap<String, Vec<(Partition, Committed)>>,
        then: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut all = self.offsets();
        for (group, offsets) in offsets {
            all.commit(&group, offsets)?;
        }
        then()
    }

    /// What a group committed: for these partitions, or all.
    pub(crate) fn committed(&self, group: &str, partitions: Option<&[Partition]>) -> Vec<(Partition, Committed)> {
        let offsets = self.offsets();
        match partitions {
            None => offsets.all(group).map(|(partition, committed)| (partition, committed.clone())).collect(),
            Some(partitions) => partitions
                .iter()
                .filter_map(|&partition| Some((partition, offsets.get(group, partition)?.clone())))
                .collect(),
        }
    }

    /// Looks at a group with members.
    pub(crate) fn look<T>(&self, group: &str, look: impl FnOnce(&Group) -> T) -> Option<T> {
        self.running().groups.get(group).map(look)
    }

    /// The names of all groups, with members or without.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = self.running().groups.keys().cloned().collect();
        names.extend(self.offsets().groups().map(str::to_owned));
        names
    }

    /// Whether a group has committed anything.
    pub(crate) fn has_offsets(&self, group: &str) -> bool {
        self.offsets().all(group).next().is_some()
    }

    /// Forgets a group without members. Blocks on the file system.
    pub(crate) fn delete_group(&self, group: &str) -> Result<(), ResponseError> {
        if self.running().groups.contains_key(group) {
            return Err(ResponseError::NonEmptyGroup);
        }
        match self.offsets().delete_group(group) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ResponseError::GroupIdNotFound),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, group, "Group not deleted.");
                Err(ResponseError::KafkaStorageError)
            }
        }
    }

    /// Forgets what was committed for a topic. Blocks on the file system.
    pub(crate) fn delete_topic(&self, topic: Uuid) -> Result<(), Error> {
        self.offsets().delete_topic(topic)
    }

    /// Has everything written to disk.
    pub(crate) fn close(&self) -> Result<(), Error> {
        self.offsets().close()
    }

    /// Lets time pass for the groups, for ever.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let next = self.tick().map(|millis| self.started + Duration::from_millis(millis));
            match next {
                Some(next) => {
                    let _ = tokio::time::timeout_at(next, self.changed.notified()).await;
                }
                None => self.changed.notified().await,
            }
        }
    }

    fn tick(&self) -> Option<Millis> {
        let now = self.now();
        let mut running = self.running();
        let answers = running.groups.values_mut().flat_map(|group| group.tick(now)).collect();
        running.deliver(answers);
        running.groups.retain(|_, group| !group.is_idle());
        running.groups.values().filter_map(Group::next_deadline).min()
    }

    fn now(&self) -> Millis {
        // Rounded up: what is due at a deadline is due once the timer of that deadline has fired.
        self.started.elapsed().as_micros().div_ceil(1000) as Millis
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offsets(&self) -> MutexGuard<'_, Offsets> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
