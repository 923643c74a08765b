//! What an operator's order makes of the decisions that hold: pins, rollbacks, the hold of a generation. Pure; the reload
//! carries out what follows, and keeps it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decisions::{Decision, Decisions, Hold, against_pin};
use super::order::{Order, Refusal, RefusalKind};
use super::store::{Manifest, VersionError, find_version, versions};
use crate::config::model::Config;
use crate::digest;

/// What an order is held against.
pub struct Situation<'s> {
    /// What holds so far.
    pub decisions: &'s Decisions,
    /// The live config.
    pub config: &'s Config,
    /// The number of the live generation.
    pub generation: u64,
    /// The versions that are live, by plugin.
    pub live: BTreeMap<&'s str, digest::Bytes>,
    /// What the directory has, by plugin.
    pub present: &'s BTreeMap<String, digest::Bytes>,
    /// The generations that are kept, newest last.
    pub kept: &'s [Arc<Manifest>],
    /// Of the config on the disk.
    pub config_sha256: digest::Bytes,
    /// In RFC 3339.
    pub now: String,
}

impl Situation<'_> {
    /// The decisions once the order is carried out.
    ///
    /// # Errors
    /// When it can't be: why not, and what could.
    pub fn decide(&self, order: &Order) -> Result<Decisions, Refusal> {
        let mut decisions = self.decisions.clone();
        match order {
            Order::Reload => {}
            Order::Rollback { to } => decisions.hold = Some(self.hold(*to)?),
            Order::Resume => {
                decisions.hold.take().ok_or_else(|| conflict("no generation is held: there is nothing to resume"))?;
            }
            Order::Pin { plugin, version } => {
                let sha256 = match version {
                    Some(prefix) => self.find(plugin, prefix)?,
                    None => self.live_version(plugin)?,
                };
                self.admit(plugin, &sha256)?;
                decisions.plugins.insert(plugin.clone(), Decision::Pin { sha256, since: self.now.clone() });
            }
            Order::Unpin { plugin } => match decisions.plugins.get(plugin) {
                Some(Decision::Pin { .. }) => drop(decisions.plugins.remove(plugin)),
                Some(Decision::Rollback { .. }) => {
                    return Err(conflict(format!(
                        "plugin `{plugin}` is not pinned but rolled back; other bytes in the plugin directory end that, or \
                         `midplane plugin pin {plugin}` and then `unpin`"
                    )));
                }
                None => return Err(conflict(format!("plugin `{plugin}` is not pinned"))),
            },
            Order::RollbackPlugin { plugin, to } => {
                let live = self.live_version(plugin)?;
                let wanted = match to {
                    Some(prefix) => self.find(plugin, prefix)?,
                    None => self.before(plugin, &live)?,
                };
                self.admit(plugin, &wanted)?;
                let present = self.present.get(plugin).copied();
                decisions.plugins.insert(plugin.clone(), Decision::rollback(wanted, present, live, self.now.clone()));
            }
            Order::Promote { plugin } | Order::Abort { plugin } => {
                return Err(conflict(format!("plugin `{plugin}` has no candidate on trial")));
            }
            Order::PauseRoute { .. } | Order::ResumeRoute { .. } | Order::Partition { .. } => {
                unreachable!("what makes no generation is carried out apart")
            }
        }
        Ok(decisions)
    }

    fn hold(&self, to: Option<u64>) -> Result<Hold, Refusal> {
        let generation = match to {
            Some(number) if number == self.generation => {
                return Err(conflict(format!("generation {number} is live already")));
            }
            Some(number) => self.kept.iter().find(|manifest| manifest.number == number),
            None => self.generation_before(),
        };
        let Some(generation) = generation else {
            let wanted = to.map_or("before the live one".to_owned(), |number| number.to_string());
            let others = self.kept.iter().filter(|manifest| manifest.number != self.generation);
            let kept: Vec<_> = others.map(|manifest| manifest.number.to_string()).collect();
            let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
            return Err(unknown(format!("there is no generation {wanted} to roll back to (kept: {kept})")));
        };
        Ok(Hold { generation: generation.number, config_sha256: self.config_sha256, since: self.now.clone() })
    }

    /// The newest generation that was live before what is live now, and was something else. While one is held, the one before
    /// that: who rolls back twice wants to go further back.
    fn generation_before(&self) -> Option<&Arc<Manifest>> {
        let hash = |number| self.kept.iter().find(|manifest| manifest.number == number).map(|manifest| manifest.hash);
        let from = self.decisions.hold.as_ref().map_or(self.generation, |hold| hold.generation);
        let (live, held) = (hash(self.generation), hash(from));
        let mut older = self.kept.iter().rev().filter(|manifest| manifest.number < from);
        older.find(|manifest| Some(manifest.hash) != live && Some(manifest.hash) != held)
    }

    fn live_version(&self, plugin: &str) -> Result<digest::Bytes, Refusal> {
        self.live.get(plugin).copied().ok_or_else(|| {
            let known: Vec<_> = self.live.keys().copied().collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            unknown(format!("no plugin `{plugin}` is live (live: {known})"))
        })
    }

    fn find(&self, plugin: &str, prefix: &str) -> Result<digest::Bytes, Refusal> {
        find_version(self.kept, plugin, prefix).map_err(|error| match error {
            VersionError::Unknown { .. } => unknown(error.to_string()),
            _ => Refusal::new(RefusalKind::Refused, error.to_string()),
        })
    }

    /// The version that was live before the live one.
    fn before(&self, plugin: &str, live: &digest::Bytes) -> Result<digest::Bytes, Refusal> {
        let known = versions(self.kept, plugin);
        let mut older = known.iter().skip_while(|(version, _)| version != live).skip(1);
        older.next().map(|(version, _)| *version).ok_or_else(|| {
            unknown(format!("plugin `{plugin}` has no version before {} that is kept", digest::short(live)))
        })
    }

    fn admit(&self, plugin: &str, wanted: &digest::Bytes) -> Result<(), Refusal> {
        let pin = self.config.plugin.get(plugin).and_then(|settings| settings.sha256);
        against_pin(plugin, pin, wanted).map_err(|contradiction| conflict(contradiction.to_string()))
    }
}

fn conflict(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Conflict, message)
}

fn unknown(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Unknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::control::store::StoredPlugin;

    fn version(number: u8) -> digest::Bytes {
        [number; 32]
    }

    /// Generations 1 to 4, which ran versions 1, 2, 2 and 3 of `mask`.
    fn kept() -> Vec<Arc<Manifest>> {
        let manifest = |(number, of): (u64, u8)| {
            let mut manifest = Manifest::new(number, [number as u8; 32]);
            manifest.plugins.insert("mask".to_owned(), StoredPlugin { sha256: version(of), bytes: 1, signature: None });
            Arc::new(manifest)
        };
        [(1, 1), (2, 2), (3, 2), (4, 3)].map(manifest).into()
    }

    /// Decides in generation 4, where the directory has version 3, and prints what holds then, or why not.
    fn check(decisions: &Decisions, order: &Order, expected: &str) -> Decisions {
        let text = "[routes.a]\nfrom = 'in'\nto = 'out'\nthrough = 'mask'\n".to_owned();
        let loaded = config::load_stored("m.toml".as_ref(), vec![("m.toml".into(), text)]).expect("valid");
        let present = BTreeMap::from([("mask".to_owned(), version(3))]);
        let situation = Situation {
            decisions,
            config: &loaded.config,
            generation: 4,
            live: BTreeMap::from([("mask", version(3))]),
            present: &present,
            kept: &kept(),
            config_sha256: [9; 32],
            now: "now".to_owned(),
        };
        let decided = situation.decide(order);
        let shown = match &decided {
            Ok(decisions) => {
                let parts = decisions.plugins.iter().map(|(name, decision)| match decision {
                    Decision::Pin { sha256, .. } => format!("{name} pinned to {}", sha256[0]),
                    Decision::Rollback { to, from, .. } => format!("{name} back to {} from {}", to[0], from[0]),
                });
                let hold = decisions.hold.iter().map(|hold| format!("generation {} held", hold.generation));
                parts.chain(hold).collect::<Vec<_>>().join(", ")
            }
            Err(refusal) => format!("{:?}: {}", refusal.kind, refusal.message),
        };
        assert_eq!(shown, expected, "{order:?}");
        decided.unwrap_or_else(|_| decisions.clone())
    }

    #[test]
    fn a_plugin_goes_back_to_the_version_before() {
        let plugin = || "mask".to_owned();
        let none = Decisions::default();
        let back = Order::RollbackPlugin { plugin: plugin(), to: None };
        check(&none, &back, "mask back to 2 from 3");
        let further = Order::RollbackPlugin { plugin: plugin(), to: Some("0101".to_owned()) };
        check(&none, &further, "mask back to 1 from 3");
        let nowhere = Order::RollbackPlugin { plugin: plugin(), to: Some("0505".to_owned()) };
        check(
            &none,
            &nowhere,
            "Unknown: plugin `mask` has no version `0505` in the store (it has: 03030303, 02020202, 01010101)",
        );
        let other = Order::RollbackPlugin { plugin: "msk".to_owned(), to: None };
        check(&none, &other, "Unknown: no plugin `msk` is live (live: mask)");
    }

    #[test]
    fn a_pin_is_for_the_live_version_unless_another_one_is_named() {
        let plugin = || "mask".to_owned();
        let pinned = check(&Decisions::default(), &Order::Pin { plugin: plugin(), version: None }, "mask pinned to 3");
        check(&pinned, &Order::Pin { plugin: plugin(), version: Some("0202".to_owned()) }, "mask pinned to 2");
        check(&pinned, &Order::Unpin { plugin: plugin() }, "");
        check(&Decisions::default(), &Order::Unpin { plugin: plugin() }, "Conflict: plugin `mask` is not pinned");
    }

    #[test]
    fn a_whole_generation_is_held_until_somebody_resumes() {
        let none = Decisions::default();
        let held = check(&none, &Order::Rollback { to: None }, "generation 3 held");
        check(&held, &Order::Rollback { to: None }, "generation 2 held");
        check(&none, &Order::Rollback { to: Some(1) }, "generation 1 held");
        check(&none, &Order::Rollback { to: Some(4) }, "Conflict: generation 4 is live already");
        check(
            &none,
            &Order::Rollback { to: Some(7) },
            "Unknown: there is no generation 7 to roll back to (kept: 1, 2, 3)",
        );
        check(&held, &Order::Resume, "");
        check(&none, &Order::Resume, "Conflict: no generation is held: there is nothing to resume");
    }
}
