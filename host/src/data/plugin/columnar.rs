//! The columnar interface: a batch crosses into the guest in two lists, and its outputs come back through an import that
//! reads them where they lie in the guest's memory and copies them once.
//!
//! `plugin-sdk/wit/plugin.wit` says what the columns mean. Whatever breaks that is a fault of the plugin, and whatever is only
//! one event's fault (its port, its size) fails that event alone.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift, Linker, WasmList, WasmStr};
use wasmtime::{Store, StoreContextMut};

use super::bindings::columnar::exports::midplane::plugin::batch_processor::{Batch, Guest};
use super::bindings::typed::midplane::plugin::types::Context;
use super::instance::{CallError, Ports};
use super::journal::clip;
use super::state::{MESSAGE_BYTES_MAX, State};
use super::verdicts::{Field, HeaderList, Output, Span, Verdicts};
use crate::config::model::Limits;
use crate::data::event::Event;
use crate::data::failure::{Failure, Kind};

/// Words of an event, in.
const EVENT_WORDS: usize = 8;
/// Words of an output, out.
const OUTPUT_WORDS: usize = 9;
/// In the place of a length.
const NULL: u32 = u32::MAX;
/// In the place of a port: its name follows.
const PORT_BY_NAME: u32 = 0x8000_0000;
/// A batch may hold this much in outputs, or one event's limit where that is more. What holds more runs one by one.
const BATCH_OUTPUT_BYTES_MAX: usize = 32 << 20;
/// A batch may hold so many outputs, or one event's limit where that is more: outputs without a byte take memory, too.
const BATCH_OUTPUTS_MAX: usize = 100_000;

/// Buffers of a batch on its way in, which the next one reuses.
#[derive(Debug, Default)]
pub(super) struct Columns {
    rows: Vec<u32>,
    bytes: Vec<u8>,
}

impl Columns {
    fn encode(&mut self, events: &[Event<'_>]) {
        self.rows.clear();
        self.bytes.clear();
        for event in events {
            let start = self.bytes.len() + event.key.map_or(0, <[u8]>::len) + event.value.map_or(0, <[u8]>::len);
            self.bytes.extend_from_slice(event.key.unwrap_or_default());
            self.bytes.extend_from_slice(event.value.unwrap_or_default());
            let mut headers = 0;
            for header in event.headers.iter() {
                headers += 1;
                self.bytes.extend_from_slice(&(header.name.len() as u32).to_le_bytes());
                self.bytes.extend_from_slice(&header.value.map_or(NULL, |value| value.len() as u32).to_le_bytes());
                self.bytes.extend_from_slice(header.name);
                self.bytes.extend_from_slice(header.value.unwrap_or_default());
            }
            let (offset, timestamp) = (event.offset as u64, event.timestamp as u64);
            self.rows.extend_from_slice(&[
                offset as u32,
                (offset >> 32) as u32,
                timestamp as u32,
                (timestamp >> 32) as u32,
                event.key.map_or(NULL, |key| key.len() as u32),
                event.value.map_or(NULL, |value| value.len() as u32),
                headers,
                (self.bytes.len() - start) as u32,
            ]);
        }
    }
}

/// Calls `process`. The verdicts gain one for each event, or they stay as they were.
pub(super) fn process(
    store: &mut Store<State>,
    guest: &Guest,
    context: Context<'_>,
    events: &[Event<'_>],
    columns: &mut Columns,
    verdicts: &mut Verdicts,
) -> Result<(), CallError> {
    columns.encode(events);
    let mut results = match store.data_mut().spare_results.take() {
        Some(results) => results,
        None => return Err(CallError::Trapped(Failure::new(Kind::Trap, "the instance is not bound to ports"))),
    };
    results.begin(std::mem::take(verdicts), &columns.rows);
    let mark = results.verdicts.mark();
    store.data_mut().results = Some(results);

    let first = &events[0];
    let batch = Batch { topic: first.topic, partition: first.partition, rows: &columns.rows, bytes: &columns.bytes };
    let outcome = guest.call_process(&mut *store, context, batch);

    let Some(mut results) = store.data_mut().results.take() else {
        unreachable!("the imports put the results back, whatever they find")
    };
    let outcome = match outcome {
        Ok(answered) if answered as usize == events.len() => {
            results.finish();
            Ok(())
        }
        Ok(answered) => Err(CallError::Miscounted(Failure::new(
            Kind::Protocol,
            format!("the plugin answered {answered} events of {}", events.len()),
        ))),
        Err(error) => Err(CallError::Trapped(store.data_mut().explain(&error))),
    };
    *verdicts = std::mem::take(&mut results.verdicts);
    if outcome.is_err() {
        verdicts.rewind(mark);
    }
    store.data_mut().spare_results = Some(results);
    outcome
}

/// What the imports gather while `process` runs.
pub(super) struct Results {
    verdicts: Verdicts,
    ports: Arc<Ports>,
    limits: Limits,
    /// Lengths of what each event of the batch inherits: key, value, headers.
    inherited: Vec<[u32; 3]>,
    /// Answers before this batch.
    answered: usize,
    /// Bytes of outputs before this batch.
    bytes_before: usize,
    /// Outputs before this batch.
    outputs_before: u32,
    /// The event whose outputs are being taken.
    current: usize,
    first_output: u32,
    output_bytes: usize,
    refused: Option<Failure>,
    /// What the plugin says has failed. The first word counts.
    failed: Vec<(u32, Failure)>,
}

impl Results {
    pub(super) fn new(ports: Arc<Ports>, limits: Limits) -> Self {
        Self {
            verdicts: Verdicts::default(),
            ports,
            limits,
            inherited: Vec::new(),
            answered: 0,
            bytes_before: 0,
            outputs_before: 0,
            current: 0,
            first_output: 0,
            output_bytes: 0,
            refused: None,
            failed: Vec::new(),
        }
    }

    fn begin(&mut self, verdicts: Verdicts, rows: &[u32]) {
        let length = |word: u32| if word == NULL { 0 } else { word };
        self.inherited.clear();
        self.inherited.extend(rows.chunks_exact(EVENT_WORDS).map(|row| [length(row[4]), length(row[5]), row[7]]));
        self.answered = verdicts.len();
        self.bytes_before = verdicts.bytes_len();
        self.outputs_before = verdicts.outputs_len();
        self.first_output = self.outputs_before;
        (self.current, self.output_bytes, self.refused) = (0, 0, None);
        self.failed.clear();
        self.verdicts = verdicts;
    }

    /// Answers the current event, and turns to the next.
    fn close(&mut self) {
        match self.refused.take() {
            Some(failure) => self.verdicts.fail(self.first_output, failure),
            None => self.verdicts.answer(self.first_output),
        }
        self.first_output = self.verdicts.outputs_len();
        self.output_bytes = 0;
        self.current += 1;
    }

    /// Answers the rest, and lets the plugin's own failures overrule.
    fn finish(&mut self) {
        while self.current < self.inherited.len() {
            self.close();
        }
        for (event, failure) in self.failed.drain(..).rev() {
            self.verdicts.overrule(self.answered + event as usize, failure);
        }
    }

    /// Takes the outputs of one call. The bytes are copied whole, once.
    fn push(&mut self, rows: &[u32], bytes: &[u8]) -> Result<(), Failure> {
        if !rows.len().is_multiple_of(OUTPUT_WORDS) {
            let message = format!("`push` got {} words, which is not a multiple of {OUTPUT_WORDS}", rows.len());
            return Err(Failure::new(Kind::Protocol, message));
        }
        let batch_max = if self.inherited.len() == 1 { 0 } else { BATCH_OUTPUT_BYTES_MAX };
        // Names of ports and lengths of headers are bytes, too.
        let overhead = rows.len().saturating_mul(64);
        let max = self.limits.output_bytes.max(batch_max).saturating_add(overhead);
        if self.verdicts.bytes_len() - self.bytes_before + bytes.len() > max.min(u32::MAX as usize / 2) {
            return Err(self.too_many_bytes());
        }
        let outputs = (self.verdicts.outputs_len() - self.outputs_before) as usize + rows.len() / OUTPUT_WORDS;
        if outputs > self.limits.outputs.max(BATCH_OUTPUTS_MAX) {
            return Err(too_many_outputs(self.limits.outputs));
        }
        let mut cursor = Cursor { bytes, at: 0, base: self.verdicts.push_bytes(bytes).start };
        let (rows, _) = rows.as_chunks::<OUTPUT_WORDS>();
        for row in rows {
            self.output(row, &mut cursor)?;
        }
        if cursor.at != bytes.len() {
            let message = format!("the rows name {} bytes, `push` got {}", cursor.at, bytes.len());
            return Err(Failure::new(Kind::Protocol, message));
        }
        Ok(())
    }

    fn output(&mut self, row: &[u32; OUTPUT_WORDS], cursor: &mut Cursor<'_>) -> Result<(), Failure> {
        let row = row.map(u32::from_le);
        let [event, flags, port, key, value, headers, ..] = row;
        let event = event as usize;
        if event < self.current || event >= self.inherited.len() {
            let (current, events) = (self.current, self.inherited.len());
            let message = format!("a row names event {event}, expected {current} or more, of {events}");
            return Err(Failure::new(Kind::Protocol, message));
        }
        while self.current < event {
            self.close();
        }
        check_flags(&row)?;
        let inherited = self.inherited[event];
        let port = cursor.port(port, &self.ports)?;
        let (key, key_bytes) = cursor.field(flags & 3, key, inherited[0])?;
        let (value, value_bytes) = cursor.field(flags >> 2 & 3, value, inherited[1])?;
        let before = self.verdicts.headers_len();
        let (headers, header_bytes) = match flags >> 4 & 3 {
            0 => (HeaderList::Inherited, inherited[2] as usize),
            1 => (HeaderList::List(before..before), 0),
            _ => {
                let bytes = cursor.headers(headers, &mut self.verdicts)?;
                (HeaderList::List(before..self.verdicts.headers_len()), bytes)
            }
        };
        if self.refused.is_some() {
            return Ok(());
        }
        self.output_bytes += key_bytes + value_bytes + header_bytes;
        if self.output_bytes > self.limits.output_bytes {
            self.refused = Some(self.too_many_bytes());
        } else if (self.verdicts.outputs_len() - self.first_output) as usize >= self.limits.outputs {
            self.refused = Some(too_many_outputs(self.limits.outputs));
        } else {
            match port {
                Ok(port) => self.verdicts.push_output(Output {
                    port,
                    key,
                    value,
                    headers,
                    timestamp: (flags & 1 << 6 != 0).then_some((u64::from(row[7]) << 32 | u64::from(row[6])) as i64),
                    partition: (flags & 1 << 7 != 0).then_some(row[8]),
                }),
                Err(failure) => self.refused = Some(failure),
            }
        }
        Ok(())
    }

    fn too_many_bytes(&self) -> Failure {
        too_many_bytes(self.limits.output_bytes)
    }

    fn fail(&mut self, event: u32, failure: Failure) -> Result<(), Failure> {
        if event as usize >= self.inherited.len() {
            let message = format!("`fail` names event {event} of {}", self.inherited.len());
            return Err(Failure::new(Kind::Protocol, message));
        }
        if self.failed.len() > 2 * self.inherited.len() {
            return Err(Failure::new(Kind::Protocol, "`fail` is called more often than there are events"));
        }
        self.failed.push((event, failure));
        Ok(())
    }
}

/// Whether the flags of a row are known, and what they say isn't there is 0.
fn check_flags(row: &[u32; OUTPUT_WORDS]) -> Result<(), Failure> {
    let flags = row[1];
    let given = |shift: u32| flags >> shift & 3 == 2;
    let is_known = flags >> 8 == 0 && [0, 2, 4].iter().all(|shift| flags >> shift & 3 != 3);
    let is_clean = (given(0) || row[3] == 0)
        && (given(2) || row[4] == 0)
        && (given(4) || row[5] == 0)
        && (flags & 1 << 6 != 0 || (row[6], row[7]) == (0, 0))
        && (flags & 1 << 7 != 0 || row[8] == 0);
    if is_known && is_clean {
        return Ok(());
    }
    let what = if is_known { "gives what its flags don't announce" } else { "has unknown flags" };
    Err(Failure::new(Kind::Protocol, format!("a row {what}: `{flags:#010b}`")))
}

/// An event's outputs exceed their limit in bytes.
pub(super) fn too_many_bytes(limit: usize) -> Failure {
    Failure::new(Kind::Output, format!("the outputs of one event exceed the limit `output` of {limit} bytes"))
}

/// An event's outputs exceed their limit in number.
pub(super) fn too_many_outputs(limit: usize) -> Failure {
    Failure::new(Kind::Output, format!("one event has more outputs than the limit `outputs` of {limit}"))
}

/// Reads what the rows name, one after the other.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the bytes begin in those of the verdicts.
    base: u32,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, length: u32) -> Result<(&'a [u8], Span), Failure> {
        let Some(bytes) = self.bytes[self.at..].get(..length as usize) else {
            let message = format!("a row names {length} bytes where {} are left", self.bytes.len() - self.at);
            return Err(Failure::new(Kind::Protocol, message));
        };
        let span = Span { start: self.base + self.at as u32, length };
        self.at += length as usize;
        Ok((bytes, span))
    }

    fn word(&mut self) -> Result<u32, Failure> {
        let (bytes, _) = self.take(4)?;
        Ok(bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
    }

    /// The port, or why the event that names it fails.
    fn port(&mut self, word: u32, ports: &Ports) -> Result<Result<u16, Failure>, Failure> {
        if word & PORT_BY_NAME == 0 {
            return Ok(ports.at(word));
        }
        let (name, _) = self.take(word & !PORT_BY_NAME)?;
        Ok(ports.named(&String::from_utf8_lossy(name)))
    }

    fn field(&mut self, how: u32, length: u32, inherited: u32) -> Result<(Field, usize), Failure> {
        match how {
            0 => Ok((Field::Inherited, inherited as usize)),
            1 => Ok((Field::Null, 0)),
            _ => Ok((Field::Bytes(self.take(length)?.1), length as usize)),
        }
    }

    /// Adds the headers that follow; their bytes are what comes back.
    fn headers(&mut self, count: u32, verdicts: &mut Verdicts) -> Result<usize, Failure> {
        let mut bytes = 0;
        for _ in 0..count {
            let (name_length, value_length) = (self.word()?, self.word()?);
            let (_, name) = self.take(name_length)?;
            let value = if value_length == NULL { None } else { Some(self.take(value_length)?.1) };
            bytes += name.length as usize + value.map_or(0, |value| value.length as usize);
            verdicts.push_header(name, value);
        }
        Ok(bytes)
    }
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum GuestFailure {
    #[component(name = "transient")]
    Transient(WasmStr),
    #[component(name = "permanent")]
    Permanent(WasmStr),
}

/// Adds the interface `results`.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut results = linker.instance("midplane:plugin/results@0.1.0")?;
    results.func_wrap("push", |mut store: StoreContextMut<'_, State>, lists: (WasmList<u32>, WasmList<u8>)| {
        let (rows, bytes) = lists;
        with_results(&mut store, "push", |store, results| {
            results.push(rows.as_le_slice(store), bytes.as_le_slice(store))
        })
    })?;
    results.func_wrap("fail", |mut store: StoreContextMut<'_, State>, (event, failure): (u32, GuestFailure)| {
        let (kind, message) = match failure {
            GuestFailure::Transient(message) => (Kind::Transient, message),
            GuestFailure::Permanent(message) => (Kind::Permanent, message),
        };
        let message = clip(&message.to_str(&store)?, MESSAGE_BYTES_MAX).to_owned();
        with_results(&mut store, "fail", |_, results| results.fail(event, Failure::new(kind, message)))
    })
}

/// Runs a piece of an import while the results are out of the store, so that both can be borrowed.
fn with_results(
    store: &mut StoreContextMut<'_, State>,
    import: &str,
    work: impl FnOnce(&StoreContextMut<'_, State>, &mut Results) -> Result<(), Failure>,
) -> wasmtime::Result<()> {
    let Some(mut results) = store.data_mut().results.take() else {
        let message = format!("`results.{import}` was called outside of `process`");
        return Err(store.data_mut().fault(Failure::new(Kind::Protocol, message)));
    };
    let outcome = work(store, &mut results);
    let state = store.data_mut();
    state.results = Some(results);
    outcome.map_err(|failure| state.fault(failure))
}
