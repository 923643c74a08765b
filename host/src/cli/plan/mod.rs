//! `midplane plan`: what a reload would do, before anybody asks for it. Reads the files, asks the host and the broker; changes
//! nothing.

mod text;

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use rdkafka::metadata::MetadataPartition;

use super::check::{runtime, show};
use super::connect::Endpoint;
use super::host::HostArgs;
use super::topic::Output;
use super::{Exit, Failure};
use crate::config::model::{Config, Start};
use crate::config::plugins::{Available, Found};
use crate::config::{self, Loaded, Problems, Severity};
use crate::control::config_view::ConfigView;
use crate::control::decisions::Choice;
use crate::control::overview::Overview;
use crate::control::plan::{self, Next, OnBroker, Plan, Position};
use crate::control::plugins::{self, Directory};
use crate::control::tryout;
use crate::digest;
use crate::kafka::settings::CONSUMER_BUFFER_BYTES;
use crate::kafka::start::Begin;
use crate::kafka::{self, Consumer, ConsumerSettings};

/// `midplane plan`
#[derive(Debug, Args)]
#[command(after_help = "\
It compares the config and its plugin directory with what a running host has
live: routes, versions of plugins, groups and where they would begin, topics
that don't exist, ports that lead nowhere. It changes nothing.

Examples:
  midplane plan
  midplane plan --config new/midplane.toml --admin edge-7:8090
  midplane plan --output json

Exit codes:
  0 nothing would change   10 something would   3 a reload would be refused
  4 the host or the broker can't be reached")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    host: HostArgs,

    /// How the plan is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &PlanArgs) -> Result<Exit, Failure> {
    let loaded = match config::load(&args.host.config.config) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(&problems, args.output),
    };
    let (_, live): (_, Overview) = args.host.client()?.get("/api/v1/overview")?;
    let (next, problems) = next(&live, &loaded)?;
    if problems.count(Severity::Error) > 0 {
        return refuse(&problems, args.output);
    }
    // Where another broker is asked for, what this one says means nothing: the plan is refused anyway.
    let another = plan::restart_keys(&live.config, &next.config).iter().any(|key| key.contains("broker"));
    let broker = (!another).then(|| on_broker(args, &live, &loaded.config, &next.config)).transpose()?;
    let plan = plan::plan(&live, &next, broker.as_ref());
    let text = match args.output {
        Output::Text => text::of(&plan),
        Output::Json => serde_json::to_string_pretty(&plan).map_err(Failure::failed)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(exit(&plan))
}

fn exit(plan: &Plan) -> Exit {
    if !plan.refused.is_empty() {
        Exit::Refused
    } else if plan.changes() {
        Exit::WouldChange
    } else {
        Exit::Done
    }
}

/// A config that no host would take is shown as `midplane check` shows it.
fn refuse(problems: &Problems, output: Output) -> Result<Exit, Failure> {
    show(problems, output, None)?;
    Ok(Exit::Refused)
}

/// What would be live, and what is wrong with it.
fn next(live: &Overview, loaded: &Loaded) -> Result<(Next, Problems), Failure> {
    let config = &loaded.config;
    let view = ConfigView::of(config);
    let directory = directory(config);
    let Directory { mut available, plugins } = plugins::load(config, &runtime(config)?);
    let versions = plan::versions(live, &view, &directory);
    let missing = versions.values().any(|(choice, _)| *choice == Choice::Missing);
    let all_from_directory = versions.values().all(|(choice, _)| matches!(choice, Choice::Directory(_)));
    for (name, (choice, _)) in versions {
        match choice {
            // What comes from the host's own copies was checked when it was live; its file here is another one.
            Choice::Stored(_) => {
                available.plugins.insert(name, Found::Unused);
            }
            // A file that is there and can't be read is no deleted one: it is refused.
            Choice::Keep(_) => {
                available.plugins.entry(name).or_insert(Found::Unused);
            }
            Choice::Directory(_) | Choice::Missing => {}
        }
    }
    if !missing {
        available.unreadable = None;
    }
    let mut problems = loaded.against_plugins(&available);
    // Trials need every plugin at hand, and some of them only the host has.
    if all_from_directory && problems.count(Severity::Error) == 0 {
        problems.add(&tryout::config(loaded, plugins));
    }
    problems.add(&loaded.warnings);
    let next = Next { config: view, config_sha256: digest::hex(&config.sha256), directory, ports: ports(&available) };
    Ok((next, problems))
}

/// The versions that are in the plugin directory, of the plugins that routes name.
fn directory(config: &Config) -> BTreeMap<String, String> {
    let files = plugins::read(config).files.into_iter();
    let versions = files.filter_map(|(name, file)| match file {
        plugins::File::Version(version) => Some((name, digest::hex(&version.sha256))),
        plugins::File::TooLarge(_) | plugins::File::Unreadable(_) | plugins::File::Unused => None,
    });
    versions.collect()
}

fn ports(available: &Available) -> BTreeMap<String, Vec<String>> {
    let described = available.plugins.iter().filter_map(|(name, found)| match found {
        Found::Described(described) => Some((name.clone(), described.ports.clone())),
        Found::Refused { .. } | Found::Excluded(_) | Found::Unused => None,
    });
    described.collect()
}

/// The topics that there are, and where the groups stand that the plan has to know of.
fn on_broker(args: &PlanArgs, live: &Overview, config: &Config, next: &ConfigView) -> Result<OnBroker, Failure> {
    let endpoint = Endpoint::of(config, args.host.timeout)?;
    let metadata = endpoint.metadata(None)?;
    let topics: BTreeMap<String, i32> = metadata
        .topics()
        .iter()
        .map(|topic| {
            let partitions = topic.partitions().iter().map(MetadataPartition::id).max();
            (topic.name().to_owned(), partitions.map_or(0, |last| last + 1))
        })
        .collect();
    let mut positions = Vec::new();
    for (group, read) in plan::wanted(&live.config, next, &topics) {
        let start = config.groups.iter().find(|known| known.name == group).map_or(Start::Earliest, |known| known.start);
        let partitions: Vec<(&str, i32)> = read
            .iter()
            .flat_map(|topic| (0..topics.get(topic).copied().unwrap_or(0)).map(move |id| (topic.as_str(), id)))
            .collect();
        positions.extend(positions_of(&endpoint, &group, start, &partitions).map_err(|error| failure(&error))?);
    }
    Ok(OnBroker { topics, positions })
}

/// Asks without joining the group.
fn positions_of(
    endpoint: &Endpoint,
    group: &str,
    start: Start,
    partitions: &[(&str, i32)],
) -> Result<Vec<Position>, kafka::Error> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let timeout = endpoint.timeout();
    let mut consumer = Consumer::new(&ConsumerSettings {
        connection: endpoint.connection(),
        group: group.to_owned(),
        client_id: "midplane-cli".to_owned(),
        buffer_bytes: CONSUMER_BUFFER_BYTES,
    })?;
    let committed = consumer.committed(partitions.iter().copied(), timeout)?;
    let at = |begin: Begin| consumer.offsets_at(partitions.iter().map(|(topic, id)| (*topic, *id, begin)), timeout);
    let (begin, end) = (at(Begin::Earliest)?, at(Begin::Latest)?);
    let start = match start {
        Start::Earliest => begin.clone(),
        Start::Latest => end.clone(),
        Start::At(time) => at(Begin::At(time))?,
    };
    let position = |(number, (topic, partition)): (usize, &(&str, i32))| {
        let found = committed.iter().find(|found| &*found.topic == *topic && found.partition == *partition);
        Position {
            group: group.to_owned(),
            topic: (*topic).to_owned(),
            partition: *partition,
            committed: found.and_then(|found| found.offset),
            begin: begin[number],
            end: end[number],
            start: start[number],
        }
    };
    Ok(partitions.iter().enumerate().map(position).collect())
}

fn failure(error: &kafka::Error) -> Failure {
    match error {
        error if error.may_pass() => Failure::unreachable(error),
        error => Failure::failed(error),
    }
}
