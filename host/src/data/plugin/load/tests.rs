//! What is refused, and how it reads. Components come from WIT text, with functions that only trap.

use insta::assert_snapshot;
use wit_component::{StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{ManglingAndAbi, Resolve};

use super::super::{Runtime, RuntimeOptions};
use super::*;

/// The interfaces as they are, in whatever version.
fn wit(version: &str) -> String {
    include_str!("../../../../../plugin-sdk/wit/plugin.wit").replace("@0.1.0", version)
}

/// A core module that carries the types of a world, and a body that traps for each function.
fn module(wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = dummy_module(&resolve, world, ManglingAndAbi::Standard32);
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    module
}

/// A component that would be a plugin, but that `describe` traps.
pub(in crate::data::plugin) fn component(world: &str) -> Vec<u8> {
    encode(&module(&wit("@0.1.0"), world)).unwrap()
}

impl Plugin {
    /// A version with these digits and these ports, for tests of whoever keeps plugins and runs none.
    pub(crate) fn stub(runtime: &Runtime, name: &str, digit: u8, ports: &[&str]) -> Arc<Self> {
        let shared = Arc::clone(&runtime.shared);
        let Compiled { kind, imports, pre } = compile(&shared, &component("batch-plugin")).expect("a component");
        let ports = ports.iter().map(|port| (*port).to_owned()).collect();
        let (name, sha256) = (name.into(), [digit; 32]);
        Arc::new(Self { name, sha256, size: 1, ports, config_schema: None, kind, imports, pre, shared })
    }
}

/// The refusal of some bytes, and what to do.
fn refusal(bytes: &[u8]) -> String {
    let error = Runtime::new(RuntimeOptions::default()).unwrap().load("score", bytes, Limits::DEFAULT).unwrap_err();
    let hint = error.hint().map(|hint| format!("\nhint: {hint}"));
    error.to_string() + &hint.unwrap_or_default()
}

/// The refusal of a plugin whose interfaces differ from ours by one edit.
fn refusal_of_edit(world: &str, from: &str, to: &str) -> String {
    let wit = wit("@0.1.0");
    assert!(wit.contains(from), "`{from}` is no longer in the interfaces");
    refusal(&module(&wit.replace(from, to), world))
}

#[test]
fn what_is_not_wasm() {
    assert_snapshot!(refusal(b""), @"
    plugin `score` is not WebAssembly: it is empty
    hint: build for a WebAssembly target: `cargo build --release --target wasm32-unknown-unknown`
    ");
    assert_snapshot!(refusal(b"\0asm"), @"
    plugin `score` is not WebAssembly: it is cut short
    hint: build for a WebAssembly target: `cargo build --release --target wasm32-unknown-unknown`
    ");
    assert_snapshot!(refusal(b"\x7fELF\x02\x01\x01\0"), @"
    plugin `score` is not WebAssembly: it is a program or library for this machine (ELF)
    hint: build for a WebAssembly target: `cargo build --release --target wasm32-unknown-unknown`
    ");
    assert_snapshot!(refusal(b"\n(module)"), @"
    plugin `score` is not WebAssembly: it is WebAssembly in its text form
    hint: turn it into a binary: `wasm-tools parse FILE.wat -o FILE.wasm`
    ");
    assert_snapshot!(refusal(b"PK\x03\x04zip"), @"
    plugin `score` is not WebAssembly: it is a file that begins with `50 4b 03 04`, expected `00 61 73 6d`
    hint: build for a WebAssembly target: `cargo build --release --target wasm32-unknown-unknown`
    ");
    assert_snapshot!(refusal(b"print('hello')"), @"
    plugin `score` is not WebAssembly: it is a file that begins with `70 72 69 6e`, expected `00 61 73 6d`
    hint: build for a WebAssembly target: `cargo build --release --target wasm32-unknown-unknown`
    ");
}

#[test]
fn what_is_not_a_component() {
    assert_snapshot!(refusal(b"\0asm\x01\0\0\0"), @"
    plugin `score` is a core module without the types of its interfaces, expected a component
    hint: export the plugin with the SDK's macro (or any wit-bindgen), and don't strip its custom sections; for other languages: `wasm-tools component embed`, then `wasm-tools component new`
    ");
    let plain = dummy(r#"package a:b; world w { import f: func(); }"#);
    assert_snapshot!(refusal(&plain), @"
    plugin `score` is a core module without the types of its interfaces, expected a component
    hint: export the plugin with the SDK's macro (or any wit-bindgen), and don't strip its custom sections; for other languages: `wasm-tools component embed`, then `wasm-tools component new`
    ");
    let damaged = &component("plugin")[..300];
    assert_snapshot!(refusal(damaged), @"
    plugin `score` is cut short: its file ends before its last section does
    hint: copy it again, whole: to be safe, write it beside its place, and rename it
    ");
}

#[test]
fn what_is_cut_short() {
    for whole in [component("plugin"), module(&wit("@0.1.0"), "plugin")] {
        let cut = (9..whole.len()).filter(|length| super::is_cut_short(&whole[8..*length])).count();
        let ends_of_sections = whole.len() - 9 - cut;
        assert!(ends_of_sections < 40, "{ends_of_sections} of {} lengths pass as whole", whole.len());
        assert!(!super::is_cut_short(&whole[8..]));
    }
}

/// A module without types.
fn dummy(wit: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some("w")).unwrap();
    dummy_module(&resolve, world, ManglingAndAbi::Standard32)
}

#[test]
fn another_version() {
    assert_snapshot!(refusal(&module(&wit("@0.2.0"), "plugin")), @"
    plugin `score` exports `midplane:plugin/processor@0.2.0`, expected `midplane:plugin/processor@0.1.0`
    hint: build it against the interfaces of this host: plugin-sdk/wit/plugin.wit
    ");
    assert_snapshot!(refusal(&module(&wit("@1.0.0"), "batch-plugin")), @"
    plugin `score` exports `midplane:plugin/batch-processor@1.0.0`, expected `midplane:plugin/batch-processor@0.1.0`
    hint: build it against the interfaces of this host: plugin-sdk/wit/plugin.wit
    ");
}

#[test]
fn a_compatible_version_passes() {
    // It gets as far as its own code, which traps.
    assert_snapshot!(refusal(&module(&wit("@0.1.7"), "plugin")), @"plugin `score` failed in `describe` (trap): wasm `unreachable` instruction executed");
}

#[test]
fn another_world() {
    assert_snapshot!(refusal(&module("package a:b; world w { export run: func(); }", "w")), @"
    plugin `score` exports no plugin interface, expected `midplane:plugin/processor@0.1.0` or its columnar twin (it exports: run)
    hint: export one of the plugin worlds; the SDK's macro does
    ");
    assert_snapshot!(refusal(&module("package a:b; world w {}", "w")), @"
    plugin `score` exports no plugin interface, expected `midplane:plugin/processor@0.1.0` or its columnar twin (it exports: nothing)
    hint: export one of the plugin worlds; the SDK's macro does
    ");
    let command = "package wasi:cli@0.2.0; interface run { run: func() -> result; } world w { export run; }";
    assert_snapshot!(refusal(&module(command, "w")), @r#"
    plugin `score` exports no plugin interface, expected `midplane:plugin/processor@0.1.0` or its columnar twin (it exports: wasi:cli/run@0.2.0)
    hint: it is a program: make the crate a library (`crate-type = ["cdylib"]`) that exports a plugin
    "#);
}

#[test]
fn a_function_is_missing() {
    let from = "  configure: func(config: string, ports: list<string>) -> result<_, string>;";
    assert_snapshot!(refusal_of_edit("plugin", from, ""), @"
    plugin `score` exports `midplane:plugin/processor@0.1.0` without the function `configure`
    hint: build it against the interfaces of this host: plugin-sdk/wit/plugin.wit
    ");
}

#[test]
fn a_type_differs() {
    assert_snapshot!(refusal_of_edit("plugin", "timestamp: option<s64>", "timestamp: s64"), @"
    plugin `score` differs at midplane:plugin/processor@0.1.0, function `process`, result, element, ok, element, field `timestamp`: it has s64, expected option<s64>
    hint: build it against the interfaces of this host: plugin-sdk/wit/plugin.wit
    ");
    assert_snapshot!(refusal_of_edit("plugin", "    offset: s64,\n", ""), @"
    plugin `score` differs at midplane:plugin/processor@0.1.0, function `process`, parameter `events`, element: it has the fields topic, partition, timestamp, key, value, headers, expected the fields topic, partition, offset, timestamp, key, value, headers
    hint: build it against the interfaces of this host: plugin-sdk/wit/plugin.wit
    ");
    assert_snapshot!(refusal_of_edit("plugin", "func(context: context, events: list<event>)", "func(events: list<event>)"), @"
    plugin `score` differs at midplane:plugin/processor@0.1.0, function `process`: it has 1 parameters, expected 2 parameters
    hint: build it against the interfaces of this host: plugin-sdk/wit/plugin.wit
    ");
    assert_snapshot!(refusal_of_edit("batch-plugin", "bytes: list<u8>,\n  }", "bytes: list<u16>,\n  }"), @"
    plugin `score` differs at midplane:plugin/batch-processor@0.1.0, function `process`, parameter `batch`, field `bytes`, element: it has u16, expected u8
    hint: build it against the interfaces of this host: plugin-sdk/wit/plugin.wit
    ");
    assert_snapshot!(refusal_of_edit("batch-plugin", "batch: batch) -> u32", "batch: batch)"), @"
    plugin `score` differs at midplane:plugin/batch-processor@0.1.0, function `process`, result: it has nothing, expected u32
    hint: build it against the interfaces of this host: plugin-sdk/wit/plugin.wit
    ");
    assert_snapshot!(refusal_of_edit("batch-plugin", "push: func(rows: list<u32>", "push: func(rows: list<u64>"), @"
    plugin `score` differs at midplane:plugin/results@0.1.0, function `push`, parameter `rows`, element: it has u64, expected u32
    hint: build it against the interfaces of this host: plugin-sdk/wit/plugin.wit
    ");
}

#[test]
fn an_import_is_unknown() {
    let plugin = |imports: &str| {
        let world = format!("world w {{ {imports} export midplane:plugin/processor@0.1.0; }}");
        let nested = wit("@0.1.0").replacen("package midplane:plugin@0.1.0;", "package midplane:plugin@0.1.0 {", 1);
        format!(
            "package a:b;\n{world}\n{nested}\n}}\n\
             package wasi:http@0.2.0 {{ interface outgoing-handler {{ handle: func(); }} }}\n\
             package wasi:cli@0.3.0 {{ interface stdout {{ get: func(); }} }}\n\
             package wasi:clocks@0.2.0 {{ interface sundial {{ now: func(); }} }}\n"
        )
    };
    assert_snapshot!(refusal(&module(&plugin("import wasi:http/outgoing-handler@0.2.0;"), "w")), @"
    plugin `score` imports `wasi:http/outgoing-handler@0.2.0`, which this host doesn't provide
    hint: plugins have no network: enrich events from a topic instead, or build without what needs it
    ");
    assert_snapshot!(refusal(&module(&plugin("import wasi:cli/stdout@0.3.0;"), "w")), @"
    plugin `score` imports `wasi:cli/stdout@0.3.0`, which this host doesn't provide
    hint: plugins have WASI 0.2: cli, clocks, filesystem, io, random, sockets
    ");
    assert_snapshot!(refusal(&module(&plugin("import wasi:clocks/sundial@0.2.0;"), "w")), @"
    plugin `score` imports what this host doesn't provide: component imports instance `wasi:clocks/sundial@0.2.0`, but a matching implementation was not found in the linker: instance export `now` has the wrong type: function implementation is missing
    hint: build it against WASI 0.2 as it was published
    ");
    assert_snapshot!(refusal(&module(&plugin("import fetch: func() -> string;"), "w")), @"
    plugin `score` imports `fetch`, which this host doesn't provide
    hint: a plugin imports `midplane:plugin` and WASI 0.2 alone
    ");
    assert_snapshot!(refusal_of_edit("batch-plugin", "  fail: func", "  warn: func(event: u32);\n  fail: func"), @"
    plugin `score` imports `midplane:plugin/results@0.1.0#warn`, which this host doesn't provide
    hint: a plugin imports `midplane:plugin` and WASI 0.2 alone
    ");
}

#[test]
fn descriptions_are_checked() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(check_ports(&names(&["default", "alert"])), Ok(()));
    assert_eq!(check_ports(&names(&["a", "b", "a"])), Err("it has two ports `a`".to_owned()));
    assert_eq!(check_ports(&names(&["a\n"])), Err("`a\\n` is no name for a port".to_owned()));
    assert_eq!(check_ports(&names(&[""])), Err("`` is no name for a port".to_owned()));
    assert_eq!(parse_schema("{}"), Ok(serde_json::json!({})));
    assert_eq!(parse_schema("[]"), Err("its config schema is not a JSON object".to_owned()));
    assert!(parse_schema("{").unwrap_err().starts_with("its config schema is not JSON: "));
}
