//! What several runs make: their spread, written the way that all tables here have it.

use std::fmt;

/// The smallest, the middle and the largest of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of nothing, it is made of what is no number, which holds no bound.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(figures.len() / 2), max: at(figures.len().saturating_sub(1)) }
    }
}

/// `min / **median** / max`, with as many digits as the format asks for.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self { min, median, max } = self;
        write!(f, "{min:.digits$} / **{median:.digits$}** / {max:.digits$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_in_bold() {
        let check = |figures: &[f64], expected: &str| {
            assert_eq!(format!("{:.1}", Spread::of(figures.iter().copied())), expected);
        };
        check(&[3.0, 1.0, 2.0], "1.0 / **2.0** / 3.0");
        check(&[1.25], "1.2 / **1.2** / 1.2");
        check(&[], "NaN / **NaN** / NaN");
    }

    #[test]
    fn nothing_holds_no_bound() {
        assert!(Spread::of([]).median.is_nan(), "nothing measured keeps within no bound");
    }
}
