//! Faults to plant, each at a place of a run that chance chooses.

use midplane::config::model::Guarantee;

use super::super::{Event, Found, Kind, Look, Place, Product, Run, Topic};
use super::author::{ALERTS, LETTERS, OUT, maker, record};
use crate::random::Random;

/// A fault.
pub(super) struct Plant {
    pub(super) name: &'static str,
    /// What it has to be reported as.
    pub(super) kind: Kind,
    /// What it may be reported as beside that: the same fault breaks more than one promise.
    pub(super) also: &'static [Kind],
    /// Where it matters which one was made.
    pub(super) guarantee: Option<Guarantee>,
    /// Nothing where the run has no place for it.
    pub(super) plant: fn(&mut Run, &mut Random) -> Option<()>,
}

const fn plant(name: &'static str, kind: Kind, plant: fn(&mut Run, &mut Random) -> Option<()>) -> Plant {
    Plant { name, kind, also: &[], guarantee: None, plant }
}

impl Plant {
    const fn also(mut self, also: &'static [Kind]) -> Self {
        self.also = also;
        self
    }

    const fn exactly_once(mut self) -> Self {
        self.guarantee = Some(Guarantee::ExactlyOnce);
        self
    }

    const fn at_least_once(mut self) -> Self {
        self.guarantee = Some(Guarantee::AtLeastOnce);
        self
    }
}

/// All of them.
pub(super) const PLANTS: &[Plant] = &[
    plant("a lost output", Kind::Lost, |run, random| {
        lose(run, random, |event| event.products.len() == 1 && event.products[0].0 == OUT)
    }),
    plant("a lost letter", Kind::Lost, |run, random| lose(run, random, has_letter)),
    plant("an event lost whole", Kind::Lost, |run, random| lose(run, random, |event| event.products.len() > 1)),
    plant("a torn transaction", Kind::Torn, tear),
    plant("a position committed too early", Kind::Lost, commit_early).also(&[Kind::Torn]),
    plant("a repeat", Kind::Repeated, repeat).exactly_once(),
    plant("a transaction that was written again", Kind::Repeated, repeat_all).exactly_once(),
    plant("a repeat of what was committed", Kind::Repeated, repeat_committed).also(&[Kind::Disordered]).at_least_once(),
    plant("an aborted record that can be read", Kind::Premature, show_aborted).exactly_once(),
    plant("an output before its event is committed", Kind::Premature, commit_late).exactly_once(),
    plant("an output without an input", Kind::Unasked, invent),
    plant("an output of a dropped event", Kind::Unasked, |run, random| {
        add(run, random, |event| event.products.is_empty(), OUT, Product::Output(0))
    }),
    plant("a letter of a dropped event", Kind::Unasked, |run, random| {
        add(run, random, |event| event.products.is_empty(), LETTERS, Product::Letter)
    }),
    plant("one output too many", Kind::Unasked, |run, random| {
        add(run, random, |event| event.products.len() == 1 && !has_letter(event), OUT, Product::Output(1))
    }),
    plant("a letter besides outputs", Kind::Contradicted, |run, random| {
        add(run, random, |event| !event.products.is_empty() && !has_letter(event), LETTERS, Product::Letter)
    }),
    plant("a letter instead of an output", Kind::Mistaken, |run, random| {
        replace(run, random, |event| !event.products.is_empty() && !has_letter(event), LETTERS, Product::Letter)
    }),
    plant("an output instead of a letter", Kind::Mistaken, |run, random| {
        replace(run, random, has_letter, OUT, Product::Output(0))
    }),
    plant("an output in another topic", Kind::Astray, go_astray).also(&[Kind::Torn]),
    plant("a swap of two", Kind::Disordered, swap_events),
    plant("a swap of two outputs of one event", Kind::Disordered, swap_outputs),
    plant("a wrong partition for a key", Kind::Misplaced, misplace).also(&[Kind::Disordered, Kind::GenerationFellBack]),
    plant("another key", Kind::Rekeyed, rekey),
    plant("an event between two generations", Kind::Mixed, mix).also(&[Kind::GenerationFellBack]),
    plant("a generation that falls back", Kind::GenerationFellBack, fall_back),
    plant("a generation of two versions", Kind::TwoVersions, |run, random| {
        let place = pick(random, &places(run, |event| event.products.len() == 1 && !has_letter(event)))?;
        let records = of(last(run), place);
        records.into_iter().for_each(|found| found.maker.as_mut().expect("an output").versions.push('0'));
        generations(run).is_some_and(|(first, _)| first != 0).then_some(())
    }),
    plant("a committed offset that falls back", Kind::CommitFellBack, |run, random| {
        let at = random.below(run.committed.len());
        let mut positions = run.committed[at].clone();
        let partition = pick(random, &positions.keys().copied().collect::<Vec<_>>())?;
        let position = positions.get_mut(&partition).filter(|position| **position > 0)?;
        *position = random.below(*position as usize) as i64;
        run.committed.insert(at + 1, positions);
        Some(())
    }),
    plant("a committed offset behind the end", Kind::CommitTooFar, |run, random| {
        let partition = pick(random, &run.ends().into_keys().collect::<Vec<_>>())?;
        *run.committed.last_mut()?.get_mut(&partition)? += 1;
        Some(())
    }),
    plant("no progress", Kind::Stuck, get_stuck),
    plant("threads that stay", Kind::Leaked, |run, random| {
        run.usages.first_mut()?.1.threads += 4 + random.below(100);
        Some(())
    }),
    plant("descriptors that stay", Kind::Leaked, |run, random| {
        run.usages.first_mut()?.1.descriptors += 11 + random.below(100);
        Some(())
    }),
    plant("memory that stays", Kind::Leaked, |run, random| {
        run.usages.first_mut()?.1.resident_kib += (65 << 10) + random.below(1 << 20) as i64;
        Some(())
    }),
];

fn has_letter(event: &Event) -> bool {
    event.products.iter().any(|(_, product)| *product == Product::Letter)
}

fn pick<T: Clone>(random: &mut Random, list: &[T]) -> Option<T> {
    (!list.is_empty()).then(|| list[random.below(list.len())].clone())
}

/// The look that is taken when all is over.
fn last(run: &mut Run) -> &mut Look {
    run.looks.last_mut().expect("a run ends with a look")
}

fn places(run: &Run, wanted: impl Fn(&Event) -> bool) -> Vec<Place> {
    run.events.iter().filter(|event| wanted(event)).map(|event| event.place).collect()
}

fn event(run: &Run, place: Place) -> Event {
    run.events.iter().find(|event| event.place == place).expect("an event").clone()
}

/// All records of an event.
fn of(look: &mut Look, place: Place) -> Vec<&mut Found> {
    let records = look.topics.iter_mut().flat_map(|topic| &mut topic.records);
    records.filter(|found| found.origin.place == place).collect()
}

/// The first and the last generation of the run's last look.
fn generations(run: &Run) -> Option<(u64, u64)> {
    let records = run.looks.last()?.topics.iter().flat_map(|topic| &topic.records);
    let generations: Vec<_> = records.filter_map(|found| Some(found.maker.as_ref()?.generation)).collect();
    Some((*generations.iter().min()?, *generations.iter().max()?))
}

/// The generation that an event at this place would have been answered by.
fn generation_at(look: &Look, place: Place) -> u64 {
    let records = look.topics.iter().flat_map(|topic| &topic.records);
    let before = records
        .filter(|found| found.origin.place.partition == place.partition && found.origin.place.offset <= place.offset);
    before.filter_map(|found| Some(found.maker.as_ref()?.generation)).max().unwrap_or(1)
}

/// Puts a record where the order of its lane wants it.
fn insert(topic: &mut Topic, found: Found) {
    let follows = |other: &Found| {
        (other.at, other.origin.place.partition) == (found.at, found.origin.place.partition)
            && other.origin > found.origin
    };
    let at = topic.records.iter().position(follows).unwrap_or(topic.records.len());
    topic.records.insert(at, found);
}

fn remove(look: &mut Look, unwanted: impl Fn(usize, &Found) -> bool) {
    for (number, topic) in look.topics.iter_mut().enumerate() {
        topic.records.retain(|found| !unwanted(number, found));
    }
}

fn lose(run: &mut Run, random: &mut Random, wanted: impl Fn(&Event) -> bool) -> Option<()> {
    let place = pick(random, &places(run, wanted))?;
    remove(last(run), |_, found| found.origin.place == place);
    Some(())
}

fn tear(run: &mut Run, random: &mut Random) -> Option<()> {
    let place = pick(random, &places(run, |event| event.products.len() > 1))?;
    let topic = [OUT, ALERTS][random.below(2)];
    remove(last(run), |number, found| number == topic && found.origin.place == place);
    Some(())
}

/// A look before the last one, with its number, that still had something before it.
fn early_look(run: &Run, random: &mut Random) -> Option<usize> {
    let is_early = |number: &usize| run.looks[*number].committed != run.ends();
    pick(random, &(0..run.looks.len() - 1).filter(is_early).collect::<Vec<_>>())
}

/// The first event at a look that isn't committed and isn't there.
fn next_at(run: &Run, look: &Look) -> Option<Event> {
    let is_there = |event: &&Event| {
        let records = look.topics.iter().flat_map(|topic| &topic.records);
        records.into_iter().any(|found| found.origin.place == event.place)
    };
    let next = |event: &&Event| event.place.offset >= look.committed[&event.place.partition];
    run.events.iter().find(|event| next(event) && !event.products.is_empty() && !is_there(event)).cloned()
}

fn commit_early(run: &mut Run, random: &mut Random) -> Option<()> {
    let number = early_look(run, random)?;
    let place = next_at(run, &run.looks[number])?.place;
    run.looks[number].committed.insert(place.partition, place.offset + 1);
    Some(())
}

/// A record that is there already, where the order of its lane wants it.
fn repeat(run: &mut Run, random: &mut Random) -> Option<()> {
    let topic = pick(random, &[OUT, ALERTS, LETTERS])?;
    let records = &mut last(run).topics[topic].records;
    let at = random.below(records.len().max(1));
    let found = records.get(at)?.clone();
    records.insert(at + 1, found);
    Some(())
}

/// A stretch of records, once more at the end.
fn repeat_all(run: &mut Run, random: &mut Random) -> Option<()> {
    let (_, generation) = generations(run)?;
    let topic = &mut last(run).topics[OUT];
    let from = random.below(topic.records.len().max(1));
    let mut again: Vec<_> = topic.records.get(from..)?.iter().take(10).cloned().collect();
    // By whoever runs last, as it would be: of the generation that is reported there is no doubt.
    again.retain(|found| found.maker.as_ref().is_some_and(|maker| maker.generation == generation));
    (!again.is_empty()).then(|| topic.records.extend(again))
}

fn repeat_committed(run: &mut Run, random: &mut Random) -> Option<()> {
    let is_safe = |event: &Event| {
        let Place { partition, offset } = event.place;
        run.interruptions.iter().all(|positions| positions[&partition] > offset)
    };
    let place = pick(random, &places(run, |event| event.products.len() == 1 && is_safe(event)))?;
    let topic = event(run, place).products[0].0;
    let records = &mut last(run).topics[topic].records;
    let at = records.iter().position(|found| found.origin.place == place)?;
    let found = records[at].clone();
    records.insert(at + 1, found);
    Some(())
}

fn show_aborted(run: &mut Run, random: &mut Random) -> Option<()> {
    let number = early_look(run, random)?;
    let next = next_at(run, &run.looks[number])?;
    let look = &mut run.looks[number];
    let generation = generation_at(look, next.place);
    for &(topic, product) in &next.products {
        let topic = &mut look.topics[topic];
        topic.records.push(record(&next, product, generation, topic.partitions));
    }
    Some(())
}

/// The group stands before an event whose outputs can be read.
fn commit_late(run: &mut Run, random: &mut Random) -> Option<()> {
    let number = pick(random, &(0..run.looks.len() - 1).collect::<Vec<_>>())?;
    let look = &mut run.looks[number];
    let records: Vec<_> = look.topics.iter().flat_map(|topic| &topic.records).map(|found| found.origin.place).collect();
    let place = pick(random, &records)?;
    look.committed.insert(place.partition, place.offset);
    Some(())
}

fn invent(run: &mut Run, random: &mut Random) -> Option<()> {
    run.interruptions.is_empty().then_some(())?;
    let like = pick(random, &run.events)?;
    let place = Place { partition: like.place.partition, offset: run.ends()[&like.place.partition] + 3 };
    let generation = generation_at(last(run), place);
    let topic = &mut last(run).topics[OUT];
    topic.records.push(record(&Event { place, ..like }, Product::Output(0), generation, topic.partitions));
    Some(())
}

fn add(
    run: &mut Run,
    random: &mut Random,
    wanted: impl Fn(&Event) -> bool,
    topic: usize,
    product: Product,
) -> Option<()> {
    let place = pick(random, &places(run, wanted))?;
    let event = event(run, place);
    // Whose generation it would be is beyond doubt only where nothing was repeated.
    (product == Product::Letter || run.interruptions.is_empty()).then_some(())?;
    let look = last(run);
    let generation = generation_at(look, place);
    let topic = &mut look.topics[topic];
    let found = record(&event, product, generation, topic.partitions);
    insert(topic, found);
    Some(())
}

fn replace(
    run: &mut Run,
    random: &mut Random,
    wanted: impl Fn(&Event) -> bool,
    topic: usize,
    product: Product,
) -> Option<()> {
    let place = pick(random, &places(run, wanted))?;
    remove(last(run), |_, found| found.origin.place == place);
    add(run, random, |event| event.place == place, topic, product)
}

fn go_astray(run: &mut Run, random: &mut Random) -> Option<()> {
    let place = pick(random, &places(run, |event| !event.products.is_empty() && !has_letter(event)))?;
    remove(last(run), |topic, found| {
        topic == OUT && found.origin.place == place && found.origin.product == Product::Output(0)
    });
    add(run, random, |event| event.place == place, ALERTS, Product::Output(0))
}

/// Two neighbours of one lane that are there once.
fn swap(run: &mut Run, random: &mut Random, wanted: impl Fn(&Found, &Found) -> bool) -> Option<()> {
    let records = &mut last(run).topics[OUT].records;
    let once = |found: &Found| records.iter().filter(|other| other.origin == found.origin).count() == 1;
    let mut pairs = Vec::new();
    for (at, found) in records.iter().enumerate() {
        let same = |other: &Found| (other.at, other.origin.place.partition) == (found.at, found.origin.place.partition);
        let Some(next) = (at + 1..records.len()).find(|&next| same(&records[next])) else { continue };
        let other = &records[next];
        if once(found) && once(other) && found.maker == other.maker && found.key == other.key && wanted(found, other) {
            pairs.push((at, next));
        }
    }
    let (one, other) = pick(random, &pairs)?;
    records.swap(one, other);
    Some(())
}

fn swap_events(run: &mut Run, random: &mut Random) -> Option<()> {
    // An interruption would make the earlier one a repetition that may be.
    run.interruptions.is_empty().then_some(())?;
    swap(run, random, |one, other| one.origin.place != other.origin.place)
}

fn swap_outputs(run: &mut Run, random: &mut Random) -> Option<()> {
    run.interruptions.is_empty().then_some(())?;
    swap(run, random, |one, other| one.origin.place == other.origin.place)
}

fn misplace(run: &mut Run, random: &mut Random) -> Option<()> {
    let topic = &mut last(run).topics[OUT];
    let at = random.below(topic.records.len().max(1));
    let partitions = topic.partitions;
    let found = topic.records.get_mut(at).filter(|_| partitions > 1)?;
    found.at = (found.at + 1) % partitions;
    Some(())
}

fn rekey(run: &mut Run, random: &mut Random) -> Option<()> {
    let topic = &mut last(run).topics[LETTERS];
    let at = random.below(topic.records.len().max(1));
    let key = topic.records.get_mut(at)?.key.as_mut()?;
    key.push(b'x');
    Some(())
}

fn mix(run: &mut Run, random: &mut Random) -> Option<()> {
    let place = pick(random, &places(run, |event| event.products.len() > 1))?;
    let records = of(last(run), place);
    let alert = records.into_iter().filter(|found| found.origin.product != Product::Output(0)).last()?;
    let generation = alert.maker.as_ref()?.generation;
    let times = of(last(run), place).len();
    (times == event(run, place).products.len()).then_some(())?;
    let alert = of(last(run), place).into_iter().filter(|found| found.origin.product != Product::Output(0)).last()?;
    alert.maker = Some(maker(generation + 1));
    Some(())
}

/// An event behind others of its generation is said to be of the one before.
fn fall_back(run: &mut Run, random: &mut Random) -> Option<()> {
    run.interruptions.is_empty().then_some(())?;
    let candidates = places(run, |event| !event.products.is_empty() && !has_letter(event) && event.place.offset > 0);
    let place = pick(random, &candidates)?;
    let before = generation_at(last(run), Place { offset: place.offset - 1, ..place });
    let generation = generation_at(last(run), place);
    (before == generation && generation > 1).then_some(())?;
    of(last(run), place).into_iter().for_each(|found| found.maker = Some(maker(generation - 1)));
    Some(())
}

fn get_stuck(run: &mut Run, random: &mut Random) -> Option<()> {
    let partition = pick(random, &run.ends().into_keys().collect::<Vec<_>>())?;
    let look = last(run);
    let position = look.committed.get_mut(&partition)?;
    *position = random.below(*position as usize) as i64;
    let from = Place { partition, offset: *position };
    let is_behind = |found: &Found| found.origin.place.partition == partition && found.origin.place >= from;
    remove(look, |_, found| is_behind(found));
    Some(())
}
