//! Schedules of the engine under faults. `MIDPLANE_SIMULATION_SCHEDULES` says how many, `MIDPLANE_SIMULATION_SEED` names the
//! one that is to be repeated, with its trace.

use midplane_tests::simulation::{Bug, Stats, run};

/// Enough for each planted bug to be found many times over, in seconds.
const SCHEDULES: u64 = 4000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{variable}` is `{text}`, not a number")))
}

#[test]
fn no_schedule_breaks_a_guarantee() {
    if let Some(seed) = number("MIDPLANE_SIMULATION_SEED") {
        run(seed, None, true).unwrap_or_else(|finding| panic!("{finding}"));
        return;
    }
    let mut all = Stats::default();
    for seed in 0..number("MIDPLANE_SIMULATION_SCHEDULES").unwrap_or(SCHEDULES) {
        match run(seed, None, false) {
            Ok(stats) => all.add(stats),
            Err(_) => panic!("{}", run(seed, None, true).expect_err("a schedule repeats itself")),
        }
    }
    eprintln!("{all:#?}");
    let Stats { events, acked, failed, letters, parks, halts, commits, releases, .. } = all;
    let Stats { crashes, producers_lost, lost, blocked, drains, swaps, .. } = all;
    let Stats { trips, probes, pauses, skips, .. } = all;
    let counts = [events, acked, failed, letters, parks, halts, commits, releases];
    let faults = [crashes, producers_lost, lost, blocked, drains, swaps];
    let stops = [trips, probes, pauses, skips];
    assert!(counts.iter().chain(&faults).chain(&stops).all(|&count| count > 0), "{all:?}");
}

#[test]
fn every_planted_bug_is_found() {
    for &bug in Bug::ALL {
        let found = (0..1000).find_map(|seed| run(seed, Some(bug), false).err());
        let finding = found.unwrap_or_else(|| panic!("{bug:?} is not found"));
        eprintln!("{bug:?}: {} at seed {}", finding.message, finding.seed);
    }
}
