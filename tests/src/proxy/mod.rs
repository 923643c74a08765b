//! A proxy between hosts and brokers that reads Kafka's frames: it knows requests from one another, and on command delays,
//! throttles, cuts, refuses or swallows what passes, holds single requests or answers back, loses them, or lets writes fail. Else it
//! changes nothing but the addresses in answers, so that clients stay behind it; each broker that they hear of gets an address here.

mod answer;
mod link;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use kafka_protocol::ResponseError;
pub use kafka_protocol::messages::ApiKey;

use self::link::Link;
pub use self::rule::{Held, Side};
use self::rule::{Rule, What};

/// Between two looks at what holds a frame back.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The proxy. Dropped, it closes everything.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    address: String,
}

/// How often something happened to a frame, or to a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that came later for it.
    pub delayed: usize,
    /// Frames that had to wait for those before them.
    pub throttled: usize,
    /// Connections that were cut on command.
    pub cut: usize,
    /// Connections that were not let in.
    pub refused: usize,
    /// Frames that were swallowed.
    pub swallowed: usize,
}

/// What all connections see.
#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    /// The addresses here, by those of the brokers.
    addresses: Mutex<BTreeMap<String, String>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    delay: Duration,
    bytes_per_second: Option<u64>,
    /// When the frames that were let through so far have passed.
    busy_until: Option<Instant>,
    refusing: bool,
    silent: bool,
    rules: Vec<Arc<Rule>>,
    /// How many frames passed, by the keys of requests and by their way.
    passed: HashMap<(i16, Side), usize>,
    /// By their numbers.
    links: HashMap<u64, Arc<Link>>,
    next_link: u64,
    tally: Tally,
}

impl Proxy {
    /// A proxy before a broker, and before all that it tells of.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(servers: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let address = shared.address_of(servers).expect("a free port");
        Self { shared, address }
    }

    /// What hosts connect to: `host:port`.
    pub fn servers(&self) -> &str {
        &self.address
    }

    /// From now on each frame comes so much later.
    pub fn delay(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }

    /// From now on no more than so many bytes a second pass, all connections together.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.state().bytes_per_second = Some(bytes_per_second);
    }

    /// Cuts all connections. Gives how many.
    pub fn cut(&self) -> usize {
        let mut state = self.shared.state();
        let links: Vec<_> = state.links.drain().map(|(_, link)| link).collect();
        links.iter().for_each(|link| link.close());
        state.tally.cut += links.len();
        links.len()
    }

    /// From now on nobody is let in.
    pub fn refuse(&self) {
        self.shared.state().refusing = true;
    }

    /// From now on everything is swallowed, and nobody is told: connections stay, and new ones are taken.
    pub fn silence(&self) {
        self.shared.state().silent = true;
    }

    /// Holds the next so many requests of a kind back, or their answers, until they are released; they go to where they were
    /// meant to go then, though who waited for them may have gone.
    pub fn hold(&self, side: Side, key: ApiKey, times: usize) -> Held {
        self.add(Rule::new(side, key, times, What::Hold))
    }

    /// As [`Self::hold`], of all but the next few of each client, which are told apart by their ids: a slow one has its few as
    /// well.
    pub fn hold_all_but(&self, spared: usize, side: Side, key: ApiKey) -> Held {
        self.add(Rule::of_each((side, key), spared, usize::MAX, What::Hold))
    }

    /// The next so many requests of a kind, or their answers, come so much later.
    pub fn delay_each(&self, side: Side, key: ApiKey, times: usize, delay: Duration) -> Held {
        self.add(Rule::new(side, key, times, What::Delay(delay)))
    }

    /// Loses the next so many requests of a kind, or their answers, with their connection.
    pub fn lose(&self, side: Side, key: ApiKey, times: usize) -> Held {
        self.add(Rule::new(side, key, times, What::Lose))
    }

    /// The answers to the next so many requests to write of each client say of every partition that it failed so. The broker
    /// has written what they were about.
    pub fn fail(&self, key: ApiKey, each: usize, error: ResponseError) -> Held {
        assert_eq!(key, ApiKey::Produce, "of other answers the errors are not known");
        self.add(Rule::of_each((Side::Answer, key), 0, each, What::Fail(error.code())))
    }

    fn add(&self, rule: Rule) -> Held {
        let rule = Arc::new(rule);
        self.shared.state().rules.push(Arc::clone(&rule));
        Held(rule)
    }

    /// All is well again: what was held back is released, and connections that lost something are cut.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        let State { delay, bytes_per_second, refusing, silent, rules, links, .. } = &mut *state;
        (*delay, *bytes_per_second, *refusing, *silent) = (Duration::ZERO, None, false, false);
        rules.drain(..).for_each(|rule| rule.release());
        links.retain(|_, link| {
            let whole = !link.has_swallowed();
            if !whole {
                link.close();
            }
            whole
        });
    }

    /// How many requests of a kind passed so far, or answers to them.
    pub fn passed(&self, side: Side, key: ApiKey) -> usize {
        self.shared.state().passed.get(&(key as i16, side)).copied().unwrap_or(0)
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        self.shared.state().tally
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.heal();
        self.cut();
        for address in self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner).values() {
            // Whoever listens wakes, and sees that it is over.
            let _ = TcpStream::connect(address);
        }
    }
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passage {
    Through,
    Failing(i16),
    Swallowed,
    Lost,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in it is left half done by a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address here of a broker, which gets one if it has none.
    fn address_of(self: &Arc<Self>, broker: &str) -> io::Result<String> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = addresses.get(broker) {
            return Ok(address.clone());
        }
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        addresses.insert(broker.to_owned(), address.clone());
        let (shared, broker) = (Arc::clone(self), broker.to_owned());
        std::thread::spawn(move || shared.listen(&listener, &broker));
        Ok(address)
    }

    fn listen(self: &Arc<Self>, listener: &TcpListener, broker: &str) {
        for client in listener.incoming().map_while(Result::ok) {
            if self.stopped.load(Ordering::Relaxed) {
                break;
            }
            // Whoever can't be connected to the broker is let go, as the broker would.
            let Ok(server) = TcpStream::connect(broker) else { continue };
            let mut state = self.state();
            if state.refusing {
                state.tally.refused += 1;
                let _ = client.shutdown(Shutdown::Both);
                continue;
            }
            let number = state.next_link;
            state.next_link += 1;
            let link = Arc::new(Link::new(number, client, server));
            state.links.insert(number, Arc::clone(&link));
            drop(state);
            link.run(self);
        }
    }

    /// Waits until a frame may go on, if it may.
    fn pass(&self, side: Side, key: ApiKey, client_id: &str, bytes: usize) -> Passage {
        let (rule, wait) = {
            let mut state = self.state();
            if state.silent {
                state.tally.swallowed += 1;
                return Passage::Swallowed;
            }
            let wait = state.wait(bytes);
            (state.rules.iter().find(|rule| rule.takes(side, key, client_id)).cloned(), wait)
        };
        std::thread::sleep(wait);
        let passage = rule.map_or(Passage::Through, |rule| rule.pass(|| self.stopped.load(Ordering::Relaxed)));
        if passage == Passage::Through {
            *self.state().passed.entry((key as i16, side)).or_default() += 1;
        }
        passage
    }
}

impl State {
    /// How long a frame of so many bytes has to wait.
    fn wait(&mut self, bytes: usize) -> Duration {
        self.tally.delayed += usize::from(!self.delay.is_zero());
        let Some(rate) = self.bytes_per_second else { return self.delay };
        let now = Instant::now();
        let begin = self.busy_until.map_or(now, |until| until.max(now));
        self.tally.throttled += usize::from(begin > now);
        let end = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.busy_until = Some(end);
        self.delay + (end - now)
    }
}
