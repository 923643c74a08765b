//! `midplane plugin list`: the versions that a running host knows of.

use std::io::Write;

use clap::Args;

use super::super::host::HostArgs;
use super::super::table::{Table, short};
use super::super::topic::Output;
use super::super::{Exit, Failure};
use crate::control::overview::{DecisionKind, Overview, PluginView, VersionView};

/// `midplane plugin list`
#[derive(Debug, Args)]
#[command(after_help = "\
GENERATIONS are those that have the version, among the ones that are kept for
`midplane rollback`.")]
pub(super) struct ListArgs {
    #[command(flatten)]
    host: HostArgs,

    /// How the list is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &ListArgs) -> Result<Exit, Failure> {
    let (_, overview): (_, Overview) = args.host.client()?.get("/api/v1/overview")?;
    let text = match args.output {
        Output::Text => text(&overview.plugins),
        Output::Json => serde_json::to_string_pretty(&overview.plugins).map_err(Failure::failed)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Exit::Done)
}

/// A row for each version, the plugin's name at its first.
fn text(plugins: &[PluginView]) -> String {
    let mut table = Table::new(&["PLUGIN", "VERSION", "GENERATIONS", "STATE"]);
    for plugin in plugins {
        let mut name = plugin.name.as_str();
        for version in versions(plugin) {
            let state = states(plugin, &version.sha256).join(", ");
            let row = [name.to_owned(), short(&version.sha256).to_owned(), ranges(&version.generations), state];
            table.row(row);
            name = "";
        }
    }
    table.to_text("")
}

/// The kept ones, and those that are not kept yet: in the directory, or on trial.
fn versions(plugin: &PluginView) -> Vec<VersionView> {
    let mut versions = plugin.versions.clone();
    let candidate = plugin.candidate.as_ref().map(|candidate| &candidate.sha256);
    for sha256 in [Some(&plugin.sha256), candidate, plugin.directory_sha256.as_ref()].into_iter().flatten() {
        if !versions.iter().any(|version| version.sha256 == *sha256) {
            versions.push(VersionView { sha256: sha256.clone(), generations: Vec::new() });
        }
    }
    versions
}

/// All that can be said of a version.
fn states(plugin: &PluginView, sha256: &str) -> Vec<String> {
    let mut states = Vec::new();
    if plugin.sha256 == sha256 {
        states.push("live".to_owned());
    }
    if let Some(decision) = &plugin.decision {
        match decision.kind {
            DecisionKind::Pin if decision.sha256 == sha256 => states.push(format!("pinned since {}", decision.since)),
            DecisionKind::Rollback if decision.sha256 == sha256 => {
                states.push(format!("rolled back to on {}", decision.since));
            }
            DecisionKind::Rollback if decision.from.as_deref() == Some(sha256) => {
                states.push("rolled back from".to_owned());
            }
            DecisionKind::Pin | DecisionKind::Rollback => {}
        }
    }
    if let Some(candidate) = plugin.candidate.as_ref().filter(|candidate| candidate.sha256 == sha256) {
        states.push(format!("on trial as {}, {:.0}%", candidate.mode, candidate.share * 100.0));
    }
    match &plugin.directory_sha256 {
        Some(directory) if directory == sha256 => states.push("in the directory".to_owned()),
        None if plugin.sha256 == sha256 => states.push("its file is gone from the directory".to_owned()),
        _ => {}
    }
    states
}

/// `1, 3-7`
fn ranges(numbers: &[u64]) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    if ranges.is_empty() {
        return "-".to_owned();
    }
    let show = |(first, last): &(u64, u64)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.iter().map(show).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::super::testing;
    use super::*;

    #[test]
    fn versions_and_their_states() {
        insta::assert_snapshot!(text(&testing::overview().plugins));
        assert_eq!(text(&[]), "PLUGIN  VERSION  GENERATIONS  STATE\n");
    }

    #[test]
    fn ranges_are_closed() {
        for (numbers, expected) in [(&[][..], "-"), (&[4], "4"), (&[1, 2], "1-2"), (&[1, 3, 4, 5, 9], "1, 3-5, 9")] {
            assert_eq!(ranges(numbers), expected);
        }
    }
}
