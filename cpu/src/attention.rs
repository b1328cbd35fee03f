//! Attention with sinks over the cache, one token and one key-value head at a time, for all query heads that share it.

use gptoss_model::ops::rope::HEAD_DIM;
use gptoss_model::sequences::Block;

use crate::cache::{LayerCache, Store, TILE, Value, slot_of};
use crate::isa::{Isa, by_isa};
use crate::simd::Simd;
use crate::vector::{INFINITE_BITS, exp_of_differences_body, largest_bits_body};

/// One token's attention under one key-value head.
#[derive(Clone, Copy)]
pub(crate) struct Query<'a> {
    /// Rotated queries of the heads that share the key-value head, [group, 64].
    pub heads: &'a [f32],
    /// One sink logit for each head of the group.
    pub sinks: &'a [f32],
    pub kv_head: usize,
    pub position: usize,
    /// Blocks of its sequence.
    pub table: &'a [Block],
    /// Number of keys that it sees, its own included; 0 means all.
    pub window: usize,
}

/// Computes `out` [group, 64]; NaN if a score or a sink is not finite. `scores` is scratch.
pub(crate) fn attend(isa: Isa, cache: &LayerCache, query: Query<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
    match cache {
        LayerCache::F16(store) => attend_f16(isa, store, query, scores, out),
        LayerCache::F32(store) => attend_f32(isa, store, query, scores, out),
    }
}

by_isa!(
    attend_f16(store: &Store<u16>, query: Query<'_>, scores: &mut Vec<f32>, out: &mut [f32]), attend_f16_body);
by_isa!(
    attend_f32(store: &Store<f32>, query: Query<'_>, scores: &mut Vec<f32>, out: &mut [f32]), attend_f32_body);

#[inline(always)]
fn attend_f16_body<S: Simd>(store: &Store<u16>, query: Query<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
    attend_body::<S, u16>(store, query, scores, out);
}

#[inline(always)]
fn attend_f32_body<S: Simd>(store: &Store<f32>, query: Query<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
    attend_body::<S, f32>(store, query, scores, out);
}

/// Computes eight heads at a time, as 20b and 120b have; other groups in parts.
#[inline(always)]
fn attend_body<S: Simd, V: Value>(store: &Store<V>, query: Query<'_>, scores: &mut Vec<f32>, out: &mut [f32]) {
    let heads = query.sinks.len();
    let mut first = 0;
    while first < heads {
        let taken = match heads - first {
            8.. => 8,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        let part = Query {
            heads: &query.heads[first * HEAD_DIM..][..taken * HEAD_DIM],
            sinks: &query.sinks[first..][..taken],
            ..query
        };
        let out = &mut out[first * HEAD_DIM..][..taken * HEAD_DIM];
        match taken {
            8 => attend_heads::<S, V, 8>(store, part, scores, out),
            4 => attend_heads::<S, V, 4>(store, part, scores, out),
            2 => attend_heads::<S, V, 2>(store, part, scores, out),
            _ => attend_heads::<S, V, 1>(store, part, scores, out),
        }
        first += taken;
    }
}

/// The tiles of the cache that a query sees.
struct Seen {
    /// Oldest position that it sees.
    first: usize,
    last: usize,
    first_tile: usize,
    tiles: usize,
}

impl Seen {
    #[inline(always)]
    fn by(query: Query<'_>) -> Self {
        let first = if query.window == 0 { 0 } else { (query.position + 1).saturating_sub(query.window) };
        let first_tile = first / TILE;
        Self { first, last: query.position, first_tile, tiles: query.position / TILE + 1 - first_tile }
    }

    /// Number of scores of one head: all lanes of all tiles.
    #[inline(always)]
    fn columns(&self) -> usize {
        self.tiles * TILE
    }

    /// The scores of a head whose keys the query sees.
    #[inline(always)]
    fn seen_columns(&self) -> std::ops::Range<usize> {
        self.first - self.position(0)..self.last + 1 - self.position(0)
    }

    #[inline(always)]
    fn position(&self, tile: usize) -> usize {
        (self.first_tile + tile) * TILE
    }

    /// The lanes of a tile whose positions the query sees.
    #[inline(always)]
    fn lanes(&self, tile: usize) -> std::ops::Range<usize> {
        let position = self.position(tile);
        self.first.saturating_sub(position)..TILE.min(self.last + 1 - position)
    }
}

#[inline(always)]
fn attend_heads<S: Simd, V: Value, const G: usize>(
    store: &Store<V>,
    query: Query<'_>,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let seen = Seen::by(query);
    let columns = seen.columns();
    scores.resize(G * columns, 0.0);
    score::<S, V, G>(store, query, &seen, scores);
    let mut largest = largest_bits_body::<S>(query.sinks);
    for g in 0..G {
        largest = largest.max(largest_bits_body::<S>(&scores[g * columns..][seen.seen_columns()]));
    }
    if largest >= INFINITE_BITS {
        // A maximum, or a weight of zero, would hide the value.
        out.fill(f32::NAN);
        return;
    }

    let mut inverse_totals = [0.0f32; G];
    for g in 0..G {
        let scores = &mut scores[g * columns..][..columns];
        let maximum = scores.iter().fold(query.sinks[g], |maximum, &score| maximum.max(score));
        let total = exp_of_differences_body::<S>(scores, maximum) + (query.sinks[g] - maximum).exp();
        inverse_totals[g] = 1.0 / total;
    }
    weigh::<S, V, G>(store, query, &seen, scores, &inverse_totals, out);
}

/// Computes `scores` [G, columns] = q · k / 8, and −∞ for keys that the query does not see.
#[inline(always)]
fn score<S: Simd, V: Value, const G: usize>(store: &Store<V>, query: Query<'_>, seen: &Seen, scores: &mut [f32]) {
    let keys = &store.keys[query.kv_head * store.capacity * HEAD_DIM..][..store.capacity * HEAD_DIM];
    for tile in 0..seen.tiles {
        let slot = slot_of(query.table, seen.position(tile));
        let keys = keys[slot * HEAD_DIM..][..TILE * HEAD_DIM].as_chunks::<TILE>().0;
        let mut sums = [[0.0f32; TILE]; G];
        for (d, keys) in keys.iter().enumerate() {
            let keys = V::load::<S>(keys);
            for g in 0..G {
                let q = query.heads[g * HEAD_DIM + d];
                for lane in 0..TILE {
                    sums[g][lane] = S::mul_add(q, keys[lane], sums[g][lane]);
                }
            }
        }
        let lanes = seen.lanes(tile);
        for g in 0..G {
            let scores = &mut scores[g * seen.columns() + tile * TILE..][..TILE];
            for lane in 0..TILE {
                // Lanes that the query does not see may hold anything, also NaN: they are replaced, not added to.
                scores[lane] = if lanes.contains(&lane) { sums[g][lane] * 0.125 } else { f32::NEG_INFINITY };
            }
        }
    }
}

/// Computes `out` [G, 64] = Σ weight · v over the keys that the query sees; `weights` [G, columns].
#[inline(always)]
fn weigh<S: Simd, V: Value, const G: usize>(
    store: &Store<V>,
    query: Query<'_>,
    seen: &Seen,
    weights: &[f32],
    inverse_totals: &[f32; G],
    out: &mut [f32],
) {
    let values = &store.values[query.kv_head * store.capacity * HEAD_DIM..][..store.capacity * HEAD_DIM];
    // A quarter of the head is computed at a time, so that the sums of eight heads stay in registers.
    for part in 0..HEAD_DIM / TILE {
        let mut sums = [[0.0f32; TILE]; G];
        for tile in 0..seen.tiles {
            let slot = slot_of(query.table, seen.position(tile));
            let values = &values[slot * HEAD_DIM..][..TILE * HEAD_DIM];
            for lane in seen.lanes(tile) {
                let values = &values[lane * HEAD_DIM + part * TILE..][..TILE];
                let values = V::load::<S>(values.try_into().expect("a slice of that length"));
                for g in 0..G {
                    let weight = weights[g * seen.columns() + tile * TILE + lane];
                    for i in 0..TILE {
                        sums[g][i] = S::mul_add(weight, values[i], sums[g][i]);
                    }
                }
            }
        }
        for g in 0..G {
            let out = &mut out[g * HEAD_DIM + part * TILE..][..TILE];
            for i in 0..TILE {
                out[i] = sums[g][i] * inverse_totals[g];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use gptoss_model::CacheFormat;
    use gptoss_model::ops::attention::{Shape, reference};
    use gptoss_model::sequences::NO_BLOCK;

    use super::*;

    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + salt * 104_729) % 2003) as f32 * 0.002 - 2.0).collect()
    }

    /// Checks every position in turn, through scattered blocks, against the scalar reference over all keys. Blocks
    /// behind the window are absent.
    fn check(query_heads: usize, kv_heads: usize, window: usize, positions: usize) {
        let (q_columns, kv_columns) = (query_heads * HEAD_DIM, kv_heads * HEAD_DIM);
        let keys = numbers(positions * kv_columns, 1);
        let values = numbers(positions * kv_columns, 2);
        let sinks = numbers(query_heads, 3);
        let shape = Shape { query_heads, kv_heads, window };
        let group = query_heads / kv_heads;
        for isa in Isa::available() {
            let mut cache = LayerCache::new(CacheFormat::F32, kv_heads, 7);
            let mut table = vec![4, 1, 5, 0, 6];
            for position in 0..positions {
                let row = position * kv_columns;
                if window > 0 && position + 1 > window {
                    table[..(position + 1 - window) / 64].fill(NO_BLOCK);
                }
                cache.put(slot_of(&table, position), &keys[row..][..kv_columns], &values[row..][..kv_columns]);
                let q = numbers(q_columns, position + 5);
                let seen = (position + 1) * kv_columns;
                let want = reference(&q, &keys[..seen], &values[..seen], &sinks, position, shape);
                let mut scores = vec![f32::NAN; 7];
                for kv_head in 0..kv_heads {
                    let heads = kv_head * group * HEAD_DIM..(kv_head + 1) * group * HEAD_DIM;
                    let mut out = vec![0.0; group * HEAD_DIM];
                    let query = Query {
                        heads: &q[heads.clone()],
                        sinks: &sinks[kv_head * group..][..group],
                        kv_head,
                        position,
                        table: &table,
                        window,
                    };
                    attend(isa, &cache, query, &mut scores, &mut out);
                    for (got, want) in out.iter().zip(&want[heads]) {
                        assert!(
                            (got - want).abs() < 2e-5,
                            "{isa}, {query_heads}/{kv_heads} heads, window {window}, position {position}: {got}, expected {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn full_attention_with_every_group_size() {
        for group in [1, 2, 3, 4, 8, 11] {
            check(2 * group, 2, 0, 37);
        }
    }

    #[test]
    fn many_blocks_and_a_sliding_window_that_leaves_them() {
        check(4, 2, 0, 150);
        check(6, 2, 20, 150);
        check(8, 1, 128, 300);
    }

    /// A head that sees a key, query or sink that is not finite gives NaN, even if the weight would be zero.
    #[test]
    fn what_is_not_finite_stays_so() {
        let (keys, values) = (numbers(20 * HEAD_DIM, 1), numbers(20 * HEAD_DIM, 2));
        let (q, sinks) = (numbers(3 * HEAD_DIM, 3), numbers(3, 4));
        // The largest floats are finite, but infinite in a product.
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN] {
            for isa in Isa::available() {
                let attended = |keys: &[f32], values: &[f32], q: &[f32], sinks: &[f32]| {
                    let mut cache = LayerCache::new(CacheFormat::F32, 1, 1);
                    for position in 0..20 {
                        let row = position * HEAD_DIM..(position + 1) * HEAD_DIM;
                        cache.put(position, &keys[row.clone()], &values[row]);
                    }
                    let query = Query { heads: q, sinks, kv_head: 0, position: 19, table: &[0], window: 8 };
                    let mut out = vec![0.0; 3 * HEAD_DIM];
                    attend(isa, &cache, query, &mut Vec::new(), &mut out);
                    out
                };
                let with = |all: &[f32], at: usize| {
                    let mut all = all.to_vec();
                    all[at] = value;
                    all
                };
                let sound = attended(&keys, &values, &q, &sinks);
                // Position 11 is outside the window, position 12 is not.
                assert_eq!(attended(&with(&keys, 11 * HEAD_DIM + 5), &with(&values, 11 * HEAD_DIM), &q, &sinks), sound);
                let big = [1e3; 3 * HEAD_DIM];
                let broken = [
                    attended(&with(&keys, 12 * HEAD_DIM + 5), &values, &big, &sinks),
                    attended(&[1e3; 20 * HEAD_DIM], &values, &with(&q, HEAD_DIM + 7), &sinks),
                ];
                assert!(broken.iter().all(|out| out.iter().any(|v| v.is_nan())), "{isa}: {value} in {broken:?}");
                if !value.is_finite() {
                    let out = attended(&keys, &values, &q, &with(&sinks, 1));
                    assert!(out[HEAD_DIM..2 * HEAD_DIM].iter().all(|v| v.is_nan()), "{isa}: a sink of {value}");
                    let out = attended(&keys, &with(&values, 15 * HEAD_DIM + 3), &q, &sinks);
                    assert!((0..3).all(|head| !out[head * HEAD_DIM + 3].is_finite()), "{isa}: a value of {value}");
                }
            }
        }
    }

    #[test]
    fn an_f16_cache_is_close() {
        let mut caches = [CacheFormat::F32, CacheFormat::F16].map(|format| LayerCache::new(format, 1, 1));
        let (keys, values, q) = (numbers(50 * 64, 1), numbers(50 * 64, 2), numbers(8 * 64, 9));
        let mut out = [vec![0.0; 8 * 64], vec![0.0; 8 * 64]];
        for (cache, out) in caches.iter_mut().zip(&mut out) {
            for position in 0..50 {
                cache.put(position, &keys[position * 64..][..64], &values[position * 64..][..64]);
            }
            let query = Query { heads: &q, sinks: &[0.1; 8], kv_head: 0, position: 49, table: &[0], window: 0 };
            attend(Isa::detect(), cache, query, &mut Vec::new(), out);
        }
        let worst = out[0].iter().zip(&out[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst > 0.0 && worst < 0.02, "{worst}");
        assert_eq!(caches[0].size_bytes(), 2 * caches[1].size_bytes());
    }
}
