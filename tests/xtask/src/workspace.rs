//! Where things are: the workspace's folder and cargo's target folder.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// Cargo's target folder, wherever it was told to put it: this program is `TARGET/PROFILE/xtask`.
pub fn target() -> Result<PathBuf, Failure> {
    let program = std::env::current_exe().map_err(|error| format!("no path of this program: {error}"))?;
    let target = program.ancestors().nth(2).ok_or("this program lies outside of cargo's target folder")?;
    Ok(target.to_owned())
}

/// A path as people want to read it: from the folder that they stand in, where it is below.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

/// An empty folder: whatever was there before is gone.
pub fn fresh_folder(path: &Path) -> Result<(), Failure> {
    let refuse = |error: std::io::Error| format!("`{}` can't be made anew: {error}", path.display());
    if path.exists() {
        fs::remove_dir_all(path).map_err(refuse)?;
    }
    fs::create_dir_all(path).map_err(refuse)
}

/// A folder for what other programs leave lying about when they are stopped. Dropped, it is removed.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// One where temporary files go.
    pub fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("midplane-{}", std::process::id()));
        fresh_folder(&path).map(|()| Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is where all such files are.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file's text.
pub fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| format!("`{}` can't be read: {error}", path.display()))
}

/// Writes a file.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| format!("`{}` can't be written: {error}", path.display()))
}

/// Copies a file.
pub fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let refuse = |error| format!("`{}` can't be copied to `{}`: {error}", from.display(), to.display());
    fs::copy(from, to).map(drop).map_err(refuse)
}
