//! The surface as a client sees it, over a socket.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::model::Secret;
use crate::control::config_view::ConfigView;
use crate::control::hands::Target;
use crate::control::order::{self, Done, Order, Refusal, RefusalKind};
use crate::control::overview::Overview;
use crate::control::status::{Generation, Listen, Plugin};
use crate::data::shard::{Health, Wish};

/// The status line's code and the body of one answer.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("the admin surface answers");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    (code, body.to_owned())
}

async fn get(address: SocketAddr, path: &str, authorization: Option<&str>) -> (u16, String) {
    let headers = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    ask(address, "GET", path, &headers, "").await
}

async fn start(status: &Status, token: Option<&str>) -> SocketAddr {
    let (orders, _) = order::channel();
    start_with(status, token, orders).await
}

async fn start_with(status: &Status, token: Option<&str>, orders: Orders) -> SocketAddr {
    let admin = Admin::bind("127.0.0.1:0".parse().expect("an address")).await.expect("a free port");
    let address = admin.address();
    let access = Access::new(token.map(|token| Secret(token.to_owned())).as_ref());
    tokio::spawn(admin.serve(status.clone(), access, orders, std::future::pending()));
    address
}

fn status() -> Status {
    Status::new(Listen { admin: "127.0.0.1:8090".into(), broker: Some("127.0.0.1:9092".into()) })
}

/// A surface whose orders are taken by this test: each is answered with its own words.
async fn start_answered(answer: impl Fn(&Order) -> Result<(), Refusal> + Send + 'static) -> SocketAddr {
    let (orders, mut receiver) = order::channel();
    tokio::spawn(async move {
        while let Some(order::Request { order, reply }) = receiver.recv().await {
            let done = Done { generation: 4, changed: true, message: format!("{order:?}") };
            reply.send(answer(&order).map(|()| done)).expect("somebody waits");
        }
    });
    start_with(&status(), None, orders).await
}

fn generation() -> Generation {
    Generation {
        number: 3,
        hash: "aa".repeat(32),
        config_sha256: "bb".repeat(32),
        plugins: [(
            "fraud-score".to_owned(),
            Plugin { sha256: "cc".repeat(32), bytes: 18_432, loaded_at: jiff::Timestamp::UNIX_EPOCH, candidate: None },
        )]
        .into(),
    }
}

#[tokio::test]
async fn a_generation_is_reported_as_the_contract_says() {
    let status = status();
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
            "last_trial": null,
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

#[tokio::test]
async fn an_overview_is_there_once_a_generation_serves() {
    let status = status();
    let address = start(&status, None).await;
    assert_eq!(get(address, "/api/v1/overview", None).await.0, 503);
    let overview = Overview {
        generation: 3,
        hash: "aa".repeat(32),
        config_sha256: "bb".repeat(32),
        config_file: "midplane.toml".to_owned(),
        published_at: "2026-01-01T00:00:00Z".to_owned(),
        instance: "host-7".to_owned(),
        held: None,
        drift: vec!["plugin `mask` has another version in the directory".to_owned()],
        plugins: Vec::new(),
        groups: Vec::new(),
        history: Vec::new(),
        config: ConfigView::default(),
    };
    status.overview(Arc::new(overview.clone()));
    let (code, body) = get(address, "/api/v1/overview", None).await;
    assert_eq!(code, 200);
    assert_eq!(serde_json::from_str::<Overview>(&body).expect("an overview"), overview);
}

#[tokio::test]
async fn every_order_has_its_path() {
    let address = start_answered(|_| Ok(())).await;
    let pin = |version| Order::Pin { plugin: "a b".to_owned(), version };
    let to = |to| Order::RollbackPlugin { plugin: "mask".to_owned(), to };
    let wish = |group: Option<&str>, wish| {
        let target = Target { topic: "in".to_owned(), partition: 3, group: group.map(str::to_owned) };
        Order::Partition { target, wish }
    };
    for (path, body, expected) in [
        ("reload", "", Order::Reload),
        ("reload", "{}", Order::Reload),
        ("rollback", "", Order::Rollback { to: None }),
        ("rollback", r#"{"generation": null}"#, Order::Rollback { to: None }),
        ("rollback", r#"{"generation": 3}"#, Order::Rollback { to: Some(3) }),
        ("resume", "", Order::Resume),
        ("plugins/a%20b/pin", r#"{"version": "AB12cd"}"#, pin(Some("ab12cd".to_owned()))),
        ("plugins/a%20b/pin", "", pin(None)),
        ("plugins/mask/unpin", "", Order::Unpin { plugin: "mask".to_owned() }),
        ("plugins/mask/rollback", r#"{"version": null}"#, to(None)),
        ("plugins/mask/rollback", r#"{"version": "00ff"}"#, to(Some("00ff".to_owned()))),
        ("plugins/mask/promote", "", Order::Promote { plugin: "mask".to_owned() }),
        ("plugins/mask/abort", "", Order::Abort { plugin: "mask".to_owned() }),
        ("routes/a%20b/pause", "", Order::PauseRoute { route: "a b".to_owned() }),
        ("routes/large/resume", "{}", Order::ResumeRoute { route: "large".to_owned() }),
        ("partitions/in/3/resume", "", wish(None, Wish::Again)),
        ("partitions/in/3/skip", "", wish(None, Wish::Skip { at: None, to: None })),
        ("partitions/in/3/skip", r#"{"group": "g", "to": 9}"#, wish(Some("g"), Wish::Skip { at: None, to: Some(9) })),
    ] {
        let (code, body) = ask(address, "POST", &format!("/api/v1/{path}"), "", body).await;
        assert_eq!(code, 200, "{path}: {body}");
        let done: Done = serde_json::from_str(&body).expect("what was done");
        assert_eq!(done, Done { generation: 4, changed: true, message: format!("{expected:?}") }, "{path}");
    }
    assert_eq!(get(address, "/api/v1/reload", None).await.0, 405);
}

#[tokio::test]
async fn a_refusal_has_the_code_of_its_kind_and_the_reason() {
    let kinds = [
        (RefusalKind::Refused, 422),
        (RefusalKind::Unknown, 404),
        (RefusalKind::Conflict, 409),
        (RefusalKind::Unanswered, 504),
        (RefusalKind::Stopping, 503),
    ];
    for (kind, expected) in kinds {
        let address = start_answered(move |_| Err(Refusal::new(kind, "the reason"))).await;
        let (code, body) = ask(address, "POST", "/api/v1/reload", "", "").await;
        assert_eq!((code, body.as_str()), (expected, r#"{"error":"the reason"}"#));
    }
}

#[tokio::test]
async fn an_order_that_cannot_be_read_is_not_given() {
    let address = start_answered(|order| panic!("{order:?} was given")).await;
    for (path, body, said) in [
        ("rollback", "3", "the body is not what was expected"),
        ("rollback", r#"{"generation": -1}"#, "the body is not what was expected"),
        ("rollback", r#"{"to": 3}"#, "unknown field `to`"),
        ("reload", r#"{"force": true}"#, "unknown field `force`"),
        ("plugins/mask/pin", r#"{"version": "v2"}"#, "`v2` is no version"),
    ] {
        let (code, answer) = ask(address, "POST", &format!("/api/v1/{path}"), "", body).await;
        assert_eq!(code, 400, "{path} {body}: {answer}");
        assert!(answer.contains(said), "{answer}");
    }
}

#[tokio::test]
async fn orders_are_guarded_like_all_else() {
    let (orders, _receiver) = order::channel();
    let address = start_with(&status(), Some("open sesame"), orders).await;
    assert_eq!(ask(address, "POST", "/api/v1/reload", "", "").await.0, 401);
    let headers = "authorization: Bearer open sesame\r\norigin: https://elsewhere.example\r\n";
    assert_eq!(ask(address, "POST", "/api/v1/reload", headers, "").await.0, 403);
}
