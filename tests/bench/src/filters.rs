//! What filters cost for each event, in nanoseconds. They run in this process: neither a broker nor a plugin is part of it.

use std::hint::black_box;
use std::time::Instant;

use midplane::data::event::{Event, Header, Headers};
use midplane::data::filter::{Filter, Scratch};

use crate::Failure;

const PAYMENT: &[u8] = br#"{"id":"pay_01J9ZK5V7Q3M8","created":"2026-01-14T09:26:53.589Z","amount":1249.5,"currency":"EUR","card":{"brand":"visa","last4":"4242","country":"DE"},"merchant":{"id":"m_7731","name":"B\u00e4ckerei Sommer","category":5462},"customer":{"id":"c_102938","email":"ada@example.org","new":false},"channel":"web","attempts":1}"#;
const EVENTS: u32 = 1_000_000;
const ROUNDS: u32 = 5;

/// Prints what each filter costs: the best of some rounds, since a busy machine only ever adds.
pub(crate) fn run() -> Result<(), Failure> {
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
    println!("\nA payment of {} B, {EVENTS} times, best of {ROUNDS} rounds:\n", PAYMENT.len());
    println!("| filter | ns an event |\n|---|---|");
    for source in [
        "event.partition == 0",
        "event.headers['ce_type'] == 'payment.captured'",
        "event.json.amount >= 1000",
        "event.json.amount >= 1000 && event.headers['ce_type'] == 'payment.captured'",
        "event.json.card.country in ['DE', 'FR', 'IT'] && event.json.amount > 100 && !event.json.customer.new",
        "event.text.contains('visa')",
    ] {
        // In a table, a bar would end the cell; no filter here has one.
        println!("| `{source}` | {:.0} |", cost(&[compile(source)?], &event));
    }
    let ten =
        (0..10).map(|least| compile(&format!("event.json.amount >= {least}000"))).collect::<Result<Vec<_>, _>>()?;
    println!("| ten filters over one field | {:.0} |", cost(&ten, &event));
    Ok(())
}

fn compile(source: &str) -> Result<Filter, Failure> {
    Filter::compile(source).map_err(|problems| format!("the filter `{source}` doesn't compile: {problems:?}").into())
}

/// Nanoseconds for all of the filters on one event.
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
    (0..ROUNDS).map(|_| round(&mut scratch)).fold(f64::INFINITY, f64::min)
}
