//! The admin surface: health, readiness, what is live, and operators' orders over HTTP, on a listener of its own. It reads
//! [`Status`], which the rest of the host writes, and hands orders on; it never changes anything itself.

mod access;
mod orders;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

pub use self::access::Access;

use super::metrics;
use super::order::Orders;
use super::status::Status;

/// A bound, not yet answering admin surface.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Takes the address; port 0 is any free one.
    ///
    /// # Errors
    /// When the address is taken or not this machine's.
    pub async fn bind(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address taken, its real port included.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is ready, and what was being answered then to its end.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(
        self,
        status: Status,
        access: Access,
        orders: Orders,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        axum::serve(self.listener, router(status, access, orders)).with_graceful_shutdown(stop).await
    }
}

/// What the answers are made from.
#[derive(Debug, Clone)]
struct Surface {
    status: Status,
    orders: Orders,
}

/// Probes are open, since those who probe carry no token and the answer gives nothing away; all else asks for it.
fn router(status: Status, access: Access, orders: Orders) -> axum::Router {
    let guarded = axum::Router::new()
        .route("/api/v1/generation", get(generation))
        .route("/api/v1/overview", get(overview))
        .route("/api/v1/partitions", get(partitions))
        .route("/metrics", get(metrics))
        .merge(orders::routes())
        .layer(middleware::from_fn_with_state(access, access::authorize));
    let open = axum::Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
    open.merge(guarded).with_state(Surface { status, orders })
}

/// What a probe answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Whether all is as it should be.
    pub ok: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

impl IntoResponse for Probe {
    fn into_response(self) -> Response {
        let code = if self.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, Json(self)).into_response()
    }
}

/// What an answer that isn't one says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Why not, and what to do.
    pub error: String,
}

/// How long a scrape waits for shards that are busy: it has what they said before.
const SCRAPE_PATIENCE: Duration = Duration::from_millis(300);
/// How long an operator waits for them.
const ACCOUNT_PATIENCE: Duration = Duration::from_secs(3);

async fn metrics(State(surface): State<Surface>) -> Response {
    let partitions = surface.status.partitions(SCRAPE_PATIENCE).await;
    let text = surface.status.metrics().text(&partitions);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn partitions(State(surface): State<Surface>) -> Response {
    Json(surface.status.partitions(ACCOUNT_PATIENCE).await).into_response()
}

async fn healthz(State(surface): State<Surface>) -> Probe {
    let reasons = surface.status.unhealthy();
    Probe { ok: reasons.is_empty(), reasons }
}

async fn readyz(State(surface): State<Surface>) -> Probe {
    let reasons = surface.status.unready();
    Probe { ok: reasons.is_empty(), reasons }
}

async fn generation(State(surface): State<Surface>) -> Response {
    found(surface.status.report())
}

async fn overview(State(surface): State<Surface>) -> Response {
    found(surface.status.current_overview().as_deref())
}

/// What there is once a generation serves.
fn found(value: Option<impl Serialize>) -> Response {
    let fault = || Fault { error: "no generation serves yet".to_owned() };
    match value {
        Some(value) => Json(value).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, Json(fault())).into_response(),
    }
}
