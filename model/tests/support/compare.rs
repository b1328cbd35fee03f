//! Comparing results with what they should be, with messages that say where and by how much they differ.

/// A value passes when it differs from the wanted one by at most `absolute + relative · |wanted|`.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub absolute: f64,
    pub relative: f64,
}

impl Tolerance {
    pub const EXACT: Self = Self { absolute: 0.0, relative: 0.0 };

    pub const fn new(absolute: f64, relative: f64) -> Self {
        Self { absolute, relative }
    }
}

/// The largest differences of a comparison that passed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Difference {
    pub absolute: f64,
    /// Relative to the wanted value; values that are 0 do not count.
    pub relative: f64,
    /// Share of the tolerance that was used, 0 to 1.
    pub used: f64,
}

impl Difference {
    pub fn max(self, other: Self) -> Self {
        Self {
            absolute: self.absolute.max(other.absolute),
            relative: self.relative.max(other.relative),
            used: self.used.max(other.used),
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "max abs {:.2e}, max rel {:.2e}, {:.0} % of the tolerance",
            self.absolute,
            self.relative,
            self.used * 100.0
        )
    }
}

/// Compares element by element. `what` names the values in the message.
pub fn compare(what: &str, got: &[f32], want: &[f32], tolerance: Tolerance) -> Result<Difference, String> {
    if got.len() != want.len() {
        return Err(format!("{what}: got {} values, want {}", got.len(), want.len()));
    }
    let mut largest = Difference::default();
    let mut bad = Vec::new();
    for (index, (&got, &want)) in got.iter().zip(want).enumerate() {
        let (got, want) = (f64::from(got), f64::from(want));
        let difference = (got - want).abs();
        let allowed = tolerance.absolute + tolerance.relative * want.abs();
        // NaN is not within.
        let within = difference <= allowed;
        if !within {
            bad.push(index);
        }
        largest = largest.max(Difference {
            absolute: difference,
            relative: if want == 0.0 { 0.0 } else { difference / want.abs() },
            used: if difference == 0.0 { 0.0 } else { difference / allowed },
        });
    }
    match bad.first() {
        None => Ok(largest),
        Some(&first) => Err(format!(
            "{what}: {} of {} values differ by more than {:e} + {:e} · |want|; first at index {first}: got {:e}, want {:e}; {largest}",
            bad.len(),
            want.len(),
            tolerance.absolute,
            tolerance.relative,
            got[first],
            want[first],
        )),
    }
}

/// Compares whole values, which must be equal.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: &[T], want: &[T]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{what}: got {} values, want {}", got.len(), want.len()));
    }
    match got.iter().zip(want).position(|(got, want)| got != want) {
        None => Ok(()),
        Some(first) => {
            let bad = got.iter().zip(want).filter(|(got, want)| got != want).count();
            Err(format!(
                "{what}: {bad} of {} values are wrong; first at index {first}: got {:x?}, want {:x?}",
                want.len(),
                got[first],
                want[first]
            ))
        }
    }
}

/// Bit patterns, for values that must be exact.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
