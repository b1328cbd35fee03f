//! A set of bytes, as the ranges that it consists of.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The most ranges that are held. Every second expert of the 120b model, each in three tensors, is 6912.
const MOST: usize = 16_384;

/// Disjoint ranges of bytes in ascending order, none of which touches another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// The ranges, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(|&(begin, end)| begin..end)
    }

    /// Bytes of all ranges together.
    pub fn bytes(&self) -> u64 {
        self.iter().map(|range| range.end - range.start).sum()
    }

    /// How many bytes of a range are in the set.
    pub fn covered(&self, range: Range<u64>) -> u64 {
        let first = self.0.partition_point(|&(_, end)| end <= range.start);
        let touching = self.0[first..].iter().take_while(|&&(begin, _)| begin < range.end);
        touching.map(|&(begin, end)| end.min(range.end) - begin.max(range.start)).sum()
    }

    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|&(_, end)| end < range.start);
        let after = self.0.partition_point(|&(begin, _)| begin <= range.end).max(first);
        let merged = self.0[first..after]
            .iter()
            .fold((range.start, range.end), |(begin, end), &(from, to)| (begin.min(from), end.max(to)));
        self.0.splice(first..after, [merged]);
        if self.0.len() > MOST {
            // Better to say of a few bytes that they are not here than of others that they are.
            let smallest = (0..self.0.len()).min_by_key(|&index| self.0[index].1 - self.0[index].0);
            smallest.map(|index| self.0.remove(index));
        }
    }

    pub(super) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.0.partition_point(|&(_, end)| end <= range.start);
        let after = self.0.partition_point(|&(begin, _)| begin < range.end).max(first);
        let mut left = Vec::with_capacity(2);
        if let Some(&(begin, _)) = self.0[first..after].first()
            && begin < range.start
        {
            left.push((begin, range.start));
        }
        if let Some(&(_, end)) = self.0[first..after].last()
            && end > range.end
        {
            left.push((range.end, end));
        }
        self.0.splice(first..after, left);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same set as a byte map, which is too simple to be wrong.
    #[test]
    fn ranges_are_the_bytes_that_were_put_in_and_not_taken_out() {
        let (mut ranges, mut bytes) = (Ranges::default(), [false; 64]);
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for _ in 0..4000 {
            let begin = random(64);
            let range = begin..(begin + random(12)).min(64);
            let is_insert = random(2) == 0;
            if is_insert {
                ranges.insert(range.clone())
            } else {
                ranges.remove(range.clone())
            }
            bytes[range.start as usize..range.end as usize].fill(is_insert);
            let told: Vec<_> = ranges.iter().collect();
            assert!(told.windows(2).all(|pair| pair[0].end < pair[1].start), "{told:?} touch or are out of order");
            for (at, &is_in) in bytes.iter().enumerate() {
                let at = at as u64;
                assert_eq!(told.iter().any(|range| range.contains(&at)), is_in, "byte {at} of {told:?}");
            }
            let (from, to) = (random(64), random(65));
            let expected = bytes[from.min(to) as usize..to as usize].iter().filter(|is_in| **is_in).count();
            assert_eq!(ranges.covered(from.min(to)..to), expected as u64);
            assert_eq!(ranges.bytes(), bytes.iter().filter(|is_in| **is_in).count() as u64);
        }
    }

    #[test]
    fn too_many_ranges_forget_bytes_and_never_make_some_up() {
        let mut ranges = Ranges::default();
        for index in 0..MOST as u64 + 9 {
            ranges.insert(index * 10..index * 10 + 2 + index % 3);
        }
        assert_eq!(ranges.iter().count(), MOST);
        assert!(ranges.iter().all(|range| range.start % 10 == 0 && range.end - range.start <= 4));
    }
}
