//! WASI 0.2 as plugins see it: enough for the runtimes of many languages to start, and nothing of the host behind it.
//!
//! Clocks, randomness, polling and streams are our own: the library's polling blocks the thread without a bound, and no epoch
//! stops it. Here a guest waits by its own will only for time to pass, and no longer than what is left of its deadline. All
//! else (environment, file system without a folder, sockets that can't be made) is the library's, with an empty context.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest as _, Sha256};
use wasmtime::component::{HasData, HasSelf, Linker, Resource};
use wasmtime_wasi::cli::WasiCliView as _;
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::bindings::sync::io::{poll, streams};
use wasmtime_wasi::p2::bindings::{self, io::poll as async_poll, io::streams as async_streams};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, Pollable, StreamError, StreamResult, subscribe};
use wasmtime_wasi::random::WasiRandomCtx;
use wasmtime_wasi::sockets::WasiSocketsView as _;
use wasmtime_wasi::{ResourceTable, async_trait};

use super::state::State;
use crate::data::failure::{Failure, Kind};

/// Bytes of randomness in one call.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// Every interface that plugins may import, by package; all at 0.2.
pub(super) const LINKED: &[&str] =
    &["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"];

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Adds all of it.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    use bindings::sync::{filesystem, sockets};
    use bindings::{cli, sockets as simple_sockets};
    use wasmtime_wasi::cli::WasiCli;
    use wasmtime_wasi::filesystem::WasiFilesystem;
    use wasmtime_wasi::sockets::WasiSockets;

    let l = linker;
    wall_clock::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    monotonic_clock::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    random::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    insecure::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    insecure_seed::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    poll::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    streams::add_to_linker::<State, HasSelf<State>>(l, |state| state)?;
    bindings::io::error::add_to_linker::<State, HasTable>(l, |state| &mut state.table)?;

    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    bindings::filesystem::preopens::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(l, State::filesystem)?;
    simple_sockets::tcp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    simple_sockets::instance_network::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    let network = simple_sockets::network::LinkOptions::default();
    simple_sockets::network::add_to_linker::<State, WasiSockets>(l, &network, State::sockets)?;
    simple_sockets::ip_name_lookup::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::tcp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::udp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::udp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    Ok(())
}

/// The clocks of an instance. Unless the real ones are granted, they stand still while a call runs, except for what the guest
/// sleeps.
pub(super) struct Clock {
    real: Option<Instant>,
    /// Where they stand, in nanoseconds since the Unix epoch.
    base: u64,
    /// What the guest slept in this call, and what it waits for.
    sleep: Arc<Sleep>,
}

#[derive(Default)]
struct Sleep {
    /// Nanoseconds on the monotonic clock.
    now: AtomicU64,
    /// The earliest end of what is waited for; `u64::MAX`: nothing.
    wake: AtomicU64,
}

impl Clock {
    pub(super) fn new(real: bool) -> Self {
        Self { real: real.then(Instant::now), base: 0, sleep: Arc::default() }
    }

    /// A call begins, at a time in milliseconds since the Unix epoch.
    pub(super) fn begin(&mut self, timestamp: i64) {
        self.base = (timestamp.max(0) as u64).saturating_mul(1_000_000);
        if self.real.is_none() {
            self.sleep.now.store(self.base, Relaxed);
        }
    }

    fn monotonic(&self) -> u64 {
        if let Some(started) = self.real {
            self.sleep.now.store(started.elapsed().as_nanos() as u64, Relaxed);
        }
        self.sleep.now.load(Relaxed)
    }

    fn wall(&self) -> Duration {
        match self.real {
            Some(_) => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            None => Duration::from_nanos(self.sleep.now.load(Relaxed)),
        }
    }

    fn slept(&self, duration: Duration) {
        if self.real.is_none() {
            self.sleep.now.fetch_add(duration.as_nanos() as u64, Relaxed);
        }
    }
}

impl wall_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let now = self.clock.wall();
        Ok(wall_clock::Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1_000_000 })
    }
}

/// Ready at a time on the monotonic clock.
struct Alarm {
    at: u64,
    sleep: Arc<Sleep>,
}

#[async_trait]
impl Pollable for Alarm {
    async fn ready(&mut self) {
        std::future::poll_fn(|_| {
            if self.sleep.now.load(Relaxed) >= self.at {
                return Poll::Ready(());
            }
            self.sleep.wake.fetch_min(self.at, Relaxed);
            Poll::Pending
        })
        .await;
    }
}

impl State {
    fn alarm(&mut self, at: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let alarm = self.table.push(Alarm { at, sleep: Arc::clone(&self.clock.sleep) })?;
        subscribe(&mut self.table, alarm)
    }

    /// Waits until one of the conditions that `attempt` looks at holds: that is, until the earliest alarm that it met.
    /// Nothing but alarms ever makes a guest wait here, so there is nothing else to be woken by.
    fn wait<T>(
        &mut self,
        mut attempt: impl FnMut(&mut ResourceTable) -> Option<wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        loop {
            let now = self.clock.monotonic();
            self.clock.sleep.wake.store(u64::MAX, Relaxed);
            if let Some(result) = attempt(&mut self.table) {
                return result;
            }
            let wanted = Duration::from_nanos(self.clock.sleep.wake.load(Relaxed).saturating_sub(now));
            let left = self.budget.left();
            if wanted > left {
                // The end is known, so it isn't waited for: the shard has better things to do.
                let limit = self.budget.limit();
                return Err(self.fault(Failure::new(
                    Kind::Deadline,
                    format!("the plugin waits for {wanted:?}, of its deadline of {limit:?} are left {left:?}"),
                )));
            }
            std::thread::sleep(wanted);
            self.budget.wait(wanted);
            self.clock.slept(wanted);
        }
    }
}

/// The outcome of a future that is ready, or else nothing.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.monotonic())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.alarm(when)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let at = self.clock.monotonic().saturating_add(duration);
        self.alarm(at)
    }
}

impl poll::Host for State {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.wait(|table| {
            let pollables = pollables.iter().map(|pollable| Resource::new_borrow(pollable.rep())).collect();
            now(async_poll::Host::poll(table, pollables))
        })
    }
}

impl poll::HostPollable for State {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.clock.monotonic();
        now(async_poll::HostPollable::ready(&mut self.table, pollable)).unwrap_or(Ok(false))
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.wait(|table| now(async_poll::HostPollable::block(table, Resource::new_borrow(pollable.rep()))))
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        async_poll::HostPollable::drop(&mut self.table, pollable)
    }
}

/// The outcome of an operation on a stream. Ours are always ready, and stdin is always at its end.
fn at_once<T>(future: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    now(future).unwrap_or_else(|| Err(StreamError::trap("a stream would block for ever")))
}

impl streams::Host for State {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        Ok(async_streams::Host::convert_stream_error(&mut self.table, error)?.into())
    }
}

impl streams::HostOutputStream for State {
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        now(async_streams::HostOutputStream::drop(&mut self.table, stream)).unwrap_or(Ok(()))
    }

    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        async_streams::HostOutputStream::check_write(&mut self.table, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        self.budget.forgive_line();
        async_streams::HostOutputStream::write(&mut self.table, stream, bytes)
    }

    fn blocking_write_and_flush(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        self.budget.forgive_line();
        at_once(async_streams::HostOutputStream::blocking_write_and_flush(&mut self.table, stream, bytes))
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        at_once(async_streams::HostOutputStream::blocking_write_zeroes_and_flush(&mut self.table, stream, len))
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        async_streams::HostOutputStream::subscribe(&mut self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        async_streams::HostOutputStream::write_zeroes(&mut self.table, stream, len)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        async_streams::HostOutputStream::flush(&mut self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        at_once(async_streams::HostOutputStream::blocking_flush(&mut self.table, stream))
    }

    fn splice(
        &mut self,
        target: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        async_streams::HostOutputStream::splice(&mut self.table, target, source, len)
    }

    fn blocking_splice(
        &mut self,
        target: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        at_once(async_streams::HostOutputStream::blocking_splice(&mut self.table, target, source, len))
    }
}

impl streams::HostInputStream for State {
    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        now(async_streams::HostInputStream::drop(&mut self.table, stream)).unwrap_or(Ok(()))
    }

    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        async_streams::HostInputStream::read(&mut self.table, stream, len)
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        at_once(async_streams::HostInputStream::blocking_read(&mut self.table, stream, len))
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        async_streams::HostInputStream::skip(&mut self.table, stream, len)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        at_once(async_streams::HostInputStream::blocking_skip(&mut self.table, stream, len))
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        async_streams::HostInputStream::subscribe(&mut self.table, stream)
    }
}

/// Randomness that is the same for the same events: SHA-256 of a seed and a counter. Slow beside other generators, but a plugin
/// asks for little, mostly once, to seed one of its own.
pub(super) struct Random {
    real: Option<WasiRandomCtx>,
    /// The route and the origin of the first event: what the seed is made of, once one is needed.
    route: String,
    topic: String,
    partition: i32,
    offset: i64,
    seed: Option<[u8; 32]>,
    blocks: u64,
    block: [u8; 32],
    used: usize,
}

impl Random {
    pub(super) fn new(real: bool) -> Self {
        Self {
            real: real.then(WasiRandomCtx::default),
            route: String::new(),
            topic: String::new(),
            partition: -1,
            offset: -1,
            seed: None,
            blocks: 0,
            block: [0; 32],
            used: 32,
        }
    }

    /// A call begins: whatever it draws depends on these alone.
    pub(super) fn begin(&mut self, route: &str, topic: &str, partition: i32, offset: i64) {
        set(&mut self.route, route);
        set(&mut self.topic, topic);
        (self.partition, self.offset) = (partition, offset);
        (self.seed, self.blocks, self.used) = (None, 0, 32);
    }

    fn next_block(&mut self) {
        let seed = *self.seed.get_or_insert_with(|| {
            Sha256::new()
                .chain_update("midplane random 1\0")
                .chain_update(&self.route)
                .chain_update([0])
                .chain_update(&self.topic)
                .chain_update([0])
                .chain_update(self.partition.to_le_bytes())
                .chain_update(self.offset.to_le_bytes())
                .finalize()
                .into()
        });
        self.block = Sha256::new().chain_update(seed).chain_update(self.blocks.to_le_bytes()).finalize().into();
        self.blocks += 1;
        self.used = 0;
    }

    fn byte(&mut self) -> u8 {
        if self.used == self.block.len() {
            self.next_block();
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    fn bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        if len > RANDOM_BYTES_MAX {
            return Err(wasmtime::format_err!(
                "{len} bytes of randomness in one call, the limit is {RANDOM_BYTES_MAX}"
            ));
        }
        if let Some(real) = &mut self.real {
            return random::Host::get_random_bytes(real, len);
        }
        Ok((0..len).map(|_| self.byte()).collect())
    }

    fn word(&mut self) -> wasmtime::Result<u64> {
        let bytes = self.bytes(8)?;
        Ok(bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }
}

/// Replaces a text where it differs, in the memory that it has.
fn set(text: &mut String, value: &str) {
    if text != value {
        text.clear();
        text.push_str(value);
    }
}

impl random::Host for State {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random.bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random.word()
    }
}

impl insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random.bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random.word()
    }
}

impl insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random.word()?, self.random.word()?))
    }
}
