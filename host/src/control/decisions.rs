//! What operators decided: pins, rollbacks, the hold of a whole generation, routes that are paused; and which version of a plugin
//! follows from that. Kept in one file over restarts. Never looks at the plugin directory or the store, and never decides by
//! itself that a decision is over: [`choose`] says so, and whoever publishes the generation forgets it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::durable;
use crate::config::model::Config;
use crate::digest;

/// The form of the file that this version writes and reads.
const FORM: u32 = 1;

/// All that operators decided.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Decisions {
    /// By plugin.
    #[serde(default)]
    pub plugins: BTreeMap<String, Decision>,
    /// A whole generation that is held, config and plugins.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// The routes that are paused on this host, by id, each with the time at which that was ordered, in RFC 3339.
    #[serde(default)]
    pub paused: BTreeMap<String, String>,
}

/// What holds for one plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Decision {
    /// This version, until it is unpinned.
    Pin {
        /// The version.
        #[serde(with = "digest::as_hex")]
        sha256: digest::Bytes,
        /// When it was decided, in RFC 3339.
        since: String,
    },
    /// An earlier version, until the directory has other bytes than those rolled back from.
    Rollback {
        /// The earlier version.
        #[serde(with = "digest::as_hex")]
        to: digest::Bytes,
        /// What was rolled back from: the directory's bytes.
        #[serde(with = "digest::as_hex")]
        from: digest::Bytes,
        /// When it was decided, in RFC 3339.
        since: String,
    },
}

/// A generation that is held as a whole, until the config's bytes change or somebody resumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Whose contents are held: they come from the store.
    pub generation: u64,
    /// Of the config on the disk when it was ordered.
    #[serde(with = "digest::as_hex")]
    pub config_sha256: digest::Bytes,
    /// When it was decided, in RFC 3339.
    pub since: String,
}

/// Why the decisions can't be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refuses.
    #[error("cannot use `{}`, which keeps pins and rollbacks", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what this version writes.
    #[error("`{}` does not hold pins and rollbacks: {reason}; put it right, or remove it, which forgets them all", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The file.
#[derive(Serialize, Deserialize)]
struct Kept<D> {
    v: u32,
    #[serde(flatten)]
    decisions: D,
}

impl Decisions {
    /// Reads them; none where there is no file.
    ///
    /// # Errors
    /// When it can't be read. Going on without would undo what operators decided.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(Error::Io { path: path.to_owned(), source }),
        };
        let damaged = |reason| Error::Damaged { path: path.to_owned(), reason };
        let kept: Kept<Self> = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if kept.v != FORM {
            return Err(damaged(format!("it has form {}, expected {FORM}", kept.v)));
        }
        Ok(kept.decisions)
    }

    /// Keeps them, durably, in place of what was there.
    ///
    /// # Errors
    /// When the disk refuses; what was there then still is.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let text = serde_json::to_vec_pretty(&Kept { v: FORM, decisions: self }).map_err(|error| io(error.into()))?;
        durable::replace(path, &text).map_err(io)
    }

    /// Has pauses stay with their routes where those have other ids in the `next` config than in the one `before`: one of the two
    /// says so with `was`. The next deploy may say nothing of it any more.
    pub fn follow_renamed(&mut self, before: Option<&Config>, next: &Config) {
        if self.paused.is_empty() {
            return;
        }
        let renamed = |config: &Config| -> Vec<(String, String)> {
            config.routes.iter().filter_map(|route| Some((route.was.clone()?, route.id.clone()))).collect()
        };
        let has = |id: &str| next.routes.iter().any(|route| route.id == id);
        // Going back to an earlier config gives a route the id back that it had.
        let back = before.map(renamed).unwrap_or_default().into_iter();
        let back = back.filter(|(was, id)| self.paused.contains_key(id) && has(was) && !has(id));
        let moves: Vec<_> = back.map(|(was, id)| (id, was)).chain(renamed(next)).collect();
        for (from, to) in moves {
            if let Some(since) = self.paused.remove(&from) {
                self.paused.entry(to).or_insert(since);
            }
        }
    }

    /// The versions that must stay in the store.
    pub fn versions(&self) -> BTreeSet<digest::Bytes> {
        self.plugins.values().map(Decision::version).collect()
    }

    /// The generations that must stay in the store.
    pub fn generations(&self) -> BTreeSet<u64> {
        self.hold.iter().map(|hold| hold.generation).collect()
    }
}

impl Decision {
    /// A rollback, ordered now. Rolled back from is what the directory has, or, where it has nothing, what is live: so that
    /// putting the very same bytes back doesn't end it.
    pub fn rollback(
        to: digest::Bytes,
        directory: Option<digest::Bytes>,
        live: digest::Bytes,
        since: impl Into<String>,
    ) -> Self {
        Self::Rollback { to, from: directory.unwrap_or(live), since: since.into() }
    }

    /// The version that it asks for.
    pub fn version(&self) -> digest::Bytes {
        match self {
            Self::Pin { sha256, .. } => *sha256,
            Self::Rollback { to, .. } => *to,
        }
    }
}

impl Hold {
    /// Whether the config on the disk is another one than when this was ordered.
    pub fn is_over(&self, config_sha256: &digest::Bytes) -> bool {
        self.config_sha256 != *config_sha256
    }
}

/// Where the version of a plugin comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The directory's file.
    Directory(digest::Bytes),
    /// The store.
    Stored(digest::Bytes),
    /// It is live, and the directory has it no more: it goes on.
    Keep(digest::Bytes),
    /// There is none.
    Missing,
}

/// What becomes of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    None,
    /// It holds.
    Stands,
    /// A rollback that other bytes in the directory have ended: to be forgotten with the next generation.
    Ended,
    /// `sha256` in the config says otherwise, and wins for as long as it is there.
    Overridden,
}

/// Which version of a plugin a generation runs, and whether the operators' decision had a part in it. `pin` is `sha256` in the
/// config, `directory` what its file has, `live` what runs now, or ran last. A directory that contradicts `pin` is chosen all
/// the same: that it is refused is for the config's check to say, which knows the place.
pub fn choose(
    pin: Option<digest::Bytes>,
    decision: Option<&Decision>,
    directory: Option<digest::Bytes>,
    live: Option<digest::Bytes>,
) -> (Choice, Standing) {
    let standing = standing(pin, decision, directory);
    let wanted = decision.filter(|_| standing == Standing::Stands).map(Decision::version);
    let choice = match (wanted, directory, live) {
        (Some(wanted), Some(directory), _) if wanted == directory => Choice::Directory(directory),
        (Some(wanted), ..) => Choice::Stored(wanted),
        (None, Some(directory), _) => Choice::Directory(directory),
        (None, None, Some(live)) => Choice::Keep(live),
        (None, None, None) => Choice::Missing,
    };
    (choice, standing)
}

fn standing(pin: Option<digest::Bytes>, decision: Option<&Decision>, directory: Option<digest::Bytes>) -> Standing {
    let Some(decision) = decision else { return Standing::None };
    if let Decision::Rollback { from, .. } = decision
        && directory.is_some_and(|directory| directory != *from)
    {
        return Standing::Ended;
    }
    if pin.is_some_and(|pin| pin != decision.version()) {
        return Standing::Overridden;
    }
    Standing::Stands
}

/// Why an order is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "plugin `{plugin}` can't be set to version `{wanted}`: the config pins it to `{pin}`; change `sha256` in \
     `[plugin.{plugin}]`, or take it out"
)]
pub struct Contradiction {
    /// Its name.
    pub plugin: String,
    /// What was asked for.
    pub wanted: String,
    /// What the config says.
    pub pin: String,
}

/// Whether an operator may ask for a version: not if `sha256` in the config says otherwise.
///
/// # Errors
/// When it does.
pub fn against_pin(plugin: &str, pin: Option<digest::Bytes>, wanted: &digest::Bytes) -> Result<(), Contradiction> {
    match pin.filter(|pin| pin != wanted) {
        None => Ok(()),
        Some(pin) => {
            Err(Contradiction { plugin: plugin.to_owned(), wanted: digest::short(wanted), pin: digest::short(&pin) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const SINCE: &str = "2026-01-31T06:00:00Z";

    fn version(number: u8) -> digest::Bytes {
        [number; 32]
    }

    fn pin(number: u8) -> Decision {
        Decision::Pin { sha256: version(number), since: SINCE.to_owned() }
    }

    fn rollback(to: u8, from: u8) -> Decision {
        Decision::Rollback { to: version(to), from: version(from), since: SINCE.to_owned() }
    }

    #[test]
    fn versions_are_chosen_as_operators_expect() {
        use Choice::{Directory, Keep, Missing, Stored};
        let check =
            |toml: Option<u8>, decision: Option<&Decision>, directory: Option<u8>, live: Option<u8>, expected| {
                let chosen = choose(toml.map(version), decision, directory.map(version), live.map(version));
                assert_eq!(chosen, expected, "{toml:?} {decision:?} {directory:?} {live:?}");
            };
        let (one, two, three) = (version(1), version(2), version(3));
        // Nobody decided anything.
        check(None, None, Some(2), Some(1), (Directory(two), Standing::None));
        check(None, None, None, Some(1), (Keep(one), Standing::None));
        check(None, None, None, None, (Missing, Standing::None));
        check(Some(3), None, Some(2), Some(3), (Directory(two), Standing::None));
        // A pin, whatever the directory has.
        check(None, Some(&pin(1)), Some(2), Some(2), (Stored(one), Standing::Stands));
        check(None, Some(&pin(1)), Some(1), Some(2), (Directory(one), Standing::Stands));
        check(None, Some(&pin(1)), None, None, (Stored(one), Standing::Stands));
        check(Some(1), Some(&pin(1)), Some(2), None, (Stored(one), Standing::Stands));
        check(Some(2), Some(&pin(1)), Some(2), Some(1), (Directory(two), Standing::Overridden));
        check(Some(2), Some(&pin(1)), None, Some(2), (Keep(two), Standing::Overridden));
        // A rollback, until other bytes appear.
        check(None, Some(&rollback(1, 2)), Some(2), Some(2), (Stored(one), Standing::Stands));
        check(None, Some(&rollback(1, 2)), None, Some(1), (Stored(one), Standing::Stands));
        check(None, Some(&rollback(1, 2)), Some(3), Some(1), (Directory(three), Standing::Ended));
        check(None, Some(&rollback(1, 2)), Some(1), Some(1), (Directory(one), Standing::Ended));
        check(Some(2), Some(&rollback(1, 2)), Some(2), Some(1), (Directory(two), Standing::Overridden));
        check(Some(3), Some(&rollback(1, 2)), Some(3), Some(1), (Directory(three), Standing::Ended));
    }

    #[test]
    fn a_rollback_of_a_deleted_plugin_is_from_what_is_live() {
        let decision = Decision::rollback(version(1), None, version(2), SINCE);
        assert_eq!(decision, rollback(1, 2));
        assert_eq!(Decision::rollback(version(1), Some(version(3)), version(2), SINCE), rollback(1, 3));
    }

    #[test]
    fn decisions_outlive_the_process() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("decisions.json");
        assert_eq!(Decisions::load(&path).expect("none"), Decisions::default());
        let decisions = Decisions {
            plugins: [("mask".to_owned(), pin(1)), ("scan".to_owned(), rollback(2, 3))].into(),
            hold: Some(Hold { generation: 7, config_sha256: version(4), since: SINCE.to_owned() }),
            paused: [("orders".to_owned(), SINCE.to_owned())].into(),
        };
        decisions.save(&path).expect("writable");
        assert_eq!(Decisions::load(&path).expect("there"), decisions);
        assert_eq!(decisions.versions(), [version(1), version(2)].into());
        assert_eq!(decisions.generations(), [7].into());
        Decisions::default().save(&path).expect("writable");
        assert_eq!(Decisions::load(&path).expect("there"), Decisions::default());
    }

    #[test]
    fn a_pause_stays_with_its_route() {
        let config = |routes: &[(&str, &str)]| {
            let route = |(id, was): &(&str, &str)| {
                let was = if was.is_empty() { String::new() } else { format!("was = '{was}'\n") };
                format!("[routes.{id}]\nfrom = 'in'\nto = 'out'\n{was}")
            };
            let text: String = routes.iter().map(route).collect();
            crate::config::load_stored("m.toml".as_ref(), vec![("m.toml".into(), text)]).expect("valid").config
        };
        let check = |paused: &[&str], before: Option<&[(&str, &str)]>, next: &[(&str, &str)], expected: &[&str]| {
            let paused = paused.iter().map(|id| ((*id).to_owned(), SINCE.to_owned())).collect();
            let mut decisions = Decisions { paused, ..Decisions::default() };
            decisions.follow_renamed(before.map(config).as_ref(), &config(next));
            let found: Vec<_> = decisions.paused.iter().map(|(id, since)| (id.as_str(), since.as_str())).collect();
            assert_eq!(found, expected.iter().map(|id| (*id, SINCE)).collect::<Vec<_>>(), "{before:?} {next:?}");
        };
        let (one, renamed, other) = (&[("a", "")][..], &[("b", "a")][..], &[("b", "")][..]);
        check(&["a"], Some(one), renamed, &["b"]);
        check(&["a"], None, renamed, &["b"]);
        check(&["b"], Some(renamed), renamed, &["b"]);
        // The deploy after, and a way back instead of it.
        check(&["b"], Some(renamed), other, &["b"]);
        check(&["b"], Some(renamed), one, &["a"]);
        // Another route has the former id now.
        check(&["b"], Some(renamed), &[("a", ""), ("b", "")], &["b"]);
        // Nobody says that it is the same one.
        check(&["a"], Some(one), other, &["a"]);
        check(&["a", "c"], Some(&[("a", ""), ("c", "")]), &[("b", "a"), ("d", "c")], &["b", "d"]);
    }

    #[test]
    fn a_damaged_file_forgets_nothing_by_itself() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("decisions.json");
        for text in ["", "{}", r#"{"v":2}"#, r#"{"v":1,"plugins":{"mask":{"kind":"pin"}}}"#] {
            std::fs::write(&path, text).expect("writable");
            let error = Decisions::load(&path).expect_err(text);
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn a_hold_ends_with_other_bytes() {
        let hold = Hold { generation: 3, config_sha256: version(1), since: SINCE.to_owned() };
        assert!(!hold.is_over(&version(1)));
        assert!(hold.is_over(&version(2)));
    }

    #[test]
    fn an_order_may_not_contradict_the_config() {
        assert_eq!(against_pin("mask", None, &version(1)), Ok(()));
        assert_eq!(against_pin("mask", Some(version(1)), &version(1)), Ok(()));
        let contradiction = against_pin("mask", Some(version(0xab)), &version(1)).expect_err("another");
        assert_eq!(
            contradiction.to_string(),
            "plugin `mask` can't be set to version `01010101`: the config pins it to `abababab`; change `sha256` in \
             `[plugin.mask]`, or take it out"
        );
    }

    fn any_version() -> impl Strategy<Value = Option<u8>> {
        proptest::option::of(1..5_u8)
    }

    fn any_decision() -> impl Strategy<Value = Option<Decision>> {
        let pins = (1..5_u8).prop_map(pin);
        let rollbacks = (1..5_u8, 1..5_u8).prop_map(|(to, from)| rollback(to, from));
        proptest::option::of(prop_oneof![pins, rollbacks])
    }

    fn version_of(choice: Choice) -> Option<digest::Bytes> {
        match choice {
            Choice::Directory(version) | Choice::Stored(version) | Choice::Keep(version) => Some(version),
            Choice::Missing => None,
        }
    }

    proptest! {
        #[test]
        fn choices_keep_their_rules(
            pin in any_version(),
            decision in any_decision(),
            directory in any_version(),
            live in any_version(),
        ) {
            let (pin, directory, live) = (pin.map(version), directory.map(version), live.map(version));
            let (choice, standing) = choose(pin, decision.as_ref(), directory, live);
            let undecided = choose(pin, None, directory, live);

            // A decision that stands decides; one that doesn't might as well not be there.
            match (standing, &decision) {
                (Standing::Stands, Some(decision)) => prop_assert_eq!(version_of(choice), Some(decision.version())),
                _ => prop_assert_eq!(choice, undecided.0),
            }
            // Only a rollback ends, and only where there are other bytes.
            let other_bytes = matches!(&decision, Some(Decision::Rollback { from, .. }) if directory.is_some_and(|bytes| bytes != *from));
            prop_assert_eq!(standing == Standing::Ended, other_bytes);
            // The config's pin is never contradicted by a decision.
            if let (Some(pin), Choice::Stored(version)) = (pin, choice) {
                prop_assert_eq!(version, pin);
            }
            // What the directory has, nobody takes from elsewhere.
            if let Choice::Stored(version) | Choice::Keep(version) = choice {
                prop_assert!(directory != Some(version));
            }
            // Once it is live it stays, whatever else happens than to the directory, the config and the decision.
            let again = choose(pin, decision.as_ref(), directory, version_of(choice));
            prop_assert_eq!(version_of(again.0), version_of(choice));
            prop_assert_eq!(again.1, standing);
            // A decision that stands needs nothing of what ran before: it outlives a restart.
            if standing == Standing::Stands {
                prop_assert_eq!(choose(pin, decision.as_ref(), directory, None).0, choice);
            }
        }

        #[test]
        fn whatever_was_decided_is_read_back(
            plugins in proptest::collection::btree_map("[a-z]{1,4}", any_decision().prop_filter_map("a decision", |d| d), 0..4),
            hold in proptest::option::of((any::<u64>(), any::<u8>())),
        ) {
            let hold = hold.map(|(generation, byte)| Hold { generation, config_sha256: [byte; 32], since: SINCE.to_owned() });
            let decisions = Decisions { plugins, hold, paused: BTreeMap::new() };
            let text = serde_json::to_vec(&Kept { v: FORM, decisions: &decisions }).expect("JSON");
            let kept: Kept<Decisions> = serde_json::from_slice(&text).expect("what was written");
            prop_assert_eq!(kept.decisions, decisions);
        }
    }
}
