//! What a config depends on: every file and folder whose change can change it, right or wrong, for those who watch.
//! Names paths; watches and compares nothing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What was read, or would have been had it been there. Paths start where the config's own does: relative ones at the
/// working directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Over the files one after the other, then over the content of each `${file:…}` in the order of first mention: for a
    /// single file without any, the file's own SHA-256. There for broken configs, too.
    pub sha256: [u8; 32],
    /// The named file, those that it includes, those that `${file:…}` names, and the token's. Some may be missing.
    pub files: BTreeSet<PathBuf>,
    /// The folders that the globs of `include` look into: a file that appears there may be included.
    pub folders: BTreeSet<PathBuf>,
    /// The plugin directory. None where not even the config's file could be read.
    pub plugins: Option<PathBuf>,
}

/// Whether an entry of `include` can name more than one file.
pub(super) fn is_glob(pattern: &str) -> bool {
    pattern.contains(['*', '?', '['])
}

/// Takes note of an entry of `include`: the file that it is, or the folders that its wildcards look into.
pub(super) fn add_include(inputs: &mut Inputs, base: &Path, pattern: &str) {
    if !is_glob(pattern) {
        inputs.files.insert(base.join(pattern));
        return;
    }
    // What precedes the first wildcard is a folder whether it is there or not; what follows is found.
    let mut literal = Some(base.to_owned());
    let mut before = PathBuf::from(glob::Pattern::escape(&base.to_string_lossy()));
    for part in Path::new(pattern).components() {
        let text = part.as_os_str().to_string_lossy();
        if is_glob(&text) {
            inputs.folders.extend(literal.take().map(or_here));
            inputs.folders.extend(folders(&before));
        }
        literal = literal.map(|literal| literal.join(part));
        before.push(part);
    }
}

/// The folders that a pattern finds.
fn folders(pattern: &Path) -> impl Iterator<Item = PathBuf> {
    let found = glob::glob(&pattern.to_string_lossy()).into_iter().flatten();
    found.flatten().filter(|path| path.is_dir())
}

/// The working directory by a name that can be opened.
fn or_here(folder: PathBuf) -> PathBuf {
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_look_into_every_folder_on_their_way() {
        let root = tempfile::tempdir().expect("a temporary folder");
        // A name that means something else to globs.
        let base = root.path().join("a[1]");
        for folder in ["routes/eu/old", "routes/us", "other"] {
            std::fs::create_dir_all(base.join(folder)).expect("a folder");
        }
        std::fs::write(base.join("routes/file.toml"), "").expect("a file");
        let check = |pattern: &str, files: &[&str], folders: &[&str]| {
            let mut inputs = Inputs::default();
            add_include(&mut inputs, &base, pattern);
            let paths = |paths: &[&str]| paths.iter().map(|path| base.join(path)).collect::<BTreeSet<_>>();
            assert_eq!((inputs.files, inputs.folders), (paths(files), paths(folders)), "{pattern}");
        };
        check("one.toml", &["one.toml"], &[]);
        check("missing/one.toml", &["missing/one.toml"], &[]);
        check("*.toml", &[], &[""]);
        check("routes/*.toml", &[], &["routes"]);
        check("missing/*.toml", &[], &["missing"]);
        check("routes/*/x-?.toml", &[], &["routes", "routes/eu", "routes/us"]);
        check("routes/**/*.toml", &[], &["routes", "routes/eu", "routes/eu/old", "routes/us"]);
        check("routes/*/parts/x.toml", &[], &["routes"]);
    }

    #[test]
    fn the_working_directory_has_a_name() {
        let mut inputs = Inputs::default();
        add_include(&mut inputs, Path::new(""), "*.toml");
        assert_eq!(inputs.folders, [PathBuf::from(".")].into());
    }
}
