//! The admin surface: health, readiness and the live generation over HTTP, on a listener of its own. It reads [`Status`],
//! which the rest of the host writes; it never changes anything.

use std::io;
use std::net::SocketAddr;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::status::Status;
use crate::config::model::Secret;

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
        token: Option<Secret>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        axum::serve(self.listener, router(status, token)).with_graceful_shutdown(stop).await
    }
}

/// Probes are open, since those who probe carry no token and the answer gives nothing away; all else asks for it.
fn router(status: Status, token: Option<Secret>) -> axum::Router {
    let guarded = axum::Router::new().route("/api/v1/generation", get(generation));
    let guarded = match token {
        Some(token) => guarded.layer(middleware::from_fn_with_state(Token::new(&token), authorize)),
        None => guarded,
    };
    axum::Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).merge(guarded).with_state(status)
}

/// What a probe answers.
#[derive(Debug, Serialize)]
struct Probe {
    ok: bool,
    reasons: Vec<String>,
}

impl IntoResponse for Probe {
    fn into_response(self) -> Response {
        let code = if self.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (code, Json(self)).into_response()
    }
}

/// What an answer that isn't one says.
#[derive(Debug, Serialize)]
struct Refusal {
    error: &'static str,
}

async fn healthz(State(status): State<Status>) -> Probe {
    let reasons = status.unhealthy();
    Probe { ok: reasons.is_empty(), reasons }
}

async fn readyz(State(status): State<Status>) -> Probe {
    let reasons = status.unready();
    Probe { ok: reasons.is_empty(), reasons }
}

async fn generation(State(status): State<Status>) -> Response {
    match status.report() {
        Some(report) => Json(report).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, Json(Refusal { error: "no generation serves yet" })).into_response(),
    }
}

/// The token's hash: comparing hashes takes the same time wherever a guess begins to differ.
#[derive(Clone)]
struct Token([u8; 32]);

impl Token {
    fn new(token: &Secret) -> Self {
        Self(Sha256::digest(token.0.as_bytes()).into())
    }

    fn opens(&self, header: Option<&[u8]>) -> bool {
        let given = header.and_then(|header| header.strip_prefix(b"Bearer "));
        given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given)) == self.0)
    }
}

async fn authorize(State(token): State<Token>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    if token.opens(header.map(header::HeaderValue::as_bytes)) {
        return next.run(request).await;
    }
    let refusal =
        Refusal { error: "expected the header `Authorization: Bearer TOKEN`, with the token of `token_file`" };
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], Json(refusal)).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::control::status::{Generation, Listen, Plugin};
    use crate::data::shard::Health;

    /// The status line's code and the body of one answer.
    async fn get(address: SocketAddr, path: &str, authorization: Option<&str>) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.expect("the admin surface answers");
        let authorization = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nhost: midplane\r\nconnection: close\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        (code, body.to_owned())
    }

    async fn start(status: &Status, token: Option<&str>) -> SocketAddr {
        let admin = Admin::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
        let address = admin.address();
        let token = token.map(|token| Secret(token.to_owned()));
        tokio::spawn(admin.serve(status.clone(), token, std::future::pending()));
        address
    }

    fn generation() -> Generation {
        Generation {
            number: 3,
            hash: "aa".repeat(32),
            config_sha256: "bb".repeat(32),
            plugins: [(
                "fraud-score".to_owned(),
                Plugin { sha256: "cc".repeat(32), bytes: 18_432, loaded_at: jiff::Timestamp::UNIX_EPOCH },
            )]
            .into(),
        }
    }

    #[tokio::test]
    async fn a_generation_is_reported_as_the_contract_says() {
        let status = Status::new(Listen { admin: "127.0.0.1:8090".into(), broker: Some("127.0.0.1:9092".into()) });
        let address = start(&status, None).await;
        assert_eq!(get(address, "/api/v1/generation", None).await.0, 503);
        status.serves(generation());
        let (code, body) = get(address, "/api/v1/generation", None).await;
        assert_eq!(code, 200);
        let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(
            body,
            serde_json::json!({
                "generation": 3,
                "hash": "aa".repeat(32),
                "config_sha256": "bb".repeat(32),
                "plugins": {
                    "fraud-score": {
                        "sha256": "cc".repeat(32),
                        "bytes": 18_432,
                        "loaded_at": "1970-01-01T00:00:00Z",
                        "candidate": null,
                    },
                },
                "listen": { "admin": "127.0.0.1:8090", "broker": "127.0.0.1:9092" },
                "last_refused": null,
            })
        );
    }

    #[tokio::test]
    async fn probes_answer_503_and_say_why() {
        let status = Status::new(Listen { admin: "127.0.0.1:0".into(), broker: None });
        let address = start(&status, None).await;
        let (code, body) = get(address, "/readyz", None).await;
        assert_eq!(code, 503);
        assert_eq!(body, r#"{"ok":false,"reasons":["no generation serves yet","the broker has not answered yet"]}"#);
        assert_eq!(get(address, "/healthz", None).await, (200, r#"{"ok":true,"reasons":[]}"#.to_owned()));
        let shard = Arc::new(Health::default());
        status.shard("payments/0".to_owned(), &shard);
        shard.assigned();
        status.broker_answers(true);
        status.serves(generation());
        assert_eq!(get(address, "/readyz", None).await.0, 200);
    }

    #[tokio::test]
    async fn a_token_guards_all_but_the_probes() {
        let status = Status::new(Listen { admin: "127.0.0.1:0".into(), broker: None });
        status.serves(generation());
        let address = start(&status, Some("open sesame")).await;
        for (authorization, expected) in
            [(None, 401), (Some("Bearer open"), 401), (Some("open sesame"), 401), (Some("Bearer open sesame"), 200)]
        {
            let (code, _) = get(address, "/api/v1/generation", authorization).await;
            assert_eq!(code, expected, "{authorization:?}");
        }
        assert_eq!(get(address, "/healthz", None).await.0, 200);
    }
}
