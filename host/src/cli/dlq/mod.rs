//! `midplane dlq`: dead letters listed, shown, and sent through their routes again. Finds the letters that the arguments mean;
//! what becomes of them is [`crate::dead_letters`]'s.

mod list;
mod redrive;
mod show;
mod text;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::connect::{Endpoint, duration};
use super::{ConfigArgs, Exit, Failure};
use crate::config::Loaded;
use crate::config::model::{Config, Route};
use crate::data::failure::Kind;
use crate::data::filter::Filter;
use crate::dead_letters::archive::Archive;
use crate::dead_letters::chains::Routes;
use crate::dead_letters::place::Place;
use crate::dead_letters::{Error, Selection};
use crate::kafka::{self, AdminSettings, Topics};

/// `midplane dlq`
#[derive(Debug, Args)]
#[command(after_help = "\
A dead letter is an event that a route could not process, with the reason in its
headers. Fix what is wrong, then redrive: the events go through the plugins of
their route again, to the outputs of their route alone.

Examples:
  midplane dlq list
  midplane dlq show payments.dead-letters/0/41
  midplane dlq redrive --route payments               a dry run: what would happen
  midplane dlq redrive --route payments --execute")]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    command: DlqCommand,
}

#[derive(Debug, Subcommand)]
enum DlqCommand {
    /// Count letters by route, plugin version, kind and message
    List(list::ListArgs),
    /// Show letters whole
    Show(show::ShowArgs),
    /// Send letters through their routes again; a dry run unless told to execute
    Redrive(redrive::RedriveArgs),
}

pub(super) fn run(args: &DlqArgs) -> Result<Exit, Failure> {
    match &args.command {
        DlqCommand::List(args) => list::run(args),
        DlqCommand::Show(args) => show::run(args),
        DlqCommand::Redrive(args) => redrive::run(args),
    }
}

/// Which letters: all that is given has to hold.
#[derive(Debug, Clone, Args)]
struct ChoiceArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Letters of this route, by its name or its id; repeatable
    #[arg(long = "route", value_name = "ROUTE")]
    routes: Vec<String>,

    /// Letters in this topic; repeatable [default: the dead-letter topics of the config's routes]
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,

    /// Letters of this kind; repeatable
    #[arg(long = "kind", value_name = "KIND", value_parser = kinds())]
    kinds: Vec<String>,

    /// Letters written at this time or later, such as 2026-11-27T21:00:00Z; or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<i64>,

    /// Letters written before this time, or longer ago
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i64>,

    /// Letters whose event this CEL expression takes, as a route's `where` would. The event is at the place where it was;
    /// its headers are the letter's, so that event.headers["midplane-error-message"] is the reason
    #[arg(long = "where", value_name = "CEL")]
    expression: Option<String>,

    /// How long to try to reach the broker, and how long it may be silent, before giving up with exit code 4
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,
}

fn kinds() -> PossibleValuesParser {
    PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.as_str()))
}

/// A time, or how long ago, in milliseconds since the Unix epoch.
fn moment(text: &str) -> Result<i64, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let ago = duration(text).map_err(|_| match text.parse::<jiff::civil::DateTime>() {
        Ok(_) => "add the offset from UTC, or `Z` for none".to_owned(),
        Err(_) => "expected a time such as `2026-11-27T21:00:00Z`, or how long ago, such as `2h`".to_owned(),
    })?;
    let now = jiff::Timestamp::now().as_millisecond();
    Ok(now.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
}

impl ChoiceArgs {
    /// Whether anything is said of which letters are meant.
    fn is_narrow(&self) -> bool {
        let lists = [&self.routes, &self.topics, &self.kinds];
        lists.iter().any(|list| !list.is_empty())
            || self.since.is_some()
            || self.until.is_some()
            || self.expression.is_some()
    }

    /// The letters that are meant, on the broker of the config.
    ///
    /// # Errors
    /// When the config or an expression is refused, the broker can't be reached, or a topic that was named isn't there.
    fn open(&self, places: &[Place]) -> Result<Desk, Failure> {
        let filter = self.expression.as_deref().map(compile).transpose()?;
        let loaded = self.config.load_with_warnings()?;
        let config = &loaded.config;
        let selection = Selection {
            routes: route_ids(config, &self.routes),
            kinds: self.kinds.iter().cloned().collect(),
            since: self.since,
            until: self.until,
            filter,
            places: places.iter().cloned().collect(),
        };
        for name in self.routes.iter().filter(|name| !is_known(config, name)) {
            note(format_args!("the config has no route `{name}`; letters of one that had this id are looked for"))?;
        }
        let (named, topics) = self.topics(config, places);
        if topics.is_empty() {
            let message = "the config has no routes, and so no dead-letter topics: `--topic` names one";
            return Err(Failure::usage(message));
        }
        let endpoint = Endpoint::of(config, self.timeout)?;
        endpoint.metadata(None)?;
        let connection = endpoint.connection();
        let admin = AdminSettings { connection: connection.clone(), client_id: "midplane-cli".to_owned() };
        let client = Topics::new(&admin).map_err(|error| failure(error.into()))?;
        let archive = Archive::open(connection, &client, self.timeout).map_err(failure)?;
        let (present, absent): (Vec<_>, Vec<_>) = topics.into_iter().partition(|topic| archive.has(topic));
        match absent.first() {
            Some(topic) if named => {
                Err(Failure::failed(format!("no topic `{topic}`; `midplane topic list` shows those that there are")))
            }
            _ => {
                let routes = Routes::of(config);
                Ok(Desk { loaded, client, archive, selection, routes, present, absent })
            }
        }
    }

    /// The topics in which the letters are looked for, and whether somebody named them.
    fn topics(&self, config: &Config, places: &[Place]) -> (bool, BTreeSet<String>) {
        if !places.is_empty() {
            return (true, places.iter().map(|place| place.topic.clone()).collect());
        }
        if !self.topics.is_empty() {
            return (true, self.topics.iter().cloned().collect());
        }
        // Letters of a route that isn't in the config any more may be anywhere.
        let everywhere = self.routes.is_empty() || !self.routes.iter().all(|name| is_known(config, name));
        let meant = |route: &&Arc<Route>| everywhere || self.routes.iter().any(|name| is_called(route, name));
        let topics = config.routes.iter().filter(meant).map(|route| route.failure.dead_letter.clone());
        (false, topics.collect())
    }
}

fn is_called(route: &Route, name: &str) -> bool {
    [&route.name, &route.id].iter().any(|known| *known == name)
}

fn is_known(config: &Config, name: &str) -> bool {
    config.routes.iter().any(|route| is_called(route, name))
}

/// The ids that letters may have of routes: what they are now, and what they were.
fn route_ids(config: &Config, names: &[String]) -> BTreeSet<String> {
    let of_config = config.routes.iter().filter(|route| names.contains(&route.name) || names.contains(&route.id));
    let of_config = of_config.flat_map(|route| [Some(route.id.clone()), route.was.clone()]).flatten();
    of_config.chain(names.iter().cloned()).collect()
}

fn compile(expression: &str) -> Result<Filter, Failure> {
    Filter::compile(expression).map_err(|problems| {
        let problems = problems.iter().map(|problem| {
            let hint = problem.hint.as_ref().map_or_else(String::new, |hint| format!("\n  hint: {hint}"));
            format!("{}{hint}", problem.message)
        });
        Failure::usage(format!("`--where` is refused: {}", problems.collect::<Vec<_>>().join("\nmidplane: ")))
    })
}

/// The letters that are meant, and what is around them.
struct Desk {
    loaded: Loaded,
    client: Topics,
    archive: Archive,
    selection: Selection,
    routes: Routes,
    /// The topics to be looked at.
    present: Vec<String>,
    /// Those of the config that there are not, or not yet.
    absent: Vec<String>,
}

/// Fails where a letter that somebody named by its place was not there.
fn all_found(missing: &BTreeSet<Place>) -> Result<(), Failure> {
    let Some(place) = missing.first() else { return Ok(()) };
    let message = "or not one that the options mean; `midplane dlq list` shows where letters are";
    Err(Failure::failed(format!("no letter at `{place}`, {message}")))
}

/// Says something to people, apart from what programs read.
fn note(text: impl fmt::Display) -> io::Result<()> {
    writeln!(io::stderr(), "midplane: {text}")
}

/// The failure that an error is.
fn failure(error: Error) -> Failure {
    match &error {
        Error::Kafka(kafka::Error::Setting { .. }) => Failure::refused(error),
        error if error.is_silence() => Failure::unreachable(error),
        _ => Failure::failed(error),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::load_stored;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        assert_eq!(moment("1970-01-01T00:00:02+00:00"), Ok(2000));
        assert_eq!(moment("1970-01-01T01:00:02+01:00"), Ok(2000));
        let now = jiff::Timestamp::now().as_millisecond();
        let ago = now - moment("2h").expect("a duration");
        assert!((7_199_000..=7_201_000).contains(&ago), "{ago}");
        assert_eq!(moment("2026-11-27T21:00:00"), Err("add the offset from UTC, or `Z` for none".to_owned()));
        assert!(moment("yesterday").is_err() && moment("-2h").is_err());
    }

    #[test]
    fn routes_lead_to_their_ids_and_topics() {
        let text = "[routes.a]\nfrom = 'in'\nto = 'out'\nid = 'x'\nwas = 'old'\n\
                    [routes.b]\nfrom = 'in'\nto = 'out'\nfailure = { dead_letter = 'letters' }\n";
        let path = PathBuf::from("midplane.toml");
        let config = load_stored(&path, vec![(path.clone(), text.to_owned())]).expect("valid").config;
        let check = |routes: &[&str], topics: &[&str], places: &[&str], ids: &[&str], expected: (bool, &[&str])| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            let args = ChoiceArgs {
                config: ConfigArgs { config: path.clone() },
                routes: owned(routes),
                topics: owned(topics),
                kinds: Vec::new(),
                since: None,
                until: None,
                expression: None,
                timeout: Duration::ZERO,
            };
            assert_eq!(args.is_narrow(), !routes.is_empty() || !topics.is_empty());
            assert_eq!(route_ids(&config, &args.routes), owned(ids).into_iter().collect());
            let places: Vec<Place> = places.iter().map(|place| place.parse().expect("a place")).collect();
            let (named, topics) = args.topics(&config, &places);
            assert_eq!((named, topics), (expected.0, owned(expected.1).into_iter().collect()));
        };
        check(&[], &[], &[], &[], (false, &["x.dead-letters", "letters"]));
        check(&["a"], &[], &[], &["a", "x", "old"], (false, &["x.dead-letters"]));
        check(&["x"], &[], &[], &["x", "old"], (false, &["x.dead-letters"]));
        check(&["gone", "b"], &[], &[], &["gone", "b"], (false, &["x.dead-letters", "letters"]));
        check(&["b"], &["t"], &[], &["b"], (true, &["t"]));
        check(&[], &["t"], &["u/0/1", "u/0/2"], &[], (true, &["u"]));
    }

    #[test]
    fn an_expression_that_can_not_hold_is_wrong_usage() {
        let failure = compile("event.jsn.amount > 1").expect_err("no such variable");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure.message.starts_with("`--where` is refused: ") && failure.message.contains("jsn"),
            "{failure:?}"
        );
    }
}
