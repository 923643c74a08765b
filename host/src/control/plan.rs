//! What a change would do, told before it is made: the live config and plugins against others. Pure; whoever asks has read
//! the files and asked the broker.

use super::config_view::{ConfigView, Settings};
use crate::config::model::Config;

/// What only a new process can take up: tables, and single keys of others.
const RESTART_TABLES: &[&str] = &["host", "broker", "embedded_broker"];
const RESTART_KEYS: &[&str] = &["admin.listen"];

/// The keys in which a config differs so that only a restart takes it up, as the file has them. Empty: a reload does.
pub fn restart_needed(live: &Config, next: &Config) -> Vec<String> {
    restart_keys(&ConfigView::of(live), &ConfigView::of(next))
}

/// As [`restart_needed`].
pub fn restart_keys(live: &ConfigView, next: &ConfigView) -> Vec<String> {
    let has_table = |settings: &Settings, table: &str| settings.keys().any(|key| table_of(key) == table);
    let mut keys = Vec::new();
    for key in live.settings.keys().chain(next.settings.keys()).filter(|key| needs_restart(key)) {
        if live.settings.get(key) == next.settings.get(key) {
            continue;
        }
        // A table that comes or goes is one change, not one for each of its keys.
        let table = table_of(key);
        let whole = !has_table(&live.settings, table) || !has_table(&next.settings, table);
        let key = if whole { table } else { key };
        if !keys.iter().any(|known| known == key) {
            keys.push(key.to_owned());
        }
    }
    keys.sort();
    keys
}

fn needs_restart(key: &str) -> bool {
    RESTART_TABLES.contains(&table_of(key)) || RESTART_KEYS.contains(&key)
}

fn table_of(key: &str) -> &str {
    key.split_once('.').map_or(key, |(table, _)| table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config_view::Value;

    fn config(settings: &[(&str, &str)]) -> ConfigView {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), Value::Shown((*value).to_owned())));
        ConfigView { settings: settings.collect(), ..ConfigView::default() }
    }

    #[test]
    fn keys_that_need_a_restart_are_named() {
        let check = |live: &[(&str, &str)], next: &[(&str, &str)], expected: &[&str]| {
            assert_eq!(restart_keys(&config(live), &config(next)), expected, "{live:?} to {next:?}");
        };
        let kafka = [("broker.bootstrap_servers", "a:9092"), ("broker.create_topics", "false")];
        check(&kafka, &kafka, &[]);
        check(&kafka, &[("broker.bootstrap_servers", "b:9092"), kafka[1]], &["broker.bootstrap_servers"]);
        check(&kafka, &[kafka[0], kafka[1], ("broker.client.\"a\"", "1")], &["broker.client.\"a\""]);
        check(&kafka, &[("embedded_broker.listen", "127.0.0.1:0")], &["broker", "embedded_broker"]);
        check(
            &[("host.drain_timeout", "30s"), ("host.generations", "10")],
            &[("host.drain_timeout", "1m"), ("host.generations", "9")],
            &["host.drain_timeout", "host.generations"],
        );
        check(
            &[("admin.listen", "127.0.0.1:1"), ("admin.token_file", "a"), ("plugins.directory", "a")],
            &[("admin.listen", "127.0.0.1:2"), ("admin.token_file", "b"), ("plugins.directory", "b")],
            &["admin.listen"],
        );
    }
}
