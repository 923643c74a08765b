//! The built plugins that tests run: the examples, and fixtures that misbehave on purpose.

use std::path::PathBuf;

use crate::binary::target_directory;

/// The folder of all built plugins.
///
/// # Panics
/// When they aren't built.
pub fn directory() -> PathBuf {
    let folder = target_directory().join("plugins");
    assert!(folder.is_dir(), "no plugins in `{}`: run `cargo xtask plugins`", folder.display());
    folder
}

/// A built plugin, by its crate's name.
///
/// # Panics
/// When it isn't built.
pub fn wasm(name: &str) -> PathBuf {
    let path = directory().join(name).with_extension("wasm");
    assert!(path.is_file(), "the plugin `{}` isn't built: run `cargo xtask plugins`", path.display());
    path
}
