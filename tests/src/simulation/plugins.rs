//! The plugins: what the script says that they do.

use midplane::config::model::Breaker;
use midplane::data::engine::{OnFailure, RouteFailure, Seq, Take};

use super::broker::Message;
use super::bug::Bug;
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
    let mut prepared = Prepared { messages: Vec::new(), unresolved: Vec::new(), dropped: Vec::new() };
    for (route, behaviour) in events[event].behaviours.iter().enumerate() {
        let calls = lane.calls.entry((offset, route)).or_default();
        *calls += 1;
        let refused = lane.refused.get(&seq).is_some_and(|refused| refused.contains(&(route as u16)));
        let attempts = env.script.routes[route].attempts;
        let answer = match *behaviour {
            Behaviour::NotTaken => Ok(0),
            _ if lane.skips.contains(&seq) && env.has(Bug::SkipLoses) => Err(OnFailure::Drop),
            _ if lane.skips.contains(&seq) => Err(OnFailure::Letter),
            Behaviour::TooLarge(_) if refused => Err(OnFailure::Letter),
            Behaviour::Outputs(count) | Behaviour::TooLarge(count) => Ok(count),
            Behaviour::Transient(failing) if *calls <= failing => Err(Host::retry(attempts, env)),
            Behaviour::Halting if !env.repaired => Err(OnFailure::Halt),
            Behaviour::Transient(_) | Behaviour::Halting => Ok(1),
            Behaviour::Endless => Err(Host::retry(attempts, env)),
            Behaviour::Permanent => Err(OnFailure::Letter),
            Behaviour::Sick if env.sick[route] => Err(OnFailure::Letter),
            Behaviour::Sick => Ok(1),
            Behaviour::Dropped => Err(OnFailure::Drop),
        };
        match answer {
            Ok(count) => {
                let channel = env.script.routes[route].topic;
                let message = |part| Message { partition, event, route, part, channel };
                prepared.messages.extend((0..count).map(message));
            }
            Err(on) => {
                let drops = matches!(on, OnFailure::Drop);
                if drops { &mut prepared.dropped } else { &mut prepared.unresolved }.push(route);
                lane.failing.entry(seq).or_default().push(route);
                failures.push(RouteFailure { event: index, route: numbers[route], on });
            }
        }
    }
    // As the engine wants them: by event, then by number, whatever the order of the script.
    failures[known..].sort_by_key(|failure| failure.route);
    prepared
}

/// By route, which of the next events in hand it takes.
pub(super) fn taken(lane: &Lane, count: usize, env: &Env) -> Vec<Vec<u32>> {
    let events = &env.broker.partitions[lane.partition].events;
    let takes = |route: usize| {
        let hand = lane.hand.iter().take(count).zip(0..);
        let taken = hand.filter(|((_, offset), _)| {
            let event = events.partition_point(|event| event.offset < *offset);
            events[event].behaviours[route] != Behaviour::NotTaken
        });
        taken.map(|(_, index)| index).collect()
    };
    (0..env.script.routes.len()).map(takes).collect()
}

/// The breakers of the routes, give or take a bug.
pub(super) fn breakers(probing: bool, env: &Env) -> Vec<Option<Breaker>> {
    let breaker = |breaker: Breaker| match env.bug {
        Some(Bug::BreakerNeverTrips) => None,
        Some(Bug::ProbeMayFail) if probing => None,
        Some(Bug::BreakerTripsLate) => Some(Breaker { events: breaker.events + 5, ..breaker }),
        Some(Bug::BreakerTripsEarly) => Some(Breaker { events: breaker.events.div_ceil(3), ..breaker }),
        _ => Some(breaker),
    };
    env.script.routes.iter().map(|route| route.breaker.and_then(breaker)).collect()
}

/// What the engine is told of that, by the numbers that it knows.
pub(super) fn takes<'a>(taken: &'a [Vec<u32>], breakers: &'a [Option<Breaker>], numbers: &[u16]) -> Vec<Take<'a>> {
    let routes = taken.iter().zip(breakers).zip(numbers);
    routes
        .map(|((taken, breaker), route)| Take { route: *route, events: Some(taken), breaker: breaker.as_ref() })
        .collect()
}
