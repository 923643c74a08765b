//! Builds the values that the rest works with. Only receives what is valid, so that nothing can fail.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::document::{Document, GroupTable, PluginTable, RouteTable, StageTable};
use super::model::{Broker, Config, Embedded, FailurePolicy, Group, Kafka, PluginSettings, Route, Stage};
use super::validate::group_of;

/// Puts a config together. `defaults` stand for tables that the file may leave out.
pub(super) fn build(path: &Path, sha256: [u8; 32], document: &Document, defaults: &Defaults) -> Config {
    let (groups, group_indexes) = groups(document, defaults);
    let tables: BTreeMap<&str, &PluginTable> =
        document.plugin.iter().map(|table| (table.name.text.as_str(), table)).collect();
    let routes = document.routes.iter().zip(group_indexes).map(|(table, group)| Arc::new(route(table, group, &tables)));
    Config {
        path: path.to_owned(),
        sha256,
        host: document.host.clone(),
        broker: broker(document, defaults),
        admin: document.admin.value.clone(),
        plugins: document.plugins.clone(),
        plugin: plugins(document, defaults, &tables),
        groups,
        routes: routes.collect(),
        retired: document.groups.iter().filter(|group| group.retired).map(|group| group.name.text.clone()).collect(),
    }
}

/// What stands for tables that the file leaves out.
pub(super) struct Defaults {
    pub(super) embedded: Embedded,
    pub(super) plugin: PluginTable,
    pub(super) group: GroupTable,
}

fn broker(document: &Document, defaults: &Defaults) -> Broker {
    match (&document.broker, &document.embedded) {
        (Some(table), _) => Broker::Kafka(Kafka {
            bootstrap_servers: table.bootstrap_servers.clone().unwrap_or_default(),
            client: table.client.clone(),
            create_topics: table.create_topics,
        }),
        (None, Some(table)) => Broker::Embedded(table.value.clone()),
        (None, None) => Broker::Embedded(defaults.embedded.clone()),
    }
}

/// The groups in the order of first mention, and for each route the index of its own.
fn groups(document: &Document, defaults: &Defaults) -> (Vec<Group>, Vec<usize>) {
    let tables: BTreeMap<&str, &GroupTable> =
        document.groups.iter().map(|table| (table.name.text.as_str(), table)).collect();
    let mut indexes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut of_routes = Vec::with_capacity(document.routes.len());
    for (route, table) in document.routes.iter().enumerate() {
        let name = group_of(table);
        let index = *indexes.entry(name).or_insert_with(|| {
            let table = tables.get(name).copied().unwrap_or(&defaults.group);
            groups.push(Group {
                name: name.to_owned(),
                guarantee: table.guarantee,
                commit_interval: table.commit_interval,
                shards: table.shards,
                start: table.start,
                out_of_range: table.out_of_range,
                routes: Vec::new(),
            });
            groups.len() - 1
        });
        groups[index].routes.push(route);
        of_routes.push(index);
    }
    (groups, of_routes)
}

fn plugins(
    document: &Document,
    defaults: &Defaults,
    tables: &BTreeMap<&str, &PluginTable>,
) -> BTreeMap<String, PluginSettings> {
    let used = document.routes.iter().flat_map(|route| &route.through).map(|stage| stage.plugin.value.as_str());
    used.chain(tables.keys().copied())
        .map(|name| {
            let table = tables.get(name).copied().unwrap_or(&defaults.plugin);
            let settings = PluginSettings {
                sha256: table.sha256.as_ref().map(|sha256| sha256.value),
                limits: table.limits,
                grants: table.grants.clone(),
                rollout: table.rollout,
            };
            (name.to_owned(), settings)
        })
        .collect()
}

fn route(table: &RouteTable, group: usize, plugins: &BTreeMap<&str, &PluginTable>) -> Route {
    Route {
        name: table.name.text.clone(),
        id: table.id.value.clone(),
        was: table.was.as_ref().map(|was| was.value.clone()),
        from: table.from.iter().map(|selector| selector.value.clone()).collect(),
        filter: table.filter.clone(),
        on_filter_error: table.on_filter_error,
        through: table.through.iter().map(|stage| build_stage(stage, plugins)).collect(),
        to: table.to.iter().map(|binding| (binding.port.text.clone(), binding.topic.value.clone())).collect(),
        group,
        provenance: table.provenance,
        allow_loop: table.allow_loop,
        failure: FailurePolicy {
            attempts: table.failure.attempts,
            backoff: table.failure.backoff,
            breaker: table.failure.breaker,
            on_permanent: table.failure.on_permanent.value,
            dead_letter: table.failure.dead_letter.value.clone(),
        },
    }
}

fn build_stage(stage: &StageTable, plugins: &BTreeMap<&str, &PluginTable>) -> Stage {
    let plugin = stage.plugin.value.clone();
    let shared = plugins.get(plugin.as_str()).and_then(|table| table.config.as_ref());
    let mut config = serde_json::Map::new();
    // The route's keys come last, and win.
    for node in [shared, stage.config.as_ref()].into_iter().flatten() {
        if let serde_json::Value::Object(keys) = node.to_json() {
            config.extend(keys);
        }
    }
    Stage { plugin, config: config.into() }
}
