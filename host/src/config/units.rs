//! Durations and sizes as people write them: a whole number and its unit. Never guesses a unit.

use std::time::Duration;

const DURATIONS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It doesn't start with a whole number.
    NoNumber,
    /// A number without its unit.
    NoUnit(u64),
    /// The unit is none; the nearest one, where something is near.
    UnknownUnit(Option<&'static str>),
    /// Larger than can be represented.
    TooLarge,
}

/// Milliseconds at most: what is shorter has no use in the file.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    quantity(text, DURATIONS).map(Duration::from_millis)
}

/// Bytes, as configs write them: `64MiB`. None where it isn't that.
pub fn parse_size(text: &str) -> Option<u64> {
    size(text).ok()
}

/// Bytes.
pub(super) fn size(text: &str) -> Result<u64, Refusal> {
    quantity(text, SIZES)
}

/// `5%` as 0.05. None for what is no share, or for nothing or more than all.
pub(super) fn share(text: &str) -> Option<f64> {
    let number = text.strip_suffix('%')?;
    // What floats take otherwise, such as `1e1`, `+5` and `inf`, is nothing that people mean.
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && !number.starts_with('.')
        && !number.ends_with('.');
    let share = number.parse::<f64>().ok().filter(|_| is_plain)? / 100.0;
    (share > 0.0 && share <= 1.0).then_some(share)
}

/// In the largest unit that divides it: what [`duration`] reads back.
pub fn print_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    print(milliseconds, DURATIONS)
}

/// In the largest binary unit that divides it: what the file takes.
pub fn print_size(bytes: u64) -> String {
    print(bytes, &SIZES[..5])
}

fn print(amount: u64, units: &[(&str, u64)]) -> String {
    let (unit, factor) =
        units.iter().rev().find(|(_, factor)| amount != 0 && amount.is_multiple_of(*factor)).unwrap_or(&units[0]);
    format!("{}{unit}", amount / factor)
}

fn quantity(text: &str, units: &'static [(&'static str, u64)]) -> Result<u64, Refusal> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits == 0 {
        return Err(Refusal::NoNumber);
    }
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| Refusal::TooLarge)?;
    if unit.is_empty() {
        return Err(Refusal::NoUnit(number));
    }
    match units.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => number.checked_mul(*factor).ok_or(Refusal::TooLarge),
        None => Err(Refusal::UnknownUnit(nearest_unit(unit, units))),
    }
}

fn nearest_unit(unit: &str, units: &'static [(&'static str, u64)]) -> Option<&'static str> {
    let lower = unit.trim().to_lowercase();
    units
        .iter()
        .map(|(name, _)| *name)
        .find(|name| name.to_lowercase() == lower)
        .or_else(|| units.iter().map(|(name, _)| *name).find(|name| lower.starts_with(&name.to_lowercase())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        let check = |text: &str, expected: Result<u64, Refusal>| {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        };
        check("250ms", Ok(250));
        check("0s", Ok(0));
        check("2m", Ok(120_000));
        check("7d", Ok(604_800_000));
        check("", Err(Refusal::NoNumber));
        check("-1s", Err(Refusal::NoNumber));
        check("soon", Err(Refusal::NoNumber));
        check("30", Err(Refusal::NoUnit(30)));
        check("1.5s", Err(Refusal::UnknownUnit(None)));
        check("30 s", Err(Refusal::UnknownUnit(Some("s"))));
        check("30sec", Err(Refusal::UnknownUnit(Some("s"))));
        check("30MS", Err(Refusal::UnknownUnit(Some("ms"))));
        check("99999999999999999999d", Err(Refusal::TooLarge));
        check("999999999999999999d", Err(Refusal::TooLarge));
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expected: Result<u64, Refusal>| assert_eq!(size(text), expected, "{text}");
        check("64MiB", Ok(64 << 20));
        check("1kB", Ok(1_000));
        check("512B", Ok(512));
        check("64mib", Err(Refusal::UnknownUnit(Some("MiB"))));
        check("64M", Err(Refusal::UnknownUnit(None)));
        check("64", Err(Refusal::NoUnit(64)));
    }

    #[test]
    fn shares() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(share(text), expected, "{text}");
        check("5%", Some(0.05));
        check("0.5%", Some(0.005));
        check("100%", Some(1.0));
        for text in
            ["", "%", ".%", "0%", "0.0%", "100.1%", "5", "5 %", "-5%", "+5%", ".5%", "5.%", "1e1%", "inf%", "NaN%"]
        {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_is_read_back(milliseconds in any::<u64>()) {
            let value = Duration::from_millis(milliseconds);
            prop_assert_eq!(duration(&print_duration(value)), Ok(value));
        }

        #[test]
        fn a_printed_size_is_read_back(bytes in any::<u64>()) {
            prop_assert_eq!(size(&print_size(bytes)), Ok(bytes));
        }

        #[test]
        fn nothing_panics(text in ".{0,24}") {
            let _ = duration(&text);
            let _ = size(&text);
            let _ = share(&text);
        }
    }
}
