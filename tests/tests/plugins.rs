//! Plugins that misbehave, each in the middle of good events: every event gets its verdict, and only the guilty one suffers.
//! The plugins are the fixtures under `plugins/`, which say what each order does.

use std::io::Write;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use midplane::config::model::{Grants, Limits};
use midplane::data::event::{Event, Header, Headers};
use midplane::data::failure::{Failure, Kind};
use midplane::data::plugin::verdicts::{Field, HeaderList, Verdict, Verdicts};
use midplane::data::plugin::{
    Call, InstanceError, Plugin, PluginKind, Prepared, Runtime, RuntimeOptions, Spec, Worker,
};
use midplane_tests::plugins::wasm;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new(RuntimeOptions::default()).expect("a runtime"));

fn load(name: &str) -> Arc<Plugin> {
    let bytes = std::fs::read(wasm(name)).expect("the plugin's file can be read");
    RUNTIME.load(name, &bytes, Limits::DEFAULT).unwrap_or_else(|error| panic!("{error}"))
}

fn prepare(name: &str, config: Value, grants: Grants) -> Arc<Prepared> {
    let route = "orders".to_owned();
    load(name).prepare(Spec { config, bound_ports: vec!["default".to_owned()], limits: Limits::DEFAULT, grants, route })
}

fn worker(name: &str) -> Worker {
    Worker::new(prepare(name, json!({}), Grants::default()))
}

/// With a log rate that no other test has, which would take of what it leaves, and tell of what it cuts.
fn worker_with_log_rate(name: &str, bytes_per_second: usize) -> Worker {
    worker_within(name, Limits { log_bytes_per_second: bytes_per_second, ..Limits::DEFAULT })
}

/// For events some of which may loop: that is told from a machine that gives the plugin no time, which takes a second, the sooner
/// the shorter the deadline.
fn worker_that_loops(name: &str, mut values: impl Iterator<Item = impl AsRef<str>>) -> Worker {
    let deadline = if values.any(|value| value.as_ref().contains("loop")) { BRIEF } else { Limits::DEFAULT.deadline };
    worker_within(name, Limits { deadline, ..Limits::DEFAULT })
}

fn worker_within(name: &str, limits: Limits) -> Worker {
    let spec = Spec { limits, ..prepare(name, json!({}), Grants::default()).spec().clone() };
    Worker::new(load(name).prepare(spec))
}

const BRIEF: Duration = Duration::from_millis(10);
const TIMESTAMP: i64 = 1_700_000_000_000;

fn event(offset: usize, value: &str) -> Event<'_> {
    Event {
        topic: "orders",
        partition: 3,
        offset: offset as i64,
        timestamp: TIMESTAMP,
        key: Some(b"key"),
        value: Some(value.as_bytes()),
        headers: Headers::Slice(&[Header { name: b"n\xffme", value: None }, Header { name: b"a", value: Some(b"b") }]),
    }
}

/// What a worker says of some events, in words: `sent VALUE` for each output, or the kind and the message of the failure.
fn run(worker: &mut Worker, values: &[String]) -> Vec<String> {
    let events = values.iter().enumerate().map(|(offset, value)| event(offset, value)).collect::<Vec<_>>();
    let (mut verdicts, mut said) = (Verdicts::default(), Vec::new());
    while said.len() < events.len() {
        let rest = &events[said.len()..];
        let call = Call { route: "orders", generation: 7, attempt: 1 };
        let answered = worker.run(&call, rest, 1, &mut verdicts, &mut || {});
        assert!((1..=rest.len()).contains(&answered) && answered == verdicts.len(), "{answered} of {}", rest.len());
        said.extend((0..answered).map(|index| in_words(&verdicts, index, &rest[index])));
    }
    said
}

fn in_words(verdicts: &Verdicts, index: usize, event: &Event<'_>) -> String {
    let outputs = match verdicts.get(index) {
        Verdict::Failed(failure) => return format!("{}: {}", failure.kind, failure.message),
        Verdict::Outputs(outputs) => outputs,
    };
    let words = outputs.iter().map(|output| {
        let value = match output.value {
            Field::Inherited => event.value,
            Field::Null => None,
            Field::Bytes(span) => Some(verdicts.bytes(span)),
        };
        format!("sent {}", String::from_utf8_lossy(value.unwrap_or(b"null")))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Runs an order in the middle of good events, and again, since the instance after a fault must be as good as the first; gives
/// what was said of the order.
fn outcome_of(name: &str, order: &str) -> String {
    let mut worker = worker_that_loops(name, std::iter::once(order));
    let outcomes = [(); 2].map(|()| {
        let mut values = (0..400).map(|number| format!("ok {number}")).collect::<Vec<_>>();
        values[217] = order.to_owned();
        let mut said = run(&mut worker, &values);
        let guilty = said.remove(217);
        values.remove(217);
        let good = values.iter().map(|value| good(name, value));
        assert!(good.eq(said.iter().cloned()), "the neighbours of `{order}` suffered");
        guilty
    });
    let [first, second] = outcomes;
    assert_eq!(kind(&first), kind(&second), "{first} / {second}");
    first
}

/// What is said of a good event.
fn good(name: &str, value: &str) -> String {
    match name {
        "faulty-typed" => format!("sent {}", value.to_uppercase()),
        _ => format!("sent {value}"),
    }
}

fn kind(outcome: &str) -> &str {
    outcome.split(':').next().unwrap_or_default()
}

#[track_caller]
fn check_kind(name: &str, order: &str, expected: Kind) -> String {
    let outcome = outcome_of(name, order);
    assert_eq!(kind(&outcome), expected.as_str(), "{name}, {order}: {outcome}");
    assert!(outcome.len() < 4096, "messages are bounded");
    outcome
}

#[test]
fn good_events_pass_with_their_bytes_unchanged() {
    let mut worker = worker("identity");
    assert_eq!(worker.prepared().plugin().kind, PluginKind::Columnar);
    let events = (0..1000).map(|offset| event(offset, "value")).collect::<Vec<_>>();
    let mut verdicts = Verdicts::default();
    let call = Call { route: "orders", generation: 1, attempt: 1 };
    assert_eq!(worker.run(&call, &events, events.len(), &mut verdicts, &mut || {}), 1000);
    for index in 0..1000 {
        let Verdict::Outputs([output]) = verdicts.get(index) else { panic!("{:?}", verdicts.get(index)) };
        assert_eq!(
            (output.port, output.key, output.value, &output.headers),
            (0, Field::Inherited, Field::Inherited, &HeaderList::Inherited)
        );
    }
    assert_eq!(worker.stats().instances, 1);
}

#[test]
fn no_events_make_no_verdicts() {
    assert_eq!(run(&mut worker("identity"), &[]), [""; 0]);
}

#[test]
fn traps() {
    let outcome = check_kind("faulty", "trap", Kind::Trap);
    assert!(outcome.contains("unreachable"), "{outcome}");
    let outcome = check_kind("faulty", "panic", Kind::Trap);
    assert!(outcome.contains("told to panic"), "{outcome}");
    check_kind("faulty-typed", "trap", Kind::Trap);
    check_kind("faulty-typed", "panic", Kind::Trap);
}

#[test]
fn deadlines() {
    check_kind("faulty", "loop", Kind::Deadline);
    check_kind("faulty-typed", "loop", Kind::Deadline);
}

#[test]
fn a_sleep_of_an_hour_ends_with_the_deadline() {
    let outcome = check_kind("sleeper", "sleep", Kind::Deadline);
    assert!(outcome.contains("3600s"), "{outcome}");
    assert_eq!(outcome_of("sleeper", "sleep:10"), "sent sleep:10");
    check_kind("sleeper", "sleep:1000", Kind::Deadline);
}

#[test]
fn a_slow_event_is_not_a_fault_and_batches_adapt() {
    let mut worker = worker("faulty");
    let values = (0..40).map(|_| "spin:10".to_owned()).collect::<Vec<_>>();
    assert_eq!(run(&mut worker, &values), vec!["sent spin:10"; 40]);
}

#[test]
fn memory() {
    let outcome = check_kind("faulty", "memory", Kind::Memory);
    assert!(outcome.contains("limit `memory` of 67108864 bytes"), "{outcome}");
    assert_eq!(outcome_of("faulty", "memory-caught"), "sent memory-caught");
}

#[test]
fn stack() {
    check_kind("faulty", "stack", Kind::Stack);
}

#[test]
fn outputs() {
    for (name, order) in [
        ("faulty", "output-bytes"),
        ("faulty", "outputs"),
        ("faulty-typed", "giant"),
        ("faulty-typed", "giant-name"),
        ("faulty-typed", "aliases"),
        ("faulty-typed", "outputs"),
    ] {
        check_kind(name, order, Kind::Output);
    }
    assert_eq!(outcome_of("faulty", "outputs:3"), "sent outputs:3, sent outputs:3, sent outputs:3");
    assert_eq!(outcome_of("faulty", "drop"), "");
    assert_eq!(outcome_of("faulty-typed", "twice"), "sent TWICE, sent TWICE");
}

#[test]
fn ports() {
    for name in ["faulty", "faulty-typed"] {
        let outcome = check_kind(name, "port-unknown", Kind::Port);
        assert!(outcome.contains("doesn't describe (described: default, spare)"), "{outcome}");
        let outcome = check_kind(name, "port-unbound", Kind::Port);
        assert!(outcome.contains("`spare`, which the route doesn't bind (bound: default)"), "{outcome}");
    }
}

#[test]
fn failures_of_the_plugin() {
    assert_eq!(outcome_of("faulty", "permanent"), "permanent: told to fail");
    assert_eq!(outcome_of("faulty", "transient"), "transient: told to fail, attempt 1");
    assert_eq!(outcome_of("faulty", "partial"), "permanent: told to fail after two outputs");
    assert_eq!(outcome_of("faulty-typed", "permanent"), "permanent: told to fail");
    check_kind("faulty", "failure-bytes", Kind::Permanent);
    check_kind("faulty-typed", "failure-bytes", Kind::Permanent);
}

#[test]
fn columns_that_break_the_protocol() {
    for order in [
        "count-less",
        "count-more",
        "order",
        "order-calls",
        "index",
        "fail-index",
        "rows",
        "length",
        "length-max",
        "rest",
        "flags",
        "field",
        "unflagged",
        "headers",
        "headers-count",
        "port-length",
    ] {
        check_kind("faulty", &format!("protocol-{order}"), Kind::Protocol);
    }
    // These are of the batch's first event, whichever ordered them: alone, it is the guilty one.
    for order in ["port-index", "port-text"] {
        assert_eq!(kind(&run(&mut worker("faulty"), &[order.to_owned()])[0]), "port", "{order}");
    }
    for order in ["verdicts-fewer", "verdicts-more", "verdicts-none"] {
        check_kind("faulty-typed", order, Kind::Protocol);
    }
}

#[test]
fn a_plugin_that_always_traps_answers_every_event() {
    let mut worker = worker("faulty");
    let mut calls = 0;
    let values = vec!["trap".to_owned(); 500];
    let events = values.iter().enumerate().map(|(offset, value)| event(offset, value)).collect::<Vec<_>>();
    let mut verdicts = Verdicts::default();
    let call = Call { route: "orders", generation: 1, attempt: 1 };
    assert_eq!(worker.run(&call, &events, events.len(), &mut verdicts, &mut || calls += 1), 500);
    for index in 0..500 {
        assert!(matches!(verdicts.get(index), Verdict::Failed(failure) if failure.kind == Kind::Trap));
    }
}

/// Runs orders one by one, and all at once: those at `guilty` fail, and nobody suffers for what others left in an instance.
#[track_caller]
fn check_guilty(name: &str, values: &[String], guilty: usize, expected: Kind) {
    for events in [1, values.len()] {
        let mut worker = worker_that_loops(name, values.iter());
        let said = values.chunks(events).flat_map(|values| run(&mut worker, values)).collect::<Vec<_>>();
        for (index, (said, value)) in said.iter().zip(values).enumerate() {
            if index == guilty {
                assert_eq!(kind(said), expected.as_str(), "{name}, {events} at a time, {index}: {said}");
            } else {
                assert_eq!(*said, good(name, value), "{name}, {events} at a time, {index}");
            }
        }
    }
}

#[test]
fn memory_that_leaks_costs_no_event() {
    for (name, order, expected) in [("faulty", "memory", Kind::Memory), ("faulty-typed", "trap", Kind::Trap)] {
        // A mebibyte each, of 64: several instances end by it, whether their batches are large or of one event.
        let mut values = (0..300).map(|number| format!("leak {number}")).collect::<Vec<_>>();
        values[150] = order.to_owned();
        check_guilty(name, &values, 150, expected);
    }
}

#[test]
fn an_instance_that_was_left_broken_costs_no_event() {
    let check = |name: &str, poison: &str, order: &str, expected: Kind| {
        let mut values = (0..20).map(|number| format!("ok {number}")).collect::<Vec<_>>();
        (values[4], values[7], values[14]) = (poison.to_owned(), poison.to_owned(), order.to_owned());
        check_guilty(name, &values, 14, expected);
    };
    check("faulty", "poison-trap", "trap", Kind::Trap);
    check("faulty", "poison-loop", "loop", Kind::Deadline);
    check("faulty", "poison-memory", "memory", Kind::Memory);
    check("faulty", "poison-stack", "stack", Kind::Stack);
    check("faulty", "poison-protocol-count-less", "protocol-count-less", Kind::Protocol);
    check("faulty-typed", "poison", "trap", Kind::Trap);
}

#[test]
fn a_guilty_event_takes_one_instance_more_at_most() {
    let mut worker = worker("faulty");
    let mut stats = |order: &str| {
        run(&mut worker, &[order.to_owned()]);
        let stats = worker.stats();
        (stats.calls, stats.instances, stats.traps, stats.reruns)
    };
    assert_eq!(stats("ok"), (1, 1, 0, 0));
    assert_eq!(stats("trap"), (3, 2, 2, 1));
    // What finds a new instance is guilty at once.
    assert_eq!(stats("trap"), (4, 3, 3, 1));
    assert_eq!(stats("ok"), (5, 4, 3, 1));
    assert_eq!(stats("protocol-count-less"), (7, 5, 4, 2));
    // What a plugin says of its events by itself is taken at its word.
    assert_eq!(stats("permanent"), (8, 5, 4, 2));
}

/// Runs events while this process may have no more than so many bytes beside those that it has, by a field of its status.
fn run_short(worker: &mut Worker, values: &[String], (resource, field): (Resource, &str), more: u64) -> Vec<String> {
    let limit = getrlimit(resource);
    let status = std::fs::read_to_string("/proc/self/status").expect("what this process holds");
    let held = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok());
    let held: u64 = held.expect("a number of kibibytes");
    setrlimit(resource, Rlimit { current: Some((held << 10) + more), ..limit }).expect("a lower limit");
    let said = run(worker, values);
    setrlimit(resource, limit).expect("the limit as it was");
    said
}

#[test]
fn what_the_host_lacks_fails_no_event() {
    // Limits are those of a process: this one has another for it.
    const SELF: (&str, &str) = ("what_the_host_lacks_fails_no_event", "MIDPLANE_TEST_LIMITS_ITSELF");
    if std::env::var_os(SELF.1).is_none() {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let finished = command.args(["--exact", SELF.0]).env(SELF.1, "yes").output().expect("a process");
        assert!(finished.status.success(), "{}", String::from_utf8_lossy(&finished.stdout));
        return;
    }
    // It has no instance as yet, as after a trap, and for one 4 GiB of addresses are set aside.
    let mut worker = worker("faulty");
    let orders = ["trap", "ok"].map(str::to_owned);
    for said in run_short(&mut worker, &orders, (Resource::As, "VmSize:"), 1 << 30) {
        assert!(said.starts_with("transient: plugin `faulty` can't be started (transient): this host lacks"), "{said}");
        assert!(said.contains("(os error 12)"), "{said}");
    }
    assert_eq!(run(&mut worker, &["ok".to_owned()]), ["sent ok"]);

    // Now it has one, whose memory can't grow, although it may.
    let order = ["leak:48".to_owned()];
    let said = run_short(&mut worker, &order, (Resource::Data, "VmData:"), 16 << 20);
    assert!(said[0].starts_with("transient: this host lacks"), "{said:?}");
    assert_eq!(run(&mut worker, &order), ["sent leak:48"]);
}

#[test]
fn a_host_that_stands_still_fails_no_event() {
    /// A log that takes its time, and no CPU.
    struct Slow;

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            std::thread::sleep(Duration::from_millis(10));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let mut worker = worker_with_log_rate("faulty", Limits::DEFAULT.log_bytes_per_second + 1);
    let subscriber = tracing_subscriber::fmt().with_writer(|| Slow).finish();
    let said = tracing::subscriber::with_default(subscriber, || run(&mut worker, &["log".to_owned()]));
    assert!(said[0].starts_with("transient: this host let the plugin have "), "{said:?}");
}

#[test]
fn the_shard_is_let_in_while_guests_burn_their_deadlines() {
    let mut worker = worker("faulty");
    let values = vec!["loop".to_owned(); 4];
    let events = values.iter().enumerate().map(|(offset, value)| event(offset, value)).collect::<Vec<_>>();
    let (mut verdicts, mut calls) = (Verdicts::default(), 0);
    let call = Call { route: "orders", generation: 1, attempt: 1 };
    worker.run(&call, &events, events.len(), &mut verdicts, &mut || calls += 1);
    assert!(calls >= 4, "between each two of the calls, which take 100 ms: {calls}");
}

#[test]
fn a_turn_ends_before_all_deadlines_are_burnt_unless_more_is_needed() {
    let mut worker = worker("faulty");
    let values = vec!["loop".to_owned(); 200];
    let events = values.iter().enumerate().map(|(offset, value)| event(offset, value)).collect::<Vec<_>>();
    let mut verdicts = Verdicts::default();
    let call = Call { route: "orders", generation: 1, attempt: 1 };
    let answered = worker.run(&call, &events, 1, &mut verdicts, &mut || {});
    assert!((1..100).contains(&answered), "{answered} of 200, which take 100 ms each");
    assert!(worker.run(&call, &events[..10], 7, &mut verdicts, &mut || {}) >= 7);
}

#[test]
fn outputs_beyond_64_mib_come_in_several_runs() {
    let mut worker = worker("faulty");
    let values = vec!["output-bytes:7".to_owned(); 40];
    let events = values.iter().enumerate().map(|(offset, value)| event(offset, value)).collect::<Vec<_>>();
    let mut verdicts = Verdicts::default();
    let call = Call { route: "orders", generation: 1, attempt: 1 };
    // However slowly: time is to end none of them.
    let answered = worker.run(&call, &events, events.len(), &mut verdicts, &mut || {});
    assert!((9..=15).contains(&answered), "{answered}");
    assert!(verdicts.bytes_len() < 110 << 20);
}

/// A log that a test reads.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The lines that were logged on this thread while the work was done.
    fn of(work: impl FnOnce()) -> Vec<String> {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = log.0.lock().expect("no writer panicked").clone();
        let text = String::from_utf8(bytes).expect("a log is text");
        text.lines().filter(|line| line.contains(" plugin: ")).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no writer panicked").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_million_lines_are_cut_and_not_punished() {
    for (name, good) in [("faulty", "sent log"), ("faulty-typed", "sent LOG")] {
        let lines = Log::of(|| {
            let mut worker = worker_with_log_rate(name, Limits::DEFAULT.log_bytes_per_second + 2);
            assert_eq!(run(&mut worker, &["ok".to_owned(), "log".to_owned()])[1], good);
        });
        let said = lines.iter().filter(|line| line.contains("were cut"));
        let cut =
            said.map(|line| line.split("lines=").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap());
        let (cut, written) = (cut.sum::<usize>(), lines.iter().filter(|line| !line.contains("were cut")).count());
        assert!(written > 100 && written < 100_000, "{written}");
        assert!(
            (1_000_000..=2_000_000).contains(&(cut + written)),
            "each line is written or counted: {cut} + {written}"
        );
    }
}

#[test]
fn stdout_and_stderr_are_log_lines() {
    let lines = Log::of(|| {
        let mut worker = worker("sleeper");
        assert_eq!(run(&mut worker, &["print".to_owned()]), [r#"sent {"printed":true}"#]);
    });
    insta::assert_snapshot!(lines.join("\n"), @r#"
    INFO plugin: a line on stdout plugin="sleeper" route="orders"
    WARN plugin: a line on stderr plugin="sleeper" route="orders"
    WARN plugin: no end on stderr plugin="sleeper" route="orders"
    "#);
}

fn report(worker: &mut Worker, order: &str) -> Value {
    let said = run(worker, &[order.to_owned()]);
    serde_json::from_str(said[0].strip_prefix("sent ").unwrap_or_else(|| panic!("{said:?}"))).expect("a report")
}

#[test]
fn nothing_is_granted_by_default() {
    let mut worker = worker("sleeper");
    assert_eq!(report(&mut worker, "clock"), json!({"wall_ms": [TIMESTAMP, TIMESTAMP], "elapsed_ns": 0}));
    assert_eq!(report(&mut worker, "env"), json!({"env": {}, "args": []}));
    for (order, field) in [("files", "root"), ("files", "passwd"), ("network", "connect")] {
        assert_ne!(report(&mut worker, order)[field], "ok", "{order}");
    }
}

#[test]
fn randomness_is_that_of_the_route_and_the_event() {
    let hashes = || report(&mut worker("sleeper"), "random");
    assert_eq!(hashes(), hashes());
}

#[test]
fn a_rerun_in_another_instance_is_given_the_same() {
    for order in ["random", "clock"] {
        let first = report(&mut worker("sleeper"), order);
        let mut poisoned = worker("sleeper");
        report(&mut poisoned, "poison");
        assert_eq!(report(&mut poisoned, order), first);
        assert_eq!(poisoned.stats().reruns, 1);
    }
}

#[test]
fn grants_give_the_real_ones() {
    let grants = Grants { clock: true, random: true, env: vec!["PATH".to_owned()] };
    let worker = || Worker::new(prepare("sleeper", json!({}), grants.clone()));
    let clock = report(&mut worker(), "clock");
    assert!(clock["wall_ms"][0].as_i64().unwrap() > TIMESTAMP, "{clock}");
    assert!(clock["elapsed_ns"].as_u64().unwrap() > 0, "{clock}");
    assert_ne!(report(&mut worker(), "random"), report(&mut worker(), "random"));
    let env = report(&mut worker(), "env");
    assert_eq!(env["env"], json!({"PATH": std::env::var("PATH").unwrap()}));
}

#[test]
fn configure_may_fail() {
    let error = |name: &str, what: &str| {
        let prepared = prepare(name, json!({"configure": what}), Grants::default());
        prepared.instantiate().map(drop).unwrap_err()
    };
    insta::assert_snapshot!(error("faulty", "fail"), @"plugin `faulty` refuses its config: told to fail in `configure`");
    insta::assert_snapshot!(error("faulty", "panic"), @r#"`configure` of plugin `faulty` failed (trap): Plugin panicked. panic="told to panic in `configure`" at="tests/plugins/faulty/src/lib.rs:102:42" (wasm `unreachable` instruction executed)"#);
    insta::assert_snapshot!(error("faulty", "memory"), @"`configure` of plugin `faulty` failed (memory): growing the memory to 68026368 bytes exceeds the limit `memory` of 67108864 bytes");
    insta::assert_snapshot!(error("faulty", "push"), @"`configure` of plugin `faulty` failed (protocol): `results.push` was called outside of `process`");
    insta::assert_snapshot!(error("faulty-typed", "fail"), @"plugin `faulty-typed` refuses its config: told to fail in `configure`");
    let failure = |name, what| match error(name, what) {
        InstanceError::Configure { failure, .. } => failure,
        error => panic!("{error}"),
    };
    assert_eq!(failure("faulty", "trap").kind, Kind::Trap);
    let Failure { kind, message } = failure("faulty", "loop");
    // A machine that gives it no ten seconds in a hundred says that instead.
    let is_starved = kind == Kind::Transient && message.contains("this host let the plugin have");
    assert!(kind == Kind::Deadline || is_starved, "{kind:?}: {message}");
    assert_eq!(failure("sleeper", "sleep").kind, Kind::Deadline);
}

#[test]
fn a_plugin_is_the_same_from_the_cache() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = std::fs::read(wasm("identity")).expect("the plugin's file can be read");
    for _ in 0..2 {
        let options =
            RuntimeOptions { cache_directory: Some(folder.path().join("cache")), ..RuntimeOptions::default() };
        let plugin =
            Runtime::new(options).expect("a runtime").load("identity", &bytes, Limits::DEFAULT).expect("a plugin");
        let spec = Spec {
            config: json!({}),
            bound_ports: plugin.ports.clone(),
            limits: Limits::DEFAULT,
            grants: Grants::default(),
            route: "orders".to_owned(),
        };
        assert_eq!(run(&mut Worker::new(plugin.prepare(spec)), &["a".to_owned()]), ["sent a"]);
    }
}
