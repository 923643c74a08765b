//! The host from start to stop: builds the generation, opens the broker, starts the shards, waits, drains. The outline of
//! the process; what each step does is in the module it calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::address::{self, Published};
use super::admin::{Access, Admin};
use super::broker::{self, Broker};
use super::build;
use super::data_directory::{self, DataDirectory};
use super::generation::{Generation, manifest_hash};
use super::order;
use super::plugins;
use super::shards::{self, Shards};
use super::status::{self, Status};
use super::topics::{self, Found};
use crate::config::model::Config;
use crate::config::{Loaded, Problems, Severity};
use crate::data::plugin::{self, InstanceError, Plugin, Runtime, RuntimeOptions};
use crate::data::program::Program;
use crate::digest;
use crate::kafka::topics::Topics;
use crate::kafka::{self, AdminSettings};

/// How often it is looked whether the broker answers, and which topics patterns match.
const TOPICS_INTERVAL: Duration = Duration::from_secs(10);
/// How long one such look may take.
const TOPICS_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the host doesn't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory.
    #[error(transparent)]
    DataDirectory(#[from] data_directory::Error),
    /// The config and the plugins that are there don't go together.
    #[error("{0}")]
    Refused(Problems),
    /// A plugin can't be started with a route's config.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// WebAssembly can't be run here.
    #[error(transparent)]
    Runtime(#[from] plugin::Error),
    /// The admin surface.
    #[error("cannot serve the admin surface on `{listen}`")]
    Admin {
        /// Where.
        listen: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The embedded broker.
    #[error(transparent)]
    Broker(#[from] broker::Error),
    /// The topics.
    #[error(transparent)]
    Topics(#[from] topics::Error),
    /// A client setting.
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// A shard.
    #[error(transparent)]
    Shard(#[from] shards::Error),
    /// Signals can't be handled.
    #[error("cannot handle signals")]
    Signals(#[source] std::io::Error),
}

impl Error {
    /// Whether the config or a plugin is to blame, so that nothing but a change of those helps.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Instance(_) | Self::Topics(topics::Error::Missing(_)))
            || matches!(self, Self::Kafka(kafka::Error::Setting { .. }))
    }
}

/// Runs a config until the process is told to stop. Whether everything was acknowledged and committed then.
///
/// # Errors
/// Where it can't start, or can't go on.
pub async fn run(loaded: Loaded) -> Result<bool, Error> {
    let config = Arc::new(loaded.config.clone());
    let mut stop = stop_signal()?;
    let data = DataDirectory::open(&config.host.data_directory)?;
    let runtime = Runtime::new(RuntimeOptions { cache_directory: Some(data.compile_cache()) })?;
    let (generation, programs) = blocking({
        let (config, runtime) = (config.clone(), runtime.clone());
        move || prepare(&loaded, config, &runtime, data)
    })
    .await?;
    let PreparedGeneration { generation, data } = generation;

    let admin = bind_admin(&config).await?;
    let admin_address = admin.address().to_string();
    let _published = Published::new(address::admin_file(&config.host.data_directory), &admin_address).ok();
    let broker = Broker::open(&config).await?;
    let status = Status::new(status::Listen { admin: admin_address, broker: broker.embedded_address() });
    let admin = serve_admin(admin, &config, &status);

    let instance = config.host.instance.clone().unwrap_or_else(|| data.host_id().to_owned());
    let host = Host { config: config.clone(), broker, status: status.clone(), instance };
    let outcome = host.serve(&generation, programs, &mut stop).await;
    status.stops();
    host.broker.close().await?;
    admin.abort();
    match outcome {
        Err(Error::Topics(topics::Error::Stopped)) => Ok(true),
        outcome => outcome,
    }
}

struct PreparedGeneration {
    generation: Arc<Generation>,
    data: DataDirectory,
}

/// Loads the plugins, makes a trial instance of each with each route's config, and numbers the generation.
fn prepare(
    loaded: &Loaded,
    config: Arc<Config>,
    runtime: &Runtime,
    data: DataDirectory,
) -> Result<(PreparedGeneration, Vec<Arc<Program>>), Error> {
    let plugins = load_plugins(loaded, runtime)?;
    let hash = manifest_hash(&config.sha256, &plugins);
    let number = data.number_generation(&hash)?;
    let built_at = SystemTime::now();
    let generation = Arc::new(Generation { number, hash, config: config.clone(), plugins, built_at });
    let programs: Vec<_> = config.groups.iter().map(|group| Arc::new(build::program(&generation, group))).collect();
    for prepared in programs.iter().flat_map(|program| &program.prepared) {
        prepared.instantiate()?;
    }
    tracing::info!(
        generation = number,
        hash = digest::short(&hash),
        plugins = generation.plugins.len(),
        "The generation is built."
    );
    Ok((PreparedGeneration { generation, data }, programs))
}

/// The plugins, unless the config asks for what they don't have.
fn load_plugins(loaded: &Loaded, runtime: &Runtime) -> Result<BTreeMap<String, Arc<Plugin>>, Error> {
    let directory = plugins::load(&loaded.config, runtime);
    let mut problems = loaded.against_plugins(&directory.available);
    problems.add(&loaded.warnings);
    if problems.count(Severity::Error) > 0 {
        return Err(Error::Refused(problems));
    }
    for warning in &problems.list {
        tracing::warn!(offending = warning.offending, problem = warning.message, "The config has a doubtful part.");
    }
    Ok(directory.plugins)
}

/// A host with its broker open.
struct Host {
    config: Arc<Config>,
    broker: Broker,
    status: Status,
    instance: String,
}

impl Host {
    /// Starts the shards, and serves until told to stop or something can't go on.
    async fn serve(
        &self,
        generation: &Arc<Generation>,
        programs: Vec<Arc<Program>>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, Error> {
        let client_id = format!("midplane.{}", self.instance);
        let connection = self.broker.connection().clone();
        let topics = Arc::new(Topics::new(&AdminSettings { connection, client_id })?);
        let found = self.prepare_topics(&topics, &programs, stop).await?;
        self.status.broker_answers(true);

        let mut shards = Shards::default();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        for (group, program) in self.config.groups.iter().zip(programs) {
            let read = topics::of_group(&program, &found.present);
            let partitions = found.present.iter().filter(|topic| read.contains(&topic.name));
            let partitions = partitions.map(|topic| usize::try_from(topic.partitions).unwrap_or(0)).sum();
            let count = shards::count(group, self.config.groups.len(), cores, partitions);
            shards.start(program, count, self.broker.connection(), &self.instance, &found, &self.status)?;
        }
        self.status.serves(live(generation));
        let failed = self.watch(&mut shards, &topics, stop).await;
        self.status.stops();
        let clean = shards.drain(self.config.host.drain_timeout).await;
        failed.map_or(Ok(clean), |error| Err(error.into()))
    }

    /// Waits for the broker, makes what topics are missing, and decides where new groups begin.
    async fn prepare_topics(
        &self,
        topics: &Arc<Topics>,
        programs: &[Arc<Program>],
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Found, Error> {
        let stopping = Arc::new(AtomicBool::new(false));
        let job = blocking({
            let (config, topics, programs) = (self.config.clone(), topics.clone(), programs.to_vec());
            let (connection, stopping) = (self.broker.connection().clone(), stopping.clone());
            let client_id = format!("midplane.{}.start", self.instance);
            move || -> Result<_, Error> {
                let present = topics::wait_for_named(&config, &topics, &stopping)?;
                topics::prepare(&config, &topics, &present)?;
                let present = topics::wait_for_named(&config, &topics, &stopping)?;
                for (group, program) in config.groups.iter().zip(&programs) {
                    topics::begin(&connection, &client_id, program, group.start, &present, &stopping)?;
                }
                let sizes = topics::sizes(&topics, &programs);
                Ok(Found { present, sizes })
            }
        });
        tokio::pin!(job);
        tokio::select! {
            found = &mut job => found,
            _ = stop.wait_for(|stop| *stop) => {
                stopping.store(true, Ordering::Relaxed);
                job.await
            }
        }
    }

    /// Looks after the broker and its topics until told to stop. Gives the error of a shard that could not go on.
    async fn watch(
        &self,
        shards: &mut Shards,
        topics: &Arc<Topics>,
        stop: &mut watch::Receiver<bool>,
    ) -> Option<shards::Error> {
        let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + TOPICS_INTERVAL, TOPICS_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return None,
                error = shards.failed() => return Some(error),
                _ = interval.tick() => {}
            }
            let look = blocking({
                let topics = topics.clone();
                move || topics.list(TOPICS_TIMEOUT)
            });
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return None,
                list = look => match list {
                    Ok(present) => {
                        self.status.broker_answers(true);
                        shards.topics_changed(&present);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "The broker does not answer.");
                        self.status.broker_answers(false);
                    }
                }
            }
        }
    }
}

async fn bind_admin(config: &Config) -> Result<Admin, Error> {
    let listen = config.admin.listen;
    Admin::bind(listen).await.map_err(|source| Error::Admin { listen, source })
}

fn serve_admin(admin: Admin, config: &Config, status: &Status) -> tokio::task::JoinHandle<()> {
    let (status, access) = (status.clone(), Access::new(config.admin.token.as_ref()));
    // Nobody takes orders: they are refused.
    let (orders, _) = order::channel();
    tracing::info!(address = %admin.address(), "Admin surface listens.");
    // It answers until the very end of the drain: that is when it is asked most.
    tokio::spawn(async move {
        if let Err(error) = admin.serve(status, access, orders, std::future::pending()).await {
            tracing::error!(%error, "The admin surface has stopped.");
        }
    })
}

/// The live generation, as the admin surface tells it.
fn live(generation: &Generation) -> status::Generation {
    let loaded_at = jiff::Timestamp::try_from(generation.built_at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let plugin =
        |plugin: &Plugin| status::Plugin { sha256: digest::hex(&plugin.sha256), bytes: plugin.size as u64, loaded_at };
    status::Generation {
        number: generation.number,
        hash: digest::hex(&generation.hash),
        config_sha256: digest::hex(&generation.config.sha256),
        plugins: generation.plugins.iter().map(|(name, value)| (name.clone(), plugin(value))).collect(),
    }
}

/// Becomes true at the first SIGTERM or SIGINT. A second one ends the process at once.
fn stop_signal() -> Result<watch::Receiver<bool>, Error> {
    let (sender, receiver) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    tracing::warn!("A reload was asked for; this version takes changes at a restart only.");
                    continue;
                }
            }
            if sender.send_replace(true) {
                tracing::error!("Told to stop a second time: stopping at once.");
                std::process::exit(i32::from(crate::cli::Exit::NotClean as u8));
            }
            tracing::info!("Told to stop: draining.");
        }
    });
    Ok(receiver)
}

/// Runs something that blocks, apart from the control plane's own tasks.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(job).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
