//! What is answered for events that an operator has skipped: nothing is run, and each route that takes one of them fails, with
//! what it failed with when it stopped the partition, where that is known.

use crate::data::answers::Answers;
use crate::data::chain::{Answer, Run};
use crate::data::event::Event;
use crate::data::failure::{Failure, Kind};
use crate::data::program::Program;
use crate::data::route::Picked;
use crate::data::stop::Stop;

/// The answers of all routes to events that none of them runs.
pub(super) fn answers<'a>(
    program: &Program,
    routes: &[u16],
    picked: &mut [Picked],
    events: &[Event<'_>],
    stop: Option<&Stop>,
) -> Answers<'a> {
    let mut answers = Answers::new(events.len());
    for (route, picked) in routes.iter().zip(picked) {
        let id = &program.plans[usize::from(*route)].id;
        let answer = |event: &Event<'_>| {
            let stop = stop.filter(|stop| stop.offset == event.offset);
            let known = stop.and_then(|stop| stop.failures.iter().find(|known| known.route == *id));
            match known {
                Some(known) => Answer::Failed { failure: known.failure.clone(), stage: known.stage },
                None => {
                    let message = "an operator skipped the event: the route was not run";
                    Answer::Failed { failure: Failure::new(Kind::Skipped, message), stage: None }
                }
            }
        };
        let taken = if picked.all {
            events.iter().map(answer).collect()
        } else {
            picked.events.iter().map(|index| answer(&events[*index as usize])).collect()
        };
        answers.add(*route, picked, Run { answers: taken, ..Run::default() });
    }
    answers
}
