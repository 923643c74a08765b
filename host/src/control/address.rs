//! The addresses that this host listens on, as files in its data folders, so that commands on the same machine find it
//! where the config says port 0. Never opens a connection.
//!
//! `EMBEDDED-BROKER-DATA/address` holds the embedded broker's `host:port`, `HOST-DATA/admin-address` the admin surface's.
//! They are there from the moment on which the address answers until a clean stop; after a crash they are stale, and
//! whoever follows them finds nobody.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the embedded broker's address is kept, in the broker's own data folder.
pub fn broker_file(broker_data_directory: &Path) -> PathBuf {
    broker_data_directory.join("address")
}

/// Where the admin surface's address is kept, in the host's data folder.
pub fn admin_file(host_data_directory: &Path) -> PathBuf {
    host_data_directory.join("admin-address")
}

/// An address that others may read for as long as this value lives.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
}

impl Published {
    /// Writes the address, whole or not at all, and makes the folder if need be.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn new(path: PathBuf, address: &str) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let draft = path.with_extension("draft");
        fs::write(&draft, format!("{address}\n"))?;
        fs::rename(&draft, &path)?;
        Ok(Self { path })
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        // Nobody is worse off with a stale file than with none: both find no host.
        let _ = fs::remove_file(&self.path);
    }
}

/// The address that a host published, if one did.
pub fn read(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let address = text.trim();
    (!address.is_empty()).then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_there_until_its_host_stops() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = broker_file(&folder.path().join("broker"));
        assert_eq!(read(&path), None);
        let published = Published::new(path.clone(), "127.0.0.1:9092").expect("writable");
        assert_eq!(read(&path).as_deref(), Some("127.0.0.1:9092"));
        drop(published);
        assert_eq!(read(&path), None);
    }
}
