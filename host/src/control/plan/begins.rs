//! Where routes begin to read what they didn't read before, and what that skips or repeats. The rules are the host's: a group
//! goes on where it stands; where it stands nowhere, it takes over where the group stands that a route was moved from; a group
//! that was never seen begins where its `start` says; everything else begins with its first event.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::{OnBroker, Position};
use crate::control::config_view::{ConfigView, RouteView, Value};

/// Topics that belong to brokers and tools; patterns never match them.
const INTERNAL_PREFIX: &str = "__";

/// A route that begins to read a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The route's name.
    pub route: String,
    /// The group that it reads with.
    pub group: String,
    /// What it reads.
    pub topic: String,
    /// Ascending.
    pub partitions: Vec<BeginPartition>,
}

/// Where it begins. Counts are of offsets, which are events but where a topic is compacted or transactional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginPartition {
    /// The partition.
    pub partition: i32,
    /// The first offset that it reads.
    pub offset: i64,
    /// What that follows from.
    pub origin: Origin,
    /// Offsets that are there, or were, and that it will never have read.
    pub skipped: i64,
    /// Offsets that it has read already, with another group.
    pub repeated: i64,
    /// Offsets that wait for it.
    pub waiting: i64,
}

/// What a beginning follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The group stands there.
    Committed,
    /// The group is new: its `start`.
    Start,
    /// The group has no offset there: the one that the route was moved from stands there.
    Moved,
    /// The partition is new to the group: its first event.
    First,
    /// The group stands where nothing is any more: its `out_of_range` decides.
    OutOfRange,
}

/// The topics that a route names.
pub(super) fn named(route: &RouteView) -> impl Iterator<Item = &str> {
    route.from.iter().map(String::as_str).filter(|from| pattern(from).is_none())
}

/// The pattern between slashes; no topic's name has a slash.
fn pattern(from: &str) -> Option<&str> {
    from.strip_prefix('/').and_then(|from| from.strip_suffix('/'))
}

/// The topics that a route reads, of those that there are.
fn reads(route: &RouteView, topics: &BTreeMap<String, i32>) -> BTreeSet<String> {
    let patterns: Vec<Regex> =
        route.from.iter().filter_map(|from| pattern(from)).filter_map(|text| Regex::new(text).ok()).collect();
    let matches =
        |topic: &str| !topic.starts_with(INTERNAL_PREFIX) && patterns.iter().any(|pattern| pattern.is_match(topic));
    let named: BTreeSet<&str> = named(route).collect();
    topics.keys().filter(|topic| named.contains(topic.as_str()) || matches(topic)).cloned().collect()
}

/// Groups and topics whose positions [`plan`](super::plan) has to know.
pub fn wanted(
    live: &ConfigView,
    next: &ConfigView,
    topics: &BTreeMap<String, i32>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for route in live.routes.iter().chain(&next.routes) {
        wanted.entry(route.group.clone()).or_default().extend(reads(route, topics));
    }
    wanted
}

/// Whether a group has committed anything.
pub(super) fn is_seen(broker: &OnBroker, group: &str) -> bool {
    broker.positions.iter().any(|position| position.group == group && position.committed.is_some())
}

/// In the order of the routes, then of the topics.
pub(super) fn plan(live: &ConfigView, next: &ConfigView, broker: &OnBroker) -> Vec<Begin> {
    let moves = moves(live, next, &broker.topics);
    let mut begins = Vec::new();
    for route in &next.routes {
        let before = before(live, route);
        let read_before = before.map(|before| reads(before, &broker.topics)).unwrap_or_default();
        for topic in reads(route, &broker.topics) {
            let old = before.filter(|_| read_before.contains(&topic)).map(|before| before.group.as_str());
            if old == Some(route.group.as_str()) {
                continue;
            }
            let group = GroupBegin {
                broker,
                is_new: !live.groups.contains_key(&route.group) && !is_seen_but_for(broker, &route.group, &moves),
                moved_from: moves.get(&(route.group.clone(), topic.clone())).map(String::as_str),
            };
            let begin = |position: &Position| group.begin(position, old);
            let partitions: Vec<_> = positions(broker, &route.group, &topic).map(begin).collect();
            if !partitions.is_empty() {
                begins.push(Begin { route: route.name.clone(), group: route.group.clone(), topic, partitions });
            }
        }
    }
    begins
}

/// What a route was before: what its state hangs on is the same.
pub(super) fn before<'v>(live: &'v ConfigView, route: &RouteView) -> Option<&'v RouteView> {
    let id = match route.settings.get("was") {
        Some(Value::Shown(was)) => was,
        _ => &route.id,
    };
    live.routes.iter().find(|live| live.id == *id)
}

/// For groups and topics that routes bring from another group: which.
fn moves(live: &ConfigView, next: &ConfigView, topics: &BTreeMap<String, i32>) -> BTreeMap<(String, String), String> {
    let mut moves = BTreeMap::new();
    for route in &next.routes {
        let Some(before) = before(live, route).filter(|before| before.group != route.group) else { continue };
        let both = reads(before, topics).intersection(&reads(route, topics)).cloned().collect::<Vec<_>>();
        moves.extend(both.into_iter().map(|topic| ((route.group.clone(), topic), before.group.clone())));
    }
    moves
}

/// Whether a group has committed anything for topics other than those that are brought to it.
fn is_seen_but_for(broker: &OnBroker, group: &str, moves: &BTreeMap<(String, String), String>) -> bool {
    let brought = |topic: &String| moves.contains_key(&(group.to_owned(), topic.clone()));
    let mut positions = broker.positions.iter().filter(|position| position.group == group);
    positions.any(|position| position.committed.is_some() && !brought(&position.topic))
}

fn positions<'b>(broker: &'b OnBroker, group: &'b str, topic: &'b str) -> impl Iterator<Item = &'b Position> {
    broker.positions.iter().filter(move |position| position.group == group && position.topic == topic)
}

/// How a group begins with a topic.
struct GroupBegin<'b> {
    broker: &'b OnBroker,
    /// Nobody has seen it, so that its `start` holds.
    is_new: bool,
    /// The group that a route brings the topic from.
    moved_from: Option<&'b str>,
}

impl GroupBegin<'_> {
    /// Where one partition begins for a route, which read it with the group `old` so far.
    fn begin(&self, position: &Position, old: Option<&str>) -> BeginPartition {
        let Position { group: _, topic, partition, committed, begin, end, start } = position;
        let stands = |group: Option<&str>| {
            let mut found = positions(self.broker, group?, topic).filter(|position| position.partition == *partition);
            found.find_map(|position| position.committed)
        };
        let (offset, origin) = match (committed, self.moved_from, stands(self.moved_from)) {
            (Some(committed), ..) if committed < begin || committed > end => (*committed, Origin::OutOfRange),
            (Some(committed), ..) => (*committed, Origin::Committed),
            // What was deleted meanwhile can't be read any more.
            (None, Some(_), Some(stands)) => (stands.max(*begin), Origin::Moved),
            (None, None, _) if self.is_new => (*start, Origin::Start),
            (None, ..) => (*begin, Origin::First),
        };
        let (skipped, repeated) = match stands(old) {
            Some(stood) => ((offset - stood).max(0), (stood - offset).max(0)),
            None => ((offset - *begin).abs(), 0),
        };
        let waiting = (*end - offset.max(*begin)).max(0);
        BeginPartition { partition: *partition, offset, origin, skipped, repeated, waiting }
    }
}
