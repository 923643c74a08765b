//! Loops: routes that feed themselves, directly or through others, by outputs or by dead letters. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::document::RouteTable;
use super::model::Selector;
use super::problem::{Place, Problem};

/// From one route to another: the topic that the first writes and the second reads.
#[derive(Debug, Clone)]
struct Edge {
    to: usize,
    /// As it is written in the config.
    topic: String,
    at: Place,
    is_dead_letter: bool,
}

/// The loops without a route that says `allow_loop`: for each route the shortest one that begins with it, unless that
/// was found from a route before.
pub(super) fn find(routes: &[RouteTable]) -> Vec<Problem> {
    let mut graph = edges(routes);
    let mut problems = Vec::new();
    prune(&mut graph);
    for start in 0..graph.len() {
        // A route that feeds itself may be part of a longer loop as well.
        while let Some(path) = shortest(&graph, start) {
            let is_direct = path.len() == 1;
            problems.push(problem(routes, start, &path));
            if !is_direct {
                break;
            }
            graph[start].retain(|edge| edge.to != start);
        }
        if !graph[start].is_empty() {
            graph[start].clear();
            prune(&mut graph);
        }
    }
    problems
}

fn edges(routes: &[RouteTable]) -> Vec<Vec<Edge>> {
    let readers = Readers::new(routes);
    let mut cache = HashMap::new();
    routes
        .iter()
        .map(|route| {
            let outputs = route.to.iter().map(|binding| (&binding.topic, false));
            let letters = std::iter::once((&route.failure.dead_letter, true));
            let mut edges = Vec::new();
            for (topic, is_dead_letter) in outputs.chain(letters).filter(|_| !route.allow_loop) {
                let readers = cache.entry(topic.value.as_str()).or_insert_with(|| readers.of(&topic.value));
                let written = &topic.written;
                edges.extend(readers.iter().map(|to| Edge {
                    to: *to,
                    topic: written.clone(),
                    at: topic.at,
                    is_dead_letter,
                }));
            }
            edges
        })
        .collect()
}

/// Who reads a topic.
struct Readers<'r> {
    by_topic: BTreeMap<&'r str, Vec<usize>>,
    by_pattern: Vec<(&'r regex::Regex, usize)>,
}

impl<'r> Readers<'r> {
    fn new(routes: &'r [RouteTable]) -> Self {
        let mut readers = Self { by_topic: BTreeMap::new(), by_pattern: Vec::new() };
        for (index, route) in routes.iter().enumerate().filter(|(_, route)| !route.allow_loop) {
            for selector in &route.from {
                match &selector.value {
                    Selector::Topic(topic) => readers.by_topic.entry(topic).or_default().push(index),
                    Selector::Pattern(regex) => readers.by_pattern.push((regex, index)),
                }
            }
        }
        readers
    }

    fn of(&self, topic: &str) -> Vec<usize> {
        let exact = self.by_topic.get(topic).into_iter().flatten().copied();
        let matching = self.by_pattern.iter().filter(|(regex, _)| regex.is_match(topic)).map(|(_, index)| *index);
        let mut readers: Vec<usize> = exact.chain(matching).collect();
        readers.sort_unstable();
        readers.dedup();
        readers
    }
}

/// Takes away, again and again, what leads to nothing: what remains reaches a loop.
fn prune(graph: &mut [Vec<Edge>]) {
    loop {
        let ends: Vec<bool> = graph.iter().map(Vec::is_empty).collect();
        let mut changed = false;
        for edges in graph.iter_mut() {
            let before = edges.len();
            edges.retain(|edge| !ends[edge.to]);
            changed |= edges.len() != before;
        }
        if !changed {
            return;
        }
    }
}

/// The shortest way from a route back to it.
fn shortest(graph: &[Vec<Edge>], start: usize) -> Option<Vec<Edge>> {
    let mut came: HashMap<usize, (usize, &Edge)> = HashMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(route) = queue.pop_front() {
        for edge in &graph[route] {
            if edge.to == start {
                let mut path = vec![edge.clone()];
                let mut at = route;
                while at != start {
                    let (before, edge) = came[&at];
                    path.push(edge.clone());
                    at = before;
                }
                path.reverse();
                return Some(path);
            }
            if let std::collections::hash_map::Entry::Vacant(entry) = came.entry(edge.to) {
                entry.insert((route, edge));
                queue.push_back(edge.to);
            }
        }
    }
    None
}

fn problem(routes: &[RouteTable], start: usize, path: &[Edge]) -> Problem {
    let name = |index: usize| routes[index].name.text.as_str();
    let mut text = name(start).to_owned();
    for edge in path {
        text.push_str(&format!(" -> {} -> {}", edge.topic, name(edge.to)));
    }
    let (at, topic) = path.first().map_or((routes[start].name.at, name(start)), |edge| (edge.at, edge.topic.as_str()));
    let letters = path.iter().any(|edge| edge.is_dead_letter);
    let by = if letters { "its dead letters feed" } else { "it feeds" };
    let message = format!("`{topic}` closes a loop, {by} `{}` again: {text}", name(start));
    Problem::error(at, topic, message)
        .expected("a topic that doesn't lead back")
        .hint("if that is meant, say `allow_loop = true` in one of its routes")
}
