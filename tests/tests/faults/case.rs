//! One fault: payments flow through a host that stands behind a proxy, something happens, it is healed, and everything is
//! judged.

use std::time::{Duration, Instant};

use midplane::config::model::Guarantee;
use midplane_tests::checker::Verdict;
use midplane_tests::payments::{Payments, Setup};
use midplane_tests::proxy::{ApiKey, Proxy, Side};
use midplane_tests::usage::Usage;
use midplane_tests::wait::{DEADLINE, wait_until};
use midplane_tests::{Broker, Folder, Host, http};
use rustix::process::Signal;

/// Events that are sent at a time.
pub(crate) const EVENTS: usize = 1000;
/// Events of a pile, and how many answers to fetches come through to each group while there is one: each has a twentieth of it
/// at most.
pub(crate) const PILE: usize = 6000;
const FETCHES: usize = 12;
/// Small fetches: a batch of each partition at a time.
const CLIENT: &str = ", \"fetch.message.max.bytes\" = \"16384\"";
/// How long threads and descriptors that a fault was answered with may stay: pools let go of theirs after a while.
const RELEASED_WITHIN: Duration = Duration::from_secs(20);

/// Both guarantees at once: one host, a group for each.
pub(crate) const BOTH: &[Guarantee] = &[Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];

/// Through two groups of one host.
pub(crate) fn both() -> Setup<'static> {
    Setup { guarantees: BOTH, client: CLIENT, ..Setup::default() }
}

/// Through one group, exactly once.
pub(crate) fn exactly_once() -> Setup<'static> {
    Setup { guarantees: &[Guarantee::ExactlyOnce], ..both() }
}

/// A host that works, and what is between it and its broker.
pub(crate) struct Case<'b> {
    pub(crate) proxy: Proxy,
    pub(crate) payments: Payments<'b>,
    pub(crate) folder: Folder,
    pub(crate) host: Host,
    /// What the host held when all was well; nothing of one that has been started since.
    before: Option<Usage>,
}

impl<'b> Case<'b> {
    /// A host that has just been started, and nothing for it to do.
    pub(crate) fn idle(broker: &'b Broker, setup: Setup<'_>) -> Self {
        Self::idle_by(broker, setup, &[])
    }

    /// As [`Self::idle`], by another program: see [`Folder::spawn_by`].
    fn idle_by(broker: &'b Broker, setup: Setup<'_>, program: &[&str]) -> Self {
        let proxy = Proxy::start(broker.servers());
        let payments = Payments::with(broker, &Setup { servers: Some(proxy.servers().to_owned()), ..setup });
        let folder = payments.folder();
        let host = folder.spawn_by(program);
        Self { proxy, payments, folder, host, before: None }
    }

    /// A host that has worked off a first load, so that it has all that it needs.
    pub(crate) fn start(broker: &'b Broker, setup: Setup<'_>) -> Self {
        Self::start_by(broker, setup, &[])
    }

    /// As [`Self::start`], by another program: see [`Folder::spawn_by`].
    pub(crate) fn start_by(broker: &'b Broker, setup: Setup<'_>, program: &[&str]) -> Self {
        let mut case = Self::idle_by(broker, setup, program);
        case.work();
        case.host.wait_ready();
        case.payments.wait_settled();
        case.before = Some(Usage::of(case.host.id()));
        case
    }

    /// How the first shard of a group calls its clients, and its transactions.
    pub(crate) fn client_id(&self, group: &str) -> String {
        let overview = self.host.get("/api/v1/overview").json();
        format!("midplane.{group}.{}.0", overview["instance"].as_str().expect("the host's name"))
    }

    /// Sends more events.
    pub(crate) fn work(&mut self) {
        self.payments.send_up_to(self.payments.sent() + EVENTS);
    }

    /// Sends more events than the host gets, until all is healed or it is another one, and waits until each group has begun
    /// with them: whatever happens then happens in the middle of work.
    pub(crate) fn pile_up(&mut self) {
        let before = self.payments.sent();
        self.proxy.heal();
        self.payments.wait_past(before - 1);
        // Nothing comes to the host until all of it is there.
        let held = self.proxy.hold(Side::Answer, ApiKey::Fetch, usize::MAX);
        // Where a group stands can't be asked while it has a transaction open, which is most of the time.
        let commits = [ApiKey::OffsetCommit, ApiKey::EndTxn].map(|key| (key, self.proxy.passed(Side::Answer, key)));
        self.payments.send_up_to(before + PILE);
        self.proxy.hold_all_but(FETCHES, Side::Answer, ApiKey::Fetch);
        held.release();
        for (key, count) in commits.into_iter().filter(|(_, count)| *count > 0) {
            let more = || self.proxy.passed(Side::Answer, key) > count;
            wait_until("each group has begun", DEADLINE, more);
        }
    }

    /// Kills the host, and starts a new one on the same folder.
    pub(crate) fn kill_and_start(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Kills the host, in the middle of its work.
    pub(crate) fn kill(&mut self) {
        self.host.signal(Signal::KILL);
        self.host.wait(DEADLINE);
        self.payments.interrupted();
        let committed = self.payments.total();
        assert!(committed < self.payments.sent() as i64, "the kill fell outside of the work: {committed}");
        self.before = None;
    }

    /// Asks the host to stop, and waits until it has.
    pub(crate) fn leave(&mut self) {
        self.host.signal(Signal::TERM);
        assert_eq!(self.host.wait(DEADLINE).code(), Some(0), "a host ends well");
        self.before = None;
    }

    /// A new host, on the same folder.
    pub(crate) fn start_again(&mut self) {
        self.proxy.heal();
        self.host = self.folder.spawn(&[]);
        self.before = None;
    }

    /// Stops the host for a while, as a machine without time for it would.
    pub(crate) fn stop_for(&mut self, time: Duration) {
        self.host.signal(Signal::STOP);
        std::thread::sleep(time);
        self.host.signal(Signal::CONT);
    }

    /// Lets the host run for 5 of each 100 ms, for a while.
    pub(crate) fn starve_for(&mut self, time: Duration) {
        self.proxy.heal();
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.stop_for(Duration::from_millis(95));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Cuts all connections, and lets nobody in for a while.
    pub(crate) fn be_away_for(&mut self, time: Duration) {
        self.proxy.refuse();
        assert!(self.proxy.cut() > 0, "nobody was connected");
        std::thread::sleep(time);
        self.proxy.heal();
    }

    /// Swallows everything for a while.
    pub(crate) fn be_silent_for(&mut self, time: Duration) {
        let before = self.proxy.tally().swallowed;
        self.proxy.silence();
        std::thread::sleep(time);
        self.proxy.heal();
        assert!(self.proxy.tally().swallowed > before, "nobody said anything");
    }

    /// Cuts all connections, again and again.
    pub(crate) fn be_unsteady(&mut self, times: usize) {
        for _ in 0..times {
            wait_until("somebody is connected", DEADLINE, || self.proxy.cut() > 0);
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Loses the answers to some requests of each of these kinds, or the requests, while the host works.
    pub(crate) fn lose(&mut self, side: Side, keys: &[ApiKey], times: usize) {
        let lost: Vec<_> = keys.iter().map(|&key| self.proxy.lose(side, key, times)).collect();
        self.work();
        lost.iter().for_each(|lost| lost.wait_for(times));
    }

    /// Holds the end of a transaction back until nobody waits for it any more, and later ones have ended.
    pub(crate) fn hold_end(&mut self) {
        let held = self.proxy.hold(Side::Request, ApiKey::EndTxn, 1);
        self.work();
        held.wait();
        self.payments.wait_settled();
        self.work();
        held.release();
    }

    /// Kills the host in a transaction, whose end comes once it has gone.
    pub(crate) fn kill_in_transaction(&mut self) {
        let end = self.proxy.hold(Side::Request, ApiKey::EndTxn, 1);
        self.work();
        end.wait();
        self.kill();
        // Nothing of it can be read, and nothing will be: the broker gives it up before the request comes.
        self.payments.look();
        end.release();
        self.start_again();
    }

    /// Kills the host while it takes another commit interval over.
    pub(crate) fn kill_in_reload(&mut self, interval_ms: usize, wait: Duration) {
        let interval = format!("commit_interval = \"{interval_ms}ms\"\n            guarantee");
        self.folder.write(&self.payments.config().replace("guarantee", &interval));
        let admin = self.host.admin();
        let asking = std::thread::spawn(move || http::post(&admin, "/api/v1/reload", ""));
        std::thread::sleep(wait);
        self.kill_and_start();
        // It was killed before it answered, or after.
        let _ = asking.join().expect("no panic");
    }

    /// A second host joins, works, and leaves, or is killed.
    pub(crate) fn come_and_go(&mut self, other_folder: &Folder, killed: bool) {
        let mut other = other_folder.spawn(&[]);
        self.payments.send_until("the second host has partitions", || other.has_partitions());
        self.work();
        if killed {
            other.kill();
            self.payments.interrupted();
        } else {
            other.signal(Signal::TERM);
            wait_until("the second host has left", DEADLINE, || other.has_stopped());
            assert_eq!(other.wait(DEADLINE).code(), Some(0), "the second host ends well");
        }
    }

    /// Holds heartbeats until both groups have lost their partitions.
    pub(crate) fn lose_session(&mut self) {
        let before = self.host.lost_partitions();
        let held = self.proxy.hold(Side::Request, ApiKey::Heartbeat, usize::MAX);
        held.wait_for(2);
        self.payments.interrupted();
        self.work();
        wait_until("both groups have lost their partitions", DEADLINE, || self.host.lost_partitions() >= before + 2);
        held.release();
    }

    /// Heals what is between the host and its broker, sends more, waits for its end, and asserts that all is well.
    pub(crate) fn finish(self) {
        self.judge().iter().for_each(Verdict::assert);
    }

    /// As [`Self::finish`], and asserts nothing of what became of the events.
    pub(crate) fn judge(mut self) -> Vec<Verdict> {
        self.proxy.heal();
        self.work();
        self.payments.settle();
        if let Some(before) = self.before {
            let after = before.settled(self.host.id(), RELEASED_WITHIN);
            self.payments.used(before, after);
        }
        let (code, log) = self.host.finish();
        let log = Shown(log);
        assert_eq!(code, Some(0), "a host ends well");
        let verdicts = self.payments.judge();
        if verdicts.iter().any(|verdict| !verdict.findings.is_empty()) {
            log.show();
        }
        verdicts
    }
}

/// The log of a host that was stopped, shown where its test fails afterwards.
struct Shown(Vec<String>);

impl Shown {
    fn show(&self) {
        eprintln!("the log of a host that was stopped:\n{}", self.0.join("\n"));
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
    }
}
