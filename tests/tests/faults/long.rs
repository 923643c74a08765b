//! The long form: random faults, one after the other, from a seed, for as long as is asked for; with a report of what
//! happened, and of what became of the events. `cargo verify --long` runs it on both brokers. Asked for kills, it makes nothing
//! else happen, several times at once, until there were so many.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use midplane::config::model::Guarantee;
use midplane_tests::checker::{Kind, Verdict};
use midplane_tests::payments::Setup;
use midplane_tests::proxy::{ApiKey, Side};
use midplane_tests::random::Random;
use midplane_tests::{Broker, Folder, binary};

use crate::case::{BOTH, Case, both};

/// The environment variables that say where chance begins, and how long it goes on.
const SEED_VARIABLE: &str = "MIDPLANE_TEST_SEED";
const MINUTES_VARIABLE: &str = "MIDPLANE_TEST_MINUTES";
/// The one that asks for so many kills, however long that takes.
const KILLS_VARIABLE: &str = "MIDPLANE_TEST_KILLS";
/// Faults of one round, on topics of its own.
const FAULTS: usize = 5;
/// Rounds of kills that go on at once: most of a kill is waiting until the dead member is missed.
const ROUNDS_OF_KILLS: usize = 6;
/// How soon that is, in milliseconds.
const KILLED_SESSION_MS: u64 = 2000;

#[test]
#[ignore = "it takes as long as `cargo verify --long` says"]
fn on_embedded_broker() {
    run("embedded", Broker::embedded);
}

#[test]
#[ignore = "it takes as long as `cargo verify --long` says"]
fn on_kafka() {
    run("kafka", Broker::kafka);
}

/// What may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Killed,
    KilledInTransaction,
    KilledInReload,
    Stopped,
    Starved,
    OtherComesAndGoes,
    OtherIsKilled,
    EndHeld,
    EndUnknown,
    OffsetsUnknown,
    PartitionsUnknown,
    OutputsUnknown,
    CommitUnknown,
    CommitLost,
    SessionLost,
    Away,
    Silent,
    Slow,
    Narrow,
    Unsteady,
}

impl Fault {
    const ALL: [Self; 20] = [
        Self::Killed,
        Self::KilledInTransaction,
        Self::KilledInReload,
        Self::Stopped,
        Self::Starved,
        Self::OtherComesAndGoes,
        Self::OtherIsKilled,
        Self::EndHeld,
        Self::EndUnknown,
        Self::OffsetsUnknown,
        Self::PartitionsUnknown,
        Self::OutputsUnknown,
        Self::CommitUnknown,
        Self::CommitLost,
        Self::SessionLost,
        Self::Away,
        Self::Silent,
        Self::Slow,
        Self::Narrow,
        Self::Unsteady,
    ];

    const KILLS: [Self; 4] = [Self::Killed, Self::KilledInTransaction, Self::KilledInReload, Self::OtherIsKilled];

    fn kills(self) -> bool {
        Self::KILLS.contains(&self)
    }

    /// Makes it happen. The host works while it does.
    fn happen(self, case: &mut Case<'_>, other_folder: &Folder, random: &mut Random) {
        // Sessions may end over any of them.
        case.payments.interrupted();
        let some = Duration::from_millis(500 + random.below(6000) as u64);
        let lose = |case: &mut Case<'_>, keys: &[ApiKey]| case.lose(Side::Answer, keys, 1);
        match self {
            Self::Killed => {
                case.pile_up();
                std::thread::sleep(some / 20);
                case.kill_and_start();
            }
            Self::KilledInTransaction => case.kill_in_transaction(),
            Self::KilledInReload => {
                case.pile_up();
                case.kill_in_reload(50 + random.below(100), some / 20);
            }
            Self::Stopped => case.stop_for(some * 2),
            Self::Starved => case.starve_for(some),
            Self::OtherComesAndGoes => case.come_and_go(other_folder, false),
            Self::OtherIsKilled => case.come_and_go(other_folder, true),
            Self::EndHeld => case.hold_end(),
            Self::EndUnknown => lose(case, &[ApiKey::EndTxn]),
            Self::OffsetsUnknown => lose(case, &[ApiKey::TxnOffsetCommit]),
            Self::PartitionsUnknown => lose(case, &[ApiKey::AddPartitionsToTxn, ApiKey::AddOffsetsToTxn]),
            Self::OutputsUnknown => lose(case, &[ApiKey::Produce]),
            Self::CommitUnknown => lose(case, &[ApiKey::OffsetCommit]),
            Self::CommitLost => case.lose(Side::Request, &[ApiKey::OffsetCommit], 1),
            Self::SessionLost => case.lose_session(),
            Self::Away => case.be_away_for(some),
            Self::Silent => case.be_silent_for(some),
            Self::Slow => case.proxy.delay(some / 100),
            Self::Narrow => case.proxy.throttle(50_000 + random.below(200_000) as u64),
            Self::Unsteady => case.be_unsteady(1 + random.below(8)),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    seed: u64,
    until: Until,
}

/// How long it goes on.
#[derive(Debug, Clone, Copy)]
enum Until {
    Minutes(u64),
    Kills(usize),
}

impl Wanted {
    fn read() -> Self {
        let until = match number(KILLS_VARIABLE) {
            Some(kills) => Until::Kills(kills as usize),
            None => Until::Minutes(number(MINUTES_VARIABLE).unwrap_or(1)),
        };
        Self { seed: number(SEED_VARIABLE).unwrap_or(1), until }
    }

    fn rounds_at_once(self) -> usize {
        match self.until {
            Until::Minutes(_) => 1,
            Until::Kills(_) => ROUNDS_OF_KILLS,
        }
    }

    fn faults(self) -> &'static [Fault] {
        match self.until {
            Until::Minutes(_) => &Fault::ALL,
            Until::Kills(_) => &Fault::KILLS,
        }
    }

    fn setup(self) -> Setup<'static> {
        match self.until {
            Until::Minutes(_) => both(),
            Until::Kills(_) => Setup { session_ms: KILLED_SESSION_MS, ..both() },
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.until {
            Until::Minutes(minutes) => write!(f, "seed {}, {minutes} min", self.seed),
            Until::Kills(kills) => write!(f, "seed {}, until {kills} kills", self.seed),
        }
    }
}

/// What happened, and what became of it.
#[derive(Debug, Default)]
struct Report {
    took: Duration,
    rounds: usize,
    kills: usize,
    faults: BTreeMap<Fault, usize>,
    events: usize,
    outputs: usize,
    letters: usize,
    /// At least once, where it may be.
    repeats: usize,
    findings: BTreeMap<Kind, usize>,
    /// The seeds of rounds that failed, and how.
    failed: Vec<(u64, String)>,
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{variable}` is `{text}`, not a number")))
}

fn run(name: &str, broker: impl Fn() -> Broker + Sync) {
    let (wanted, begun) = (Wanted::read(), Instant::now());
    // The first round of a seed is that seed's: what failed is repeated by itself.
    let seeds = Mutex::new((Some(wanted.seed), Random::new(wanted.seed)));
    let report = Mutex::new(Report::default());
    let next_seed = || {
        let (first, random) = &mut *lock(&seeds);
        first.take().unwrap_or_else(|| random.bits())
    };
    std::thread::scope(|scope| {
        for _ in 0..wanted.rounds_at_once() {
            scope.spawn(|| {
                while lock(&report).begin(wanted.until, begun) {
                    let seed = next_seed();
                    eprintln!("{name}: a round of seed {seed}");
                    // Another broker each time: what is left of a round that failed harms none after it.
                    let broker = broker();
                    match catch_unwind(AssertUnwindSafe(|| round(&broker, wanted, seed, &report))) {
                        Ok(verdicts) => lock(&report).take(seed, &verdicts),
                        Err(panic) => lock(&report).failed.push((seed, text_of(&*panic).to_owned())),
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.took = begun.elapsed();
    let text = report.text(name, wanted);
    let folder = binary::target_directory().join("faults");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(format!("report-{name}.txt")), &text).expect("a report");
    eprintln!("{text}");
    assert!(report.failed.is_empty(), "{} of {} rounds failed", report.failed.len(), report.rounds);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// Some faults, chosen by the seed.
fn round(broker: &Broker, wanted: Wanted, seed: u64, report: &Mutex<Report>) -> Vec<Verdict> {
    let mut random = Random::new(seed);
    let mut case = Case::start(broker, Setup { shards: 1 + random.below(2), ..wanted.setup() });
    let other_folder = case.payments.folder();
    case.payments.numbered_by_another();
    for _ in 0..FAULTS {
        let fault = wanted.faults()[random.below(wanted.faults().len())];
        eprintln!("  {fault:?}");
        (0..random.below(4)).for_each(|_| case.work());
        fault.happen(&mut case, &other_folder, &mut random);
        lock(report).happened(fault);
        case.host.wait_ready();
        case.work();
        if random.chance(500) {
            case.proxy.heal();
            case.payments.wait_settled();
        }
        case.proxy.heal();
    }
    case.judge()
}

impl Report {
    /// Whether one more round begins: at least one does, however little time there is.
    fn begin(&mut self, until: Until, begun: Instant) -> bool {
        let goes_on = match until {
            Until::Minutes(minutes) => self.rounds == 0 || begun.elapsed() < Duration::from_secs(60 * minutes),
            Until::Kills(kills) => self.kills < kills,
        };
        self.rounds += usize::from(goes_on);
        goes_on
    }

    fn happened(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
        self.kills += usize::from(fault.kills());
    }

    fn take(&mut self, seed: u64, verdicts: &[Verdict]) {
        for (guarantee, verdict) in BOTH.iter().zip(verdicts) {
            self.events += verdict.events;
            self.outputs += verdict.outputs;
            self.letters += verdict.letters;
            if *guarantee == Guarantee::AtLeastOnce {
                self.repeats += verdict.repeats;
            }
            for (kind, count) in verdict.kinds() {
                *self.findings.entry(kind).or_default() += count;
            }
            if !verdict.findings.is_empty() {
                self.failed.push((seed, format!("{guarantee}: {verdict}")));
            }
        }
    }

    fn found(&self, kinds: &[Kind]) -> usize {
        kinds.iter().filter_map(|kind| self.findings.get(kind)).sum()
    }

    fn text(&self, name: &str, wanted: Wanted) -> String {
        let Self { took, rounds, kills, faults, events, outputs, letters, repeats, findings, failed } = self;
        let all: usize = faults.values().sum();
        let duplicates = self.found(&[Kind::Repeated]);
        let losses = self.found(&[Kind::Lost, Kind::Torn]);
        let mut text = format!(
            "faults on {name}: {wanted}; took {} s\n{rounds} rounds, {all} faults, {kills} kills\n{events} events, \
             {outputs} outputs, {letters} letters\nduplicates {duplicates}, losses {losses}, repeated at least once, as may be: \
             {repeats}\n",
            took.as_secs()
        );
        for (fault, count) in faults {
            writeln!(text, "  {fault:?}: {count}").expect("text");
        }
        writeln!(text, "findings: {findings:?}").expect("text");
        for (seed, what) in failed {
            writeln!(text, "failed: round of seed {seed}: {what}").expect("text");
        }
        text
    }
}
