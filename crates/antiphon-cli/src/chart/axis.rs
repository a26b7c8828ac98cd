//! An axis: which numbers it spans, where its ticks are, and how they are written.

use crate::plan::figures;

/// What the numbers of an axis are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Seconds,
    /// Parts of 1, written in percent.
    Percent,
    /// Per second.
    Rate,
    Count,
}

impl Unit {
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Seconds => figures::seconds(value),
            Self::Percent => format!("{} %", figures::plain(value * 100.0)),
            Self::Rate => format!("{}/s", figures::plain(value)),
            Self::Count => figures::plain(value),
        }
    }
}

/// An axis before its numbers are known.
pub struct Axis {
    pub label: String,
    pub unit: Unit,
    scale: Scale,
}

/// How an axis spans its numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// From 0.
    Whole,
    /// From the last tick below the numbers.
    Close,
    Logarithmic,
}

impl Axis {
    pub fn linear(label: &str, unit: Unit) -> Self {
        Self { label: label.to_owned(), unit, scale: Scale::Whole }
    }

    /// A linear axis that need not begin at 0.
    pub fn close(label: &str, unit: Unit) -> Self {
        Self { label: label.to_owned(), unit, scale: Scale::Close }
    }

    pub fn logarithmic(label: &str, unit: Unit) -> Self {
        Self { label: label.to_owned(), unit, scale: Scale::Logarithmic }
    }

    /// Whether the axis has a place for this number.
    pub fn takes(&self, value: f64) -> bool {
        value.is_finite() && (self.scale != Scale::Logarithmic || value > 0.0)
    }

    /// The axis that holds these numbers, and ends on ticks.
    pub fn fit(&self, values: impl Iterator<Item = f64>) -> Fitted {
        let taken = values.filter(|value| self.takes(*value));
        let (least, most) =
            taken.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), value| (a.min(value), b.max(value)));
        if self.scale == Scale::Logarithmic {
            return Fitted { ticks: logarithmic_ticks(least, most), logarithmic: true };
        }
        let (least, most) = if least > most { (0.0, 1.0) } else { (least, most) };
        let least = if self.scale == Scale::Whole { least.min(0.0) } else { least };
        let step = step_of(if most > least { (most - least) / 6.0 } else { 1.0 });
        let low = (least / step + 1e-9).floor() * step;
        // A value a hair above a tick does not need another.
        let count = ((most - low) / step - 1e-9).ceil().max(1.0) as u32;
        Fitted { ticks: (0..=count).map(|tick| low + step * f64::from(tick)).collect(), logarithmic: false }
    }
}

/// From the last of 1, 2, 5, 10, … that is not above the numbers to the first that is not below; over a wide range only
/// powers of ten between.
fn logarithmic_ticks(least: f64, most: f64) -> Vec<f64> {
    let (least, most) = if least > most { (0.1, 1.0) } else { (least, most) };
    let from = least.log10().floor() as i32;
    let to = most.log10().ceil() as i32;
    let all = (from..=to).flat_map(|power| [1.0, 2.0, 5.0].map(|times| times * 10_f64.powi(power)));
    let all: Vec<f64> = all.collect();
    let first = all.iter().rposition(|tick| *tick <= least * (1.0 + 1e-9)).unwrap_or(0);
    let last = all.iter().position(|tick| *tick >= most * (1.0 - 1e-9)).unwrap_or(all.len() - 1).max(first + 1);
    let wide = last - first > 8;
    let kept = |place: usize| place == first || place == last || !wide || place.is_multiple_of(3);
    let ticks = all.iter().enumerate().filter(|(place, _)| (first..=last).contains(place) && kept(*place));
    ticks.map(|(_, tick)| *tick).collect()
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn step_of(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].iter().map(|times| times * power).find(|step| *step >= least * 0.999).unwrap_or(power)
}

/// An axis that knows its ends.
pub struct Fitted {
    ticks: Vec<f64>,
    logarithmic: bool,
}

impl Fitted {
    /// Where a number stands, 0 at the beginning and 1 at the end.
    pub fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.logarithmic { value.log10() } else { value };
        let low = scale(self.ticks.first().copied().unwrap_or(0.0));
        let high = scale(self.ticks.last().copied().unwrap_or(1.0));
        (scale(value) - low) / (high - low)
    }

    pub fn ticks(&self) -> &[f64] {
        &self.ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_every_number() {
        let fitted = Axis::linear("", Unit::Count).fit([3.0, 47.0].into_iter());
        assert_eq!(fitted.ticks(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]);
        let fitted = Axis::close("", Unit::Count).fit([0.93, 1.0].into_iter());
        assert!(
            (fitted.ticks()[0] - 0.92).abs() < 1e-9 && (fitted.place(1.0) - 1.0).abs() < 1e-9,
            "{:?}",
            fitted.ticks()
        );
        let fitted = Axis::logarithmic("", Unit::Count).fit([0.02, 3.0].into_iter());
        let ticks = fitted.ticks();
        assert_eq!(ticks, [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]);
        assert!((fitted.place(5.0) - 1.0).abs() < 1e-12 && fitted.place(0.02).abs() < 1e-12);
        let wide = Axis::logarithmic("", Unit::Count).fit([0.003, 200.0].into_iter());
        assert_eq!(wide.ticks(), [0.002, 0.01, 0.1, 1.0, 10.0, 100.0, 200.0]);
    }

    #[test]
    fn an_axis_without_numbers_has_ticks_all_the_same() {
        for axis in [Axis::linear("", Unit::Count), Axis::close("", Unit::Count), Axis::logarithmic("", Unit::Count)] {
            assert!(axis.fit(std::iter::empty()).ticks().iter().all(|tick| tick.is_finite()));
        }
    }
}
