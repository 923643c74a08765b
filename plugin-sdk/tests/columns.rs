//! What crosses between host and plugin arrives as it was sent: any events, any changes in any order, against a model that
//! knows nothing of columns.
use midplane_plugin::test::{Harness, Output, Record, json};
use midplane_plugin::{Emit, Event, Failure, Outputs, Plugin, Ports};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

type Bytes = Vec<u8>;
type Headers = Vec<(Bytes, Option<Bytes>)>;

/// A change to an output; the outputs of one event are lists of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Change {
    Key(Option<Bytes>),
    Value(Option<Bytes>),
    Json(String),
    Header(Bytes, Option<Bytes>),
    WithoutHeader(Bytes),
    NoHeaders,
    Timestamp(i64),
    Partition(u32),
    /// Whatever the event has, read and written again.
    Copy,
}

/// What becomes of an event.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Script {
    /// For each output its port, its changes, and whether it is sent in the end.
    outputs: Vec<(String, Vec<Change>, bool)>,
    fails: bool,
}

/// A plugin that carries out the script of each event, found by its offset.
struct Scripted(Vec<Script>);

impl Plugin for Scripted {
    const PORTS: &'static [&'static str] = &["default", "other"];
    type Config = Vec<Script>;

    fn configure(config: Vec<Script>, _ports: &Ports) -> Result<Self, String> {
        Ok(Self(config))
    }

    fn process(&mut self, event: Event<'_>, out: &mut Outputs<'_>) -> Result<(), Failure> {
        let script = &self.0[event.offset() as usize];
        for (port, changes, sent) in &script.outputs {
            let mut emit = out.emit(port);
            for change in changes {
                emit = carry_out(change, event, emit)?;
            }
            if *sent {
                emit.send();
            }
        }
        if script.fails { Err(Failure::permanent("as scripted")) } else { Ok(()) }
    }
}

fn carry_out<'a>(change: &Change, event: Event<'_>, emit: Emit<'a>) -> Result<Emit<'a>, Failure> {
    Ok(match change {
        Change::Key(Some(key)) => emit.key(key),
        Change::Key(None) => emit.no_key(),
        Change::Value(Some(value)) => emit.value(value),
        Change::Value(None) => emit.no_value(),
        Change::Json(text) => emit.json(text)?,
        Change::Header(name, Some(value)) => emit.header(name, value),
        Change::Header(name, None) => emit.null_header(name),
        Change::WithoutHeader(name) => emit.without_header(name),
        Change::NoHeaders => emit.no_headers(),
        Change::Timestamp(milliseconds) => emit.timestamp(*milliseconds),
        Change::Partition(partition) => emit.partition(*partition),
        Change::Copy => {
            let mut emit = emit.no_headers();
            for header in event.headers() {
                emit = match header.value {
                    Some(value) => emit.header(header.name, value),
                    None => emit.null_header(header.name),
                };
            }
            emit = match event.key() {
                Some(key) => emit.key(key),
                None => emit.no_key(),
            };
            match event.value() {
                Some(value) => emit.value(value),
                None => emit.no_value(),
            }
        }
    })
}

/// What an event's output is before any change.
fn inherited(port: &str, event: &Model) -> Output {
    Output {
        port: port.to_owned(),
        key: event.key.clone(),
        value: event.value.clone(),
        headers: event.headers.clone(),
        timestamp: event.timestamp,
        partition: None,
    }
}

/// What a change does to an output, said plainly.
fn model(change: &Change, event: &Model, output: &mut Output) {
    match change {
        Change::Key(key) => output.key.clone_from(key),
        Change::Value(value) => output.value.clone_from(value),
        Change::Json(text) => output.value = Some(serde_json::to_vec(text).unwrap()),
        Change::Header(name, value) => output.headers.push((name.clone(), value.clone())),
        Change::WithoutHeader(name) => output.headers.retain(|(other, _)| other != name),
        Change::NoHeaders => output.headers.clear(),
        Change::Timestamp(milliseconds) => output.timestamp = *milliseconds,
        Change::Partition(partition) => output.partition = Some(*partition),
        Change::Copy => {
            let Output { timestamp, partition, .. } = *output;
            *output = Output { timestamp, partition, ..inherited(&output.port, event) };
        }
    }
}

/// An event, as data.
#[derive(Debug, Clone)]
struct Model {
    timestamp: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Headers,
}

impl Model {
    fn record(&self, offset: usize) -> Record {
        let mut record = Record::new().offset(offset as i64).timestamp(self.timestamp);
        if let Some(key) = &self.key {
            record = record.key(key);
        }
        if let Some(value) = &self.value {
            record = record.value(value);
        }
        for (name, value) in &self.headers {
            record = match value {
                Some(value) => record.header(name, value),
                None => record.null_header(name),
            };
        }
        record
    }
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..6)
}

/// Few names, so that they repeat; one isn't UTF-8.
fn name() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(b"a".to_vec()), Just(b"trace".to_vec()), Just(vec![0xff]), Just(vec![])]
}

fn event() -> impl Strategy<Value = Model> {
    let headers = vec((name(), option::of(bytes())), 0..4);
    (any::<i64>(), option::of(bytes()), option::of(bytes()), headers)
        .prop_map(|(timestamp, key, value, headers)| Model { timestamp, key, value, headers })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        option::of(bytes()).prop_map(Change::Key),
        option::of(bytes()).prop_map(Change::Value),
        ".{0,8}".prop_map(Change::Json),
        (name(), option::of(bytes())).prop_map(|(name, value)| Change::Header(name, value)),
        name().prop_map(Change::WithoutHeader),
        Just(Change::NoHeaders),
        any::<i64>().prop_map(Change::Timestamp),
        any::<u32>().prop_map(Change::Partition),
        Just(Change::Copy),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let port = prop_oneof![Just("default".to_owned()), Just("other".to_owned())];
    (vec((port, vec(change(), 0..6), prop::bool::weighted(0.9)), 0..4), prop::bool::weighted(0.1))
        .prop_map(|(outputs, fails)| Script { outputs, fails })
}

proptest! {
    #[test]
    fn outputs_are_what_the_changes_say(batch in vec((event(), script()), 0..12)) {
        let scripts: Vec<&Script> = batch.iter().map(|(_, script)| script).collect();
        let mut plugin = Harness::<Scripted>::new(json!(scripts)).unwrap();
        let records = batch.iter().enumerate().map(|(offset, (event, _))| event.record(offset)).collect();
        let answers = plugin.batch(records);
        prop_assert_eq!(answers.len(), batch.len());
        for ((event, script), answer) in batch.iter().zip(answers) {
            if script.fails {
                prop_assert_eq!(answer, Err(Failure::permanent("as scripted")));
                continue;
            }
            let sent = script.outputs.iter().filter(|(_, _, sent)| *sent);
            let expected: Vec<Output> = sent
                .map(|(port, changes, _)| {
                    let mut output = inherited(port, event);
                    changes.iter().for_each(|change| model(change, event, &mut output));
                    output
                })
                .collect();
            prop_assert_eq!(answer, Ok(expected));
        }
    }
}

/// Outputs of more than what crosses at once arrive in order, whatever their size.
#[test]
fn large_answers_cross_in_several_calls() {
    let value = |index: usize| vec![index as u8; index * 97 % 5000];
    let send = |index| ("default".to_owned(), vec![Change::Value(Some(value(index)))], true);
    let script = Script { outputs: (0..3000).map(send).collect(), fails: false };
    let outputs = Harness::<Scripted>::new(json!([script])).unwrap().outputs(Record::new());
    assert_eq!(outputs.len(), 3000);
    for (index, output) in outputs.iter().enumerate() {
        assert_eq!(output.value, Some(value(index)), "output {index}");
    }
}

#[test]
#[should_panic(expected = "port `other` is not bound (bound: default)")]
fn an_unbound_port_fails_the_test() {
    let script = Script { outputs: vec![("other".to_owned(), vec![], true)], fails: false };
    let _ = Harness::<Scripted>::with_ports(json!([script]), &["default"]).unwrap().event(Record::new());
}

#[test]
#[should_panic(expected = "no port `unheard-of` (described: default, other)")]
fn an_unknown_port_fails_the_test() {
    let script = Script { outputs: vec![("unheard-of".to_owned(), vec![], true)], fails: false };
    let _ = Harness::<Scripted>::new(json!([script])).unwrap().event(Record::new());
}
