//! What must fit together: names that refer to each other, rules over several keys. Pure, and never stops at the first
//! problem.

use std::collections::{BTreeMap, BTreeSet};

use super::document::{Document, RouteTable};
use super::loops;
use super::model::OnPermanent;
use super::names;
use super::problem::{Place, Problem};

/// The group of routes that name none, where they need not.
pub(super) const DEFAULT_GROUP: &str = "default";

/// All problems between the values of a config.
pub(super) fn validate(document: &Document) -> Vec<Problem> {
    let mut problems = Vec::new();
    brokers(document, &mut problems);
    admin(document, &mut problems);
    routes(document, &mut problems);
    ids(&document.routes, &mut problems);
    groups(document, &mut problems);
    plugin_tables(document, &mut problems);
    problems.extend(loops::find(&document.routes));
    problems
}

fn brokers(document: &Document, problems: &mut Vec<Problem>) {
    if let (Some(broker), Some(embedded)) = (&document.broker, &document.embedded) {
        let (first, second) = if broker.at < embedded.at { (broker.at, embedded.at) } else { (embedded.at, broker.at) };
        let name = if second == broker.at { "broker" } else { "embedded_broker" };
        let message = format!("`{name}` is a second broker");
        problems.push(
            Problem::error(second, name, message)
                .expected("either `[broker]`, for Kafka, or `[embedded_broker]`")
                .related(first, "the first one"),
        );
    }
    if let Some(embedded) = document.embedded.as_ref().filter(|table| !table.listen.value.ip().is_loopback()) {
        let listen = &embedded.listen;
        let message =
            format!("`{}` opens the embedded broker to the network, which asks nobody who they are", listen.written);
        problems.push(Problem::warning(listen.at, &listen.written, message).hint("listen on a loopback address"));
    }
}

fn admin(document: &Document, problems: &mut Vec<Problem>) {
    let listen = &document.admin.listen;
    if !listen.value.ip().is_loopback() && !document.admin.token_named {
        let message =
            format!("`{}` is not a loopback address, and there is no `token_file`, in `admin`", listen.written);
        problems.push(
            Problem::error(listen.at, &listen.written, message)
                .expected("a loopback address, or a token that requests must bring")
                .hint("add `token_file = \"admin.token\"`, or listen on `127.0.0.1`"),
        );
    }
}

fn routes(document: &Document, problems: &mut Vec<Problem>) {
    for route in &document.routes {
        let name = &route.name.text;
        if document.broker.is_some() && !route.group_named {
            let message = format!("`{name}` names no group, in `routes`");
            problems.push(
                Problem::error(route.name.at, name, message)
                    .expected("`group`, since with `[broker]` its name is an id that others on the cluster see")
                    .hint(format!("add `group = \"{name}\"`")),
            );
        }
        let bindings = route.to.iter().filter(|_| !route.through_named);
        for binding in bindings.filter(|binding| binding.port.text != "default") {
            let port = &binding.port.text;
            let message = format!("`{port}` is no port of a route without plugins, in `routes.{name}.to`");
            let problem = Problem::error(binding.port.at, port, message).expected("`default`, the only port there is");
            problems.push(
                problem
                    .hint(format!("name the plugin in `through`, or bind `default = \"{}\"`", binding.topic.written)),
            );
        }
        if !route.to_named {
            let message = format!("`{name}` sends its outputs nowhere: it has no `to`");
            problems.push(Problem::warning(route.name.at, name, message).hint("add `to = \"TOPIC\"`"));
        }
    }
    if document.routes.is_empty() {
        let top = Place { file: 0, start: 0, end: 0 };
        let problem = Problem::warning(top, "routes", "there are no `routes`: nothing would be read");
        problems.push(problem.hint("add `[routes.NAME]` with `from` and `to`"));
    }
}

/// State, letters and metrics hang on ids: two routes must not share one, nor may one take what another had.
fn ids(routes: &[RouteTable], problems: &mut Vec<Problem>) {
    let mut first: BTreeMap<&str, Place> = BTreeMap::new();
    for route in routes {
        let id = &route.id;
        if let Some(first) = first.get(id.value.as_str()) {
            let message = format!("`{}` is the id of two routes", id.written);
            let problem = Problem::error(id.at, &id.written, message).expected("an id of its own for each route");
            problems.push(problem.related(*first, "the first one"));
        } else {
            first.insert(&id.value, id.at);
        }
    }
    let mut moved: BTreeMap<&str, Place> = BTreeMap::new();
    for was in routes.iter().filter_map(|route| route.was.as_ref()) {
        let taken = first.get(was.value.as_str()).map(|at| (*at, "has this id now"));
        let twice = moved.insert(&was.value, was.at).map(|at| (at, "moves it, too"));
        if let Some((at, label)) = taken.or(twice) {
            let message = format!("`{}` can't be moved: another route claims it", was.written);
            let problem = Problem::error(was.at, &was.written, message).expected("an id that no route has any more");
            problems.push(problem.related(at, label));
        }
    }
}

fn groups(document: &Document, problems: &mut Vec<Problem>) {
    let mut members: BTreeMap<&str, Vec<&RouteTable>> = BTreeMap::new();
    for route in &document.routes {
        members.entry(group_of(route)).or_default().push(route);
    }
    for group in &document.groups {
        let name = &group.name.text;
        let routes = members.get(name.as_str()).map(Vec::as_slice).unwrap_or_default();
        match (group.retired, routes) {
            (false, []) => {
                let message = format!("`{name}` is a group of no route");
                // What came from outside is not shown.
                let known = document.routes.iter().filter_map(|route| route.group.as_ref());
                let known = known.filter(|group| group.value == group.written).map(|group| group.value.as_str());
                let hint = names::did_you_mean(name, known);
                let hint = hint.unwrap_or_else(|| "if it was dropped deliberately, say `retired = true`".to_owned());
                problems.push(Problem::warning(group.name.at, name, message).hint(hint));
            }
            (true, [route, ..]) => {
                let message = format!("`{name}` is retired, and `{}` is in it", route.name.text);
                let at = route.group.as_ref().map_or(route.name.at, |group| group.at);
                problems.push(
                    Problem::error(group.name.at, name, message)
                        .expected("no route in a group that is dropped deliberately")
                        .hint("leave out `retired`, or move its routes to another group")
                        .related(at, "this route is in it"),
                );
            }
            (false, [_, ..]) | (true, []) => {}
        }
    }
    for (_, routes) in members.iter().filter(|(_, routes)| routes.len() > 1) {
        for route in routes.iter().filter(|route| route.failure.on_permanent.value == OnPermanent::Halt) {
            let others = routes.iter().filter(|other| other.name != route.name).map(|other| other.name.text.as_str());
            let halt = &route.failure.on_permanent;
            let message = format!(
                "`{}` in `{}` stops its whole group, {} too",
                halt.written,
                route.name.text,
                names::list(others)
            );
            let hint = format!("give it a group of its own: `group = \"{}\"`", route.name.text);
            problems.push(Problem::warning(halt.at, &halt.written, message).hint(hint));
        }
    }
}

/// The group of a route, by its name.
pub(super) fn group_of(route: &RouteTable) -> &str {
    route.group.as_ref().map_or(DEFAULT_GROUP, |group| group.value.as_str())
}

fn plugin_tables(document: &Document, problems: &mut Vec<Problem>) {
    let used: BTreeSet<&str> =
        document.routes.iter().flat_map(|route| &route.through).map(|stage| stage.plugin.value.as_str()).collect();
    for plugin in document.plugin.iter().filter(|plugin| !used.contains(plugin.name.text.as_str())) {
        let name = &plugin.name.text;
        let message = format!("`{name}` is a plugin that no route uses");
        let hint = names::did_you_mean(name, used.iter().copied());
        problems.push(Problem::warning(plugin.name.at, name, message).hint_if(hint));
    }
}
