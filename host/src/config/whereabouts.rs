//! What commands need of a config that may be broken, or of none at all. Never says that a config is good.

use std::path::Path;
use std::sync::Arc;

use super::build::Defaults;
use super::document::Document;
use super::fields::Reader;
use super::files::{self, Texts};
use super::model::{Admin, Host, Limits};
use super::problem::{Problems, Source};
use super::validate;

/// Where the host of a config is found.
#[derive(Debug)]
pub struct Whereabouts {
    /// `[host]`
    pub host: Host,
    /// `[admin]`
    pub admin: Admin,
    /// What is wrong with the config: defaults stand for values that are refused.
    pub problems: Problems,
}

/// Reads where the host of a config is found: one that runs may be asked for, whatever else its file has become since.
///
/// # Errors
///
/// When there is no such file.
pub fn whereabouts(path: &Path) -> Result<Whereabouts, Problems> {
    let mut problems = Vec::new();
    let files = files::read(path, Texts::Disk, &|name| std::env::var(name).ok(), &mut problems);
    let sources: Arc<[Source]> = files.sources.into();
    if sources.is_empty() {
        return Err(Problems::new(sources, problems));
    }
    let mut reader = Reader::new(files::folder(path), &sources, problems);
    let document = Document::read(&files.table, &mut reader);
    let mut problems = reader.problems;
    problems.extend(validate::validate(&document));
    Ok(Whereabouts { host: document.host, admin: document.admin.value, problems: Problems::new(sources, problems) })
}

/// What a plugin may use where no config says otherwise.
pub fn default_limits() -> Limits {
    Defaults::read(&mut Reader::new(Path::new(""), &[], Vec::new())).plugin.limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_in_what_can_be_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("midplane.toml");
        let check = |text: &str, data: &str, port: u16| {
            std::fs::write(&file, text).expect("writable");
            let found = whereabouts(&file).expect("the file is there");
            assert_eq!(found.host.data_directory, folder.path().join(data), "{text}");
            assert_eq!(found.admin.listen.port(), port, "{text}");
            assert!(!found.problems.is_empty(), "{text}");
        };
        let host = "[host]\ndata_directory = 'data'\n[admin]\nlisten = '127.0.0.1:9'\n";
        check(&format!("{host}[routes.a]\nform = 'in'\n"), "data", 9);
        check(&format!("include = ['absent.toml']\n{host}"), "data", 9);
        check(&host.replace("127.0.0.1:9", "nowhere"), "data", 8090);
        check("[host", "midplane-data", 8090);
        assert!(whereabouts(&folder.path().join("absent.toml")).is_err());
    }
}
