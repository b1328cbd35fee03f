//! A second opinion on the `Range` header: RFC 9110, 14.1.1, 14.1.2, 14.2 and 15.3.7, and what `range.rs` says about
//! sets.

use std::cmp::Ordering;

use gguf_serve::range::{ByteRange, RangeOutcome, resolve};
use hyper::header::RANGE;

use crate::input::Case;

/// More parts are answered with the whole.
const PARTS: usize = 16;
/// Fewer bytes between two ranges than this make them one.
const GAP: i128 = 80;

/// Checks every `Range` of the request, whatever its other headers.
pub fn check(case: &Case) {
    for value in case.headers.get_all(RANGE) {
        let (found, expected) = (resolve(value.as_bytes(), case.facts.len), outcome(value.as_bytes(), case.facts.len));
        assert_eq!(found, expected, "{value:?} of {} bytes", case.facts.len);
    }
}

/// What `value` means for a file of `len` bytes.
pub fn outcome(value: &[u8], len: u64) -> RangeOutcome {
    let Some(specs) = set_of(value) else { return RangeOutcome::Ignore };
    let mut ranges = Vec::new();
    let mut last_bytes_asked = false;
    for spec in &specs {
        last_bytes_asked |= matches!(spec, Spec::Suffix(length) if !length.is_zero());
        if let Some(range) = spec.inside(len) {
            ranges.push(range);
        }
    }
    if ranges.is_empty() {
        return if len == 0 && last_bytes_asked { RangeOutcome::Ignore } else { RangeOutcome::Unsatisfiable };
    }
    if ranges.len() > 1 && ranges.iter().map(|(first, last)| last - first + 1).sum::<i128>() > i128::from(len) {
        return RangeOutcome::Ignore;
    }
    join(&mut ranges);
    let mut parts: Vec<ByteRange> = ranges.into_iter().map(byte_range).collect();
    match parts.len() {
        1 => RangeOutcome::One(parts.remove(0)),
        2..=PARTS => RangeOutcome::Several(parts),
        _ => RangeOutcome::Ignore,
    }
}

/// First and last byte. Both lie inside a file, so they and their sums fit by far.
type Stretch = (i128, i128);

/// Joins any two that are near each other, until there are none. The joined one stands where the first of the two
/// stood.
fn join(ranges: &mut Vec<Stretch>) {
    let mut len_before = usize::MAX;
    while ranges.len() < len_before {
        len_before = ranges.len();
        let mut one = 0;
        while one < ranges.len() {
            for other in (one + 1..ranges.len()).rev() {
                if are_near(ranges[one], ranges[other]) {
                    let (first, last) = ranges.remove(other);
                    ranges[one] = (ranges[one].0.min(first), ranges[one].1.max(last));
                }
            }
            one += 1;
        }
    }
}

/// Whether too little lies between the end of one and the start of the other: less than nothing if they overlap.
fn are_near(a: Stretch, b: Stretch) -> bool {
    (b.0 - a.1 - 1).max(a.0 - b.1 - 1) < GAP
}

fn byte_range((first, last): Stretch) -> ByteRange {
    let inside = |at| u64::try_from(at).expect("inside the file");
    ByteRange { first: inside(first), last: inside(last) }
}

enum Spec {
    Between(Natural, Natural),
    From(Natural),
    Suffix(Natural),
}

impl Spec {
    fn inside(&self, len: u64) -> Option<Stretch> {
        let len = i128::from(len);
        let (first, last) = match self {
            Self::Between(first, last) => (first.at_most(len), last.at_most(len - 1)),
            Self::From(first) => (first.at_most(len), len - 1),
            Self::Suffix(length) => (len - length.at_most(len), len - 1),
        };
        // `None` for a range at or beyond the end, or for the last 0 bytes.
        (first < len).then_some((first, last))
    }
}

/// `None` for another unit and for anything malformed.
fn set_of(value: &[u8]) -> Option<Vec<Spec>> {
    let equals = value.iter().position(|&b| b == b'=')?;
    if !value[..equals].eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for element in value[equals + 1..].split(|&b| b == b',') {
        let element = without_blanks(element);
        if !element.is_empty() {
            specs.push(spec_of(element)?);
        }
    }
    if specs.is_empty() { None } else { Some(specs) }
}

fn without_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn spec_of(element: &[u8]) -> Option<Spec> {
    let dash = element.iter().position(|&b| b == b'-')?;
    let (before, after) = (&element[..dash], &element[dash + 1..]);
    if before.is_empty() {
        return Some(Spec::Suffix(Natural::parse(after)?));
    }
    let first = Natural::parse(before)?;
    if after.is_empty() {
        return Some(Spec::From(first));
    }
    let last = Natural::parse(after)?;
    if first.compare(&last) == Ordering::Greater { None } else { Some(Spec::Between(first, last)) }
}

/// A number of any size: digits to the base 2^32, the least first and none of the greatest zero.
struct Natural(Vec<u32>);

impl Natural {
    fn parse(digits: &[u8]) -> Option<Self> {
        if digits.is_empty() {
            return None;
        }
        let mut number = Self(Vec::new());
        for &digit in digits {
            if !digit.is_ascii_digit() {
                return None;
            }
            number.append_decimal(digit - b'0');
        }
        Some(number)
    }

    /// Times ten, plus `digit`.
    fn append_decimal(&mut self, digit: u8) {
        let mut carry = u64::from(digit);
        for limb in &mut self.0 {
            let value = u64::from(*limb) * 10 + carry;
            *limb = (value % (1 << 32)) as u32;
            carry = value >> 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// This number, or `limit` if that is less.
    fn at_most(&self, limit: i128) -> i128 {
        match self.0[..] {
            [] => limit.min(0),
            [low] => limit.min(low.into()),
            [low, high] => limit.min((i128::from(high) << 32) + i128::from(low)),
            _ => limit,
        }
    }
}
