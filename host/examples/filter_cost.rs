//! What filters cost for each event, in nanoseconds, to be run by hand: `cargo run --release --example filter_cost`.

#![expect(clippy::print_stdout, reason = "a measurement prints its result")]

use std::hint::black_box;
use std::time::Instant;

use midplane::data::event::{Event, Header, Headers};
use midplane::data::filter::{Filter, Scratch};

const PAYMENT: &[u8] = br#"{"id":"pay_01J9ZK5V7Q3M8","created":"2026-01-14T09:26:53.589Z","amount":1249.5,"currency":"EUR","card":{"brand":"visa","last4":"4242","country":"DE"},"merchant":{"id":"m_7731","name":"B\u00e4ckerei Sommer","category":5462},"customer":{"id":"c_102938","email":"ada@example.org","new":false},"channel":"web","attempts":1}"#;
const EVENTS: u32 = 1_000_000;

fn main() {
    let headers = [Header { name: b"ce_type", value: Some(b"payment.captured") }];
    let event = Event {
        topic: "payments",
        partition: 0,
        offset: 1,
        timestamp: 1_768_382_813_589,
        key: Some(b"c_102938"),
        value: Some(PAYMENT),
        headers: Headers::Slice(&headers),
    };
    println!("a payment of {} bytes, {EVENTS} times", PAYMENT.len());
    for source in [
        "event.partition == 0",
        "event.headers['ce_type'] == 'payment.captured'",
        "event.json.amount >= 1000",
        "event.json.amount >= 1000 && event.headers['ce_type'] == 'payment.captured'",
        "event.json.card.country in ['DE', 'FR', 'IT'] && event.json.amount > 100 && !event.json.customer.new",
        "event.text.contains('visa')",
    ] {
        let Ok(filter) = Filter::compile(source) else {
            println!("`{source}` doesn't compile");
            continue;
        };
        let filters = [filter];
        println!("{:6.0} ns  {source}", cost(&filters, &event));
    }
    let ten: Vec<Filter> =
        (0..10).filter_map(|least| Filter::compile(&format!("event.json.amount >= {least}000")).ok()).collect();
    println!("{:6.0} ns  ten filters over one field", cost(&ten, &event));
}

/// Nanoseconds for all of the filters on one event: the best of five rounds.
fn cost(filters: &[Filter], event: &Event<'_>) -> f64 {
    let mut scratch = Scratch::default();
    let round = |scratch: &mut Scratch| {
        let start = Instant::now();
        for _ in 0..EVENTS {
            scratch.next_event();
            for filter in filters {
                black_box(filter.evaluate(black_box(event), scratch));
            }
        }
        start.elapsed().as_nanos() as f64 / f64::from(EVENTS)
    };
    (0..5).map(|_| round(&mut scratch)).fold(f64::INFINITY, f64::min)
}
