//! Checks of RoPE with the cache it writes, and of attention.

use std::ops::Range;
use std::rc::Rc;

use gptoss_model::ops::attention::Shape;
use gptoss_model::ops::rope::{HEAD_DIM, Yarn};
use gptoss_model::{BLOCK_TOKENS, CacheFormat, ops};
use half::f16;

use super::{SelfCheck, UNTOUCHED, Want};
use crate::attention;
use crate::attention_row;
use crate::gpu::GpuBuffer;
use crate::rope;
use crate::step::{ROW_WORDS, Row, Step};

/// Query and KV heads of RoPE's check.
const ROPE_HEADS: (usize, usize) = (4, 2);
/// Blocks of its cache.
const ROPE_BLOCKS: usize = 5;
const KV_HEADS: usize = 2;
/// Query head of which it is checked what it looks at.
const ROW_HEAD: usize = 1;
/// Blocks of the cache that attention reads.
const ATTENTION_BLOCKS: usize = 5;
/// Value in the cache where no key or value of a sequence is; using it would show in the result.
const NEVER_SEEN: f32 = 1e4;
/// A block that belongs to no sequence.
const OF_NOBODY: u32 = 0;

/// Tokens of one sequence in a batch.
struct Sequence {
    first_position: usize,
    tokens: usize,
    /// Blocks of the layer that is checked.
    table: Vec<u32>,
}

impl Sequence {
    fn positions(&self) -> Range<usize> {
        self.first_position..self.first_position + self.tokens
    }

    /// Index in the cache, in positions, of a position of the sequence.
    fn cached_at(&self, position: usize) -> usize {
        let block_tokens = BLOCK_TOKENS as usize;
        self.table[position / block_tokens] as usize * block_tokens + position % block_tokens
    }
}

/// The rows buffer's words, and the distance from the beginning of a sequence's tables to that of the checked layer.
/// Tables of other layers, which come before it, name a block of no sequence.
fn rows_of(sequences: &[Sequence]) -> (Vec<u32>, u32) {
    let table_first = sequences.iter().map(|sequence| sequence.table.len()).max().unwrap_or(0);
    let tokens: usize = sequences.iter().map(|sequence| sequence.tokens).sum();
    let (mut words, mut tables) = (Vec::new(), Vec::new());
    for sequence in sequences {
        let table = tokens as u32 * ROW_WORDS + tables.len() as u32;
        for position in sequence.positions() {
            let row = Row { position: position as u32, table, inverse_temperature: 1.0, padding: 0 };
            words.extend_from_slice(bytemuck::cast_slice(&[row]));
        }
        tables.extend(vec![OF_NOBODY; table_first]);
        tables.extend_from_slice(&sequence.table);
    }
    words.extend(tables);
    (words, table_first as u32)
}

impl SelfCheck<'_> {
    /// Two sequences at the last positions that the model will use: one ends there, the other crosses the last boundary
    /// of blocks.
    fn last_tokens(&self) -> [Sequence; 2] {
        let tokens = self.step.tokens as usize;
        let last = (self.last_position as usize).max(tokens - 1);
        let (ending, crossing) = (tokens.div_ceil(2), tokens / 2);
        let boundary = last - last % BLOCK_TOKENS as usize;
        let before_boundary = boundary.saturating_sub(crossing / 2).min(last + 1 - crossing);
        // Nothing is written to the blocks before the last two.
        let table = |last_two: [u32; 2]| {
            let blocks = last / BLOCK_TOKENS as usize + 1;
            let mut table = vec![OF_NOBODY; blocks];
            table.iter_mut().rev().zip(last_two.into_iter().rev()).for_each(|(entry, block)| *entry = block);
            table
        };
        [
            Sequence { first_position: last + 1 - ending, tokens: ending, table: table([4, 1]) },
            Sequence { first_position: before_boundary, tokens: crossing, table: table([2, 3]) },
        ]
    }

    /// Checks what is written to the blocks of a scattered table, and that nothing else is.
    pub fn rope(&mut self, cache: CacheFormat, yarn: &Yarn) {
        let (query_heads, kv_heads) = ROPE_HEADS;
        let (query, kv) = (query_heads * HEAD_DIM, kv_heads * HEAD_DIM);
        let tokens = self.step.tokens as usize;
        let mut qkv = self.random.normals(tokens * (query + 2 * kv), 1.5);
        let qkv_buffer = self.storage(&qkv);
        let before = vec![UNTOUCHED; ROPE_BLOCKS * BLOCK_TOKENS as usize * kv];
        let [keys, values] = [0, 1].map(|_| self.cache(cache, &before));
        let sequences = self.last_tokens();
        // Angles of earlier positions stay zero, because nothing may read them.
        let first = sequences.iter().map(|sequence| sequence.first_position).min().unwrap_or(0);
        let end = sequences.iter().map(|sequence| sequence.positions().end).max().unwrap_or(0);
        let angles = yarn.rows(first..end);
        let position_bytes = size_of_val(&angles[..]) / (end - first);
        let table = self.keep(self.gpu.storage("self-check", (end * position_bytes) as u64));
        self.gpu.write(&table, (first * position_bytes) as u64, bytemuck::cast_slice(&angles));
        let (rows, table_first) = rows_of(&sequences);
        let rows = self.storage(&rows);
        let buffers: rope::Buffers<&GpuBuffer> = rope::Buffers {
            step: &self.step_buffer,
            qkv: &qkv_buffer,
            table: &table,
            keys: &keys,
            values: &values,
            status: &self.running,
            rows: &rows,
        };
        let params = rope::Params { query_heads: query_heads as u32, kv_heads: kv_heads as u32, table_first, layer: 0 };
        let launch = self.bind(&rope::call(cache, &buffers, params));
        self.record(self.step, vec![launch]);

        let (mut want_keys, mut want_values) = (before.clone(), before);
        let positions = sequences.iter().flat_map(|it| it.positions().map(move |position| (it, position)));
        for (qkv, (sequence, position)) in qkv.chunks_exact_mut(query + 2 * kv).zip(positions) {
            ops::rope::reference(&mut qkv[..query], position, yarn);
            let mut key = qkv[query..][..kv].to_vec();
            ops::rope::reference(&mut key, position, yarn);
            let at = sequence.cached_at(position) * kv;
            want_keys[at..][..kv].copy_from_slice(&key);
            want_values[at..][..kv].copy_from_slice(&qkv[query + kv..]);
        }
        let cached = |values| match cache {
            CacheFormat::F16 => Want::Half(values),
            CacheFormat::F32 => Want::Close(values),
        };
        self.expect("rope", "queries", &qkv_buffer, Want::Close(qkv));
        self.expect("rope", "cached keys", &keys, cached(want_keys));
        self.expect("rope", "cached values", &values, cached(want_values));
    }

    /// Checks attention with a window that begins inside a block, and without one, over more keys than a block has; and what
    /// one of its heads looks at.
    /// `queries_per_kv`: query heads per KV head.
    pub fn attention(&mut self, cache: CacheFormat, queries_per_kv: u32) {
        let query_heads = queries_per_kv as usize * KV_HEADS;
        for window in [70, 0] {
            self.attend(cache, Shape { query_heads, kv_heads: KV_HEADS, window });
        }
    }

    /// Checks two sequences that begin with the same block.
    fn attend(&mut self, cache: CacheFormat, shape: Shape) {
        let Shape { query_heads, kv_heads, window } = shape;
        let (query, kv) = (query_heads * HEAD_DIM, kv_heads * HEAD_DIM);
        let sequences = [
            Sequence { first_position: 140, tokens: 3, table: vec![3, 1, 4] },
            Sequence { first_position: 66, tokens: 1, table: vec![3, 2] },
        ];
        let tokens: usize = sequences.iter().map(|sequence| sequence.tokens).sum();
        let qkv = self.random.normals(tokens * (query + 2 * kv), 1.3);
        let sinks = self.random.normals(query_heads, 2.0);
        let mut caches = [1.3, 1.0].map(|deviation| {
            let mut pool = vec![NEVER_SEEN; ATTENTION_BLOCKS * BLOCK_TOKENS as usize * kv];
            for sequence in &sequences {
                for position in 0..sequence.positions().end {
                    let values = self.random.normals(kv, deviation);
                    pool[sequence.cached_at(position) * kv..][..kv].copy_from_slice(&values);
                }
            }
            pool
        });
        if cache == CacheFormat::F16 {
            caches.iter_mut().flatten().for_each(|value| *value = f16::from_f32(*value).to_f32());
        }
        let (mut want, mut row) = (Vec::new(), Vec::new());
        let mut rest = qkv.chunks_exact(query + 2 * kv);
        for sequence in &sequences {
            let [keys, values] = caches.each_ref().map(|cache| -> Vec<f32> {
                let positions = 0..sequence.positions().end;
                positions.flat_map(|it| cache[sequence.cached_at(it) * kv..][..kv].iter().copied()).collect()
            });
            for (position, qkv) in sequence.positions().zip(&mut rest) {
                want.extend(ops::attention::reference(&qkv[..query], &keys, &values, &sinks, position, shape));
            }
            if row.is_empty() {
                let (query, last) = (&qkv[(sequence.tokens - 1) * (query + 2 * kv)..], sequence.positions().end - 1);
                let of_head = ops::attention::row_reference(query, &keys, &sinks, last, (ROW_HEAD, shape));
                row.push(of_head.sink);
                row.extend(of_head.weights);
            }
        }
        let [keys, values] = caches.map(|values| self.cache(cache, &values));
        let (rows, table_first) = rows_of(&sequences);
        let step = Step { tokens: tokens as u32, ..self.step };
        // The row is that of the first sequence's last token.
        let row_step = Step { tokens: sequences[0].tokens as u32, ..step };
        let (step_buffer, out) = (self.batch(step), self.output(want.len()));
        let (row_step_buffer, row_out) = (self.batch(row_step), self.output(row.len()));
        let (qkv, sinks, rows) = (self.storage(&qkv), self.storage(&sinks), self.storage(&rows));
        let (watched, running) = (self.storage(&[ROW_HEAD as u32]), Rc::clone(&self.running));
        let buffers: attention::Buffers<&GpuBuffer> = attention::Buffers {
            step: &step_buffer,
            qkv: &qkv,
            sinks: &sinks,
            out: &out,
            keys: &keys,
            values: &values,
            status: &running,
            rows: &rows,
        };
        let of_row: attention_row::Buffers<&GpuBuffer> = attention_row::Buffers {
            step: &row_step_buffer,
            qkv: &qkv,
            sinks: &sinks,
            row: &row_out,
            keys: &keys,
            values: &values,
            status: &running,
            rows: &rows,
            watched: &watched,
        };
        let params = attention::Params {
            query_heads: query_heads as u32,
            kv_heads: kv_heads as u32,
            window: window as u32,
            table_first,
            layer: 0,
            padding: [0; 3],
        };
        let attend = self.bind(&attention::call(cache, &buffers, params));
        self.record(step, vec![attend]);
        let look = self.bind(&attention_row::call(cache, &of_row, params));
        self.record(row_step, vec![look]);
        let windowed = if window == 0 { "" } else { " with a window" };
        self.expect(&format!("attention{windowed}"), "out", &out, Want::Close(want));
        self.expect(&format!("attention_row{windowed}"), "row", &row_out, Want::Close(row));
    }

    /// A cache that contains `values`.
    fn cache(&mut self, format: CacheFormat, values: &[f32]) -> Rc<GpuBuffer> {
        match format {
            CacheFormat::F16 => self.storage(&values.iter().map(|&value| f16::from_f32(value)).collect::<Vec<_>>()),
            CacheFormat::F32 => self.storage(values),
        }
    }
}
