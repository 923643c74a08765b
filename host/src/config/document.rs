//! The file as it was meant: typed values that know their place. Each value is checked by itself; what must fit together
//! is for [`validate`](super::validate).

mod parts;
mod route;

pub(super) use self::parts::reason;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::build::Defaults;
use super::fields::{Fields, Located, Reader};
use super::keys;
use super::model::{
    Admin, Backoff, Breaker, Embedded, Grants, Host, Limits, OnFilterError, OnPermanent, OutOfRange, Plugins, Rollout,
    Selector, Start,
};
use super::problem::Place;
use super::tree::{Name, Node, Table};
use crate::data::filter::Filter;

/// A whole config, not yet known to fit together.
#[derive(Clone)]
pub(super) struct Document {
    pub(super) host: Host,
    pub(super) broker: Option<BrokerTable>,
    pub(super) embedded: Option<EmbeddedTable>,
    pub(super) admin: AdminTable,
    pub(super) plugins: Plugins,
    /// Where the directory of plugins is named, if it is.
    pub(super) plugins_at: Option<Located<PathBuf>>,
    pub(super) plugin: Vec<PluginTable>,
    pub(super) groups: Vec<GroupTable>,
    pub(super) routes: Vec<RouteTable>,
}

/// `[broker]`
#[derive(Clone)]
pub(super) struct BrokerTable {
    pub(super) at: Place,
    pub(super) bootstrap_servers: Option<String>,
    /// Without what came from outside.
    pub(super) written_servers: String,
    pub(super) client: BTreeMap<String, String>,
    pub(super) create_topics: bool,
}

/// `[embedded_broker]`
#[derive(Clone)]
pub(super) struct EmbeddedTable {
    pub(super) at: Place,
    pub(super) listen: Located<std::net::SocketAddr>,
    pub(super) value: Embedded,
}

/// `[admin]`
#[derive(Clone)]
pub(super) struct AdminTable {
    pub(super) listen: Located<std::net::SocketAddr>,
    pub(super) token_named: bool,
    pub(super) value: Admin,
}

/// `[plugin.NAME]`
#[derive(Clone)]
pub(super) struct PluginTable {
    pub(super) name: Name,
    pub(super) sha256: Option<Located<[u8; 32]>>,
    pub(super) limits: Limits,
    pub(super) grants: Grants,
    /// A table.
    pub(super) config: Option<Node>,
    pub(super) rollout: Rollout,
}

/// `[groups.NAME]`
#[derive(Clone)]
pub(super) struct GroupTable {
    pub(super) name: Name,
    pub(super) guarantee: super::model::Guarantee,
    pub(super) commit_interval: std::time::Duration,
    pub(super) shards: Option<std::num::NonZeroUsize>,
    pub(super) start: Start,
    pub(super) out_of_range: OutOfRange,
    pub(super) retired: bool,
}

/// `[routes.NAME]`
#[derive(Clone)]
pub(super) struct RouteTable {
    pub(super) name: Name,
    pub(super) from: Vec<Located<Selector>>,
    pub(super) filter: Option<Arc<Filter>>,
    /// Without what came from outside.
    pub(super) filter_written: Option<String>,
    pub(super) on_filter_error: OnFilterError,
    pub(super) through: Vec<StageTable>,
    /// Whether `through` names anything, right or wrong.
    pub(super) through_named: bool,
    pub(super) to: Vec<Binding>,
    /// Whether `to` is there, be its value right or wrong.
    pub(super) to_named: bool,
    /// None where none is named.
    pub(super) group: Option<Located<String>>,
    /// Whether the key is there, be its value right or wrong.
    pub(super) group_named: bool,
    pub(super) provenance: bool,
    pub(super) allow_loop: bool,
    pub(super) id: Located<String>,
    pub(super) was: Option<Located<String>>,
    pub(super) failure: FailureTable,
}

/// One plugin of a chain.
#[derive(Clone)]
pub(super) struct StageTable {
    pub(super) plugin: Located<String>,
    /// A table.
    pub(super) config: Option<Node>,
}

/// One entry of `to`.
#[derive(Clone)]
pub(super) struct Binding {
    /// Where a string binds `default`, at the string.
    pub(super) port: Name,
    pub(super) topic: Located<String>,
}

/// `[routes.NAME.failure]`
#[derive(Clone)]
pub(super) struct FailureTable {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) breaker: Option<Breaker>,
    pub(super) on_permanent: Located<OnPermanent>,
    /// Where none is named, at the route's id.
    pub(super) dead_letter: Located<String>,
}

impl Document {
    /// Reads the tables of all files, merged into one.
    pub(super) fn read(table: &Table, reader: &mut Reader<'_>) -> Self {
        let top = Place { file: 0, start: 0, end: 0 };
        let root = Fields::open(&keys::ROOT, "", top, table, reader);
        let (plugins, plugins_at) = parts::plugins(&root, reader);
        Self {
            host: parts::host(&root, reader),
            broker: parts::broker(&root, reader),
            embedded: parts::embedded(&root, reader),
            admin: parts::admin(&root, reader),
            plugins,
            plugins_at,
            plugin: parts::plugin(&root, reader),
            groups: parts::groups(&root, reader),
            routes: route::routes(&root, reader),
        }
    }
}

impl Defaults {
    /// What the descriptions of the keys say.
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let top = Place { file: 0, start: 0, end: 0 };
        let empty = Table::default();
        let fields = |section, reader: &mut Reader<'_>| Fields::open(section, "", top, &empty, reader);
        let name = Name { at: top, text: String::new() };
        let embedded = fields(&keys::EMBEDDED_BROKER, reader);
        let plugin = fields(&keys::PLUGIN, reader);
        let group = fields(&keys::GROUP, reader);
        Self {
            embedded: parts::one_embedded(&embedded, top, reader).value,
            plugin: parts::one_plugin(name.clone(), &plugin, reader),
            group: parts::one_group(name, &group, reader),
        }
    }
}

/// One section, defaults where the file has none.
fn section_or_default<T>(
    root: &Fields<'_>,
    key: &'static str,
    section: &'static keys::Section,
    reader: &mut Reader<'_>,
    read: impl FnOnce(&Fields<'_>, &mut Reader<'_>) -> T,
) -> T {
    match root.section(key, reader) {
        Some(fields) => read(&fields, reader),
        None => {
            let empty = Table::default();
            let fields = Fields::open(section, key, root.at, &empty, reader);
            read(&fields, reader)
        }
    }
}
