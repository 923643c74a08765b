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
mod inputs;
mod json_schema;
mod keys;
mod loops;
pub mod model;
mod names;
pub mod plugins;
mod problem;
pub mod public_key;
mod render;
mod schema;
mod summary;
mod text;
mod tree;
mod units;
mod validate;
mod whereabouts;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::inputs::Inputs;
pub use self::names::toml_key;
pub use self::problem::{Place, Problem, Problems, Severity, Source};
pub use self::render::Style;
pub use self::schema::schema;
pub use self::summary::{GroupSummary, PluginSummary, Resources, RouteSummary, Summary};
pub use self::units::{parse_size, print_duration, print_size};
pub use self::whereabouts::{Whereabouts, default_limits, whereabouts};

use self::build::Defaults;
use self::document::Document;
use self::fields::Reader;
use self::files::Texts;
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

impl Loaded {
    /// The files as they were read: the named one, then those that it includes. What `${…}` names is not in them.
    pub fn sources(&self) -> &[Source] {
        &self.warnings.sources
    }

    /// What it depends on.
    pub fn inputs(&self) -> &Inputs {
        &self.warnings.inputs
    }
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
    load_texts(path, Texts::Disk, variable)
}

/// As [`load`], with the files of [`Loaded::sources`] in place of those on the disk: the named one, then those that it
/// includes. What `${…}` names is read anew, since secrets are never stored. Relative paths start at the folder of `path`.
///
/// # Errors
///
/// As [`load`].
pub fn load_stored(path: &Path, files: Vec<(PathBuf, String)>) -> Result<Loaded, Problems> {
    load_stored_with(path, files, &|name| std::env::var(name).ok())
}

/// As [`load_stored`], with an environment of the caller's.
///
/// # Errors
///
/// As [`load`].
pub fn load_stored_with(
    path: &Path,
    files: Vec<(PathBuf, String)>,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    load_texts(path, Texts::Stored(files), variable)
}

fn load_texts(path: &Path, texts: Texts, variable: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let files = files::read(path, texts, variable, &mut problems);
    let (sources, mut inputs): (Arc<[Source]>, _) = (files.sources.into(), files.inputs);
    if sources.is_empty() {
        return Err(Problems { inputs: inputs.into(), ..Problems::new(sources, problems) });
    }
    let mut reader = Reader::new(files::folder(path), &sources, problems);
    let document = Document::read(&files.table, &mut reader);
    let defaults = Defaults::read(&mut reader);
    let mut problems = reader.problems;
    inputs.files.extend(reader.files);
    inputs.plugins = Some(document.plugins.directory.clone());
    problems.extend(validate::validate(&document));
    let problems = Problems { inputs: inputs.into(), ..Problems::new(sources, problems) };
    if problems.count(Severity::Error) > 0 {
        return Err(problems);
    }
    let config = build::build(path, problems.inputs.sha256, &document, &defaults);
    Ok(Loaded { config, warnings: problems, document })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "include = ['routes/*.toml']\n[admin]\ntoken_file = 'token'\n[plugins]\ndirectory = 'modules'\n\
                        [routes.a]\nfrom = 'in'\nto = '${file:topic}'\n";
    const INCLUDED: &str = "[routes.b]\nfrom = 'in'\nto = '${TOPIC}'\n";

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("routes")).expect("a folder");
        for (name, text) in [("m.toml", MAIN), ("routes/b.toml", INCLUDED), ("topic", "out\n"), ("token", "sesame")] {
            std::fs::write(folder.path().join(name), text).expect("a file");
        }
        folder
    }

    fn variable(_: &str) -> Option<String> {
        Some("outside".to_owned())
    }

    fn stored(loaded: &Loaded) -> Vec<(PathBuf, String)> {
        loaded.sources().iter().map(|source| (source.path.clone(), source.text.to_string())).collect()
    }

    fn outputs(loaded: &Loaded) -> Vec<&str> {
        loaded.config.routes.iter().flat_map(|route| route.to.values().map(String::as_str)).collect()
    }

    #[test]
    fn what_was_stored_is_loaded_without_the_files() {
        let folder = folder();
        let path = folder.path().join("m.toml");
        let first = load_with(&path, &variable).expect("valid");
        for name in ["m.toml", "routes/b.toml"] {
            std::fs::remove_file(folder.path().join(name)).expect("it is there");
        }
        std::fs::write(folder.path().join("routes/c.toml"), "broken").expect("a file");
        let again = load_stored_with(&path, stored(&first), &variable).expect("valid");
        assert_eq!(format!("{:?}", again.config), format!("{:?}", first.config));
        assert_eq!(stored(&again), stored(&first));
    }

    #[test]
    fn what_comes_from_outside_is_read_anew() {
        let folder = folder();
        let path = folder.path().join("m.toml");
        let first = load_with(&path, &variable).expect("valid");
        assert_eq!(outputs(&first), ["out", "outside"]);
        assert!(stored(&first).iter().all(|(_, text)| !text.contains("outside") && !text.contains("sesame")));
        std::fs::write(folder.path().join("topic"), "rotated").expect("a file");
        let again = load_stored_with(&path, stored(&first), &|_| Some("newer".to_owned())).expect("valid");
        assert_eq!(outputs(&again), ["rotated", "newer"]);
        assert_ne!(again.config.sha256, first.config.sha256);
    }

    #[test]
    fn a_rollout_has_the_defaults_of_its_table() {
        let text = "[routes.a]\nfrom = 'in'\nthrough = ['p', 'q']\n[plugin.q.rollout]\nmode = 'shadow'\nshare = '0.5%'\n\
                    [groups.old]\nretired = true\n";
        let config = load_stored(Path::new("m.toml"), vec![(PathBuf::new(), text.to_owned())]).expect("valid").config;
        let defaults = model::Rollout {
            mode: model::RolloutMode::Direct,
            share: 0.05,
            events: 10_000,
            time: std::time::Duration::from_secs(600),
            errors_max: 0.01,
            latency_max: std::time::Duration::from_millis(5),
            differences_max: 0.0,
        };
        assert_eq!(config.plugin["p"].rollout, defaults);
        let shadow = model::Rollout { mode: model::RolloutMode::Shadow, share: 0.005, ..defaults };
        assert_eq!(config.plugin["q"].rollout, shadow);
        assert_eq!(config.retired, ["old"]);
    }

    #[test]
    fn nothing_stored_is_no_config() {
        let problems = load_stored(Path::new("m.toml"), Vec::new()).expect_err("nothing");
        assert_eq!(problems.list[0].message, "`m.toml` can't be read: nothing of it is stored");
    }

    #[test]
    fn a_config_names_all_that_it_depends_on_right_or_wrong() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let path = at("m.toml");
        let loaded = load_with(&path, &variable).expect("valid");
        let files = ["m.toml", "routes/b.toml", "topic", "token"].map(at);
        assert_eq!(loaded.inputs().files, files.into());
        assert_eq!(loaded.inputs().folders, [at("routes")].into());
        assert_eq!(loaded.inputs().plugins, Some(at("modules")));
        assert_eq!(loaded.inputs().sha256, loaded.config.sha256);

        for name in ["topic", "token"] {
            std::fs::remove_file(at(name)).expect("it is there");
        }
        let problems = load_with(&path, &variable).expect_err("two files are missing");
        assert_eq!((problems.list.len(), &problems.inputs.files), (2, &loaded.inputs().files));
        assert_eq!(problems.inputs.folders, loaded.inputs().folders);
        std::fs::remove_file(&path).expect("it is there");
        let problems = load_with(&path, &variable).expect_err("it is missing");
        assert_eq!(problems.inputs.files, [path].into());
    }
}
