//! Numbers about many measurements.

use serde::Serialize;

/// Percentiles of durations, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
    /// Number of durations.
    pub samples: usize,
}

impl Percentiles {
    /// Percentiles of durations in milliseconds, given in any order; `None` without any.
    pub fn of(milliseconds: &[f64]) -> Option<Self> {
        let mut sorted = milliseconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let max = *sorted.last()?;
        let at = |share| percentile(&sorted, share);
        Some(Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max, samples: sorted.len() })
    }
}

/// The median; `None` for no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (!sorted.is_empty()).then(|| percentile(&sorted, 0.5))
}

/// The value below which `share` of the sorted ones lie, linear between neighbours (as NumPy's default).
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = share * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    below + (above - below) * rank.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values: numpy.percentile([15, 20, 35, 40, 50], [50, 90, 99]).
    #[test]
    fn percentiles_interpolate_between_neighbours() {
        let got = Percentiles::of(&[40.0, 15.0, 50.0, 20.0, 35.0]).expect("five values");
        assert_eq!((got.p50, got.max, got.samples), (35.0, 50.0, 5));
        assert!((got.p90 - 46.0).abs() < 1e-12 && (got.p99 - 49.6).abs() < 1e-12, "{got:?}");
    }

    #[test]
    fn of_one_value_all_are_that_value_and_of_none_there_are_none() {
        let one = Percentiles { p50: 7.0, p90: 7.0, p99: 7.0, max: 7.0, samples: 1 };
        assert_eq!(Percentiles::of(&[7.0]), Some(one));
        assert_eq!(Percentiles::of(&[]), None);
        assert_eq!((median(&[3.0, 1.0]), median(&[])), (Some(2.0), None));
    }
}
