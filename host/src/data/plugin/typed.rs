//! The typed interface: one record an event in, one verdict an event out, in any language that has bindings.

use std::borrow::Cow;

use wasmtime::Store;

use super::bindings::typed::exports::midplane::plugin::processor::Guest;
use super::bindings::typed::midplane::plugin::types::{
    Context, Event as GuestEvent, Failure as GuestFailure, HeaderParam, HeaderResult, Output as GuestOutput,
};
use super::columnar::{too_many_bytes, too_many_outputs};
use super::instance::{CallError, Ports};
use super::journal::clip;
use super::state::{MESSAGE_BYTES_MAX, State};
use super::verdicts::{Field, HeaderList, Output, Verdicts};
use crate::config::model::Limits;
use crate::data::event::{Event, Header};
use crate::data::failure::{Failure, Kind};

/// What a batch may hold in outputs beside one event's limit. What holds more runs one by one.
const BATCH_OUTPUT_BYTES: usize = 32 << 20;
/// What failures may hold in messages, of which only the beginning is kept.
const MESSAGES_BYTES: usize = 16 << 20;
/// What the records of an output and of a header weigh beside their bytes, when the library copies them.
const OUTPUT_BYTES: usize = size_of::<GuestOutput>() + 64;

/// Calls `process`. The verdicts gain one for each event, or they stay as they were.
pub(super) fn process(
    store: &mut Store<State>,
    guest: &Guest,
    context: Context<'_>,
    events: &[Event<'_>],
    (ports, limits): (&Ports, &Limits),
    verdicts: &mut Verdicts,
) -> Result<(), CallError> {
    let names = Names::of(events);
    let headers = names.headers(events);
    let given = give(events, &headers);

    // The library lifts the whole list before we see it, and lists may alias: its fuel is what bounds them.
    let batch = if events.len() == 1 { 0 } else { BATCH_OUTPUT_BYTES };
    let records = limits.outputs.saturating_mul(OUTPUT_BYTES).min(limits.output_bytes.max(BATCH_OUTPUT_BYTES));
    store.set_hostcall_fuel(limits.output_bytes.saturating_add(records + MESSAGES_BYTES + batch));
    let outcome = guest.call_process(&mut *store, context, &given);
    let answers = outcome.map_err(|error| CallError::Trapped(store.data_mut().explain(&error)))?;
    if answers.len() != events.len() {
        let message = format!("the plugin gave {} verdicts for {} events", answers.len(), events.len());
        return Err(CallError::Miscounted(Failure::new(Kind::Protocol, message)));
    }
    for (answer, event) in answers.into_iter().zip(&given) {
        take(answer, event, (ports, limits), verdicts);
    }
    Ok(())
}

/// The names of a batch's headers that aren't UTF-8, with replacement characters.
struct Names(Vec<String>);

impl Names {
    fn of(events: &[Event<'_>]) -> Self {
        let headers = events.iter().flat_map(|event| event.headers.iter());
        Self(
            headers
                .filter_map(|header| match String::from_utf8_lossy(header.name) {
                    Cow::Borrowed(_) => None,
                    Cow::Owned(name) => Some(name),
                })
                .collect(),
        )
    }

    fn headers<'a>(&'a self, events: &[Event<'a>]) -> Vec<HeaderParam<'a>> {
        let mut replaced = self.0.iter();
        let headers = events.iter().flat_map(|event| event.headers.iter());
        headers
            .map(|Header { name, value }| HeaderParam {
                name: std::str::from_utf8(name).unwrap_or_else(|_| replaced.next().map_or("", String::as_str)),
                value,
            })
            .collect()
    }
}

fn give<'a>(events: &[Event<'a>], mut headers: &'a [HeaderParam<'a>]) -> Vec<GuestEvent<'a>> {
    let event = |event: &Event<'a>| {
        let (own, rest) = headers.split_at(event.headers.iter().count());
        headers = rest;
        GuestEvent {
            topic: event.topic,
            partition: event.partition,
            offset: event.offset,
            timestamp: event.timestamp,
            key: event.key,
            value: event.value,
            headers: own,
        }
    };
    events.iter().map(event).collect()
}

/// Turns one verdict into ours.
fn take(
    answer: Result<Vec<GuestOutput>, GuestFailure>,
    event: &GuestEvent<'_>,
    (ports, limits): (&Ports, &Limits),
    verdicts: &mut Verdicts,
) {
    let first_output = verdicts.outputs_len();
    let refused = match answer {
        Ok(outputs) => outputs_of(&outputs, event, (ports, limits), verdicts).err(),
        Err(GuestFailure::Transient(message)) => Some(failure(Kind::Transient, &message)),
        Err(GuestFailure::Permanent(message)) => Some(failure(Kind::Permanent, &message)),
    };
    match refused {
        Some(failure) => verdicts.fail(first_output, failure),
        None => verdicts.answer(first_output),
    }
}

fn failure(kind: Kind, message: &str) -> Failure {
    Failure::new(kind, clip(message, MESSAGE_BYTES_MAX))
}

fn outputs_of(
    outputs: &[GuestOutput],
    event: &GuestEvent<'_>,
    (ports, limits): (&Ports, &Limits),
    verdicts: &mut Verdicts,
) -> Result<(), Failure> {
    if outputs.len() > limits.outputs {
        return Err(too_many_outputs(limits.outputs));
    }
    let bytes = outputs.iter().map(bytes_of).fold(0, usize::saturating_add);
    if bytes > limits.output_bytes {
        return Err(too_many_bytes(limits.output_bytes));
    }
    for output in outputs {
        let port = ports.named(&output.port)?;
        let output = Output {
            port,
            key: field(output.key.as_deref(), event.key, verdicts),
            value: field(output.value.as_deref(), event.value, verdicts),
            headers: headers(&output.headers, event.headers, verdicts),
            timestamp: output.timestamp,
            partition: output.partition,
        };
        verdicts.push_output(output);
    }
    Ok(())
}

fn bytes_of(output: &GuestOutput) -> usize {
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers = output.headers.iter().map(|header| header.name.len() + length(&header.value)).sum::<usize>();
    length(&output.key) + length(&output.value) + headers
}

/// What equals the event's own is the event's own: it isn't copied again.
fn field(bytes: Option<&[u8]>, own: Option<&[u8]>, verdicts: &mut Verdicts) -> Field {
    match bytes {
        _ if bytes == own => Field::Inherited,
        Some(bytes) => Field::Bytes(verdicts.push_bytes(bytes)),
        None => Field::Null,
    }
}

/// Headers that equal what the guest was given are the event's own, byte for byte: also the names that it saw with replacement
/// characters.
fn headers(list: &[HeaderResult], given: &[HeaderParam<'_>], verdicts: &mut Verdicts) -> HeaderList {
    let same = |(header, given): (&HeaderResult, &HeaderParam<'_>)| {
        header.name == given.name && header.value.as_deref() == given.value
    };
    if list.len() == given.len() && list.iter().zip(given).all(same) {
        return HeaderList::Inherited;
    }
    let first = verdicts.headers_len();
    for header in list {
        let name = verdicts.push_bytes(header.name.as_bytes());
        let value = header.value.as_deref().map(|value| verdicts.push_bytes(value));
        verdicts.push_header(name, value);
    }
    HeaderList::List(first..verdicts.headers_len())
}
