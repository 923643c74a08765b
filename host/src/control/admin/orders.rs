//! The orders as they come over HTTP: a path and a small JSON object each. Reads them and writes the answers; what an order
//! does is for whoever takes it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Fault, Surface};
use crate::control::hands::Target;
use crate::control::order::{Order, Orders, Refusal, RefusalKind, version_prefix};
use crate::data::shard::Wish;

/// The paths of all orders.
pub(super) fn routes() -> axum::Router<Surface> {
    axum::Router::new()
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/rollback", post(rollback))
        .route("/api/v1/resume", post(resume))
        .route("/api/v1/routes/{name}/pause", post(pause_route))
        .route("/api/v1/routes/{name}/resume", post(resume_route))
        .route("/api/v1/partitions/{topic}/{partition}/resume", post(resume_partition))
        .route("/api/v1/partitions/{topic}/{partition}/skip", post(skip_partition))
        .route("/api/v1/plugins/{name}/pin", post(pin))
        .route("/api/v1/plugins/{name}/unpin", post(unpin))
        .route("/api/v1/plugins/{name}/rollback", post(rollback_plugin))
        .route("/api/v1/plugins/{name}/promote", post(promote))
        .route("/api/v1/plugins/{name}/abort", post(abort))
}

/// An order without particulars.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// `{"generation": 3}`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Generation {
    generation: Option<u64>,
}

/// `{"version": "ab12"}`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Version {
    version: Option<String>,
}

/// `{"group": "payments"}`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OfGroup {
    group: Option<String>,
}

/// `{"group": "payments", "to": 42}`
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UpTo {
    group: Option<String>,
    to: Option<i64>,
}

async fn pause_route(State(surface): State<Surface>, Path(route): Path<String>, body: Bytes) -> Response {
    give(&surface.orders, read(&body).map(|Nothing {}| Order::PauseRoute { route })).await
}

async fn resume_route(State(surface): State<Surface>, Path(route): Path<String>, body: Bytes) -> Response {
    give(&surface.orders, read(&body).map(|Nothing {}| Order::ResumeRoute { route })).await
}

async fn resume_partition(
    State(surface): State<Surface>,
    Path((topic, partition)): Path<(String, i32)>,
    body: Bytes,
) -> Response {
    let order = read(&body).map(|OfGroup { group }| {
        let target = Target { topic, partition, group };
        Order::Partition { target, wish: Wish::Again }
    });
    give(&surface.orders, order).await
}

async fn skip_partition(
    State(surface): State<Surface>,
    Path((topic, partition)): Path<(String, i32)>,
    body: Bytes,
) -> Response {
    let order = read(&body).map(|UpTo { group, to }| {
        let target = Target { topic, partition, group };
        Order::Partition { target, wish: Wish::Skip { at: None, to } }
    });
    give(&surface.orders, order).await
}

async fn reload(State(surface): State<Surface>, body: Bytes) -> Response {
    give(&surface.orders, read(&body).map(|Nothing {}| Order::Reload)).await
}

async fn rollback(State(surface): State<Surface>, body: Bytes) -> Response {
    give(&surface.orders, read(&body).map(|Generation { generation }| Order::Rollback { to: generation })).await
}

async fn resume(State(surface): State<Surface>, body: Bytes) -> Response {
    give(&surface.orders, read(&body).map(|Nothing {}| Order::Resume)).await
}

async fn pin(State(surface): State<Surface>, Path(plugin): Path<String>, body: Bytes) -> Response {
    give(&surface.orders, read_version(&body).map(|version| Order::Pin { plugin, version })).await
}

async fn unpin(State(surface): State<Surface>, Path(plugin): Path<String>, body: Bytes) -> Response {
    give(&surface.orders, read(&body).map(|Nothing {}| Order::Unpin { plugin })).await
}

async fn rollback_plugin(State(surface): State<Surface>, Path(plugin): Path<String>, body: Bytes) -> Response {
    give(&surface.orders, read_version(&body).map(|to| Order::RollbackPlugin { plugin, to })).await
}

async fn promote(State(surface): State<Surface>, Path(plugin): Path<String>, body: Bytes) -> Response {
    give(&surface.orders, read(&body).map(|Nothing {}| Order::Promote { plugin })).await
}

async fn abort(State(surface): State<Surface>, Path(plugin): Path<String>, body: Bytes) -> Response {
    give(&surface.orders, read(&body).map(|Nothing {}| Order::Abort { plugin })).await
}

/// No body is an empty object: `curl -X POST` does for what needs no particulars.
fn read<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, String> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body).map_err(|error| format!("the body is not what was expected: {error}"))
}

fn read_version(body: &[u8]) -> Result<Option<String>, String> {
    let Version { version } = read(body)?;
    version.as_deref().map(version_prefix).transpose()
}

async fn give(orders: &Orders, order: Result<Order, String>) -> Response {
    let order = match order {
        Ok(order) => order,
        Err(error) => return (StatusCode::BAD_REQUEST, Json(Fault { error })).into_response(),
    };
    match orders.ask(order).await {
        Ok(done) => Json(done).into_response(),
        Err(Refusal { kind, message }) => (status(kind), Json(Fault { error: message })).into_response(),
    }
}

fn status(kind: RefusalKind) -> StatusCode {
    match kind {
        RefusalKind::Refused => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalKind::Unknown => StatusCode::NOT_FOUND,
        RefusalKind::Conflict => StatusCode::CONFLICT,
        RefusalKind::Unanswered => StatusCode::GATEWAY_TIMEOUT,
        RefusalKind::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    }
}
