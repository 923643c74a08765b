//! Names of a test's own on a broker that others use too, and the folder of a host that uses them: each `~` in a config, and
//! behind the stem of a topic's name, is what makes them unique.

use std::fs;
use std::path::PathBuf;

use crate::{Broker, Folder, Record};

/// A folder with a plugin directory, for one broker.
pub struct Scope<'b> {
    /// Where the topics are.
    pub broker: &'b Broker,
    /// Where the config is, once one was written.
    pub folder: Folder,
    suffix: String,
}

impl<'b> Scope<'b> {
    /// With an empty config, and no plugin.
    pub fn new(broker: &'b Broker) -> Self {
        Self::of(broker, broker.unique(""))
    }

    /// One more folder, with the same names.
    pub fn another(&self) -> Self {
        Self::of(self.broker, self.suffix.clone())
    }

    fn of(broker: &'b Broker, suffix: String) -> Self {
        let scope = Self { broker, folder: Folder::new(""), suffix };
        fs::create_dir(scope.folder.path().join("plugins")).expect("a folder");
        scope
    }

    /// Writes a config: the broker's table, what else belongs into that, and the rest. A member that a busy machine gives no time is
    /// not missed, unless the config has settings of its own: repetitions would be right.
    pub fn configure(&self, more: &str, config: &str) {
        let is_said = [more, config].iter().any(|text| text.contains("client = "));
        let patient = if is_said { "" } else { "client = { 'session.timeout.ms' = '300000' }" };
        let broker = [patient, more].into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        self.folder.write(&format!("{}{broker}\n{}", self.broker.toml(), self.named(config)));
    }

    /// A text with the names of this test.
    pub fn named(&self, text: &str) -> String {
        text.replace('~', &self.suffix)
    }

    /// A text without what is different in each run: the names, the folder, the broker's address.
    pub fn unnamed(&self, text: &str) -> String {
        let folder = self.folder.path().display().to_string();
        text.replace(&self.suffix, "~").replace(&folder, "FOLDER").replace(self.broker.servers(), "BROKER")
    }

    /// What `STEM~` is called.
    pub fn name(&self, stem: &str) -> String {
        format!("{stem}{}", self.suffix)
    }

    /// Makes the topic `STEM~`.
    pub fn create(&self, stem: &str, partitions: i32) {
        self.broker.create(&self.name(stem), partitions, &[]);
    }

    /// Writes to the topic `STEM~`.
    pub fn produce(&self, stem: &str, records: impl IntoIterator<Item = Record>) {
        self.broker.produce(&self.name(stem), records);
    }

    /// Everything that is committed in the topic `STEM~`.
    pub fn all(&self, stem: &str) -> Vec<Record> {
        self.broker.consume_all(&self.name(stem))
    }

    /// Where a plugin's file is.
    pub fn plugin(&self, name: &str) -> PathBuf {
        self.folder.path().join("plugins").join(name).with_extension("wasm")
    }

    /// Puts a plugin into its place, whole, as `mv` does.
    ///
    /// # Panics
    /// Where the folder can't be written to.
    pub fn install(&self, name: &str, bytes: &[u8]) {
        let draft = self.folder.path().join("draft");
        fs::write(&draft, bytes).expect("a file");
        fs::rename(draft, self.plugin(name)).expect("a plugin");
    }
}
