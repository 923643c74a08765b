//! The config file: parsed as it stands, validated whole, and only then built into the values that the rest works with.
//!
//! `files` reads and parses ([`tree`] with places), `document` reads typed values by the description of [`keys`],
//! `validate` looks at what must fit together, `build` makes the [`model`]. Every problem is found before any is shown,
//! and none shows what came from the environment or from a file.

mod build;
mod client;
mod document;
mod fields;
mod files;
mod json_schema;
mod keys;
mod loops;
pub mod model;
mod names;
pub mod plugins;
mod problem;
mod render;
mod schema;
mod summary;
mod text;
mod tree;
mod units;
mod validate;

use std::path::Path;
use std::sync::Arc;

pub use self::problem::{Place, Problem, Problems, Severity, Source};
pub use self::render::Style;
pub use self::schema::schema;
pub use self::summary::{GroupSummary, PluginSummary, Resources, RouteSummary, Summary};
pub use self::units::{print_duration, print_size};

use self::build::Defaults;
use self::document::Document;
use self::fields::Reader;
use self::model::Config;

/// A config that can be used, and what somebody should look at.
pub struct Loaded {
    /// The values to work with.
    pub config: Config,
    /// Warnings only; their sources are all files that were read.
    pub warnings: Problems,
    /// The same values with their places, for problems that only plugins bring to light.
    document: Document,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("config", &self.config).field("warnings", &self.warnings.list).finish()
    }
}

/// Reads a config and all that it includes.
///
/// # Errors
///
/// All that is wrong with it, warnings among them.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    load_with(path, &|name| std::env::var(name).ok())
}

/// As [`load`], with an environment of the caller's.
///
/// # Errors
///
/// As [`load`].
pub fn load_with(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let files = files::read(path, variable, &mut problems);
    let sources: Arc<[Source]> = files.sources.into();
    if sources.is_empty() {
        return Err(Problems::new(sources, problems));
    }
    let mut reader = Reader { folder: files::folder(path), sources: &sources, problems };
    let document = Document::read(&files.table, &mut reader);
    let defaults = Defaults::read(&mut reader);
    let mut problems = reader.problems;
    problems.extend(validate::validate(&document));
    let problems = Problems::new(sources, problems);
    if problems.count(Severity::Error) > 0 {
        return Err(problems);
    }
    let config = build::build(path, files.sha256, &document, &defaults);
    Ok(Loaded { config, warnings: problems, document })
}
