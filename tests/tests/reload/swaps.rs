//! Swapping a plugin, again and again, under a steady load.

use std::collections::BTreeMap;
use std::time::Duration;

use midplane_tests::on_each_broker;
use midplane_tests::usage::{Usage, percentiles};
use midplane_tests::wait::wait_until;
use rustix::process::Signal;

use crate::load::{Course, Load};
use crate::outputs::Outputs;
use crate::setting::{Marker, PATIENCE, Running, Setting, marked};

/// How many swaps are measured, if `MIDPLANE_TEST_SWAPS` doesn't say it.
const SWAPS: u32 = 300;
/// How many come before, until everything is there that a host needs.
const WARM_UP: u32 = 100;
/// What a swap may add to the memory that the process holds,
const GROWTH_KIB_MAX: f64 = 1.0;
/// beside what an allocator holds more at one time than at another: the system's, and the program's own.
const NOISE_KIB: f64 = 512.0;
const OWN_NOISE_KIB: f64 = 32_768.0;

const COURSE: Course = Course { from: "in", to: "out", rate: 1000, outputs: 2 };

/// Swaps the plugin of one host.
struct Swapper<'s> {
    setting: &'s Setting<'s>,
    marker: &'s Marker,
    route: &'static str,
    host: Running,
    /// The mark of the newest version.
    mark: u32,
    /// How many versions there are before most swaps go back to one of them, which needs no compiler.
    versions: u32,
    /// How often it has swapped.
    swaps: u32,
    /// What each generation runs: the first digits of the version, and its mark.
    published: BTreeMap<u64, (u32, u32)>,
    /// When each swap was asked for, and when outputs of it were read.
    times: Vec<(Duration, Duration)>,
}

impl<'s> Swapper<'s> {
    /// Starts a host with the first version.
    fn start(
        setting: &'s Setting<'s>,
        marker: &'s Marker,
        route: &'static str,
        start: impl FnOnce(&'s Setting<'s>) -> Running,
    ) -> Self {
        let mark = 0;
        let (bytes, version) = marker.version(mark);
        setting.install("marker", &bytes);
        let host = start(setting);
        let published = BTreeMap::from([(host.number(), (version, mark))]);
        Self { setting, marker, route, host, mark, versions: u32::MAX, swaps: 0, published, times: Vec::new() }
    }

    /// Makes another version live. Gives its generation.
    fn swap(&mut self, now: impl Fn() -> Duration) -> u64 {
        self.swaps += 1;
        let known = self.mark >= self.versions && !self.swaps.is_multiple_of(10);
        self.mark += u32::from(!known);
        let mark = if known { self.swaps % self.versions } else { self.mark };
        let (bytes, version) = self.marker.version(mark);
        self.setting.install("marker", &bytes);
        let asked = now();
        let answer = self.host.reload();
        assert_eq!(answer.code, 200, "{}", answer.body);
        let generation = answer.json()["generation"].as_u64().expect("a number");
        self.published.insert(generation, (version, mark));
        self.times.push((asked, asked));
        generation
    }

    /// Makes another version live, and waits until an output of it was read.
    fn swap_and_see(&mut self, load: &Load) {
        let generation = self.swap(|| load.now());
        load.wait_for_generation(self.route, generation);
        self.times.last_mut().expect("a swap").1 = load.now();
    }
}

on_each_broker!(
    fn nothing_is_noticed_of_swaps(broker: &Broker) {
        let swaps = std::env::var("MIDPLANE_TEST_SWAPS").map_or(SWAPS, |text| text.parse().expect("a number of swaps"));
        let setting = Setting::flowing(broker, &marked("marked", 2));
        let marker = Marker::new();
        // Needs the same on every broker: on one, it is looked at closely.
        let is_plain = broker.is_embedded();
        let start = if is_plain { Setting::start_plain } else { Setting::start };
        let mut swapper = Swapper { versions: WARM_UP, ..Swapper::start(&setting, &marker, "marked", start) };
        let load = Load::start(&setting, COURSE);
        load.wait_for_generation("marked", swapper.host.number());
        (0..WARM_UP).for_each(|_| swapper.swap_and_see(&load));
        let before = Usage::of(swapper.host.host.id());
        (0..swaps).for_each(|_| swapper.swap_and_see(&load));
        let after = Usage::of(swapper.host.host.id());
        assert_released(&swapper, before);

        load.dry_up();
        setting.wait_settled("group", "in");
        let Swapper { host, published, times, .. } = swapper;
        let _log = host.stop();
        let outputs = load.finish();
        outputs.assert_versions("marked", &published);
        assert_eq!(outputs.generations("marked"), published.len(), "generations that made no output");
        assert_eq!(setting.all("letters"), []);
        report(&outputs, &times);
        assert_memory(swaps, before, after, if is_plain { NOISE_KIB } else { OWN_NOISE_KIB });
    }
);

/// Memory has hardly grown.
fn assert_memory(swaps: u32, before: Usage, after: Usage, noise_kib: f64) {
    let growth = (after.resident_kib - before.resident_kib) as f64;
    eprintln!("{swaps} swaps: {:.3} KiB a swap; {before:?}, {after:?}", growth / f64::from(swaps));
    assert!(growth <= GROWTH_KIB_MAX * f64::from(swaps) + noise_kib, "memory grew by {growth} KiB");
}

/// Threads and descriptors are as many as before, as soon as idle ones have ended.
fn assert_released(swapper: &Swapper<'_>, before: Usage) {
    let id = swapper.host.host.id();
    let as_before = |now: Usage| now.threads <= before.threads && now.descriptors <= before.descriptors;
    wait_until("threads and descriptors are as before", PATIENCE, || as_before(Usage::of(id)));
}

/// How long the flow paused where generations changed, beside how long it pauses anyway.
fn report(outputs: &Outputs, times: &[(Duration, Duration)]) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let partitions = arrivals(outputs);
    let gap = |pair: &[(Duration, u64)]| ms(pair[1].0.saturating_sub(pair[0].0));
    let gaps = || partitions.values().flat_map(|arrivals| arrivals.windows(2));
    let at_cuts: Vec<_> = gaps().filter(|pair| pair[0].1 != pair[1].1).map(gap).collect();
    // A gap that something falls into is longer than most, whatever falls into it: what a swap adds shows beside the gaps that
    // other moments fall into. When a swap is asked for, nothing has happened yet.
    let at = |moment: Duration, arrivals: &[(Duration, u64)]| {
        let next = arrivals.partition_point(|(arrived, _)| *arrived <= moment);
        arrivals.get(next.wrapping_sub(1)..=next).map(gap)
    };
    let moments = times.iter().flat_map(|(asked, _)| partitions.values().filter_map(|arrivals| at(*asked, arrivals)));
    eprintln!("gaps where swaps are asked for: {}", percentiles(moments.collect()));
    eprintln!("gaps where generations change:  {}", percentiles(at_cuts));
    eprintln!("gaps between events:            {}", percentiles(gaps().map(gap).collect()));

    let latencies: Vec<_> = outputs.iter().map(|output| ms(output.latency())).collect();
    eprintln!("latency of all outputs:         {}", percentiles(latencies));
    let around = |(asked, seen): &(Duration, Duration)| {
        let during = outputs.iter().filter(|output| output.sent >= *asked && output.sent <= *seen);
        during.map(|output| ms(output.latency())).max_by(f64::total_cmp)
    };
    // Of some swaps only: each looks through all outputs.
    let step = (times.len() / 200).max(1);
    eprintln!(
        "longest during a reload:        {}",
        percentiles(times.iter().step_by(step).filter_map(around).collect())
    );
    let took = times.iter().map(|(asked, seen)| ms(*seen - *asked)).collect();
    eprintln!("from order to output:           {}", percentiles(took));
}

/// By partition of the events, when the first output of each arrived, and of which generation.
fn arrivals(outputs: &Outputs) -> BTreeMap<i32, Vec<(Duration, u64)>> {
    let mut arrivals: BTreeMap<i32, Vec<(Duration, u64)>> = BTreeMap::new();
    let mut last = BTreeMap::new();
    for output in outputs.iter() {
        let place = output.place();
        if last.insert(place.partition, place.offset) != Some(place.offset) {
            arrivals.entry(place.partition).or_default().push((output.arrived, output.generation()));
        }
    }
    arrivals
}

on_each_broker!(
    fn nothing_is_noticed_of_swaps_while_hosts_and_shards_come_and_go(broker: &Broker) {
        let setting = Setting::flowing(broker, &marked("first", 2));
        let other_setting = setting.another(&marked("second", 2));
        let marker = Marker::new();
        let mut first = Swapper::start(&setting, &marker, "first", Setting::start);
        let load = Load::start(&setting, COURSE);
        (0..3).for_each(|_| first.swap_and_see(&load));
        for round in 0..3 {
            // It joins while the first one swaps, and swaps itself.
            let (bytes, version) = marker.version(1_000_000 * (round + 1));
            other_setting.install("marker", &bytes);
            let host = Running::of(other_setting.folder.spawn(&[]));
            let ready = || midplane_tests::http::get(&host.admin, "/readyz").is_ok_and(|answer| answer.code == 200);
            let both = || load.seen().newest("second") > 0;
            swap_until(&mut first, &load, || ready() && (round > 0 || both()));
            let mut second = Swapper {
                setting: &other_setting,
                marker: &marker,
                route: "second",
                published: BTreeMap::from([(host.number(), (version, 1_000_000 * (round + 1)))]),
                host,
                mark: 1_000_000 * (round + 1),
                versions: u32::MAX,
                swaps: 0,
                times: Vec::new(),
            };
            for shards in [3, 1, 2] {
                setting.configure(&marked("first", shards));
                for _ in 0..3 {
                    first.swap(|| load.now());
                    second.swap(|| load.now());
                }
            }
            // It leaves while the first one swaps.
            let mut leaving = second.host.host;
            leaving.signal(Signal::TERM);
            swap_until(&mut first, &load, || !leaving.entries("The shard has stopped.").is_empty());
            assert_eq!(leaving.wait(PATIENCE).code(), Some(0));
            let newest = first.swap(|| load.now());
            load.wait_for_generation("first", newest);
        }
        load.dry_up();
        setting.wait_settled("group", "in");
        let published = first.published;
        let _log = first.host.stop();
        let outputs = load.finish();
        outputs.assert_versions("first", &published);
        outputs.assert_versions("second", &BTreeMap::new());
        assert!(outputs.generations("second") > 3, "the second host made nothing of note");
        assert_eq!(setting.all("letters"), []);
    }
);

/// Swaps, at least once, until something is so.
fn swap_until(swapper: &mut Swapper<'_>, load: &Load, condition: impl Fn() -> bool) {
    wait_until("what happens during swaps", PATIENCE, || {
        swapper.swap(|| load.now());
        condition()
    });
}
