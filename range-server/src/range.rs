//! The `Range` header: RFC 9110, section 14.

/// What a `Range` header means for a representation of a known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeOutcome {
    /// The header is to be ignored: another unit, malformed, or several ranges. The answer is the whole.
    Ignore,
    /// Well-formed, and nothing of it lies inside the representation.
    Unsatisfiable,
    /// One range, cut to the length.
    Bytes {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte, inclusive.
        last: u64,
    },
}

/// One element of a range set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `first-last` or `first-`, the latter as `u64::MAX`.
    From { first: u64, last: u64 },
    /// `-length`.
    Suffix { length: u64 },
}

/// Interprets the value of a `Range` header for a representation of `len` bytes.
///
/// Unknown units and malformed sets are ignored rather than refused (14.2 demands the first and allows the second);
/// one malformed element spoils the whole set. Numerals of any length are taken, saturating.
pub fn resolve(value: &[u8], len: u64) -> RangeOutcome {
    let Some(specs) = parse(value) else { return RangeOutcome::Ignore };
    let mut satisfiable = specs.iter().filter_map(|spec| spec.within(len));
    match (satisfiable.next(), specs.len()) {
        (None, _) if len == 0 && specs.iter().any(|spec| matches!(spec, Spec::Suffix { length: 1.. })) => {
            // The last n bytes of nothing are the whole of it, which no 206 can express.
            RangeOutcome::Ignore
        }
        (None, _) => RangeOutcome::Unsatisfiable,
        (Some((first, last)), 1) => RangeOutcome::Bytes { first, last },
        (Some(_), _) => RangeOutcome::Ignore,
    }
}

impl Spec {
    /// First and last byte inside a representation of `len` bytes; `None` if nothing is.
    fn within(self, len: u64) -> Option<(u64, u64)> {
        let end = len.checked_sub(1)?;
        match self {
            Self::From { first, last } => (first <= end).then_some((first, last.min(end))),
            Self::Suffix { length } => (length > 0).then_some((len.saturating_sub(length), end)),
        }
    }
}

/// The elements of a set in bytes; `None` if the unit is another one or anything is malformed.
fn parse(value: &[u8]) -> Option<Vec<Spec>> {
    let (unit, set) = std::str::from_utf8(value).ok()?.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    // Lists may have empty elements (5.6.1.2), but not nothing else.
    let elements =
        set.split(',').map(|element| element.trim_matches([' ', '\t'])).filter(|element| !element.is_empty());
    let specs = elements.map(parse_spec).collect::<Option<Vec<_>>>()?;
    (!specs.is_empty()).then_some(specs)
}

fn parse_spec(element: &str) -> Option<Spec> {
    match element.split_once('-')? {
        ("", length) => Some(Spec::Suffix { length: numeral(length)? }),
        (first, "") => Some(Spec::From { first: numeral(first)?, last: u64::MAX }),
        (first, last) => {
            let (first, last) = (numeral(first)?, numeral(last)?);
            (first <= last).then_some(Spec::From { first, last })
        }
    }
}

/// One or more digits; values beyond u64 saturate, as no file reaches that far.
fn numeral(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::RangeOutcome::{Bytes, Ignore, Unsatisfiable};
    use super::*;

    #[test]
    fn table() {
        let bytes = |first, last| Bytes { first, last };
        for (value, len, expected) in [
            ("bytes=0-0", 100, bytes(0, 0)),
            ("bytes=0-99", 100, bytes(0, 99)),
            ("bytes=10-", 100, bytes(10, 99)),
            ("bytes=10-1000", 100, bytes(10, 99)),
            ("bytes=99-", 100, bytes(99, 99)),
            ("bytes=-1", 100, bytes(99, 99)),
            ("bytes=-100", 100, bytes(0, 99)),
            ("bytes=-101", 100, bytes(0, 99)),
            ("BYTES=1-2", 100, bytes(1, 2)),
            ("bytes= 1-2 ", 100, bytes(1, 2)),
            ("bytes=,, 1-2 ,", 100, bytes(1, 2)),
            ("bytes=007-0000000000000000000000009", 100, bytes(7, 9)),
            ("bytes=1-99999999999999999999999999", 100, bytes(1, 99)),
            ("bytes=-99999999999999999999999999", 100, bytes(0, 99)),
            ("bytes=5000000000-5000000009", 6_000_000_000, bytes(5_000_000_000, 5_000_000_009)),
            ("bytes=100-", 100, Unsatisfiable),
            ("bytes=100-200", 100, Unsatisfiable),
            ("bytes=99999999999999999999999999-", 100, Unsatisfiable),
            ("bytes=18446744073709551615-", u64::MAX, Unsatisfiable),
            ("bytes=-0", 100, Unsatisfiable),
            ("bytes=0-0", 0, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-0", 0, Unsatisfiable),
            ("bytes=100-,200-", 100, Unsatisfiable),
            ("bytes=-5", 0, Ignore),
            ("bytes=0-1,4-5", 100, Ignore),
            ("bytes=0-1,200-", 100, Ignore),
            ("bytes=2-1", 100, Ignore),
            ("bytes=0-1,2-1", 100, Ignore),
            ("bytes=", 100, Ignore),
            ("bytes=,", 100, Ignore),
            ("bytes", 100, Ignore),
            ("bytes=a-b", 100, Ignore),
            ("bytes=1", 100, Ignore),
            ("bytes=-", 100, Ignore),
            ("bytes=--1", 100, Ignore),
            ("bytes=+1-2", 100, Ignore),
            ("bytes=1 -2", 100, Ignore),
            ("bytes =1-2", 100, Ignore),
            ("bytes=0x1-2", 100, Ignore),
            ("items=0-1", 100, Ignore),
            ("", 100, Ignore),
        ] {
            assert_eq!(resolve(value.as_bytes(), len), expected, "{value} of {len}");
        }
        assert_eq!(resolve(b"bytes=\xff-1", 100), Ignore);
    }

    proptest! {
        #[test]
        fn never_outside_never_larger_than_asked(first: u64, extent: u64, len: u64) {
            let last = first.saturating_add(extent);
            match resolve(format!("bytes={first}-{last}").as_bytes(), len) {
                Bytes { first: f, last: l } => prop_assert!(f == first && f <= l && l <= last && l < len),
                outcome => prop_assert!(outcome == Unsatisfiable && first >= len),
            }
        }

        #[test]
        fn any_text_is_answered(value: Vec<u8>, len: u64) {
            if let Bytes { first, last } = resolve(&value, len) {
                prop_assert!(first <= last && last < len);
            }
        }

        #[test]
        fn anything_that_looks_like_a_range_is_answered(value in "(bytes=)?[-0-9, \t=]{0,40}", len in 0u64..1000) {
            if let Bytes { first, last } = resolve(value.as_bytes(), len) {
                prop_assert!(first <= last && last < len);
            }
        }
    }
}
