//! The plugin itself. The config is searched as text: a parser would be the larger part of the file.

use std::sync::atomic::{AtomicBool, Ordering};

mod bindings {
    wit_bindgen::generate!({ path: "../../../plugin-sdk/wit", world: "plugin" });
}

use bindings::exports::midplane::plugin::processor::{Context, Description, Event, Failure, Guest, Output};
use bindings::midplane::plugin::log::{Level, log};
use bindings::midplane::plugin::types::Header;

const GIANT: usize = 12 << 20;

/// Whether the next event traps.
static POISONED: AtomicBool = AtomicBool::new(false);

struct Component;

impl Guest for Component {
    fn describe() -> Description {
        Description { ports: vec!["default".to_owned(), "spare".to_owned()], config_schema: None }
    }

    fn configure(config: String, _ports: Vec<String>) -> Result<(), String> {
        let told = |what: &str| config.replace(' ', "").contains(&format!(r#""configure":"{what}""#));
        if told("trap") {
            core::arch::wasm32::unreachable();
        }
        if told("loop") {
            endless();
        }
        if told("fail") { Err("told to fail in `configure`".to_owned()) } else { Ok(()) }
    }

    fn process(context: Context, events: Vec<Event>) -> Vec<Result<Vec<Output>, Failure>> {
        let mut verdicts = Vec::with_capacity(events.len());
        let mut wanted = 0;
        for event in events {
            match order(&event).as_str() {
                "verdicts-fewer" => wanted -= 1,
                "verdicts-more" => wanted += 1,
                "verdicts-none" => wanted = isize::MIN,
                _ => (),
            }
            verdicts.push(process(&context, event));
        }
        let wanted = verdicts.len().saturating_add_signed(wanted);
        verdicts.resize_with(wanted, || Ok(Vec::new()));
        verdicts
    }
}

fn order(event: &Event) -> String {
    let text = String::from_utf8_lossy(event.value.as_deref().unwrap_or_default());
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn process(context: &Context, event: Event) -> Result<Vec<Output>, Failure> {
    let order = order(&event);
    if POISONED.swap(order == "poison", Ordering::Relaxed) {
        core::arch::wasm32::unreachable();
    }
    let (order, number) = order.split_once(':').unwrap_or((&order, ""));
    if order == "same" {
        return Ok(vec![Output { key: event.key, value: event.value, headers: event.headers, ..output() }]);
    }
    let mut good = good(event);
    match order {
        "drop" => return Ok(Vec::new()),
        "twice" => return Ok(vec![good.clone(), good]),
        "trap" => core::arch::wasm32::unreachable(),
        "panic" => panic!("told to panic"),
        "loop" => endless(),
        "leak" => {
            std::hint::black_box(Vec::<u8>::with_capacity(1 << 20)).leak();
        }
        "transient" if context.attempt < number.parse().unwrap_or(u32::MAX) => {
            return Err(Failure::Transient(format!("told to fail, attempt {}", context.attempt)));
        }
        "permanent" => return Err(Failure::Permanent("told to fail".to_owned())),
        "failure-bytes" => return Err(Failure::Permanent("x".repeat(GIANT))),
        "giant" => good.value = Some(vec![b'x'; GIANT]),
        "giant-name" => good.headers.push(Header { name: "x".repeat(GIANT), value: None }),
        "aliases" => return Ok(aliases(10_000)),
        "outputs" => return Ok((0..20_000).map(|_| output()).collect()),
        "port-unknown" => good.port = "unheard-of".to_owned(),
        "port-unbound" => good.port = "spare".to_owned(),
        "partition" => good.partition = Some(u32::MAX),
        "log" => (0..1_000_000).for_each(|line| {
            log(Level::Info, "Told to log.", &[("line".to_owned(), line.to_string())]);
        }),
        _ => (),
    }
    Ok(vec![good])
}

fn good(event: Event) -> Output {
    let mut headers = event.headers;
    headers.push(Header { name: "typed".to_owned(), value: Some(b"yes".to_vec()) });
    let value = event.value.map(|value| value.to_ascii_uppercase());
    Output { key: event.key, value, headers, ..output() }
}

/// An output with nothing in it.
fn output() -> Output {
    Output { port: "default".to_owned(), key: None, value: None, headers: Vec::new(), timestamp: None, partition: None }
}

/// Outputs that together are far larger than any memory the guest may have: their values are the same bytes. A host that
/// looks at each on its own sees nothing wrong, and copies them all.
fn aliases(count: usize) -> Vec<Output> {
    let shared: &'static mut [u8] = vec![b'x'; 1 << 20].leak();
    let (start, length) = (shared.as_mut_ptr(), shared.len());
    let alias = |_| {
        // SAFETY: none of these is ever written to. All but one are freed twice, once the host has read them; a host that
        // is worth its name has stopped this instance by then, and else it is the guest's own heap that breaks.
        let value = unsafe { Vec::from_raw_parts(start, length, length) };
        Output { value: Some(value), ..output() }
    };
    (0..count).map(alias).collect()
}

fn endless() -> ! {
    let mut round = 0_u64;
    loop {
        round = std::hint::black_box(round.wrapping_add(1));
    }
}

bindings::export!(Component with_types_in bindings);
