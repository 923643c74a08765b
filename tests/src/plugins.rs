//! The built plugins that tests run: the examples, and fixtures that misbehave on purpose.

use std::path::PathBuf;

use crate::binary::target_directory;

/// A built plugin, by its crate's name.
///
/// # Panics
/// When it isn't built.
pub fn wasm(name: &str) -> PathBuf {
    let path = target_directory().join("plugins").join(name).with_extension("wasm");
    assert!(path.is_file(), "the plugin `{}` isn't built: run `cargo xtask plugins`", path.display());
    path
}
