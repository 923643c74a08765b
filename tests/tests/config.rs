//! The config as people meet it: each file of `config/broken` is refused at the lines, and with the offending text, that its
//! head names, and with a message that reads well; each of `config/valid`, and each example of the repository, is taken.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use midplane::config::model::Limits;
use midplane::config::{self, Problems, Severity, Style};
use midplane_tests::Folder;
use proptest::prelude::*;

const SECRET: &str = "s3cr3t-marker";

/// The environment of the cases.
fn variable(name: &str) -> Option<String> {
    match name {
        "MIDPLANE_TEST_SECRET" => Some(SECRET.to_owned()),
        "HOME" => Some("/home/midplane".to_owned()),
        _ => None,
    }
}

/// The files of a folder below `tests/`, by a path from there: messages name it the same on every machine.
fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder of the cases");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let sorted: BTreeSet<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    sorted.into_iter().collect()
}

fn name(path: &Path) -> String {
    path.file_stem().expect("a name").to_string_lossy().into_owned()
}

/// What the head of a case says: `# expect: LINE: TEXT`, with `FILE:` before the line where it is another file.
fn expected(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("the case");
    text.lines().map_while(|line| line.strip_prefix("# expect: ")).map(str::to_owned).collect()
}

fn found(problems: &Problems, path: &Path) -> Vec<String> {
    let errors = problems.list.iter().filter(|problem| problem.severity == Severity::Error);
    let place = |at: config::Place| {
        let (line, _) = problems.position(at);
        let file = problems.sources[at.file].path.strip_prefix("config/broken").expect("a file of the cases");
        if path.ends_with(file) { line.to_string() } else { format!("{}:{line}", file.display()) }
    };
    errors.map(|problem| format!("{}: {}", problem.at.map(place).unwrap_or_default(), problem.offending)).collect()
}

#[test]
fn broken_configs_are_refused_where_they_are_broken() {
    let cases = files("config/broken");
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for path in cases {
        let problems = config::load_with(&path, &variable).expect_err(&name(&path));
        assert_eq!(found(&problems, &path), expected(&path), "{}", path.display());
        let text = problems.render(Style::Plain);
        assert!(!text.contains(SECRET), "{text}");
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../config/snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name(&path), text));
    }
}

#[test]
fn a_plugin_of_which_nothing_is_said_has_the_default_limits() {
    let folder = Folder::new("[routes.a]\nfrom = \"in\"\nthrough = \"p\"\nto = \"out\"\n");
    let config = config::load(&folder.config()).expect("a good config").config;
    assert_eq!(config.plugin["p"].limits, Limits::DEFAULT);
}

#[test]
fn every_way_of_showing_problems_names_the_place_and_the_text() {
    let path = Path::new("config/broken/everything-at-once.toml");
    let problems = config::load_with(path, &variable).expect_err("broken");
    let drawn = problems.render(Style::Drawn { color: false });
    let json: serde_json::Value = serde_json::from_str(&problems.render(Style::Json)).expect("JSON");
    assert_eq!(json["errors"], problems.list.len());
    for (problem, json) in problems.list.iter().zip(json["problems"].as_array().expect("a list")) {
        let (line, column) = problems.position(problem.at.expect("a place"));
        assert!(drawn.contains(&format!("everything-at-once.toml:{line}:{column}")), "{drawn}");
        assert!(drawn.contains(&format!("`{}`", problem.offending)), "{drawn}");
        assert_eq!((&json["line"], &json["column"]), (&line.into(), &column.into()));
        assert_eq!(json["offending"], problem.offending);
    }
}

#[test]
fn valid_configs_are_taken() {
    for path in files("config/valid") {
        let loaded = config::load_with(&path, &variable).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    }
}

#[test]
fn every_example_is_taken() {
    let examples = files("../config");
    assert!(!examples.is_empty());
    for path in examples {
        let anything = |_: &str| Some("value".to_owned());
        let loaded = config::load_with(&path, &anything).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(!loaded.config.routes.is_empty(), "{}", path.display());
    }
}

#[test]
fn every_config_is_the_same_from_a_store() {
    let anything = |name: &str| variable(name).or(Some("value".to_owned()));
    for path in files("config/valid").into_iter().chain(files("../config")) {
        let first = config::load_with(&path, &anything).unwrap_or_else(|problems| panic!("{problems}"));
        let stored = first.sources().iter().map(|source| (source.path.clone(), source.text.to_string())).collect();
        let again = config::load_stored_with(&path, stored, &anything).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(format!("{:?}", again.config), format!("{:?}", first.config), "{}", path.display());
    }
}

#[test]
fn the_program_refuses_with_exit_code_3() {
    let folder = midplane_tests::binary::workspace().join("tests");
    for path in files("config/broken") {
        let path = path.to_string_lossy();
        let finished = midplane_tests::binary::run_in(&folder, &["check", "--config", &path], b"");
        assert_eq!(finished.code, Some(3), "{path}: {}", finished.stderr);
        assert!(finished.stderr.contains(".toml:"), "{path}: {}", finished.stderr);
        assert!(finished.stdout.is_empty(), "{path}: {}", finished.stdout);
    }
}

#[test]
fn a_missing_config_is_named() {
    let problems = config::load(Path::new("no-such-config.toml")).expect_err("it isn't there");
    insta::assert_snapshot!(problems.to_string(), @r"
    error: `no-such-config.toml` can't be read: no such file
      hint: `--config FILE` names another config

    1 error
    ");
}

/// A config with a `${…}` where it matters least and most.
fn with_secret(key: &str) -> String {
    format!("[routes.a]\nfrom = 'in'\nto = 'out'\n{key}\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_message_shows_a_secret(secret in "marker-[a-zA-Z0-9 (+*/'.:%-]{4,12}", at in 0..12_usize) {
        let keys = [
            "where = '${X}'", "where = 'event.offset > ${X}'", "through = '${X}'", "group = ' ${X}'", "id = '${X}'",
            "on_filter_error = '${X}'", "provenance = '${X}'", "was = '${X}'", "[host]\ndrain_timeout = '${X}'",
            "[routes.b]\nfrom = '/${X}(/'\nto = '${X}'", "[admin]\nlisten = '${X}'\ntoken_file = '${X}'",
            "[broker]\nbootstrap_servers = '${X}'\nclient = { 'security.protocol' = '${X}', 'ssl.ca.location' = '${X}' }",
        ];
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("midplane.toml");
        std::fs::write(&path, with_secret(keys[at])).expect("a file");
        let outside = |_: &str| Some(secret.clone());
        let texts = match config::load_with(&path, &outside) {
            Ok(loaded) => vec![loaded.warnings.to_string()],
            Err(problems) => [Style::Plain, Style::Json, Style::Drawn { color: true }].map(|style| problems.render(style)).to_vec(),
        };
        for text in texts {
            prop_assert!(!text.contains("marker-"), "{}", text);
        }
    }
}
