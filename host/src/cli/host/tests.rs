//! The client against the surface of a real host, whose orders are answered here.

use clap::Parser;

use super::super::Exit;
use super::super::testing::{self, Surface};
use super::*;
use crate::control::order::{Order, Refusal, RefusalKind};
use crate::control::overview::Overview;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    order: OrderArgs,
}

/// A client as the command line makes one.
fn client(surface: &Surface, args: &[&str]) -> Client {
    let config = surface.config();
    let config = config.to_str().expect("a path in UTF-8");
    let args = [&["midplane", "--config", config], args].concat();
    Args::try_parse_from(args).unwrap_or_else(|error| panic!("{error}")).order.host.client().expect("a client")
}

fn done() -> Done {
    Done { generation: 8, changed: true, message: "the plugin `mask` is pinned".to_owned() }
}

const NOW: Duration = Duration::from_secs(60);

#[test]
fn an_overview_is_read_as_it_was_written() {
    let surface = Surface::start(|order| panic!("{order:?}"));
    surface.serves();
    let (address, overview): (_, Overview) = client(&surface, &[]).get("/api/v1/overview").expect("an overview");
    assert_eq!((address, overview), (surface.address.to_string(), testing::overview()));
}

#[test]
fn a_host_is_found_by_its_file_by_its_config_or_by_name() {
    let surface = Surface::start(|order| panic!("{order:?}"));
    surface.serves();
    let finds = |args: &[&str]| client(&surface, args).get::<Overview>("/api/v1/overview").map(|(address, _)| address);
    let address = surface.address.to_string();
    assert_eq!(finds(&[]).expect("by the config"), address);
    surface.write("127.0.0.1:0", "");
    let failure = finds(&["--timeout", "1ms"]).expect_err("nobody says where");
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(
        failure.message.starts_with("no host runs: the config gives its admin surface any free port"),
        "{failure:?}"
    );
    assert_eq!(finds(&["--admin", &address]).expect("by name"), address);
    let file = address::admin_file(&surface.folder().join("midplane-data"));
    let published = address::Published::new(file.clone(), &address).expect("writable");
    assert_eq!(finds(&[]).expect("by its file"), address);
    drop(published);
    let _stale = address::Published::new(file, "127.0.0.1:1").expect("writable");
    surface.write(&address, "");
    assert_eq!(finds(&[]).expect("past the file of a host that crashed"), address);
}

#[test]
fn a_host_is_found_though_its_config_is_broken() {
    let surface = Surface::start(|_| Ok(done()));
    surface.write(&surface.address.to_string(), "[routes.a]\nfrm = \"in\"\n");
    assert_eq!(client(&surface, &[]).order("/api/v1/reload", &serde_json::json!({}), NOW).expect("done"), done());
}

#[test]
fn a_host_that_is_about_to_serve_is_waited_for() {
    let surface = Surface::start(|order| panic!("{order:?}"));
    let late = client(&surface, &["--timeout", "1ms"]).get::<Overview>("/api/v1/overview").expect_err("not yet");
    assert_eq!((late.exit, late.message.as_str()), (Exit::Unreachable, "no generation serves yet"));
    let probe: crate::control::admin::Probe = client(&surface, &[]).probe("/readyz").expect("an answer").1;
    assert!(!probe.ok);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| client(&surface, &["--timeout", "60s"]).get::<Overview>("/api/v1/overview"));
        surface.serves();
        assert!(waits.join().expect("no panic").is_ok());
    });
}

#[test]
fn refusals_have_the_exit_code_of_their_kind() {
    for (kind, exit) in [
        (RefusalKind::Refused, Exit::Refused),
        (RefusalKind::Unknown, Exit::Refused),
        (RefusalKind::Conflict, Exit::Refused),
        (RefusalKind::Unanswered, Exit::Unreachable),
        (RefusalKind::Stopping, Exit::Unreachable),
    ] {
        let surface = Surface::start(move |_| Err(Refusal::new(kind, "the reason")));
        let failure = client(&surface, &[]).order("/api/v1/resume", &serde_json::json!({}), NOW).expect_err("refused");
        assert_eq!((failure.exit, failure.message.as_str()), (exit, "the reason"));
    }
}

#[test]
fn an_order_carries_its_particulars() {
    let surface = Surface::start(|order| match order {
        Order::Pin { plugin, version: None } if plugin == "a/b c" => Ok(done()),
        order => panic!("{order:?}"),
    });
    let path = format!("/api/v1/plugins/{}/pin", encoded("a/b c"));
    assert_eq!(client(&surface, &[]).order(&path, &serde_json::json!({ "version": null }), NOW).expect("done"), done());
}

#[test]
fn what_is_no_answer_is_a_failure_with_what_to_do() {
    let surface = Surface::start(|_| Ok(done()));
    let order = |path: &str| client(&surface, &[]).order(path, &serde_json::json!({}), NOW).expect_err("no answer");
    let unknown = order("/api/v1/unheard-of");
    assert_eq!(unknown.exit, Exit::Failed);
    assert!(unknown.message.ends_with("answers 404 Not Found; is it a host of this version?"), "{unknown:?}");
    std::fs::write(surface.folder().join("token"), "open barley").expect("writable");
    let closed = order("/api/v1/reload");
    assert_eq!(closed.exit, Exit::Failed);
    assert!(closed.message.contains("with the token of `token_file`"), "{closed:?}");
}

#[test]
fn nobody_and_silence_end_with_4_or_say_that_it_goes_on() {
    let surface = Surface::start(|_| Ok(done()));
    surface.write("127.0.0.1:1", "");
    let failure = client(&surface, &["--timeout", "1ms"]).get::<Overview>("/api/v1/overview").expect_err("nobody");
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(failure.message.starts_with("no answer from the host at `127.0.0.1:1` within 1ms: "), "{failure:?}");
    // It takes the connection, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    surface.write(&silent.local_addr().expect("an address").to_string(), "");
    let silent = client(&surface, &["--timeout", "1ms"]);
    let failure = silent.get::<Overview>("/api/v1/overview").expect_err("silence");
    assert_eq!((failure.exit, failure.message.as_str()), (Exit::Unreachable, "no answer within 1ms"));
    let failure =
        silent.order("/api/v1/reload", &serde_json::json!({}), Duration::from_millis(1)).expect_err("silence");
    assert_eq!(failure.exit, Exit::Failed);
    assert!(failure.message.contains("goes on with it"), "{failure:?}");
}
