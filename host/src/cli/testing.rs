//! What the tests of several commands share: an overview with something of everything, and a surface that answers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::control::admin::{Access, Admin};
use crate::control::config_view::ConfigView;
use crate::control::order::{self, Done, Order, Refusal};
use crate::control::overview::{
    CandidateView, DecisionKind, DecisionView, GenerationView, GroupView, Held, Overview, PluginView, VersionView,
};
use crate::control::partitions::{Condition, PartitionView};
use crate::control::status::{self, Listen, Status};

const FIRST: &str = "2026-01-01T00:00:00Z";
const SECOND: &str = "2026-01-02T12:30:00Z";

fn version(byte: &str) -> String {
    byte.repeat(32)
}

/// A host on which somebody was busy.
pub(super) fn overview() -> Overview {
    Overview {
        generation: 7,
        hash: version("3f"),
        config_sha256: version("bb"),
        config_file: "/etc/midplane/midplane.toml".to_owned(),
        published_at: SECOND.to_owned(),
        instance: "host-7".to_owned(),
        held: Some(Held { generation: 5, config_sha256: version("cc"), since: SECOND.to_owned() }),
        drift: vec![
            "the config has other bytes than the live generation's".to_owned(),
            "plugin `mask` has another version in the directory".to_owned(),
        ],
        plugins: plugins(),
        groups: vec![GroupView {
            name: "payments".to_owned(),
            shards: 2,
            routes: vec!["large".to_owned(), "archive".to_owned()],
            topics: 3,
        }],
        history: [(5, FIRST, "the config changed"), (6, FIRST, "plugin `mask` changed"), (7, SECOND, "rollback to 5")]
            .map(|(generation, published_at, why)| GenerationView {
                generation,
                hash: version(&format!("{generation}f")),
                published_at: published_at.to_owned(),
                live: generation == 7,
                why: why.to_owned(),
                plugins: [("mask".to_owned(), version("aa"))].into(),
            })
            .into(),
        config: ConfigView::default(),
    }
}

fn plugins() -> Vec<PluginView> {
    let plugin = |name: &str, sha256: &str| PluginView {
        name: name.to_owned(),
        sha256: version(sha256),
        bytes: 18_432,
        loaded_at: FIRST.to_owned(),
        directory_sha256: None,
        decision: None,
        candidate: None,
        versions: vec![VersionView { sha256: version(sha256), generations: vec![5, 6, 7] }],
    };
    let decision = |kind, sha256: &str, from: Option<&str>| {
        Some(DecisionView { kind, sha256: version(sha256), from: from.map(version), since: SECOND.to_owned() })
    };
    let mut pinned = plugin("fraud-score", "1e");
    pinned.decision = decision(DecisionKind::Pin, "1e", None);
    pinned.directory_sha256 = Some(version("2e"));
    let mut back = plugin("mask", "aa");
    back.decision = decision(DecisionKind::Rollback, "aa", Some("ab"));
    back.directory_sha256 = Some(version("ab"));
    back.versions = vec![
        VersionView { sha256: version("aa"), generations: vec![5, 7] },
        VersionView { sha256: version("ab"), generations: vec![6] },
    ];
    let mut trial = plugin("split-order", "5c");
    trial.directory_sha256 = Some(version("5d"));
    trial.candidate = Some(CandidateView { sha256: version("5d"), mode: "canary".to_owned(), share: 0.05 });
    vec![pinned, back, trial, plugin("zip", "77")]
}

/// A surface as a running host has it, with a config that leads to it.
pub(super) struct Surface {
    folder: tempfile::TempDir,
    pub(super) address: SocketAddr,
    pub(super) status: Status,
    _runtime: tokio::runtime::Runtime,
}

impl Surface {
    /// Answers orders with what `answer` says of them.
    pub(super) fn start(answer: impl Fn(&Order) -> Result<Done, Refusal> + Send + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("token"), "open sesame\n").expect("writable");
        let status = Status::new(Listen { admin: "127.0.0.1:0".to_owned(), broker: None });
        let admin = runtime.block_on(Admin::bind("127.0.0.1:0".parse().expect("an address"))).expect("a free port");
        let address = admin.address();
        let (orders, mut receiver) = order::channel();
        let access = Access::new(Some(&crate::config::model::Secret("open sesame".to_owned())));
        runtime.spawn(admin.serve(status.clone(), access, orders, std::future::pending()));
        runtime.spawn(async move {
            while let Some(order::Request { order, reply }) = receiver.recv().await {
                // Whoever asked may have gone.
                let _ = reply.send(answer(&order));
            }
        });
        let surface = Self { folder, address, status, _runtime: runtime };
        surface.write(&address.to_string(), "");
        surface
    }

    /// The config, with another address and more text.
    pub(super) fn write(&self, listen: &str, more: &str) {
        let config = format!("[admin]\nlisten = \"{listen}\"\ntoken_file = \"token\"\n{more}");
        std::fs::write(self.config(), config).expect("writable");
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder().join("midplane.toml")
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Says that a generation serves.
    pub(super) fn serves(&self) {
        let overview = overview();
        let (number, hash) = (overview.generation, overview.hash.clone());
        let config_sha256 = overview.config_sha256.clone();
        self.status.overview(Arc::new(overview));
        self.status.serves(status::Generation { number, hash, config_sha256, plugins: Default::default() });
    }
}

/// A partition of the group `payments` that stands so, without anything that would say why.
pub(super) fn partition(topic: &str, number: i32, state: Condition) -> PartitionView {
    PartitionView {
        group: "payments".to_owned(),
        topic: topic.to_owned(),
        partition: number,
        shard: "payments/0".to_owned(),
        state,
        why: None,
        since: None,
        until: None,
        attempt: None,
        route: None,
        plugin: None,
        kind: None,
        message: None,
        position: 42,
        committed: Some(42),
        lag: Some(0),
    }
}
