//! A plugin bound to a config and to ports, and instances of that.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::Store;

use super::bindings::typed::midplane::plugin::types::Context;
use super::bindings::{columnar as columnar_bindings, typed as typed_bindings};
use super::columnar::{self, Columns, Results};
use super::journal::{Rate, lock};
use super::load::{Plugin, Pre};
use super::state::State;
use super::ticker::Ticker;
use super::typed;
use super::verdicts::Verdicts;
use super::worker::Call;
use crate::config::model::{Grants, Limits};
use crate::data::event::Event;
use crate::data::failure::{Failure, Kind};

/// What `configure` may take.
const CONFIGURE_DEADLINE: Duration = Duration::from_secs(10);
/// What a guest may pass in one call of an import, unless its limits say more: the host copies none of it unchecked.
const HOSTCALL_BYTES: usize = 64 << 20;

/// What makes one set of instances differ from another of the same plugin.
#[derive(Debug, Clone)]
pub struct Spec {
    /// A JSON object, for `configure`.
    pub config: serde_json::Value,
    /// The ports that outputs may name: those that the route binds, or that feed the next plugin of a chain.
    pub bound_ports: Vec<String>,
    /// What an instance may use.
    pub limits: Limits,
    /// What it may see.
    pub grants: Grants,
    /// What stands in the log as the route while no call says otherwise.
    pub route: String,
}

/// Why there is no instance.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The plugin doesn't get as far as `configure`.
    #[error("plugin `{plugin}` can't be started ({}): {}", .failure.kind, .failure.message)]
    Start {
        /// Its name.
        plugin: Arc<str>,
        /// What happened.
        failure: Failure,
    },
    /// `configure` answered with an error.
    #[error("plugin `{plugin}` refuses its config: {message}")]
    Refused {
        /// Its name.
        plugin: Arc<str>,
        /// The plugin's own words.
        message: String,
    },
    /// `configure` didn't answer.
    #[error("`configure` of plugin `{plugin}` failed ({}): {}", .failure.kind, .failure.message)]
    Configure {
        /// Its name.
        plugin: Arc<str>,
        /// What happened.
        failure: Failure,
    },
}

impl InstanceError {
    /// As the verdict of an event that needed the instance. Whatever it is, the event was not in it, and the plugin started with
    /// this very config before: what it misses now (memory of this host, time in `configure`, something of what it is
    /// granted) may come back.
    pub(super) fn into_failure(self) -> Failure {
        Failure::new(Kind::Transient, self.to_string())
    }
}

/// A plugin with its config and its ports; makes instances. Shared by all shards.
pub struct Prepared {
    plugin: Arc<Plugin>,
    spec: Spec,
    config: String,
    ports: Arc<Ports>,
    rate: Arc<Rate>,
    /// Instances that were made in advance, for shards that go over to this.
    ready: Mutex<Vec<Instance>>,
}

impl Prepared {
    pub(super) fn new(plugin: Arc<Plugin>, spec: Spec) -> Self {
        Self {
            config: spec.config.to_string(),
            ports: Arc::new(Ports::new(&plugin.ports, &spec.bound_ports)),
            rate: plugin.shared.rate(&plugin.name, spec.limits.log_bytes_per_second),
            plugin,
            spec,
            ready: Mutex::default(),
        }
    }

    /// The plugin.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// What it was prepared with.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The log's rate.
    pub(super) fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Makes so many instances in advance, apart from the shards: the first of them shows whether the plugin takes its config.
    ///
    /// # Errors
    /// Where an instance can't be made or configured.
    pub fn make_ready(&self, count: usize) -> Result<(), InstanceError> {
        for _ in 0..count {
            let instance = self.instantiate()?;
            lock(&self.ready).push(instance);
        }
        Ok(())
    }

    /// One that was made in advance, if there is one left.
    pub fn take_ready(&self) -> Option<Instance> {
        lock(&self.ready).pop()
    }

    /// Drops what was made in advance and nobody took.
    pub fn drop_ready(&self) {
        lock(&self.ready).clear();
    }

    /// Makes an instance and configures it. To be called on the thread that waits for it: it may take up to 10 seconds of
    /// CPU time.
    pub fn instantiate(&self) -> Result<Instance, InstanceError> {
        let plugin = || Arc::clone(&self.plugin.name);
        let mut instance = Instance::start(&self.plugin, &self.spec, &self.rate)
            .map_err(|failure| InstanceError::Start { plugin: plugin(), failure })?;
        instance.store.data_mut().spare_results =
            Some(Box::new(Results::new(Arc::clone(&self.ports), self.spec.limits)));
        instance.ports = Arc::clone(&self.ports);
        instance.store.data_mut().begin(&self.spec.route, CONFIGURE_DEADLINE);
        let ports = self.spec.bound_ports.iter().map(String::as_str).collect::<Vec<_>>();
        let outcome = instance.guarded(|store, exports| match exports {
            Exports::Typed(guest) => guest.midplane_plugin_processor().call_configure(store, &self.config, &ports),
            Exports::Columnar(guest) => {
                guest.midplane_plugin_batch_processor().call_configure(store, &self.config, &ports)
            }
        });
        match outcome {
            Ok(Ok(())) => Ok(instance),
            Ok(Err(message)) => Err(InstanceError::Refused { plugin: plugin(), message }),
            Err(failure) => Err(InstanceError::Configure { plugin: plugin(), failure }),
        }
    }
}

/// The ports that a plugin describes, and which of them are bound.
#[derive(Debug)]
pub(super) struct Ports {
    names: Vec<String>,
    bound: Vec<bool>,
}

impl Ports {
    pub(super) fn new(described: &[String], bound: &[String]) -> Self {
        Self { names: described.to_vec(), bound: described.iter().map(|name| bound.contains(name)).collect() }
    }

    /// The port at an index, or why the event that names it fails.
    pub(super) fn at(&self, index: u32) -> Result<u16, Failure> {
        match self.bound.get(index as usize) {
            Some(true) => Ok(index as u16),
            Some(false) => Err(self.unbound(&self.names[index as usize])),
            None => Err(self.unknown(&index.to_string())),
        }
    }

    /// The port of a name, or why the event that names it fails.
    pub(super) fn named(&self, name: &str) -> Result<u16, Failure> {
        match self.names.iter().position(|known| known == name) {
            Some(index) => self.at(index as u32),
            None => Err(self.unknown(name)),
        }
    }

    fn unbound(&self, name: &str) -> Failure {
        let bound = self.names.iter().zip(&self.bound).filter(|(_, bound)| **bound);
        let bound = bound.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        Failure::new(
            Kind::Port,
            format!("an output names the port `{name}`, which the route doesn't bind (bound: {bound})"),
        )
    }

    fn unknown(&self, name: &str) -> Failure {
        let name = super::journal::clip(name, 100);
        let known = self.names.join(", ");
        Failure::new(
            Kind::Port,
            format!("an output names the port `{name}`, which the plugin doesn't describe (described: {known})"),
        )
    }
}

/// Why a call has no verdicts.
#[derive(Debug)]
pub(super) enum CallError {
    /// The instance is in an unknown state: it is to be thrown away.
    Trapped(Failure),
    /// The instance is well, but what it said can't be told apart by event.
    Miscounted(Failure),
}

pub(super) enum Exports {
    Typed(typed_bindings::Typed),
    Columnar(columnar_bindings::Columnar),
}

/// One running plugin, in memory of its own. Not for two threads at a time, but it may move from one to another.
pub struct Instance {
    store: Store<State>,
    exports: Exports,
    ports: Arc<Ports>,
    limits: Limits,
    ticker: Ticker,
    used: bool,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl Instance {
    /// Instantiates, under the deadline of `configure`; what the guest runs while it starts counts.
    pub(super) fn start(plugin: &Plugin, spec: &Spec, rate: &Arc<Rate>) -> Result<Self, Failure> {
        let mut state = State::new(&spec.limits, &spec.grants, Arc::clone(rate), &spec.route);
        state.begin(&spec.route, CONFIGURE_DEADLINE);
        state.random.begin(&spec.route, "", -1, -1);
        let mut store = Store::new(plugin.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(HOSTCALL_BYTES.max(spec.limits.output_bytes.saturating_mul(2)));
        store.epoch_deadline_callback(|mut store| {
            Ok(match store.data_mut().budget.next_look() {
                Some(ticks) => wasmtime::UpdateDeadline::Continue(ticks),
                None => wasmtime::UpdateDeadline::Interrupt,
            })
        });
        let ticker = plugin.ticker().clone();
        let exports = {
            let _running = ticker.run();
            store.set_epoch_deadline(1);
            match plugin.pre() {
                Pre::Typed(pre) => pre.instantiate(&mut store).map(Exports::Typed),
                Pre::Columnar(pre) => pre.instantiate(&mut store).map(Exports::Columnar),
            }
        };
        match exports {
            Ok(exports) => {
                let ports = Arc::new(Ports::new(&[], &[]));
                Ok(Self { store, exports, ports, limits: spec.limits, ticker, used: false })
            }
            Err(error) => Err(store.data_mut().explain(&error)),
        }
    }

    /// Whether events were in it: what they left there may be why another one fails.
    pub(super) fn is_used(&self) -> bool {
        self.used
    }

    /// Calls the guest, with the epoch ticking.
    pub(super) fn guarded<T>(
        &mut self,
        call: impl FnOnce(&mut Store<State>, &Exports) -> wasmtime::Result<T>,
    ) -> Result<T, Failure> {
        let _running = self.ticker.run();
        self.store.set_epoch_deadline(1);
        call(&mut self.store, &self.exports).map_err(|error| self.store.data_mut().explain(&error))
    }

    /// Runs one batch of one partition, never an empty one. The verdicts gain one for each event, or they stay as they were.
    /// Gives the CPU time that it took, waiting included.
    pub(super) fn process(
        &mut self,
        call: &Call<'_>,
        events: &[Event<'_>],
        columns: &mut Columns,
        verdicts: &mut Verdicts,
    ) -> (Result<(), CallError>, Duration) {
        self.used = true;
        let newest = events.iter().map(|event| event.timestamp).max().unwrap_or(-1);
        let first = &events[0];
        let state = self.store.data_mut();
        state.begin(call.route, self.limits.deadline);
        state.clock.begin(newest);
        state.random.begin(call.route, first.topic, first.partition, first.offset);

        let _running = self.ticker.run();
        let ticks = self.store.data_mut().budget.first_look();
        self.store.set_epoch_deadline(ticks);
        let context = Context { route: call.route, generation: call.generation, attempt: call.attempt };
        let outcome = match &self.exports {
            Exports::Typed(guest) => {
                let guest = guest.midplane_plugin_processor();
                typed::process(&mut self.store, guest, context, events, (&self.ports, &self.limits), verdicts)
            }
            Exports::Columnar(guest) => {
                let guest = guest.midplane_plugin_batch_processor();
                columnar::process(&mut self.store, guest, context, events, columns, verdicts)
            }
        };
        (outcome, self.store.data().budget.spent())
    }
}
