//! The one task that owns what is live, and makes it another: when files change, when somebody asks, when the broker has other
//! topics. One thing at a time; a generation is published whole or not at all, and what is refused is said once.

mod reading;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use self::reading::{Reading, why};
use super::blocking;
use super::decisions::Decisions;
use super::describe::{self, Around};
use super::hands;
use super::metrics;
use super::order::{Done, Order, Refusal, RefusalKind, Request};
use super::prepare::{self, Live, Next};
use super::publish::{self, Host};
use super::rollout::{self, Conclusion, Ending};
use super::shards::{self, Shards};
use super::topics::{self, Patience};
use super::watch::{SETTLE_ASKED, Snapshot, Watch};
use crate::config::Inputs;
use crate::digest;

/// How often it is looked whether the broker answers, and which topics patterns match.
const TOPICS_INTERVAL: Duration = Duration::from_secs(10);
/// How often the versions on trial are judged, while there are any.
const TRIALS_INTERVAL: Duration = Duration::from_millis(200);
/// How long one such look may take.
const TOPICS_TIMEOUT: Duration = Duration::from_secs(5);
/// How often files are read anew that change while they are read, before whoever asked is told.
const READS_MAX: usize = 20;

/// Why what is live stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files, or what they ask for.
    #[error(transparent)]
    Prepare(#[from] prepare::Error),
    /// The topics.
    #[error(transparent)]
    Topics(#[from] topics::Error),
    /// What was ordered can't be.
    #[error(transparent)]
    Order(#[from] Refusal),
}

impl Error {
    /// Whether the same files could be accepted later.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Topics(_) | Self::Prepare(prepare::Error::DataDirectory(_) | prepare::Error::Decisions(_)))
    }

    /// With all that caused it.
    fn text(&self) -> String {
        shards::error_chain(self)
    }

    fn into_refusal(self) -> Refusal {
        match self {
            Self::Order(refusal) => refusal,
            Self::Topics(topics::Error::Kafka(ref error)) if error.may_pass() => {
                Refusal::new(RefusalKind::Unanswered, self.text())
            }
            error => Refusal::new(RefusalKind::Refused, error.text()),
        }
    }
}

/// What comes of a try.
enum Outcome {
    /// What is wanted is what is live.
    Same,
    /// Another generation is live.
    Published,
    /// Nothing has changed.
    Refused(Error),
}

impl Outcome {
    fn label(&self) -> metrics::Reload {
        match self {
            Self::Same => metrics::Reload::same,
            Self::Published => metrics::Reload::published,
            Self::Refused(_) => metrics::Reload::refused,
        }
    }
}

/// What makes the task act.
enum Occasion {
    Look,
    Trials,
    Files(Snapshot),
    Hangup,
    Order(Request),
}

/// What a reloader begins with.
pub struct Begin {
    /// What has just become live.
    pub live: Live,
    /// What operators decided.
    pub decisions: Decisions,
    /// What the directory has, by plugin.
    pub present: BTreeMap<String, digest::Bytes>,
    /// Each way in which the files and what is live differ.
    pub drift: Vec<String>,
    /// What the config depends on.
    pub inputs: Inputs,
    /// What the files were when they were read.
    pub taken: Snapshot,
    /// Why they are not what is live, if they aren't.
    pub refused: Option<String>,
}

/// Owns what is live.
pub struct Reloader {
    pub(super) host: Host,
    pub(super) live: Live,
    pub(super) shards: Shards,
    watch: Watch,
    orders: mpsc::Receiver<Request>,
    hangups: mpsc::Receiver<()>,
    pub(super) decisions: Decisions,
    present: BTreeMap<String, digest::Bytes>,
    drift: Vec<String>,
    /// Why a trial could not be ended, while that is so.
    unended: Option<String>,
    /// What was refused last, if it still is.
    refused: Option<String>,
    /// Whether it may be accepted later, as it is.
    retry: bool,
}

impl Reloader {
    /// With what has just become live.
    pub fn new(
        host: Host,
        begin: Begin,
        shards: Shards,
        orders: mpsc::Receiver<Request>,
        hangups: mpsc::Receiver<()>,
    ) -> Self {
        let Begin { live, decisions, present, drift, inputs, taken, refused } = begin;
        let config = &live.generation.config;
        let watch = Watch::new(inputs, taken, config.plugins.poll_interval);
        host.status.refused(refused.clone());
        let reloader = Self {
            host,
            live,
            shards,
            watch,
            orders,
            hangups,
            decisions,
            present,
            drift,
            unended: None,
            refused,
            retry: false,
        };
        reloader.tell();
        rollout::tell_begun(None, &reloader.live.generation);
        reloader
    }

    /// Serves until told to stop, or until a shard ends in a way that only another process can mend; then drains. Whether all was acknowledged and committed.
    ///
    /// # Errors
    /// Where a shard could not go on.
    pub async fn run(mut self, stop: &mut watch::Receiver<bool>) -> Result<bool, shards::Error> {
        let failed = self.serve(stop).await;
        self.host.status.stops();
        self.host.stopping.store(true, Ordering::Relaxed);
        let clean = self.shards.drain(self.live.generation.config.host.drain_timeout).await;
        failed.map_or(Ok(clean), Err)
    }

    async fn serve(&mut self, stop: &mut watch::Receiver<bool>) -> Option<shards::Error> {
        let mut look = tokio::time::interval_at(tokio::time::Instant::now() + TOPICS_INTERVAL, TOPICS_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trials = tokio::time::interval(TRIALS_INTERVAL);
        trials.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let occasion = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return None,
                done = self.shards.look_after() => match done {
                    Ok(()) => {
                        self.tell();
                        continue;
                    }
                    Err(error) => return Some(error),
                },
                Some(request) = self.orders.recv() => Occasion::Order(request),
                Some(()) = self.hangups.recv() => Occasion::Hangup,
                snapshot = self.watch.changed() => Occasion::Files(snapshot),
                _ = look.tick() => Occasion::Look,
                _ = trials.tick(), if !self.live.generation.candidates.is_empty() => Occasion::Trials,
            };
            // Told to stop, nobody waits for a compile; what was handed over is drained like everything else.
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return None,
                done = self.attend(occasion) => if let Err(error) = done {
                    return Some(error);
                }
            }
        }
    }

    async fn attend(&mut self, occasion: Occasion) -> Result<(), shards::Error> {
        match occasion {
            Occasion::Look => self.look().await,
            Occasion::Trials => {
                let endings = rollout::judge_all(&self.live.generation);
                self.end_trials(endings, "a trial has ended").await.map(drop)
            }
            Occasion::Files(snapshot) => {
                tracing::debug!("The files have changed.");
                self.reload("the files changed", Some(snapshot)).await.map(drop)
            }
            Occasion::Hangup => {
                tracing::info!("A reload was asked for by a signal.");
                self.shards.start_stopped()?;
                let outcome = self.reload("a signal asked for it", None).await?;
                if matches!(outcome, Outcome::Same) {
                    tracing::info!(generation = self.number(), "Nothing has changed.");
                }
                Ok(())
            }
            Occasion::Order(Request { order, reply }) => {
                let answer = self.obey(order).await?;
                // Whoever asked may be gone.
                let _ = reply.send(answer);
                Ok(())
            }
        }
    }

    /// Whether the broker answers, and which topics it has.
    async fn look(&mut self) -> Result<(), shards::Error> {
        let (topics, read) = (Arc::clone(&self.host.topics), self.shards.read());
        let look = move || {
            let present = topics.list(TOPICS_TIMEOUT)?;
            let names: Vec<&str> = read.iter().map(String::as_str).collect();
            Ok::<_, crate::kafka::Error>((present, topics.ids(&names, TOPICS_TIMEOUT)?))
        };
        match blocking(look).await {
            Ok((present, ids)) => {
                self.shards.compare_topics(ids);
                self.host.status.broker_answers(true);
                self.shards.topics_changed(&present);
                if self.retry {
                    self.reload("the broker was asked again", None).await?;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "The broker does not answer.");
                self.host.status.broker_answers(false);
            }
        }
        Ok(())
    }

    async fn obey(&mut self, order: Order) -> Result<Result<Done, Refusal>, shards::Error> {
        if order == Order::Reload {
            self.shards.start_stopped()?;
            let outcome = self.reload("an operator asked for it", None).await?;
            return Ok(self.answer(outcome, "the files are what is live"));
        }
        if let Some(done) = self.lend_a_hand(&order).await {
            return Ok(done);
        }
        let why = why(&order);
        let ending = match &order {
            Order::Promote { plugin } => Some(rollout::ordered(&self.live.generation, plugin, Conclusion::Promoted)),
            Order::Abort { plugin } => Some(rollout::ordered(&self.live.generation, plugin, Conclusion::Aborted)),
            _ => None,
        };
        match ending {
            Some(Ok(ending)) => {
                let outcome = self.end_trials(vec![ending], &why).await?;
                return Ok(self.answer(outcome, &why));
            }
            Some(Err(refusal)) => return Ok(Err(refusal)),
            None => {}
        }
        let outcome = match self.read(None, Some(order)).await {
            Ok(prepared) => self.accept(prepared, &why).await?,
            Err(error) => Outcome::Refused(error),
        };
        self.host.status.metrics().reloaded(outcome.label());
        match &outcome {
            Outcome::Refused(error) => tracing::warn!(order = why, error = error.text(), "An order is refused."),
            Outcome::Same | Outcome::Published => tracing::info!(order = why, "An order is carried out."),
        }
        Ok(self.answer(outcome, &why))
    }

    /// Ends trials, whatever the files say meanwhile: a candidate that fails is not kept because a config is broken.
    async fn end_trials(&mut self, endings: Vec<Ending>, why: &str) -> Result<Outcome, shards::Error> {
        if endings.is_empty() {
            return Ok(Outcome::Same);
        }
        let mut decisions = self.decisions.clone();
        let now = jiff::Timestamp::now().to_string();
        let decided = |ending: &Ending| ending.decision(&now).map(|decision| (ending.plugin.clone(), decision));
        decisions.plugins.extend(endings.iter().filter_map(decided));
        let (live, tools, ends) = (self.live.clone(), self.host.tools.clone(), endings.clone());
        let outcome = match blocking(move || prepare::conclude(&live, &ends, &tools)).await {
            Ok(next) => {
                let (present, drift) = (self.present.clone(), self.drift.clone());
                self.accept(prepare::Outcome { next, decisions, present, drift }, why).await?
            }
            Err(error) => Outcome::Refused(error.into()),
        };
        match &outcome {
            Outcome::Refused(error) => {
                // It is tried again at once, and said once.
                let text = Some(error.text());
                if self.unended != text {
                    tracing::error!(error = text, "A trial can't be ended yet; trying again.");
                    self.unended = text;
                }
            }
            Outcome::Same | Outcome::Published => {
                self.unended = None;
                for ending in endings {
                    ending.tell();
                    self.host.status.trial_ended(&ending);
                }
            }
        }
        Ok(outcome)
    }

    fn answer(&self, outcome: Outcome, why: &str) -> Result<Done, Refusal> {
        let generation = self.number();
        match outcome {
            Outcome::Same => {
                Ok(Done { generation, changed: false, message: format!("{why}; generation {generation} stays live") })
            }
            Outcome::Published => {
                let versions = prepare::versions_of(&self.live.generation);
                let versions = if versions.is_empty() { String::new() } else { format!(", with {versions}") };
                Ok(Done { generation, changed: true, message: format!("generation {generation} is live{versions}") })
            }
            Outcome::Refused(error) => Err(error.into_refusal()),
        }
    }

    fn number(&self) -> u64 {
        self.live.generation.number
    }

    /// Makes live what the files say, if they say something else and it can be. `settled` is what they were found to be, where
    /// that has been waited for.
    async fn reload(&mut self, why: &str, settled: Option<Snapshot>) -> Result<Outcome, shards::Error> {
        let outcome = match self.read(settled, None).await {
            Ok(prepared) => self.accept(prepared, why).await?,
            Err(error) => Outcome::Refused(error),
        };
        self.host.status.metrics().reloaded(outcome.label());
        match &outcome {
            Outcome::Refused(error) => self.refuse(error),
            Outcome::Same | Outcome::Published => {
                self.retry = false;
                if self.refused.take().is_some() {
                    self.host.status.refused(None);
                    tracing::info!(generation = self.number(), "What was refused is gone.");
                }
            }
        }
        Ok(outcome)
    }

    fn refuse(&mut self, error: &Error) {
        self.retry = error.may_pass();
        let text = error.text();
        if self.refused.as_ref() != Some(&text) {
            let generation = self.number();
            tracing::error!(generation, error = text, "The reload is refused; what is live stays as it is.");
            self.host.status.refused(Some(text.clone()));
            self.refused = Some(text);
        }
    }

    /// Reads the files, as they are at one time, and prepares what they and the decisions ask for, an order's among them.
    async fn read(&mut self, mut settled: Option<Snapshot>, order: Option<Order>) -> Result<prepare::Outcome, Error> {
        for _ in 0..READS_MAX {
            let before = match settled.take() {
                Some(snapshot) => snapshot,
                None => self.settle().await,
            };
            let job = Reading {
                path: self.host.config_path.clone(),
                tools: self.host.tools.clone(),
                live: self.live.clone(),
                decisions: self.decisions.clone(),
                present: self.present.clone(),
                order: order.clone(),
            };
            let (inputs, outcome) = blocking(move || job.run()).await;
            let unchanged = self.watch.look().await == before;
            let other_inputs = self.follow(inputs);
            if unchanged {
                // What is looked at from now on may be more than what was looked at before.
                let taken = if other_inputs { self.watch.look().await } else { before };
                self.watch.take(taken);
                return outcome;
            }
        }
        Err(prepare::Error::Unsettled.into())
    }

    /// What the files are, once they stay so for a moment.
    async fn settle(&self) -> Snapshot {
        let mut before = self.watch.look().await;
        for _ in 0..READS_MAX {
            tokio::time::sleep(SETTLE_ASKED).await;
            let now = self.watch.look().await;
            if now == before {
                break;
            }
            before = now;
        }
        before
    }

    /// Watches what was read. Whether that is something else than before.
    fn follow(&mut self, mut inputs: Inputs) -> bool {
        // A config that can't be read says nothing of where the plugins are.
        inputs.plugins = inputs.plugins.or_else(|| Some(self.live.generation.config.plugins.directory.clone()));
        self.watch.follow(inputs, self.live.generation.config.plugins.poll_interval)
    }

    /// Keeps what was prepared, and makes it live.
    async fn accept(&mut self, prepared: prepare::Outcome, why: &str) -> Result<Outcome, shards::Error> {
        let prepare::Outcome { next, decisions, present, drift } = prepared;
        let Some(next) = next else {
            if let Err(error) = self.keep(None, &decisions, why).await {
                return Ok(Outcome::Refused(error));
            }
            self.know(decisions, present, drift);
            return Ok(Outcome::Same);
        };
        let (host, live, before) = (self.host.clone(), next.live.clone(), self.live.clone());
        let see = move || {
            let patience = Patience::short(&host.stopping);
            publish::see_to_topics(&host, &live, Some(&before.generation.config), &before.programs, patience)
        };
        let (found, moves) = match blocking(see).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Outcome::Refused(error.into())),
        };
        let next = Arc::new(next);
        if let Err(error) = self.keep(Some(Arc::clone(&next)), &decisions, why).await {
            return Ok(Outcome::Refused(error));
        }
        let pauses = hands::pauses(&decisions);
        let renamed = decisions.paused != self.decisions.paused;
        if renamed {
            // Under either id: a shard follows the former config until it has gone over.
            self.shards.pause(Arc::new(pauses.union(&hands::pauses(&self.decisions)).cloned().collect()));
        }
        publish::hand_over(&self.host, &mut self.shards, &next, Some(&self.live), &found, &moves).await?;
        if renamed && self.shards.follow(next.live.generation.number) {
            self.shards.pause(pauses);
        }
        let before = std::mem::replace(&mut self.live, next.live.clone());
        self.host.access.set(self.live.generation.config.admin.token.as_ref());
        self.host.status.serves(super::status::Generation::of(&self.live));
        self.know(decisions, present, drift);
        rollout::tell_begun(Some(&before.generation), &self.live.generation);
        tracing::info!(
            generation = self.number(),
            hash = digest::short(&self.live.generation.hash),
            plugins = prepare::versions_of(&self.live.generation),
            before = before.generation.number,
            why,
            "Another generation is live."
        );
        Ok(Outcome::Published)
    }

    /// Keeps the decisions and what the next generation consists of. A crash in between finds the decisions, and prepares
    /// what they ask for; a disk that refuses leaves both as they were.
    pub(super) async fn keep(&self, next: Option<Arc<Next>>, decisions: &Decisions, why: &str) -> Result<(), Error> {
        let (tools, before, after) = (self.host.tools.clone(), self.decisions.clone(), decisions.clone());
        let (why, generations) = (why.to_owned(), self.live.generation.config.host.generations);
        blocking(move || {
            let file = tools.data.decisions_file();
            if after != before {
                after.save(&file).map_err(prepare::Error::from)?;
            }
            let Some(next) = next else { return Ok(()) };
            if let Err(error) = next.keep(&why, &tools) {
                if after != before
                    && let Err(error) = before.save(&file)
                {
                    tracing::error!(%error, "What operators decided could not be put back.");
                }
                return Err(error.into());
            }
            if let Err(error) = tools.store.prune(generations, &after.generations(), &after.versions()) {
                tracing::warn!(%error, "Generations that are not needed any more could not be removed.");
            }
            Ok(())
        })
        .await
    }

    fn know(&mut self, decisions: Decisions, present: BTreeMap<String, digest::Bytes>, drift: Vec<String>) {
        for sentence in drift.iter().filter(|sentence| !self.drift.contains(sentence)) {
            tracing::warn!(drift = sentence, "The files and what is live differ.");
        }
        (self.decisions, self.present, self.drift) = (decisions, present, drift);
        self.tell();
    }

    /// Says what operators are to be shown.
    pub(super) fn tell(&self) {
        self.host.status.pauses(self.decisions.paused.clone());
        let kept = self.host.tools.store.list();
        let around = Around {
            instance: &self.host.instance,
            decisions: &self.decisions,
            present: &self.present,
            drift: &self.drift,
            kept: &kept,
            shards: &self.shards,
        };
        self.host.status.overview(Arc::new(describe::overview(&self.live, &around)));
    }
}
