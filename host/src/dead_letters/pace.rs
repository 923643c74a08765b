//! A rate that letters are held to. Pure: the time is told to it.

use std::collections::VecDeque;
use std::str::FromStr;
use std::time::Duration;

/// What a rate allows comes in so many parts, evenly.
const PARTS: u32 = 10;

/// So many letters at most within any such time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub letters: u32,
    /// Not zero.
    pub per: Duration,
}

impl Rate {
    /// How many letters are begun in one go at most.
    fn part(self) -> u32 {
        (self.letters / PARTS).max(1)
    }
}

impl FromStr for Rate {
    type Err = String;

    /// `100/s`, `30/m`, `500/h`
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected a rate such as `100/s`, `30/m` or `500/h`".to_owned();
        let (letters, unit) = text.split_once('/').ok_or_else(expected)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(expected()),
        };
        let letters = letters.parse().ok().filter(|letters| *letters > 0).ok_or_else(expected)?;
        Ok(Self { letters, per: Duration::from_secs(seconds) })
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.letters)
    }
}

/// What was done, as far as it bounds what may be done next.
#[derive(Debug)]
pub struct Pace {
    rate: Option<Rate>,
    /// When letters were done, and how many, within the time of the rate.
    recent: VecDeque<(Duration, u32)>,
    done: u32,
    busiest: u32,
}

impl Pace {
    /// Nothing was done yet. Without a rate nothing is bounded.
    pub fn new(rate: Option<Rate>) -> Self {
        Self { rate, recent: VecDeque::new(), done: 0, busiest: 0 }
    }

    /// How many letters may be begun now, if those that were begun before are done.
    pub fn room(&mut self, now: Duration) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        self.forget(now, rate);
        match self.wait(now).is_zero() {
            true => rate.letters.saturating_sub(self.done).min(rate.part()) as usize,
            false => 0,
        }
    }

    /// How long there is no room: by the time that parts are apart, what was done first is long enough ago where all is used up.
    pub fn wait(&self, now: Duration) -> Duration {
        match (self.rate, self.recent.back()) {
            (Some(rate), Some((last, _))) => (*last + rate.per * rate.part() / rate.letters).saturating_sub(now),
            _ => Duration::ZERO,
        }
    }

    /// So many letters are done.
    pub fn done(&mut self, now: Duration, letters: usize) {
        let Some(rate) = self.rate else { return };
        self.forget(now, rate);
        let letters = u32::try_from(letters).unwrap_or(u32::MAX);
        self.recent.push_back((now, letters));
        self.done += letters;
        self.busiest = self.busiest.max(self.done);
    }

    /// How many letters were done at most within any time of the rate.
    pub fn busiest(&self) -> u32 {
        self.busiest
    }

    fn forget(&mut self, now: Duration, rate: Rate) {
        while let Some((_, letters)) = self.recent.pop_front_if(|(at, _)| *at + rate.per <= now) {
            self.done -= letters;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_shown() {
        for (text, letters, seconds) in [("100/s", 100, 1), ("30/m", 30, 60), ("1/h", 1, 3600)] {
            let rate = Rate { letters, per: Duration::from_secs(seconds) };
            assert_eq!((text.parse(), rate.to_string().as_str()), (Ok(rate), text));
        }
        for wrong in ["100", "0/s", "/s", "-1/s", "1.5/s", "100/d", "100/ms", "99999999999/s"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    /// Works for so long at a rate, each part taking so long; gives when how many letters were done.
    fn work(rate: &str, part: Duration, end: Duration) -> (Vec<(Duration, usize)>, u32) {
        let (mut pace, mut now, mut done) = (Pace::new(rate.parse().ok()), Duration::ZERO, Vec::new());
        while now < end {
            match pace.room(now) {
                0 => {
                    assert!(!pace.wait(now).is_zero(), "nobody looks again and again");
                    now += pace.wait(now);
                }
                room => {
                    now += part;
                    pace.done(now, room);
                    done.push((now, room));
                }
            }
        }
        (done, pace.busiest())
    }

    #[test]
    fn no_second_has_more_than_the_rate() {
        let check = |rate: &str, per: Duration, part_ms: u64, letters: usize| {
            let (done, busiest) = work(rate, Duration::from_millis(part_ms), per * 5);
            for (first, _) in &done {
                let within = done.iter().filter(|(at, _)| at >= first && *at < *first + per);
                let within: usize = within.map(|(_, count)| count).sum();
                assert!(within <= letters, "{within} letters in one time of {rate}");
            }
            let total: usize = done.iter().map(|(_, count)| count).sum();
            assert!(total >= letters * 4, "{total} letters in five times of {rate}");
            assert!(busiest as usize <= letters && busiest as usize * 10 >= letters * 9, "{busiest} at once of {rate}");
        };
        check("100/s", Duration::from_secs(1), 7, 100);
        check("100/s", Duration::from_secs(1), 0, 100);
        // Parts of two fill it but for one.
        check("25/s", Duration::from_secs(1), 0, 25);
        check("3/s", Duration::from_secs(1), 10, 3);
        check("1/m", Duration::from_secs(60), 10, 1);
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pace = Pace::new(None);
        pace.done(Duration::ZERO, 1_000_000);
        assert_eq!((pace.room(Duration::ZERO), pace.wait(Duration::ZERO)), (usize::MAX, Duration::ZERO));
    }
}
