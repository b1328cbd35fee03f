//! The `Range` header: RFC 9110, section 14.

use std::cmp::Ordering;

/// With more parts than this, an answer is the whole: parts would not be worth their headers.
pub const MAX_PARTS: usize = 16;

/// Ranges with fewer bytes between them than this become one: a part of its own costs about as much in delimiters and
/// headers (15.3.7.2).
const GAP_BYTES: u64 = 80;

/// Bytes `first..=last` of a representation: never empty, never beyond its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte, inclusive.
    pub last: u64,
}

impl ByteRange {
    /// Number of bytes; at least 1.
    pub fn len_bytes(self) -> u64 {
        self.last - self.first + 1
    }
}

/// What a `Range` header means for a representation of a known length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeOutcome {
    /// The header is to be ignored: another unit, malformed, or more than is reasonable. The answer is the whole.
    Ignore,
    /// Well-formed, and nothing of it lies inside the representation.
    Unsatisfiable,
    /// One range, cut to the length.
    One(ByteRange),
    /// 2 to [`MAX_PARTS`] ranges, apart from each other, in the order in which they were asked for.
    Several(Vec<ByteRange>),
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
/// one malformed element spoils the whole set. Numerals of any length are taken, saturating. Ranges that lie close
/// together or overlap become one, and a set that asks for more bytes than there are is ignored.
pub fn resolve(value: &[u8], len: u64) -> RangeOutcome {
    let Some(specs) = parse(value) else { return RangeOutcome::Ignore };
    let satisfiable: Vec<ByteRange> = specs.iter().filter_map(|spec| spec.within(len)).collect();
    match satisfiable[..] {
        [] if len == 0 && specs.iter().any(|spec| matches!(spec, Spec::Suffix { length: 1.. })) => {
            // The last n bytes of nothing are the whole of it, which no 206 can express.
            RangeOutcome::Ignore
        }
        [] => RangeOutcome::Unsatisfiable,
        [range] => RangeOutcome::One(range),
        _ => several(satisfiable, len),
    }
}

fn several(ranges: Vec<ByteRange>, len: u64) -> RangeOutcome {
    let asked: u128 = ranges.iter().map(|range| u128::from(range.len_bytes())).sum();
    if asked > u128::from(len) {
        return RangeOutcome::Ignore;
    }
    let apart = coalesce(ranges);
    match apart[..] {
        [range] => RangeOutcome::One(range),
        _ if apart.len() <= MAX_PARTS => RangeOutcome::Several(apart),
        _ => RangeOutcome::Ignore,
    }
}

/// Joins what overlaps or nearly touches. Each joined range stands where the first of its members stood.
fn coalesce(ranges: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut by_offset: Vec<(usize, ByteRange)> = ranges.into_iter().enumerate().collect();
    by_offset.sort_unstable_by_key(|(place, range)| (range.first, *place));
    let mut joined: Vec<(usize, ByteRange)> = Vec::with_capacity(by_offset.len());
    for (place, range) in by_offset {
        match joined.last_mut() {
            Some((first_place, before)) if range.first <= before.last.saturating_add(GAP_BYTES) => {
                *first_place = place.min(*first_place);
                before.last = range.last.max(before.last);
            }
            _ => joined.push((place, range)),
        }
    }
    joined.sort_unstable_by_key(|(place, _)| *place);
    joined.into_iter().map(|(_, range)| range).collect()
}

impl Spec {
    /// The bytes inside a representation of `len` bytes; `None` if nothing is.
    fn within(self, len: u64) -> Option<ByteRange> {
        let end = len.checked_sub(1)?;
        match self {
            Self::From { first, last } => (first <= end).then_some(ByteRange { first, last: last.min(end) }),
            Self::Suffix { length } => {
                (length > 0).then_some(ByteRange { first: len.saturating_sub(length), last: end })
            }
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
            let spec = Spec::From { first: numeral(first)?, last: numeral(last)? };
            (compare_numerals(first, last) != Ordering::Greater).then_some(spec)
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

/// Compares by value, beyond u64 too: there, saturated values would all be equal.
fn compare_numerals(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::RangeOutcome::{Ignore, One, Several, Unsatisfiable};
    use super::*;

    #[test]
    fn table() {
        let bytes = |first, last| One(ByteRange { first, last });
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
            ("bytes=0-1,4-5", 100, bytes(0, 5)),
            ("bytes=0-1,200-", 100, bytes(0, 1)),
            ("bytes=200-,-7", 100, bytes(93, 99)),
            ("bytes=0-99999999999999999999,0-0", 100, Ignore),
            ("bytes=99999999999999999999-99999999999999999998", 100, Ignore),
            ("bytes=099999999999999999998-99999999999999999999", 100, Unsatisfiable),
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

    #[test]
    fn sets() {
        let spaced = |count: u64| (0..count).map(|i| format!("{}-{}", i * 100, i * 100)).collect::<Vec<_>>().join(",");
        let parts =
            |ranges: &[(u64, u64)]| Several(ranges.iter().map(|&(first, last)| ByteRange { first, last }).collect());
        let one = |first, last| One(ByteRange { first, last });
        for (set, expected) in [
            // Parts stand in the order of the request.
            ("0-9,500-509", parts(&[(0, 9), (500, 509)])),
            ("500-509,0-9", parts(&[(500, 509), (0, 9)])),
            ("9990-, 0-9 ,-0", parts(&[(9990, 9999), (0, 9)])),
            ("-10,0-9,20000-", parts(&[(9990, 9999), (0, 9)])),
            // A gap of 79 bytes is bridged, one of 80 is not.
            ("0-9,89-99", one(0, 99)),
            ("0-9,90-99", parts(&[(0, 9), (90, 99)])),
            ("89-99,0-9", one(0, 99)),
            ("0-99,50-149", one(0, 149)),
            ("0-99,100-149", one(0, 149)),
            ("0-99,10-19", one(0, 99)),
            ("7-7,7-7", one(7, 7)),
            // The third joins the first, and takes its place.
            ("1000-1099,5000-5099,1100-1199", parts(&[(1000, 1199), (5000, 5099)])),
            ("5000-5099,1100-1199,1000-1099", parts(&[(5000, 5099), (1000, 1199)])),
            // More than there is.
            ("0-,0-0", Ignore),
            ("0-5000,4000-9999", Ignore),
            ("0-4999,5000-9999", one(0, 9999)),
        ] {
            assert_eq!(resolve(format!("bytes={set}").as_bytes(), 10_000), expected, "{set}");
        }
        let sixteen = resolve(format!("bytes={}", spaced(16)).as_bytes(), 10_000);
        assert!(matches!(&sixteen, Several(parts) if parts.len() == 16), "{sixteen:?}");
        assert_eq!(resolve(format!("bytes={}", spaced(17)).as_bytes(), 10_000), Ignore);
        // Seventeen ranges of which two touch are sixteen.
        let joined = resolve(format!("bytes={},1501-1501", spaced(16)).as_bytes(), 10_000);
        assert!(matches!(&joined, Several(parts) if parts[15] == ByteRange { first: 1500, last: 1501 }), "{joined:?}");
    }

    /// Whether the outcome keeps all that any outcome must keep.
    fn check(outcome: &RangeOutcome, len: u64) -> Result<(), TestCaseError> {
        let parts: &[ByteRange] = match outcome {
            One(range) => &[*range],
            Several(parts) => {
                prop_assert!((2..=MAX_PARTS).contains(&parts.len()));
                parts
            }
            Ignore | Unsatisfiable => &[],
        };
        for (index, part) in parts.iter().enumerate() {
            prop_assert!(part.first <= part.last && part.last < len, "{part:?} of {len}");
            for other in &parts[..index] {
                prop_assert!(part.last + GAP_BYTES < other.first || other.last + GAP_BYTES < part.first);
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn never_outside_never_larger_than_asked(first: u64, extent: u64, len: u64) {
            let last = first.saturating_add(extent);
            match resolve(format!("bytes={first}-{last}").as_bytes(), len) {
                One(range) => prop_assert!(range.first == first && range.last <= last && range.last < len),
                outcome => prop_assert!(outcome == Unsatisfiable && first >= len),
            }
        }

        /// Every byte asked for is in exactly one part, and the parts hold hardly anything else.
        #[test]
        fn parts_cover_what_was_asked(asked in prop::collection::vec((0u64..3000, 0u64..300), 2..20)) {
            const LEN: u64 = 2000;
            let set: Vec<String> = asked.iter().map(|(first, extent)| format!("{first}-{}", first + extent)).collect();
            let outcome = resolve(format!("bytes={}", set.join(",")).as_bytes(), LEN);
            check(&outcome, LEN)?;
            let parts = match &outcome {
                One(range) => vec![*range],
                Several(parts) => parts.clone(),
                Ignore => return Ok(()),
                Unsatisfiable => {
                    prop_assert!(asked.iter().all(|(first, _)| *first >= LEN));
                    return Ok(());
                }
            };
            let was_asked = |at: u64| asked.iter().any(|&(first, extent)| first <= at && at <= first + extent);
            let mut since_asked = 0;
            for at in 0..LEN {
                let times = parts.iter().filter(|part| part.first <= at && at <= part.last).count();
                prop_assert!(times <= 1 && times >= usize::from(was_asked(at)), "byte {at} is in {times} parts");
                since_asked = if was_asked(at) { 0 } else { since_asked + 1 };
                prop_assert!(times == 0 || since_asked < GAP_BYTES, "byte {at} is far from anything asked for");
            }
        }

        #[test]
        fn any_text_is_answered(value: Vec<u8>, len: u64) {
            check(&resolve(&value, len), len)?;
        }

        #[test]
        fn anything_that_looks_like_a_range_is_answered(value in "(bytes=)?[-0-9, \t=]{0,60}", len in 0u64..1000) {
            check(&resolve(value.as_bytes(), len), len)?;
        }
    }
}
