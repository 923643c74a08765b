//! The files of a config: the one that was named, those that it includes, and those that `${file:…}` names; read from the
//! disk or taken from a store, parsed, hashed and merged into one table. Knows of the keys only `include`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::document::reason;
use super::fields::Reader;
use super::inputs::{self, Inputs};
use super::keys::{self, Kind};
use super::problem::{Place, Problem, Source};
use super::text::Outside;
use super::tree::{self, Name, Node, Table, Value};

/// What was read.
pub(super) struct Files {
    /// The named file first, then what it includes, sorted.
    pub(super) sources: Vec<Source>,
    /// Their tables as one.
    pub(super) table: Table,
    /// What all of this depends on.
    pub(super) inputs: Inputs,
}

/// Where the texts of a config come from.
pub(super) enum Texts {
    /// The disk: the named file, and what its globs find.
    Disk,
    /// A store: the named file's first, then those that it included. What `include` says is not looked at again.
    Stored(Vec<(PathBuf, String)>),
}

/// The environment, and files below a folder.
struct Environment<'e> {
    folder: &'e Path,
    variable: &'e dyn Fn(&str) -> Option<String>,
    files: Vec<(String, Result<String, String>)>,
}

impl Outside for Environment<'_> {
    fn variable(&mut self, name: &str) -> Result<String, String> {
        (self.variable)(name).ok_or_else(|| "is not set".to_owned())
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        if let Some((_, content)) = self.files.iter().find(|(known, _)| known == path) {
            return content.clone();
        }
        let content = std::fs::read_to_string(self.folder.join(path));
        let content = content.map_err(|error| format!("can't be read: {}", reason(&error)));
        // Editors end files with a line break that nobody means.
        let content = content.map(|content| {
            let line = content.strip_suffix('\n').unwrap_or(&content);
            line.strip_suffix('\r').unwrap_or(line).to_owned()
        });
        self.files.push((path.to_owned(), content.clone()));
        content
    }
}

/// The folder of a file; empty for the working directory.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Reads them all. A file that can't be read is a problem like any other.
pub(super) fn read(
    path: &Path,
    texts: Texts,
    variable: &dyn Fn(&str) -> Option<String>,
    problems: &mut Vec<Problem>,
) -> Files {
    let mut collected = Collected {
        sources: Vec::new(),
        table: Table::default(),
        merge: Merge::default(),
        environment: Environment { folder: folder(path), variable, files: Vec::new() },
        inputs: Inputs::default(),
        problems,
    };
    collected.inputs.files.insert(path.to_owned());
    match texts {
        Texts::Disk => collected.read_disk(path),
        Texts::Stored(texts) => collected.take_stored(path, texts),
    }
    collected.finish()
}

/// The files so far.
struct Collected<'c> {
    sources: Vec<Source>,
    table: Table,
    merge: Merge,
    environment: Environment<'c>,
    inputs: Inputs,
    problems: &'c mut Vec<Problem>,
}

impl Collected<'_> {
    fn read_disk(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.add(path.to_owned(), text),
            Err(error) => return self.problems.push(unreadable_config(path, &reason(&error))),
        }
        for (included, named_at) in includes(&self.table, path, &self.sources, &mut self.inputs, self.problems) {
            match std::fs::read_to_string(&included) {
                Ok(text) => self.add(included, text),
                Err(error) => {
                    let shown = included.display().to_string();
                    let message = format!("`{shown}` can't be read: {}", reason(&error));
                    self.problems.push(Problem::error(named_at, shown, message));
                }
            }
        }
    }

    fn take_stored(&mut self, path: &Path, texts: Vec<(PathBuf, String)>) {
        if texts.is_empty() {
            return self.problems.push(unreadable_config(path, "nothing of it is stored"));
        }
        for (index, (stored, text)) in texts.into_iter().enumerate() {
            // The folder that relative paths start from is that of the path that was given; the first file is known by it.
            self.add(if index == 0 { path.to_owned() } else { stored }, text);
        }
    }

    fn add(&mut self, path: PathBuf, text: String) {
        let table = tree::parse(&text, self.sources.len(), &mut self.environment, self.problems);
        self.inputs.files.insert(path.clone());
        if self.sources.is_empty() {
            self.merge = Merge::new(&table);
            self.table = table;
        } else {
            self.merge.add(&mut self.table, table, self.problems);
        }
        self.sources.push(Source { path, text: text.into() });
    }

    fn finish(mut self) -> Files {
        let mut hash = Sha256::new();
        for source in &self.sources {
            hash.update(source.text.as_bytes());
        }
        for (path, content) in &self.environment.files {
            hash.update(content.as_deref().unwrap_or_default().as_bytes());
            self.inputs.files.insert(self.environment.folder.join(path));
        }
        self.inputs.sha256 = hash.finalize().into();
        Files { sources: self.sources, table: self.table, inputs: self.inputs }
    }
}

fn unreadable_config(path: &Path, reason: &str) -> Problem {
    let shown = path.display().to_string();
    let message = format!("`{shown}` can't be read: {reason}");
    let start = Place { file: 0, start: 0, end: 0 };
    let problem = Problem::error(start, shown, message).hint("`--config FILE` names another config");
    Problem { at: None, ..problem }
}

/// The included files, sorted, each once, with the place that named it.
fn includes(
    table: &Table,
    path: &Path,
    sources: &[Source],
    inputs: &mut Inputs,
    problems: &mut Vec<Problem>,
) -> Vec<(PathBuf, Place)> {
    let Some((_, node)) = table.entry("include") else { return Vec::new() };
    let mut reader = Reader::new(folder(path), sources, Vec::new());
    let patterns = reader.strings(node, "include");
    problems.append(&mut reader.problems);
    let own = path.canonicalize().ok();
    let mut found: Vec<(PathBuf, Place)> = Vec::new();
    for pattern in patterns {
        inputs::add_include(inputs, folder(path), &pattern.value.value);
        let base = folder(path).to_string_lossy();
        let whole = Path::new(&glob::Pattern::escape(&base)).join(&pattern.value.value);
        let paths = match glob::glob(&whole.to_string_lossy()) {
            Ok(paths) => paths,
            Err(error) => {
                let message = format!("`{}` is not a glob, in `include`: {}", pattern.written, error.msg);
                problems.push(Problem::error(pattern.at, &pattern.written, message));
                continue;
            }
        };
        let before = found.len();
        found.extend(paths.flatten().filter(|path| path.canonicalize().ok() != own).map(|path| (path, pattern.at)));
        if found.len() == before {
            let message = format!("`{}` is no file, in `include`", pattern.written);
            let expected = "a file or a glob, its path from the folder of the config";
            let severe = Problem::error(pattern.at, &pattern.written, &message).expected(expected);
            let mild = Problem::warning(pattern.at, &pattern.written, message).expected(expected);
            problems.push(if inputs::is_glob(&pattern.value.value) { mild } else { severe });
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.dedup_by(|a, b| a.0 == b.0);
    found
}

/// Adds the tables of included files to those of the first.
#[derive(Default)]
struct Merge {
    /// The names in the tables by name, and where they stand.
    names: HashMap<(String, String), Place>,
}

impl Merge {
    fn new(table: &Table) -> Self {
        let mut merge = Self::default();
        for (key, node) in &table.entries {
            if let Value::Table(table) = &node.value {
                let names = table.entries.iter().map(|(name, _)| ((key.text.clone(), name.text.clone()), name.at));
                merge.names.extend(names);
            }
        }
        merge
    }

    fn add(&mut self, into: &mut Table, from: Table, problems: &mut Vec<Problem>) {
        for (key, node) in from.entries {
            if key.text == "include" {
                let message = "`include` is for the first file only";
                let hint = "name the files there";
                problems.push(Problem::error(key.at, "include", message).hint(hint));
                continue;
            }
            let by_name = matches!(keys::ROOT.key(&key.text).map(|key| &key.kind), Some(Kind::Many(_)));
            match into.entries.iter_mut().find(|(known, _)| known.text == key.text) {
                None => {
                    self.note(&key, &node);
                    into.entries.push((key, node));
                }
                Some((_, Node { value: Value::Table(into), .. })) if by_name => {
                    self.add_names(&key, into, node, problems)
                }
                Some((first, _)) => problems.push(twice(&key, &key.text, first.at)),
            }
        }
    }

    fn note(&mut self, key: &Name, node: &Node) {
        if let Value::Table(table) = &node.value {
            self.names.extend(table.entries.iter().map(|(name, _)| ((key.text.clone(), name.text.clone()), name.at)));
        }
    }

    fn add_names(&mut self, key: &Name, into: &mut Table, node: Node, problems: &mut Vec<Problem>) {
        let Value::Table(table) = node.value else {
            let message = format!("`{}` is not a table, in `{}`", node.written, key.text);
            problems.push(Problem::error(node.at, &node.written, message).expected("tables by name"));
            return;
        };
        for (name, node) in table.entries {
            let full = format!("{}.{}", key.text, name.text);
            match self.names.insert((key.text.clone(), name.text.clone()), name.at) {
                None => into.entries.push((name, node)),
                Some(first) => problems.push(twice(&name, &full, first)),
            }
        }
    }
}

fn twice(name: &Name, full: &str, first: Place) -> Problem {
    let message = if name.text == full {
        format!("`{full}` is there twice")
    } else {
        format!("`{}` is there twice, as `{full}`", name.text)
    };
    Problem::error(name.at, &name.text, message).expected("each name once, over all files").related(first, "first here")
}
