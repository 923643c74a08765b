//! One consumer group as a state machine: requests and the time go in, answers come out. It never waits, reads no clock
//! and knows no connection: whoever waits is a [`Token`], which is answered once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

/// Milliseconds on a clock that never goes back.
pub(crate) type Millis = u64;

/// Stands for someone who waits for an answer.
pub(crate) type Token = u64;

/// How long the first members wait for others before a new group starts, so that members that start together need one
/// round.
const FIRST_JOIN_DELAY: Millis = 50;

/// What sessions may last.
const SESSION_TIMEOUT: std::ops::RangeInclusive<i32> = 100..=1_800_000;

/// How many members a group may have.
const MEMBERS_MAX: usize = 10_000;

/// What a member says when it joins.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) member_id: String,
    /// Whether a member without an id is given one and told to come back with it.
    pub(crate) id_required: bool,
    /// An id that is free, should one be needed.
    pub(crate) fresh_id: String,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) session_timeout_ms: i32,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) protocol_type: String,
    /// Names and metadata, the most wanted first.
    pub(crate) protocols: Vec<(String, Bytes)>,
}

/// What a member is told when all have joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) leader: String,
    pub(crate) member_id: String,
    /// All members and their metadata; only the leader gets them.
    pub(crate) members: Vec<(String, Bytes)>,
}

/// Why a join failed, and with which member id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotJoined {
    pub(crate) error: ResponseError,
    pub(crate) member_id: String,
}

/// What a member is told when the leader has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) assignment: Bytes,
}

/// An answer for someone who waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Join(Token, Result<Joined, NotJoined>),
    Sync(Token, Result<Synced, ResponseError>),
}

/// Where a group is in its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Waits for members to join; those who don't by the deadline are out. The first round doesn't end early.
    Joining { deadline: Millis, first: bool },
    /// Waits for the leader's decision; those who don't ask for it by the deadline are out.
    Syncing { deadline: Millis },
    /// Everyone knows what is theirs.
    Stable,
}

impl State {
    /// As Kafka calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Joining { .. } => "PreparingRebalance",
            Self::Syncing { .. } => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A member of a group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    session_timeout: Millis,
    rebalance_timeout: Millis,
    protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    /// Out, unless heard of before.
    deadline: Millis,
    joining: Option<Token>,
    syncing: Option<Token>,
}

impl Member {
    /// What it said for a protocol.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }
}

/// A consumer group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) state: State,
    generation: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    leader: String,
    pub(crate) members: BTreeMap<String, Member>,
    /// Ids given out to members that have not come back with them yet, and until when they may.
    pending: BTreeMap<String, Millis>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            protocol_type: String::new(),
            protocol: String::new(),
            leader: String::new(),
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
        }
    }
}

impl Group {
    /// Whether nothing would be lost if it were forgotten.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty()
    }

    /// A member joins, for the first time or again; `token` is answered when the round ends, or at once.
    pub(crate) fn join(&mut self, token: Token, join: Join, now: Millis) -> Vec<Answer> {
        let refuse = |error, member_id: &str| {
            vec![Answer::Join(token, Err(NotJoined { error, member_id: member_id.to_owned() }))]
        };
        if !SESSION_TIMEOUT.contains(&join.session_timeout_ms) {
            return refuse(ResponseError::InvalidSessionTimeout, &join.member_id);
        }
        if !self.accepts(&join) {
            return refuse(ResponseError::InconsistentGroupProtocol, &join.member_id);
        }
        let known = self.members.contains_key(&join.member_id);
        if !known && self.members.len() + self.pending.len() >= MEMBERS_MAX {
            return refuse(ResponseError::GroupMaxSizeReached, &join.member_id);
        }
        if join.member_id.is_empty() {
            if join.id_required {
                let until = now + join.session_timeout_ms.unsigned_abs() as Millis;
                self.pending.insert(join.fresh_id.clone(), until);
                return refuse(ResponseError::MemberIdRequired, &join.fresh_id);
            }
            let id = join.fresh_id.clone();
            return self.add(token, id, join, now);
        }
        if self.pending.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            return self.add(token, id, join, now);
        }
        if !known {
            return refuse(ResponseError::UnknownMemberId, &join.member_id);
        }
        self.rejoin(token, join, now)
    }

    /// Whether it speaks what the others speak.
    fn accepts(&self, join: &Join) -> bool {
        if join.protocols.is_empty() || join.protocol_type.is_empty() {
            return false;
        }
        let others = || self.members.iter().filter(|(id, _)| **id != join.member_id).map(|(_, member)| member);
        let shared = |name: &str| others().all(|other| other.protocols.iter().any(|(known, _)| known == name));
        others().next().is_none()
            || (join.protocol_type == self.protocol_type && join.protocols.iter().any(|(name, _)| shared(name)))
    }

    fn add(&mut self, token: Token, id: String, join: Join, now: Millis) -> Vec<Answer> {
        if self.members.is_empty() {
            self.protocol_type = join.protocol_type;
            self.leader.clone_from(&id);
        }
        let session_timeout = join.session_timeout_ms.unsigned_abs() as Millis;
        let member = Member {
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout,
            rebalance_timeout: join.rebalance_timeout_ms.max(1).unsigned_abs() as Millis,
            protocols: join.protocols,
            assignment: Bytes::new(),
            deadline: now + session_timeout,
            joining: Some(token),
            syncing: None,
        };
        self.members.insert(id, member);
        self.rebalance(now)
    }

    fn rejoin(&mut self, token: Token, join: Join, now: Millis) -> Vec<Answer> {
        let leads = self.leader == join.member_id;
        let Some(member) = self.members.get_mut(&join.member_id) else { return Vec::new() };
        let changed = member.protocols != join.protocols;
        member.protocols = join.protocols;
        member.session_timeout = join.session_timeout_ms.unsigned_abs() as Millis;
        member.rebalance_timeout = join.rebalance_timeout_ms.max(1).unsigned_abs() as Millis;
        member.deadline = now + member.session_timeout;
        let stays = match self.state {
            State::Syncing { .. } => !changed,
            State::Stable => !changed && !leads,
            State::Empty | State::Joining { .. } => false,
        };
        if stays {
            // It missed the last answer: the round goes on without a new one.
            return vec![Answer::Join(token, Ok(self.joined(&join.member_id)))];
        }
        let earlier = member.joining.replace(token).map(|earlier| {
            let error = ResponseError::RebalanceInProgress;
            Answer::Join(earlier, Err(NotJoined { error, member_id: join.member_id }))
        });
        earlier.into_iter().chain(self.rebalance(now)).collect()
    }

    /// Starts a round, or goes on with the one that is under way.
    fn rebalance(&mut self, now: Millis) -> Vec<Answer> {
        let mut answers = Vec::new();
        match self.state {
            State::Joining { .. } => {}
            State::Empty => self.state = State::Joining { deadline: now + FIRST_JOIN_DELAY, first: true },
            State::Syncing { .. } | State::Stable => {
                for member in self.members.values_mut() {
                    if let Some(token) = member.syncing.take() {
                        answers.push(Answer::Sync(token, Err(ResponseError::RebalanceInProgress)));
                    }
                }
                let patience = self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or(0);
                self.state = State::Joining { deadline: now + patience, first: false };
            }
        }
        answers.extend(self.end_join_early(now));
        answers
    }

    /// Ends the round of joining when nobody is missing.
    fn end_join_early(&mut self, now: Millis) -> Vec<Answer> {
        let all = self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some());
        match self.state {
            State::Joining { first: false, .. } if all => self.end_join(now),
            State::Joining { first: true, .. } if self.is_idle() => self.end_join(now),
            _ => Vec::new(),
        }
    }

    fn end_join(&mut self, now: Millis) -> Vec<Answer> {
        self.members.retain(|_, member| member.joining.is_some());
        self.generation = self.generation.wrapping_add(1).max(1);
        let Some(first) = self.members.keys().next() else {
            self.state = State::Empty;
            self.protocol.clear();
            return Vec::new();
        };
        if !self.members.contains_key(&self.leader) {
            self.leader = first.clone();
        }
        self.protocol = self.vote();
        let patience = self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or(0);
        self.state = State::Syncing { deadline: now + patience };
        let mut waiting = Vec::new();
        for (id, member) in &mut self.members {
            member.deadline = now + member.session_timeout;
            waiting.extend(member.joining.take().map(|token| (token, id.clone())));
        }
        waiting.into_iter().map(|(token, id)| Answer::Join(token, Ok(self.joined(&id)))).collect()
    }

    /// The protocol that most members prefer among those that all speak.
    fn vote(&self) -> String {
        let spoken =
            |name: &str| self.members.values().all(|member| member.protocols.iter().any(|(known, _)| known == name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| spoken(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|&(_, votes)| votes).map(|(name, _)| name.to_owned()).unwrap_or_default()
    }

    fn joined(&self, member_id: &str) -> Joined {
        let all = || self.members.iter().map(|(id, member)| (id.clone(), member.metadata(&self.protocol))).collect();
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            member_id: member_id.to_owned(),
            members: if member_id == self.leader { all() } else { Vec::new() },
        }
    }

    /// A member asks for what is its own; the leader brings what is everyone's.
    pub(crate) fn sync(
        &mut self,
        token: Token,
        member_id: &str,
        generation: i32,
        protocol: Option<(&str, &str)>,
        assignments: Vec<(String, Bytes)>,
        now: Millis,
    ) -> Vec<Answer> {
        let refuse = |error| vec![Answer::Sync(token, Err(error))];
        if let Err(error) = self.check_member(member_id, generation) {
            return refuse(error);
        }
        if protocol.is_some_and(|(kind, name)| kind != self.protocol_type || name != self.protocol) {
            return refuse(ResponseError::InconsistentGroupProtocol);
        }
        let Some(member) = self.members.get_mut(member_id) else { return refuse(ResponseError::UnknownMemberId) };
        member.deadline = now + member.session_timeout;
        match self.state {
            State::Empty => return refuse(ResponseError::UnknownMemberId),
            State::Joining { .. } => return refuse(ResponseError::RebalanceInProgress),
            State::Syncing { .. } => {}
            State::Stable => {
                let assignment = member.assignment.clone();
                return vec![Answer::Sync(token, Ok(self.synced(assignment)))];
            }
        }
        let earlier = member.syncing.replace(token);
        let mut refused: Vec<Answer> =
            earlier.map(|token| Answer::Sync(token, Err(ResponseError::RebalanceInProgress))).into_iter().collect();
        if member_id != self.leader {
            return refused;
        }
        self.state = State::Stable;
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        let mut answers = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
            answers.extend(member.syncing.take().map(|token| (token, member.assignment.clone())));
        }
        refused.extend(answers.into_iter().map(|(token, own)| Answer::Sync(token, Ok(self.synced(own)))));
        refused
    }

    fn synced(&self, assignment: Bytes) -> Synced {
        Synced { protocol_type: self.protocol_type.clone(), protocol: self.protocol.clone(), assignment }
    }

    /// A member says that it lives.
    pub(crate) fn heartbeat(&mut self, member_id: &str, generation: i32, now: Millis) -> Result<(), ResponseError> {
        self.check_member(member_id, generation)?;
        self.touch(member_id, now);
        match self.state {
            State::Joining { .. } => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// A member goes.
    pub(crate) fn leave(&mut self, member_id: &str, now: Millis) -> (Result<(), ResponseError>, Vec<Answer>) {
        if self.pending.remove(member_id).is_some() {
            return (Ok(()), self.end_join_early(now));
        }
        if !self.members.contains_key(member_id) {
            return (Err(ResponseError::UnknownMemberId), Vec::new());
        }
        (Ok(()), self.remove(member_id, now))
    }

    /// Whether offsets may be committed: by a member of this generation, or by anyone while there are no members.
    pub(crate) fn may_commit(&mut self, member_id: &str, generation: i32, now: Millis) -> Result<(), ResponseError> {
        if generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        self.check_member(member_id, generation)?;
        self.touch(member_id, now);
        match self.state {
            State::Syncing { .. } => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// Whether offsets may be committed with a transaction: by a member of this generation, or for nobody in particular.
    pub(crate) fn may_commit_with_transaction(&self, member_id: &str, generation: i32) -> Result<(), ResponseError> {
        let anyone = generation < 0 && (member_id.is_empty() || self.members.is_empty());
        if anyone { Ok(()) } else { self.check_member(member_id, generation) }
    }

    /// When [`Group::tick`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let round = match self.state {
            State::Joining { deadline, .. } | State::Syncing { deadline } => Some(deadline),
            State::Empty | State::Stable => None,
        };
        let waits = |member: &&Member| member.joining.is_none();
        let sessions = self.members.values().filter(waits).map(|member| member.deadline);
        sessions.chain(self.pending.values().copied()).chain(round).min()
    }

    /// Does what the time asks for: ends rounds, and sessions of members that were not heard of.
    pub(crate) fn tick(&mut self, now: Millis) -> Vec<Answer> {
        let before = self.pending.len();
        self.pending.retain(|_, until| *until > now);
        let mut answers = if self.pending.len() < before { self.end_join_early(now) } else { Vec::new() };
        let silent = |member: &Member| member.joining.is_none() && member.deadline <= now;
        let late = |member: &Member| {
            matches!(self.state, State::Syncing { deadline } if deadline <= now) && member.syncing.is_none()
        };
        let gone: BTreeSet<String> = self
            .members
            .iter()
            .filter(|(_, member)| silent(member) || late(member))
            .map(|(id, _)| id.clone())
            .collect();
        for id in gone {
            answers.extend(self.remove(&id, now));
        }
        match self.state {
            State::Joining { deadline, .. } if deadline <= now => answers.extend(self.end_join(now)),
            _ => {}
        }
        answers
    }

    fn remove(&mut self, member_id: &str, now: Millis) -> Vec<Answer> {
        let Some(member) = self.members.remove(member_id) else { return Vec::new() };
        let mut answers = Vec::new();
        let error = ResponseError::UnknownMemberId;
        if let Some(token) = member.joining {
            answers.push(Answer::Join(token, Err(NotJoined { error, member_id: member_id.to_owned() })));
        }
        if let Some(token) = member.syncing {
            answers.push(Answer::Sync(token, Err(error)));
        }
        answers.extend(match self.state {
            State::Empty => Vec::new(),
            State::Joining { .. } => self.end_join_early(now),
            State::Syncing { .. } | State::Stable => self.rebalance(now),
        });
        answers
    }

    fn touch(&mut self, member_id: &str, now: Millis) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.deadline = now + member.session_timeout;
        }
    }

    fn check_member(&self, member_id: &str, generation: i32) -> Result<(), ResponseError> {
        if !self.members.contains_key(member_id) {
            return Err(ResponseError::UnknownMemberId);
        }
        if generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
