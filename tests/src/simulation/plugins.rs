//! The plugins: what the script says that they do.

use midplane::data::engine::{OnFailure, RouteFailure, Seq};

use super::broker::Message;
use super::env::Env;
use super::host::Host;
use super::lane::{Lane, Prepared};
use super::script::Behaviour;

/// Runs an event through all routes.
pub(super) fn run(
    lane: &mut Lane,
    numbers: &[u16],
    seq: Seq,
    offset: i64,
    index: u32,
    failures: &mut Vec<RouteFailure<'static>>,
    env: &Env,
) -> Prepared {
    let (partition, known) = (lane.partition, failures.len());
    let events = &env.broker.partitions[partition].events;
    let event = events.partition_point(|event| event.offset < offset);
    let mut prepared = Prepared { messages: Vec::new(), unresolved: Vec::new() };
    for (route, behaviour) in events[event].behaviours.iter().enumerate() {
        let calls = lane.calls.entry((offset, route)).or_default();
        *calls += 1;
        let refused = lane.refused.get(&seq).is_some_and(|refused| refused.contains(&(route as u16)));
        let attempts = env.script.routes[route].attempts;
        let answer = match *behaviour {
            Behaviour::TooLarge(_) if refused => Err(OnFailure::Letter),
            Behaviour::Outputs(count) | Behaviour::TooLarge(count) => Ok(count),
            Behaviour::Transient(failing) if *calls <= failing => Err(Host::retry(attempts, env)),
            Behaviour::Halting if !env.repaired => Err(OnFailure::Halt),
            Behaviour::Transient(_) | Behaviour::Halting => Ok(1),
            Behaviour::Endless => Err(Host::retry(attempts, env)),
            Behaviour::Permanent => Err(OnFailure::Letter),
            Behaviour::Dropped => Err(OnFailure::Drop),
        };
        match answer {
            Ok(count) => {
                let channel = env.script.routes[route].topic;
                let message = |part| Message { partition, event, route, part, channel };
                prepared.messages.extend((0..count).map(message));
            }
            Err(on) => {
                if !matches!(on, OnFailure::Drop) {
                    prepared.unresolved.push(route);
                }
                failures.push(RouteFailure { event: index, route: numbers[route], on });
            }
        }
    }
    // As the engine wants them: by event, then by number, whatever the order of the script.
    failures[known..].sort_by_key(|failure| failure.route);
    prepared
}
