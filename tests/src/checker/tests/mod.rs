//! The checker itself: it lets every run pass in which all is well, and reports each fault that is planted into one.

mod author;
mod plant;

use midplane::config::model::Guarantee;

use self::author::write;
use self::plant::PLANTS;
use crate::random::Random;

const GUARANTEES: [Guarantee; 2] = [Guarantee::AtLeastOnce, Guarantee::ExactlyOnce];

#[test]
fn a_run_in_which_all_is_well_passes() {
    let (mut repeats, mut interruptions) = (0, 0);
    for seed in 0..200 {
        for guarantee in GUARANTEES {
            let run = write(seed, guarantee);
            let verdict = run.check();
            assert!(verdict.findings.is_empty(), "seed {seed}, {guarantee}: {verdict}");
            repeats += verdict.repeats;
            interruptions += run.interruptions.len();
        }
    }
    assert!(repeats > 0 && interruptions > 0, "there was nothing to be told from a fault");
}

#[test]
fn every_planted_fault_is_reported_as_what_it_is() {
    for plant in PLANTS {
        let (mut planted, mut seed) = (0, 0);
        while planted < 20 {
            assert!(seed < 2000, "`{}` found {planted} places only", plant.name);
            let guarantee = plant.guarantee.unwrap_or(GUARANTEES[seed as usize % 2]);
            let mut run = write(seed, guarantee);
            if (plant.plant)(&mut run, &mut Random::new(seed)).is_some() {
                let verdict = run.check();
                let found = verdict.count(plant.kind);
                assert!(found > 0, "`{}` at seed {seed}, {guarantee}, is not reported: {verdict}", plant.name);
                let known = |kind: &_| *kind == plant.kind || plant.also.contains(kind);
                let strange = verdict.kinds().into_keys().find(|kind| !known(kind));
                assert_eq!(strange, None, "`{}` at seed {seed}, {guarantee}: {verdict}", plant.name);
                planted += 1;
            }
            seed += 1;
        }
    }
}
