//! What a call of a plugin costs: CPU time for one event, by the size of a batch, through a worker. To be run by hand:
//! `cargo run --profile PROFILE -p midplane-tests --example plugin_call [PLUGIN]`, after `cargo xtask plugins`. Asserts nothing.

use std::hint::black_box;

use midplane::config::model::{Grants, Limits};
use midplane::data::event::{Event, Header, Headers};
use midplane::data::plugin::verdicts::{Verdict, Verdicts};
use midplane::data::plugin::{Call, Runtime, RuntimeOptions, Spec, Worker};
use midplane_tests::plugins::wasm;

#[expect(clippy::print_stdout, reason = "it is a program for the terminal")]
fn main() {
    let name = std::env::args().nth(1).unwrap_or_else(|| "identity".to_owned());
    let runtime = Runtime::new(RuntimeOptions::default()).expect("a runtime");
    let bytes = std::fs::read(wasm(&name)).expect("a built plugin");
    let plugin = runtime.load(&name, &bytes, Limits::DEFAULT).expect("a plugin");
    println!("{name}: {:?}, ports {:?}", plugin.kind, plugin.ports);
    let prepared = plugin.prepare(Spec {
        config: serde_json::json!({}),
        bound_ports: plugin.ports.clone(),
        limits: Limits::DEFAULT,
        grants: Grants::default(),
        route: "bench".to_owned(),
    });
    let headers = [Header { name: b"trace", value: Some(b"0123456789abcdef") }];
    for (bytes, headers) in [(100, &headers[..0]), (100, &headers[..]), (1024, &headers[..0])] {
        for batch in [1, 16, 256] {
            let nanos = (0..15).map(|_| measure(&prepared, bytes, headers, batch)).fold(f64::INFINITY, f64::min);
            println!("{bytes:>5} B, {} headers, batches of {batch:>3}: {nanos:7.1} ns an event", headers.len());
        }
    }
}

/// Nanoseconds for one event: the best of several rounds is the machine's least disturbed.
fn measure(
    prepared: &std::sync::Arc<midplane::data::plugin::Prepared>,
    bytes: usize,
    headers: &[Header<'_>],
    batch: usize,
) -> f64 {
    let value = vec![b'x'; bytes];
    let event = |offset| Event {
        topic: "payments",
        partition: 0,
        offset,
        timestamp: 1_700_000_000_000,
        key: Some(b"0123456789abcdef"),
        value: Some(&value),
        headers: if headers.is_empty() { Headers::Empty } else { Headers::Slice(headers) },
    };
    let events = (0..batch as i64).map(event).collect::<Vec<_>>();
    let call = Call { route: "bench", generation: 1, attempt: 1 };
    let mut worker = Worker::new(prepared.clone());
    let mut verdicts = Verdicts::default();
    for _ in 0..50 {
        worker.run(&call, &events, events.len(), &mut verdicts, &mut || {});
    }
    let rounds = 20_000 / batch;
    let started = cpu_time::ThreadTime::now();
    for _ in 0..rounds {
        worker.run(&call, &events, events.len(), &mut verdicts, &mut || {});
        assert!(matches!(black_box(verdicts.get(batch - 1)), Verdict::Outputs([_])));
    }
    started.elapsed().as_nanos() as f64 / (rounds * batch) as f64
}
