//! The host from start to stop: prepares the first generation, opens the broker, makes the generation live, serves, drains.
//! The outline of the process; what each step does is in the module it calls.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::address::{self, Published};
use super::admin::{Access, Admin};
use super::blocking;
use super::broker::{self, Broker};
use super::data_directory::{self, DataDirectory};
use super::first;
use super::hands;
use super::order::{self, Orders, Request};
use super::prepare::{self, Live, Next, Tools};
use super::publish::{self, Host, Moves};
use super::reload::{Begin, Reloader};
use super::shards::{self, Shards};
use super::status::{self, Status};
use super::topics::{self, Found, Patience};
use crate::config::model::Config;
use crate::config::{Loaded, Problems};
use crate::data::plugin::{self, Runtime, RuntimeOptions};
use crate::digest;
use crate::kafka::topics::Topics;
use crate::kafka::{self, AdminSettings};

/// Why the host doesn't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory.
    #[error(transparent)]
    DataDirectory(#[from] data_directory::Error),
    /// The config, the plugins, or both together.
    #[error(transparent)]
    Prepare(#[from] prepare::Error),
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
        matches!(self, Self::Prepare(error) if error.is_refusal())
            || matches!(self, Self::Topics(topics::Error::Missing(_)))
            || matches!(self, Self::Kafka(kafka::Error::Setting { .. }))
    }
}

/// Runs a config until the process is told to stop. Whether everything was acknowledged and committed then. Where the config
/// is refused and `last_known_good` says so, the generation that ran last runs instead.
///
/// # Errors
/// Where it can't start, or can't go on.
pub async fn run(loaded: Result<Loaded, Problems>, path: &Path, last_known_good: bool) -> Result<bool, Error> {
    let (mut stop, hangups) = signals()?;
    let folder = match &loaded {
        Ok(loaded) => loaded.config.host.data_directory.clone(),
        Err(problems) if last_known_good => first::data_directory(path, problems),
        Err(problems) => return Err(prepare::Error::Config(problems.clone()).into()),
    };
    let data = Arc::new(DataDirectory::open(&folder)?);
    let store = Arc::new(data.open_store()?);
    let stack_bytes = match &loaded {
        Ok(loaded) if !last_known_good => loaded.config.host.stack_bytes,
        loaded => first::stack_bytes(path, loaded, &data, &store),
    };
    let runtime = Runtime::new(RuntimeOptions { cache_directory: Some(data.compile_cache()), stack_bytes })?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tools = Tools { runtime, data, store, cores, told: Arc::default() };
    let (next, begin) = blocking({
        let (tools, path) = (tools.clone(), path.to_owned());
        move || first::prepare(loaded, &path, last_known_good, &tools)
    })
    .await?;
    let config = begin.live.generation.config.clone();

    let admin = bind_admin(&config).await?;
    let admin_address = admin.address().to_string();
    let _published = Published::new(address::admin_file(&config.host.data_directory), &admin_address).ok();
    let broker = Broker::open(&config).await?;
    let status = Status::new(status::Listen { admin: admin_address, broker: broker.embedded_address() });
    let (orders, taker) = order::channel();
    let access = Access::new(config.admin.token.as_ref());
    let admin = serve_admin(admin, &status, &access, orders);

    let instance = config.host.instance.clone().unwrap_or_else(|| tools.data.host_id().to_owned());
    let client_id = format!("midplane.{instance}");
    let connection = broker.connection().clone();
    let topics = Arc::new(Topics::new(&AdminSettings { connection: connection.clone(), client_id })?);
    let stopping = Arc::new(AtomicBool::new(false));
    let host = Host { config_path: path.to_owned(), tools, connection, instance, topics, status, access, stopping };
    let outcome = serve(&host, &next, begin, taker, hangups, &mut stop).await;
    host.status.stops();
    // The last client goes before its broker does: it would complain, and that would be all that a clean stop says.
    drop(host);
    broker.close().await?;
    admin.abort();
    match outcome {
        Err(Error::Topics(topics::Error::Stopped)) => Ok(true),
        outcome => outcome,
    }
}

/// Waits for the broker, makes the first generation live, and serves from then on.
async fn serve(
    host: &Host,
    next: &Next,
    begin: Begin,
    orders: mpsc::Receiver<Request>,
    hangups: mpsc::Receiver<()>,
    stop: &mut watch::Receiver<bool>,
) -> Result<bool, Error> {
    let found = first_topics(host, &next.live, stop).await?;
    host.status.broker_answers(true);
    next.keep("the host started", &host.tools)?;
    let mut shards = Shards::new(host.connection.clone(), host.instance.clone(), host.status.clone());
    for (route, since) in &begin.decisions.paused {
        tracing::warn!(route, since, "A route is paused: `midplane route resume` lets it go on.");
    }
    shards.pause(hands::pauses(&begin.decisions));
    publish::hand_over(host, &mut shards, next, None, &found, &Moves::default()).await?;
    host.status.serves(status::Generation::of(&next.live));
    let generation = &next.live.generation;
    tracing::info!(
        generation = generation.number,
        hash = digest::short(&generation.hash),
        plugins = prepare::versions_of(generation),
        "The generation is live."
    );
    Ok(Reloader::new(host.clone(), begin, shards, orders, hangups).run(stop).await?)
}

/// Sees to the topics, for as long as the broker takes to answer, or until the host is told to stop. Routes that are in other
/// groups than when the host stopped, or was killed, go on where those stood.
async fn first_topics(host: &Host, live: &Live, stop: &mut watch::Receiver<bool>) -> Result<Found, Error> {
    let job = blocking({
        let (host, live) = (host.clone(), live.clone());
        move || {
            let before = first::config_before(&host.config_path, &host.tools);
            publish::see_to_topics(&host, &live, before.as_ref(), &[], Patience::endless(&host.stopping))
        }
    });
    tokio::pin!(job);
    let (found, _) = tokio::select! {
        found = &mut job => found?,
        _ = stop.wait_for(|stop| *stop) => {
            host.stopping.store(true, Ordering::Relaxed);
            job.await?
        }
    };
    Ok(found)
}

async fn bind_admin(config: &Config) -> Result<Admin, Error> {
    let listen = config.admin.listen;
    Admin::bind(listen).await.map_err(|source| Error::Admin { listen, source })
}

fn serve_admin(admin: Admin, status: &Status, access: &Access, orders: Orders) -> tokio::task::JoinHandle<()> {
    let (status, access) = (status.clone(), access.clone());
    tracing::info!(address = %admin.address(), "Admin surface listens.");
    // It answers until the very end of the drain: that is when it is asked most.
    tokio::spawn(async move {
        if let Err(error) = admin.serve(status, access, orders, std::future::pending()).await {
            tracing::error!(%error, "The admin surface has stopped.");
        }
    })
}

/// The first becomes true at the first SIGTERM or SIGINT; a second one of those ends the process at once. The other one says
/// when SIGHUP asks for a reload.
fn signals() -> Result<(watch::Receiver<bool>, mpsc::Receiver<()>), Error> {
    let (sender, receiver) = watch::channel(false);
    // One that is not taken yet stands for all that come meanwhile.
    let (hangups, hung_up) = mpsc::channel(1);
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {
                    let _ = hangups.try_send(());
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
    Ok((receiver, hung_up))
}
