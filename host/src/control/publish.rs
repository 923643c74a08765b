//! Makes a prepared generation live: its topics are seen to, its number and contents are kept, the shards are handed their
//! programs. Up to the hand-over, whatever fails leaves what is live untouched; from there on nothing can be refused.
//!
//! A route that moves to a group without offsets goes on where its old group stood when that one went over. So groups that
//! lose routes go over first, and what they get from others they read only once it is known where. Until the broker has kept
//! that, it has kept where the old group stood before anything was published: killed in between, the route begins there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::admin::Access;
use super::blocking;
use super::prepare::{Live, Next, Tools};
use super::shards::{self, Shards, Wanted};
use super::status::Status;
use super::topics::{self, Found, Patience};
use crate::config::model::{Config, Route};
use crate::data::handover::Starts;
use crate::data::program::Program;
use crate::data::route::Index;
use crate::kafka::topics::{TopicInfo, Topics};
use crate::kafka::{Connection, Partition};

/// How long shards may take to go over, before what waits for them gives up: a batch may take this long at most.
const CUTOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether they have.
const CUTOVER_INTERVAL: Duration = Duration::from_millis(1);

/// How long a route that moves waits for what its old group has in flight, and how often it is looked.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(2);
const COMMITTED_INTERVAL: Duration = Duration::from_millis(20);

/// What doesn't change while the process runs.
#[derive(Clone)]
pub struct Host {
    /// The file that it was started with.
    pub config_path: PathBuf,
    /// To prepare generations with.
    pub tools: Tools,
    /// Where the events live.
    pub connection: Connection,
    /// Names this host to the broker.
    pub instance: String,
    /// Asks the broker for topics.
    pub topics: Arc<Topics>,
    /// What others see.
    pub status: Status,
    /// Who may ask for more.
    pub access: Access,
    /// Set where the host is told to stop while something waits for the broker.
    pub stopping: Arc<AtomicBool>,
}

/// Routes that go from one group to another, by the group that loses them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// The group that gets them, and the topics that they read in both.
    by_origin: BTreeMap<String, Vec<(String, BTreeSet<String>)>>,
}

impl Moves {
    /// What moves between two configs, among the topics that there are.
    pub fn between(before: &Config, next: &Config, found: &Found) -> Self {
        let mut moves = Self::default();
        // Of ten thousand routes, each is looked up once.
        let homes: HashMap<&str, &Route> = before.routes.iter().map(|route| (route.id.as_str(), &**route)).collect();
        for route in &next.routes {
            let Some(old) = homes.get(route.was.as_deref().unwrap_or(&route.id)) else { continue };
            let (origin, group) = (&before.groups[old.group].name, &next.groups[route.group].name);
            if origin == group {
                continue;
            }
            let [old, new] = [*old, &**route].map(|route| Index::new(std::iter::once(route)));
            let both = |topic: &&str| old.reads(topic) && new.reads(topic);
            let topics = found.present.iter().map(|topic| topic.name.as_str()).filter(both);
            let topics: BTreeSet<_> = topics.map(str::to_owned).collect();
            if !topics.is_empty() {
                moves.by_origin.entry(origin.clone()).or_default().push((group.clone(), topics));
            }
        }
        moves
    }

    /// The groups that lose routes to this one, with what those read.
    fn to<'m>(&'m self, group: &'m str) -> impl Iterator<Item = (&'m str, &'m BTreeSet<String>)> {
        let moves = self.by_origin.iter().flat_map(|(origin, to)| to.iter().map(move |to| (origin, to)));
        moves.filter(move |(_, (to, _))| to == group).map(|(origin, (_, topics))| (origin.as_str(), topics))
    }

    /// The topics that a group gets with routes of others.
    fn topics_to(&self, group: &str) -> BTreeSet<String> {
        self.to(group).flat_map(|(_, topics)| topics.iter().cloned()).collect()
    }
}

/// Sees to the topics of a generation: those that routes write to are there, or are made; new groups have a beginning. `before`
/// is the config that is live, or was when the host stopped, and `live` what runs of it.
///
/// # Errors
/// Where topics are missing, or the broker refuses, or doesn't answer for longer than patience allows.
pub fn see_to_topics(
    host: &Host,
    next: &Live,
    before: Option<&Config>,
    live: &[Arc<Program>],
    patience: Patience<'_>,
) -> Result<(Found, Moves), topics::Error> {
    let config: &Config = &next.generation.config;
    let present = topics::prepare(config, &host.topics, patience)?;
    let found = Found { sizes: topics::sizes(&host.topics, &next.programs), present };
    for doubt in topics::doubts(&next.programs, &found.sizes) {
        if host.tools.told.lock().unwrap_or_else(PoisonError::into_inner).insert(doubt.clone()) {
            tracing::warn!(doubt, "A topic that routes write to may not be what it is taken for.");
        }
    }
    let moves = before.map(|before| Moves::between(before, config, &found)).unwrap_or_default();
    let (connection, client_id) = (&host.connection, format!("midplane.{}.start", host.instance));
    for (group, program) in config.groups.iter().zip(&next.programs) {
        if live.iter().any(|live| live.group == group.name) {
            continue;
        }
        let moved = moves.topics_to(&group.name);
        topics::begin(connection, &client_id, program, group.start, &found.present, &moved, patience)?;
        let of = |topics: &BTreeSet<String>| found.present.iter().filter(|it| topics.contains(&it.name)).collect();
        let from: Vec<_> = moves.to(&group.name).map(|(origin, topics)| (origin, of(topics))).collect();
        if !from.is_empty() {
            topics::hold(connection, &client_id, program, &from, !live.is_empty(), patience)?;
        }
    }
    Ok((found, moves))
}

/// Hands the shards a generation whose topics were seen to. `live` is what they follow so far.
///
/// # Errors
/// Where a shard's thread can't be started: the host can't go on.
pub async fn hand_over(
    host: &Host,
    shards: &mut Shards,
    next: &Next,
    live: Option<&Live>,
    found: &Found,
    moves: &Moves,
) -> Result<(), shards::Error> {
    let config = &next.live.generation.config;
    let drain_timeout = config.host.drain_timeout;
    let mut starts: HashMap<String, HashMap<Partition, i64>> = HashMap::new();
    for (origin, to) in &moves.by_origin {
        let program = next.live.programs.iter().find(|program| program.group == *origin);
        let positions = leave(host, shards, origin, program, found, moves.topics_to(origin), config).await?;
        for (group, topics) in to {
            let moved = positions.iter().filter(|((topic, _), _)| topics.contains(&**topic));
            starts.entry(group.clone()).or_default().extend(moved.cloned());
        }
    }
    for live in live.into_iter().flat_map(|live| &live.programs) {
        if !next.live.programs.iter().any(|program| program.group == live.group) {
            // Whoever leaves without being waited for: nobody needs to know where it stood.
            drop(shards.retire(&live.group, drain_timeout));
        }
    }
    for program in &next.live.programs {
        let starts = starts.remove(&program.group).unwrap_or_default();
        if !starts.is_empty() && !shards.runs(&program.group) {
            take_over(host, program, &starts).await;
        }
        let wanted = wanted(config, program, Arc::new(starts), found, host.tools.cores);
        shards.hand_over(wanted, found, None, drain_timeout)?;
    }
    let deadline = Instant::now() + CUTOVER_TIMEOUT;
    while !shards.follow(next.live.generation.number) && Instant::now() < deadline {
        tokio::time::sleep(CUTOVER_INTERVAL).await;
    }
    next.drop_ready();
    Ok(())
}

/// Has the broker keep where a group goes on that is about to start.
async fn take_over(host: &Host, program: &Arc<Program>, starts: &HashMap<Partition, i64>) {
    let (host, program, starts) = (host.clone(), Arc::clone(program), starts.clone());
    let group = program.group.clone();
    let taken = blocking(move || {
        topics::take_over(&host.connection, &format!("midplane.{}.start", host.instance), &program, &starts)
    });
    if let Err(error) = taken.await {
        // The shards know it all the same, and commit it once they have their partitions.
        tracing::warn!(group, %error, "Where a group goes on could not be kept yet.");
    }
}

/// Has a group go over that loses routes, and says where its partitions stood. Topics that it gets it reads later.
async fn leave(
    host: &Host,
    shards: &mut Shards,
    group: &str,
    program: Option<&Arc<Program>>,
    found: &Found,
    later: BTreeSet<String>,
    config: &Config,
) -> Result<Vec<(Partition, i64)>, shards::Error> {
    let drain_timeout = config.host.drain_timeout;
    let mut positions = match program {
        Some(program) => {
            let (sender, receiver) = std::sync::mpsc::channel();
            let (count, all) = (shards.count_of(group), shards.count_with_stopped(group));
            let wanted = wanted(config, program, Starts::default(), found, host.tools.cores);
            // All that run have to say where they stand: whether they are too many is for later, too.
            let wanted = Wanted { shards: all, later, ..wanted };
            shards.hand_over(wanted, found, Some(sender), drain_timeout)?;
            blocking(move || {
                let deadline = Instant::now() + CUTOVER_TIMEOUT;
                let left = || deadline.saturating_duration_since(Instant::now());
                (0..count).map_while(|_| receiver.recv_timeout(left()).ok()).flatten().collect()
            })
            .await
        }
        None => {
            let threads = shards.retire(group, drain_timeout);
            blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
            HashMap::new()
        }
    };
    // Of partitions that are read on other hosts, or by nobody, what is committed is all that can be known.
    let (host, group, present, stood) = (host.clone(), group.to_owned(), found.present.clone(), positions.clone());
    match blocking(move || committed_up_to(&host, &group, &present, &stood)).await {
        Ok(committed) => {
            for (partition, offset) in committed {
                positions.entry(partition).or_insert(offset);
            }
        }
        Err(error) => tracing::warn!(%error, "Where routes that move go on is not known of all partitions."),
    }
    Ok(positions.into_iter().collect())
}

/// What a group has committed, once that is all that its shards had read when they went over: what they have in flight until then
/// would be of no route any more, were this process killed, and the group that has the route now would think it done.
fn committed_up_to(
    host: &Host,
    group: &str,
    present: &[TopicInfo],
    stood: &HashMap<Partition, i64>,
) -> Result<Vec<(Partition, i64)>, topics::Error> {
    let (topics, client_id) = (present.iter().collect::<Vec<_>>(), format!("midplane.{}.move", host.instance));
    let deadline = Instant::now() + COMMITTED_TIMEOUT;
    loop {
        let committed = topics::committed(&host.connection, &client_id, group, &topics)?;
        let offsets: HashMap<&Partition, i64> =
            committed.iter().map(|(partition, offset)| (partition, *offset)).collect();
        let is_known = |(partition, at): (&Partition, &i64)| offsets.get(partition).is_some_and(|offset| offset >= at);
        if stood.iter().all(is_known) {
            return Ok(committed);
        }
        if Instant::now() >= deadline {
            let behind = stood.iter().filter(|stood| !is_known(*stood)).count();
            tracing::warn!(
                group,
                partitions = behind,
                "A group that loses routes has not committed yet where they move."
            );
            return Ok(committed);
        }
        std::thread::sleep(COMMITTED_INTERVAL);
    }
}

fn wanted(config: &Config, program: &Arc<Program>, starts: Starts, found: &Found, cores: usize) -> Wanted {
    let group = config.groups.iter().find(|group| group.name == program.group).expect("programs are made of groups");
    let read: BTreeSet<String> = topics::of_group(program, &found.present).into_iter().collect();
    let partitions = found.present.iter().filter(|topic| read.contains(&topic.name));
    let partitions = partitions.map(|topic| usize::try_from(topic.partitions).unwrap_or(0)).sum();
    let shards = shards::count(group, config.groups.len(), cores, partitions);
    Wanted { program: Arc::clone(program), shards, starts, later: BTreeSet::new() }
}
