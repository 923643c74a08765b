//! The one task that owns what is live, and makes it another: when files change, when somebody asks, when the broker has other
//! topics. One thing at a time; a generation is published whole or not at all, and what is refused is said once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::blocking;
use super::order::{Done, Order, Refusal, RefusalKind, Request};
use super::prepare::{self, Live, Next};
use super::publish::{self, Host};
use super::shards::{self, Shards};
use super::topics;
use super::watch::{SETTLE_ASKED, Snapshot, Watch};
use crate::config::{self, Inputs};
use crate::digest;

/// How often it is looked whether the broker answers, and which topics patterns match.
const TOPICS_INTERVAL: Duration = Duration::from_secs(10);
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
}

impl Error {
    /// Whether the same files could be accepted later.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Topics(_))
    }

    /// With all that caused it.
    fn text(&self) -> String {
        shards::error_chain(self)
    }
}

/// What comes of a try.
enum Outcome {
    /// The files are what is live.
    Same,
    /// Another generation is live.
    Published,
    /// Nothing has changed.
    Refused(Error),
}

/// What makes the task act.
enum Occasion {
    Look,
    Files(Snapshot),
    Hangup,
    Order(Request),
}

/// Owns what is live.
pub struct Reloader {
    host: Host,
    live: Live,
    shards: Shards,
    watch: Watch,
    orders: mpsc::Receiver<Request>,
    hangups: mpsc::Receiver<()>,
    /// What was refused last, if it still is.
    refused: Option<String>,
    /// Whether it may be accepted later, as it is.
    retry: bool,
}

impl Reloader {
    /// With what has just become live, of files as they are in a snapshot.
    pub fn new(
        host: Host,
        live: Live,
        shards: Shards,
        taken: Snapshot,
        orders: mpsc::Receiver<Request>,
        hangups: mpsc::Receiver<()>,
    ) -> Self {
        let config = &live.generation.config;
        let watch = Watch::new(live.loaded.inputs().clone(), taken, config.plugins.poll_interval);
        Self { host, live, shards, watch, orders, hangups, refused: None, retry: false }
    }

    /// Serves until told to stop, or until a shard can't go on; then drains. Whether all was acknowledged and committed.
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
        loop {
            let occasion = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return None,
                error = self.shards.failed() => return Some(error),
                Some(request) = self.orders.recv() => Occasion::Order(request),
                Some(()) = self.hangups.recv() => Occasion::Hangup,
                snapshot = self.watch.changed() => Occasion::Files(snapshot),
                _ = look.tick() => Occasion::Look,
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
            Occasion::Files(snapshot) => {
                tracing::debug!("The files have changed.");
                self.reload("the files changed", Some(snapshot)).await.map(drop)
            }
            Occasion::Hangup => {
                tracing::info!("A reload was asked for by a signal.");
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
        let topics = Arc::clone(&self.host.topics);
        match blocking(move || topics.list(TOPICS_TIMEOUT)).await {
            Ok(present) => {
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
        match order {
            Order::Reload => {
                let outcome = self.reload("an operator asked for it", None).await?;
                Ok(self.answer(outcome))
            }
            order => Ok(Err(Refusal::new(RefusalKind::Refused, format!("this host can't do that yet: {order:?}")))),
        }
    }

    fn answer(&self, outcome: Outcome) -> Result<Done, Refusal> {
        let generation = self.number();
        match outcome {
            Outcome::Same => Ok(Done {
                generation,
                changed: false,
                message: format!("nothing has changed: generation {generation} is what the files say"),
            }),
            Outcome::Published => {
                let versions = prepare::versions_of(&self.live.generation);
                let versions = if versions.is_empty() { String::new() } else { format!(", with {versions}") };
                Ok(Done { generation, changed: true, message: format!("generation {generation} is live{versions}") })
            }
            Outcome::Refused(error) => Err(Refusal::new(RefusalKind::Refused, error.text())),
        }
    }

    fn number(&self) -> u64 {
        self.live.generation.number
    }

    /// Makes live what the files say, if they say something else and it can be. `settled` is what they were found to be, where
    /// that has been waited for.
    async fn reload(&mut self, why: &'static str, settled: Option<Snapshot>) -> Result<Outcome, shards::Error> {
        let outcome = match self.read(settled).await {
            Ok(None) => Outcome::Same,
            Ok(Some(next)) => self.publish(next, why).await?,
            Err(error) => Outcome::Refused(error.into()),
        };
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

    /// Reads the files, as they are at one time, and prepares what they say.
    async fn read(&mut self, mut settled: Option<Snapshot>) -> Result<Option<Next>, prepare::Error> {
        for _ in 0..READS_MAX {
            let before = match settled.take() {
                Some(snapshot) => snapshot,
                None => self.settle().await,
            };
            let (path, live, tools) = (self.host.config_path.clone(), self.live.clone(), self.host.tools.clone());
            let (inputs, next) = blocking(move || {
                let loaded = config::load(&path);
                let inputs = match &loaded {
                    Ok(loaded) => loaded.inputs().clone(),
                    Err(problems) => problems.inputs.as_ref().clone(),
                };
                let loaded = loaded.map_err(prepare::Error::Config);
                (inputs, loaded.and_then(|loaded| prepare::prepare(loaded, Some(&live), &tools)))
            })
            .await;
            let unchanged = self.watch.look().await == before;
            let other_inputs = self.follow(inputs);
            if unchanged {
                // What is looked at from now on may be more than what was looked at before.
                let taken = if other_inputs { self.watch.look().await } else { before };
                self.watch.take(taken);
                return next;
            }
        }
        Err(prepare::Error::Unsettled)
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

    async fn publish(&mut self, next: Next, why: &'static str) -> Result<Outcome, shards::Error> {
        let (host, live, programs) = (self.host.clone(), next.live.clone(), self.live.programs.clone());
        let (found, moves) = match blocking(move || publish::see_to_topics(&host, &live, &programs)).await {
            Ok(seen) => seen,
            Err(error) => return Ok(Outcome::Refused(error.into())),
        };
        publish::hand_over(&self.host, &mut self.shards, &next, Some(&self.live), &found, &moves).await?;
        let before = std::mem::replace(&mut self.live, next.live);
        self.host.access.set(self.live.generation.config.admin.token.as_ref());
        self.host.status.serves(super::status::Generation::of(&self.live));
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
}
