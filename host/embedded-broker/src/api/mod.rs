//! What each request means. The handlers are the only ones that know both the protocol and the state of the broker; they
//! never touch a socket.

mod admin;
mod commits;
mod configs;
mod fetch;
mod groups;
mod metadata;
mod offsets;
mod produce;
mod transactions;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, BrokerId, api_versions_response::ApiVersion};
use kafka_protocol::protocol::{Decodable, StrBytes};
use uuid::Uuid;

use crate::clock::Clock;
use crate::groups::coordinator::Coordinator;
use crate::settings::Endpoint;
use crate::storage::log::Isolation;
use crate::topics::Topics;
use crate::transactions::coordinator::Coordinator as Transactions;
use crate::wire::connection::{Answer, Closed, Request};

/// The id of the one node.
const NODE: BrokerId = BrokerId(1);

/// What the requests of all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) topics: Arc<Topics>,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) clock: Clock,
    pub(crate) cluster_id: Uuid,
    /// What clients are told to connect to, where that is not simply what they reached.
    pub(crate) advertised: Option<Endpoint>,
    pub(crate) create_topics_on_demand: bool,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) host: String,
    /// The address of ours that it reached.
    pub(crate) reached: SocketAddr,
    pub(crate) client_id: String,
}

impl Shared {
    /// Where a client is told to go.
    fn endpoint(&self, caller: &Caller) -> Endpoint {
        self.advertised.clone().unwrap_or_else(|| Endpoint::of(caller.reached))
    }
}

/// Every request that is served, with its versions. The newest ones of some are left out: what they add (share groups,
/// the next group protocol, topic ids in commits, transactions with a new epoch each) is not served.
const SUPPORTED: &[(ApiKey, RangeInclusive<i16>)] = &[
    (ApiKey::Produce, 3..=12),
    (ApiKey::Fetch, 4..=16),
    (ApiKey::ListOffsets, 1..=7),
    (ApiKey::Metadata, 0..=12),
    (ApiKey::OffsetCommit, 2..=8),
    (ApiKey::OffsetFetch, 1..=8),
    (ApiKey::FindCoordinator, 0..=4),
    (ApiKey::JoinGroup, 0..=9),
    (ApiKey::Heartbeat, 0..=4),
    (ApiKey::LeaveGroup, 0..=5),
    (ApiKey::SyncGroup, 0..=5),
    (ApiKey::DescribeGroups, 0..=5),
    (ApiKey::ListGroups, 0..=4),
    (ApiKey::ApiVersions, 0..=3),
    (ApiKey::CreateTopics, 2..=7),
    (ApiKey::DeleteTopics, 1..=6),
    (ApiKey::InitProducerId, 0..=4),
    (ApiKey::OffsetForLeaderEpoch, 2..=4),
    (ApiKey::AddPartitionsToTxn, 0..=3),
    (ApiKey::AddOffsetsToTxn, 0..=3),
    (ApiKey::EndTxn, 0..=3),
    (ApiKey::TxnOffsetCommit, 0..=3),
    (ApiKey::DescribeConfigs, 1..=4),
    (ApiKey::CreatePartitions, 0..=3),
    (ApiKey::DeleteGroups, 0..=2),
    (ApiKey::IncrementalAlterConfigs, 0..=1),
    (ApiKey::DescribeCluster, 0..=1),
];

/// The versions of a request that are served, if it is.
pub(crate) fn supported(key: ApiKey) -> Option<RangeInclusive<i16>> {
    SUPPORTED.iter().find(|(known, _)| *known == key).map(|(_, versions)| versions.clone())
}

/// Answers a request; there is none to some.
pub(crate) async fn answer(shared: &Arc<Shared>, caller: Caller, request: Request) -> Result<Option<Answer>, Closed> {
    let answer = match request.key {
        ApiKey::Produce => return produce::answer(shared, decode(&request)?).await,
        ApiKey::Fetch => fetch::answer(shared, decode(&request)?, request.version).await,
        ApiKey::ListOffsets => offsets::list(shared, decode(&request)?, request.version).await,
        ApiKey::OffsetForLeaderEpoch => offsets::for_leader_epoch(shared, decode(&request)?),
        ApiKey::Metadata => metadata::answer(shared, &caller, decode(&request)?, request.version).await,
        ApiKey::DescribeCluster => metadata::describe_cluster(shared, &caller),
        ApiKey::FindCoordinator => groups::find(shared, &caller, decode(&request)?, request.version),
        ApiKey::JoinGroup => groups::join(shared, caller, decode(&request)?, request.version).await,
        ApiKey::SyncGroup => groups::sync(shared, decode(&request)?, request.version).await,
        ApiKey::Heartbeat => groups::heartbeat(shared, decode(&request)?),
        ApiKey::LeaveGroup => groups::leave(shared, decode(&request)?, request.version),
        ApiKey::ListGroups => groups::list(shared, decode(&request)?, request.version),
        ApiKey::DescribeGroups => groups::describe(shared, decode(&request)?),
        ApiKey::DeleteGroups => groups::delete(shared, decode(&request)?).await,
        ApiKey::OffsetCommit => commits::commit(shared, decode(&request)?).await,
        ApiKey::OffsetFetch => commits::fetch(shared, decode(&request)?, request.version).await,
        ApiKey::CreateTopics => admin::create_topics(shared, decode(&request)?, request.version).await,
        ApiKey::DeleteTopics => admin::delete_topics(shared, decode(&request)?, request.version).await,
        ApiKey::CreatePartitions => admin::create_partitions(shared, decode(&request)?).await,
        ApiKey::DescribeConfigs => configs::describe(shared, decode(&request)?),
        ApiKey::IncrementalAlterConfigs => configs::alter(decode(&request)?),
        ApiKey::InitProducerId => transactions::init(shared, decode(&request)?, request.version).await,
        ApiKey::AddPartitionsToTxn => transactions::add_partitions(shared, decode(&request)?, request.version).await,
        ApiKey::AddOffsetsToTxn => transactions::add_group(shared, decode(&request)?, request.version).await,
        ApiKey::TxnOffsetCommit => commits::commit_with_transaction(shared, decode(&request)?).await,
        ApiKey::EndTxn => transactions::end(shared, decode(&request)?, request.version).await,
        ApiKey::ApiVersions => versions(0),
        key => return Err(Closed::UnknownKey(key as i16)),
    };
    Ok(Some(answer))
}

/// The answer to a request for versions of a version that isn't known: the client then asks again with an older one.
pub(crate) fn unsupported(_: &Request) -> Result<Option<Answer>, Closed> {
    Ok(Some(versions(ResponseError::UnsupportedVersion.code())))
}

fn versions(error_code: i16) -> Answer {
    let served = SUPPORTED.iter().map(|(key, versions)| {
        ApiVersion::default()
            .with_api_key(*key as i16)
            .with_min_version(*versions.start())
            .with_max_version(*versions.end())
    });
    Answer::new(ApiVersionsResponse::default().with_error_code(error_code).with_api_keys(served.collect()))
}

fn decode<T: Decodable>(request: &Request) -> Result<T, Closed> {
    T::decode(&mut request.body.clone(), request.version).map_err(|_| Closed::Malformed(request.key))
}

/// Whether the body of a request can be decoded; for tests.
#[cfg(test)]
pub(crate) fn decodes(request: &Request) -> bool {
    use kafka_protocol::messages::{
        FetchRequest, JoinGroupRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
    };
    match request.key {
        ApiKey::Produce => decode::<ProduceRequest>(request).is_ok(),
        ApiKey::Fetch => decode::<FetchRequest>(request).is_ok(),
        ApiKey::Metadata => decode::<MetadataRequest>(request).is_ok(),
        ApiKey::JoinGroup => decode::<JoinGroupRequest>(request).is_ok(),
        ApiKey::OffsetCommit => decode::<OffsetCommitRequest>(request).is_ok(),
        ApiKey::OffsetFetch => decode::<OffsetFetchRequest>(request).is_ok(),
        _ => false,
    }
}

/// Which records a client may see, as the protocol numbers it.
fn isolation(level: i8) -> Isolation {
    if level == 1 { Isolation::Committed } else { Isolation::Uncommitted }
}

/// The code of an outcome: 0 is fine.
fn code<T>(outcome: &Result<T, ResponseError>) -> i16 {
    outcome.as_ref().err().map_or(0, ResponseError::code)
}

/// Does what may wait for the file system on a thread that may wait. It is done even when nobody waits for the outcome.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime goes down, and this task with it.
        Err(_) => std::future::pending().await,
    }
}

/// Logs what only the operator can mend, and says so to the client.
fn storage(error: &(dyn std::error::Error + 'static)) -> ResponseError {
    tracing::error!(error, "The file system refused.");
    ResponseError::KafkaStorageError
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}
