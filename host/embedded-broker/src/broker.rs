//! The broker as its caller sees it: started, found at an address, shut down. It owns the long-lived tasks: one accepts
//! connections and owns theirs, one lets time pass for the groups, one for the transactions, one deletes what is older than
//! the retention.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::api::Shared;
use crate::clock::Clock;
use crate::groups::coordinator::Coordinator;
use crate::groups::offsets::Offsets;
use crate::settings::Endpoint;
use crate::storage::folder::Folder;
use crate::storage::handles::Handles;
use crate::topics::{Refused, Topics};
use crate::transactions::coordinator::Coordinator as Transactions;
use crate::wire::connection;
use crate::{Error, Settings};

/// How many connections there may be; more are closed as they come.
const CONNECTIONS_MAX: usize = 4096;

/// How often segments are looked at for their age. Not at the start: a machine that has just been switched on may be told the
/// time a little later.
const RETENTION_CHECK: Duration = Duration::from_secs(300);

/// A segment is rolled when this part of the retention has passed since it was made.
const ROLLS_PER_RETENTION: u32 = 7;

/// A running broker. Dropping it stops it at once, which loses nothing that a client was told is written;
/// [`Broker::shutdown`] makes the next start quicker.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    advertised: Endpoint,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    background: JoinSet<()>,
    folder: Folder,
}

impl Broker {
    /// Opens the folder, makes the topics that are missing, and listens. Connections are served by tasks on the tokio
    /// runtime that this is called on.
    ///
    /// # Errors
    /// When the settings ask for what isn't supported, when the folder is in use, damaged or of another version, or when
    /// the address is taken.
    pub async fn start(settings: Settings) -> Result<Self, Error> {
        settings.validate()?;
        let clock = Clock::start();
        let (settings, opened) = tokio::task::spawn_blocking(move || {
            let opened = open(&settings, clock);
            (settings, opened)
        })
        .await
        .map_err(|error| Error::Interrupted(error.to_string()))?;
        let Opened { folder, topics, coordinator, transactions } = opened?;
        let listen = |source| Error::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let configured = settings.advertise.as_ref().map(|text| Endpoint::parse(text, address.port())).transpose()?;
        let advertised = configured.clone().unwrap_or_else(|| Endpoint::of(address));
        let shared = Arc::new(Shared {
            topics,
            coordinator,
            transactions: Arc::new(transactions),
            clock,
            cluster_id: folder.cluster_id(),
            advertised: configured,
            create_topics_on_demand: settings.create_topics_on_demand,
        });
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), stopped));
        let mut background = JoinSet::new();
        background.spawn(Arc::clone(&shared.coordinator).run());
        background.spawn(Arc::clone(&shared.transactions).run());
        background.spawn(expire(Arc::clone(&shared), settings.retention));
        tracing::info!(%address, folder = %folder.path().display(), "Embedded broker listens.");
        Ok(Self { address, advertised, shared, stop, accepting, background, folder })
    }

    /// The address listened on, with the port that was found where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients put into `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.advertised.to_string()
    }

    /// Stops taking requests, answers those at hand (for some 300 ms), has everything written to disk and gives the
    /// folder back.
    ///
    /// # Errors
    /// When something could not be written to disk.
    pub async fn shutdown(mut self) -> Result<(), Error> {
        self.stop.send_replace(true);
        // Aborted or panicked, it is over; connections go with it.
        let _ = (&mut self.accepting).await;
        self.background.shutdown().await;
        let shared = Arc::clone(&self.shared);
        let close = move || shared.topics.close().and(shared.coordinator.close()).and(shared.transactions.close());
        let closed = tokio::task::spawn_blocking(close).await;
        tracing::info!(folder = %self.folder.path().display(), "Embedded broker stopped.");
        closed.map_err(|error| Error::Interrupted(error.to_string()))?
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Everything that is on disk.
struct Opened {
    folder: Folder,
    topics: Arc<Topics>,
    coordinator: Arc<Coordinator>,
    transactions: Transactions,
}

/// Opens everything on disk. Blocks on the file system.
fn open(settings: &Settings, clock: Clock) -> Result<Opened, Error> {
    let folder = Folder::open(&settings.data_directory)?;
    let topics = Arc::new(Topics::open(folder.path(), Arc::new(Handles::default()))?);
    for (name, wanted) in &settings.topics {
        let made = match topics.get(name) {
            None => topics.create(name, wanted.partitions, false).map(drop),
            Some(topic) if topic.partitions.len() < wanted.partitions as usize => {
                topics.grow(name, wanted.partitions, false).map(drop)
            }
            Some(_) => Ok(()),
        };
        made.map_err(|refused| match refused {
            Refused::Storage(error) => error,
            refused => Error::Topic { name: name.clone(), reason: refused.to_string() },
        })?;
    }
    let offsets = Offsets::open(folder.path(), |topic| topics.get_by_id(topic).is_some())?;
    let coordinator = Arc::new(Coordinator::new(offsets));
    let transactions = Transactions::open(folder.path(), Arc::clone(&topics), Arc::clone(&coordinator), clock)?;
    Ok(Opened { folder, topics, coordinator, transactions })
}

/// Accepts connections until told to stop, then waits for them to end.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|&stop| stop) => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((_, peer)) if connections.len() >= CONNECTIONS_MAX => {
                tracing::warn!(%peer, limit = CONNECTIONS_MAX, "Connection refused: too many.");
            }
            Ok((stream, peer)) => {
                connections.spawn(connection::serve(stream, peer, Arc::clone(&shared), stop.clone()));
            }
            Err(error) => {
                // Out of file descriptors, mostly: whoever waits in the queue can wait a little longer.
                tracing::warn!(error = &error as &dyn std::error::Error, "Connection not accepted.");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Deletes what is older than the retention, now and then.
async fn expire(shared: Arc<Shared>, retention: Duration) {
    let mut checks = tokio::time::interval_at(Instant::now() + RETENTION_CHECK, RETENTION_CHECK);
    loop {
        checks.tick().await;
        let shared = Arc::clone(&shared);
        let check = move || {
            let now = shared.clock.now();
            let Some(oldest) = shared.clock.ago(retention) else { return };
            for log in shared.topics.all().iter().flat_map(|topic| &topic.partitions) {
                if let Err(error) = log.expire(now, oldest, retention / ROLLS_PER_RETENTION) {
                    tracing::error!(error = &error as &dyn std::error::Error, "Old segment not deleted.");
                }
            }
        };
        // A panic in there is reported by the runtime; the next check tries again.
        let _ = tokio::task::spawn_blocking(check).await;
    }
}
