//! From a generation to what the shards of each group follow: routes with their outputs as numbers, plugins bound to
//! configs and ports. Everything that can fail fails here, before a shard sees any of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::generation::{Candidate, Generation};
use crate::config::model::{Config, Grants, Group, Limits, RolloutMode, Route, Stage as StageConfig};
use crate::data::canary::{CANARIES_MAX, Canary, Lot};
use crate::data::chain::{Stage, Target};
use crate::data::origin::RouteLabel;
use crate::data::plugin::{Plugin, Prepared, Spec};
use crate::data::program::Program;
use crate::data::route::{Index, Plan, Trials};
use crate::data::shadow::Shadow;
use crate::digest;

/// The port that a plugin without others has, and that hands on to the next one of a chain.
const DEFAULT_PORT: &str = "default";

/// The output topics of a group, each with its number.
#[derive(Debug, Default)]
struct Topics {
    names: Vec<String>,
    numbers: HashMap<String, u16>,
}

impl Topics {
    /// Those that a group had before keep their numbers: messages may be in flight under them.
    fn following(before: Option<&Program>) -> Self {
        let mut topics = Self::default();
        for name in before.into_iter().flat_map(|program| &program.topics) {
            topics.number(name);
        }
        topics
    }

    fn number(&mut self, name: &str) -> u16 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u16::try_from(self.names.len()).expect("what is live and what is new are bounded apart");
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }
}

/// What makes instances differ: two stages that agree in all of it share them, over generations too.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Binding {
    plugin: String,
    sha256: digest::Bytes,
    limits: Limits,
    grants: Grants,
    config: String,
    ports: Vec<String>,
}

impl Binding {
    fn of(prepared: &Prepared) -> Self {
        let (plugin, spec) = (prepared.plugin(), prepared.spec());
        Self {
            plugin: plugin.name.to_string(),
            sha256: plugin.sha256,
            limits: spec.limits,
            grants: spec.grants.clone(),
            config: spec.config.to_string(),
            ports: spec.bound_ports.clone(),
        }
    }
}

/// The plugins that are bound to configs and ports already, by what makes them differ.
#[derive(Default)]
pub struct Bound(HashMap<Binding, Arc<Prepared>>);

impl Bound {
    /// Those of programs.
    pub fn of<'p>(programs: impl Iterator<Item = &'p Arc<Program>>) -> Self {
        Self(programs.flat_map(|program| &program.prepared).map(|it| (Binding::of(it), Arc::clone(it))).collect())
    }

    /// Whether this one is among them.
    pub fn has(&self, prepared: &Arc<Prepared>) -> bool {
        self.0.get(&Binding::of(prepared)).is_some_and(|known| Arc::ptr_eq(known, prepared))
    }
}

/// The plugins of a group, each combination of version, config and ports once.
struct Workers<'b> {
    bound: &'b Bound,
    prepared: Vec<Arc<Prepared>>,
    numbers: HashMap<Binding, usize>,
}

impl Workers<'_> {
    fn number(
        &mut self,
        config: &Config,
        route: &Route,
        stage: &StageConfig,
        plugin: &Arc<Plugin>,
        ports: Vec<String>,
    ) -> usize {
        let settings = &config.plugin[&stage.plugin];
        let binding = Binding {
            plugin: stage.plugin.clone(),
            sha256: plugin.sha256,
            limits: settings.limits,
            grants: settings.grants.clone(),
            config: stage.config.to_string(),
            ports,
        };
        if let Some(number) = self.numbers.get(&binding) {
            return *number;
        }
        let prepared = self.bound.0.get(&binding).cloned().unwrap_or_else(|| {
            plugin.prepare(Spec {
                config: stage.config.clone(),
                bound_ports: binding.ports.clone(),
                limits: settings.limits,
                grants: settings.grants.clone(),
                route: route.id.clone(),
            })
        });
        self.prepared.push(prepared);
        self.numbers.insert(binding, self.prepared.len() - 1);
        self.prepared.len() - 1
    }
}

/// What the shards of a group follow in a generation, after what they followed `before`. Plugins that are `bound` already as
/// they are needed are taken as they are.
pub fn program(generation: &Generation, group: &Group, before: Option<&Program>, bound: &Bound) -> Program {
    let config = &generation.config;
    let mut topics = Topics::following(before);
    let mut workers = Workers { bound, prepared: Vec::new(), numbers: HashMap::new() };
    let routes = || group.routes.iter().map(|route| &*config.routes[*route]);
    let plans = routes().map(|route| plan(generation, route, &mut topics, &mut workers)).collect();
    Program {
        group: group.name.clone(),
        generation: generation.number,
        generation_hash: digest::short(&generation.hash),
        plans,
        index: Index::new(routes()),
        topics: topics.names,
        prepared: workers.prepared,
        guarantee: group.guarantee,
        commit_interval: group.commit_interval,
        out_of_range: group.out_of_range,
    }
}

fn plan(generation: &Generation, route: &Route, topics: &mut Topics, workers: &mut Workers) -> Plan {
    let mut plan = variant(generation, route, &[], topics, workers);
    let on_trial = |mode: RolloutMode| {
        let names = route.through.iter().map(|stage| &stage.plugin);
        let mut names: Vec<&String> = names.filter(|name| mode_of(generation, name) == Some(mode)).collect();
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(*name));
        names
    };
    let (mut canaries, shadows) = (on_trial(RolloutMode::Canary), on_trial(RolloutMode::Shadow));
    canaries.truncate(CANARIES_MAX);
    if canaries.is_empty() && shadows.is_empty() {
        return plan;
    }
    let variants = (1..1_usize << canaries.len()).map(|bits| {
        let serving = canaries.iter().enumerate().filter(|(bit, _)| bits & (1 << bit) != 0);
        let serving: Vec<&str> = serving.map(|(_, name)| name.as_str()).collect();
        variant(generation, route, &serving, topics, workers)
    });
    let variants = variants.collect();
    let canaries = canaries.into_iter().map(|name| canary(generation, route, name)).collect();
    let shadows = shadows.into_iter().flat_map(|name| {
        let stages = route.through.iter().enumerate().filter(move |(_, stage)| stage.plugin == *name);
        stages.map(|(number, _)| number)
    });
    let shadows = shadows.map(|number| shadow(generation, route, number, topics, workers)).collect();
    plan.trials = Some(Box::new(Trials { canaries, variants, shadows }));
    plan
}

fn mode_of(generation: &Generation, plugin: &str) -> Option<RolloutMode> {
    generation.candidates.get(plugin).map(|candidate| candidate.rollout.mode)
}

/// A route with the candidates of some of its plugins in place of the live versions.
fn variant(
    generation: &Generation,
    route: &Route,
    candidates: &[&str],
    topics: &mut Topics,
    workers: &mut Workers,
) -> Plan {
    let plugin = |stage: &StageConfig| match candidates.contains(&stage.plugin.as_str()) {
        true => &generation.candidates[&stage.plugin].plugin,
        false => &generation.plugins[&stage.plugin],
    };
    let stages = route.through.iter().enumerate();
    let stages =
        stages.map(|(number, stage)| self::stage(generation, route, number, plugin(stage), topics, workers)).collect();
    let versions = || route.through.iter().map(|stage| (stage.plugin.as_str(), plugin(stage).sha256));
    Plan {
        id: route.id.clone(),
        was: route.was.clone(),
        filter: route.filter.clone(),
        on_filter_error: route.on_filter_error,
        stages,
        plugins: versions().map(|(name, sha256)| (name.to_owned(), digest::hex(&sha256))).collect(),
        direct: route.to.get(DEFAULT_PORT).map_or(0, |topic| topics.number(topic)),
        label: route.provenance.then(|| RouteLabel::new(&route.id, generation.number, versions())),
        failure: route.failure.clone(),
        dead_letter: topics.number(&route.failure.dead_letter),
        trials: None,
    }
}

/// One stage of a route, with a version of its plugin.
fn stage(
    generation: &Generation,
    route: &Route,
    number: usize,
    plugin: &Arc<Plugin>,
    topics: &mut Topics,
    workers: &mut Workers,
) -> Stage {
    let last = number + 1 == route.through.len();
    let targets = targets(&plugin.ports, &route.to, last, topics);
    let bound = plugin.ports.iter().zip(&targets).filter(|(_, target)| **target != Target::Unbound);
    let ports = bound.map(|(port, _)| port.clone()).collect();
    Stage { worker: workers.number(&generation.config, route, &route.through[number], plugin, ports), targets }
}

fn canary(generation: &Generation, route: &Route, plugin: &str) -> Canary {
    let Candidate { plugin: candidate, rollout, trial } = &generation.candidates[plugin];
    let stage = route.through.iter().position(|stage| stage.plugin == plugin).expect("the route names it");
    Canary { stage, lot: Lot::new(&route.id, &candidate.sha256, rollout.share), trial: Arc::clone(trial) }
}

fn shadow(generation: &Generation, route: &Route, number: usize, topics: &mut Topics, workers: &mut Workers) -> Shadow {
    let name = &route.through[number].plugin;
    let Candidate { plugin, trial, .. } = &generation.candidates[name];
    Shadow {
        stage: number,
        worker: stage(generation, route, number, plugin, topics, workers).worker,
        live_ports: generation.plugins[name].ports.clone().into(),
        ports: plugin.ports.clone().into(),
        trial: Arc::clone(trial),
    }
}

/// Where each port of a plugin leads: `default` to the next plugin, or from the last one where the route says; every
/// other port where the route says.
fn targets(ports: &[String], to: &BTreeMap<String, String>, last: bool, topics: &mut Topics) -> Vec<Target> {
    let target = |port: &String| match to.get(port) {
        _ if port == DEFAULT_PORT && !last => Target::Next,
        Some(topic) => Target::Topic(topics.number(topic)),
        None => Target::Unbound,
    };
    ports.iter().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_lead_to_the_next_plugin_or_to_topics() {
        let ports = ["default", "alert", "debug"].map(str::to_owned);
        let to = [("default", "out"), ("alert", "alerts")].map(|(port, topic)| (port.to_owned(), topic.to_owned()));
        let to = BTreeMap::from(to);
        let mut topics = Topics::default();
        let last = targets(&ports, &to, true, &mut topics);
        assert_eq!(last, [Target::Topic(0), Target::Topic(1), Target::Unbound]);
        let first = targets(&ports, &to, false, &mut topics);
        assert_eq!(first, [Target::Next, Target::Topic(1), Target::Unbound]);
        assert_eq!(topics.names, ["out", "alerts"]);
    }
}
