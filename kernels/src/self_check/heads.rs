//! Checks of RoPE with the cache it writes, and of attention.

use gptoss_model::ops::attention::Shape;
use gptoss_model::ops::rope::{HEAD_DIM, Yarn};
use gptoss_model::{CacheFormat, ops};
use half::f16;

use super::{SelfCheck, Want};
use crate::attention;
use crate::gpu::GpuBuffer;
use crate::rope;
use crate::step::Step;

/// Query and KV heads of RoPE's check.
const ROPE_HEADS: (usize, usize) = (4, 2);
/// Positions that its cache holds: the batch goes over the end of the ring.
const ROPE_CAPACITY: usize = 11;
const KV_HEADS: usize = 2;

impl SelfCheck<'_> {
    /// At the last positions that the model will be run at.
    pub fn rope(&mut self, cache: CacheFormat, yarn: &Yarn) {
        let (query_heads, kv_heads) = ROPE_HEADS;
        let (query, kv) = (query_heads * HEAD_DIM, kv_heads * HEAD_DIM);
        let tokens = self.step.tokens as usize;
        let first = self.step.first_position as usize;
        let mut qkv = self.random.normals(tokens * (query + 2 * kv), 1.5);
        let cache_words = ROPE_CAPACITY * kv * cache.size_bytes() as usize / 4;
        let qkv_buffer = self.storage(&qkv);
        let (keys, values) = (self.storage(&vec![0u32; cache_words]), self.storage(&vec![0u32; cache_words]));
        // Rows before the batch's own stay zero; nothing may read them.
        let rows = yarn.rows(first..first + tokens);
        let table =
            self.keep(self.gpu.storage("self-check", ((first + tokens) * size_of_val(&rows[..]) / tokens) as u64));
        self.gpu.write(&table, (first * size_of_val(&rows[..]) / tokens) as u64, bytemuck::cast_slice(&rows));
        let buffers: rope::Buffers<&GpuBuffer> = rope::Buffers {
            step: &self.step_buffer,
            qkv: &qkv_buffer,
            table: &table,
            keys: &keys,
            values: &values,
            status: &self.running,
        };
        let params = rope::Params {
            query_heads: query_heads as u32,
            kv_heads: kv_heads as u32,
            capacity: ROPE_CAPACITY as u32,
            layer: 0,
        };
        let launch = self.bind(&rope::call(cache, &buffers, params));
        self.record(self.step, vec![launch]);

        let (mut want_keys, mut want_values) = (vec![0.0; ROPE_CAPACITY * kv], vec![0.0; ROPE_CAPACITY * kv]);
        for (token, qkv) in qkv.chunks_exact_mut(query + 2 * kv).enumerate() {
            let position = first + token;
            ops::rope::reference(&mut qkv[..query], position, yarn);
            let mut key = qkv[query..][..kv].to_vec();
            ops::rope::reference(&mut key, position, yarn);
            let slot = position % ROPE_CAPACITY * kv;
            want_keys[slot..][..kv].copy_from_slice(&key);
            want_values[slot..][..kv].copy_from_slice(&qkv[query + kv..]);
        }
        let cached = |values| match cache {
            CacheFormat::F16 => Want::Half(values),
            CacheFormat::F32 => Want::Close(values),
        };
        self.expect("rope", "queries", &qkv_buffer, Want::Close(qkv));
        self.expect("rope", "cached keys", &keys, cached(want_keys));
        self.expect("rope", "cached values", &values, cached(want_values));
    }

    /// With a window over a ring, and without one; more keys than a tile has. `queries_per_kv`: query heads to a KV head.
    pub fn attention(&mut self, cache: CacheFormat, queries_per_kv: u32) {
        let query_heads = queries_per_kv as usize * KV_HEADS;
        for (window, tokens, first, capacity) in [(70, 3, 140, 75), (0, 1, 66, 67)] {
            let shape = Shape { query_heads, kv_heads: KV_HEADS, window };
            self.attend(cache, shape, tokens, first, capacity);
        }
    }

    fn attend(&mut self, cache: CacheFormat, shape: Shape, tokens: usize, first: usize, capacity: usize) {
        let Shape { query_heads, kv_heads, window } = shape;
        let (query, kv) = (query_heads * HEAD_DIM, kv_heads * HEAD_DIM);
        let positions = first + tokens;
        let qkv = self.random.normals(tokens * (query + 2 * kv), 1.3);
        let sinks = self.random.normals(query_heads, 2.0);
        let mut all = [self.random.normals(positions * kv, 1.3), self.random.normals(positions * kv, 1.0)];
        if cache == CacheFormat::F16 {
            all.iter_mut().flatten().for_each(|value| *value = f16::from_f32(*value).to_f32());
        }
        // What a ring of `capacity` positions holds after the last one.
        let mut rings = [vec![0.0; capacity * kv], vec![0.0; capacity * kv]];
        for (ring, all) in rings.iter_mut().zip(&all) {
            for position in positions.saturating_sub(capacity)..positions {
                ring[position % capacity * kv..][..kv].copy_from_slice(&all[position * kv..][..kv]);
            }
        }
        let [keys, values] = rings.map(|ring| match cache {
            CacheFormat::F16 => self.storage(&ring.iter().map(|&value| f16::from_f32(value)).collect::<Vec<_>>()),
            CacheFormat::F32 => self.storage(&ring),
        });
        let mut want = Vec::new();
        for (token, qkv) in qkv.chunks_exact(query + 2 * kv).enumerate() {
            want.extend(ops::attention::reference(&qkv[..query], &all[0], &all[1], &sinks, first + token, shape));
        }
        let step = Step { tokens: tokens as u32, first_position: first as u32, ..self.step };
        let (step_buffer, out) = (self.batch(step), self.output(want.len()));
        let (qkv, sinks) = (self.storage(&qkv), self.storage(&sinks));
        let buffers: attention::Buffers<&GpuBuffer> = attention::Buffers {
            step: &step_buffer,
            qkv: &qkv,
            sinks: &sinks,
            out: &out,
            keys: &keys,
            values: &values,
            status: &self.running,
        };
        let params = attention::Params {
            query_heads: query_heads as u32,
            kv_heads: kv_heads as u32,
            capacity: capacity as u32,
            window: window as u32,
            layer: 0,
            padding: [0; 3],
        };
        let launch = self.bind(&attention::call(cache, &buffers, params));
        self.record(step, vec![launch]);
        let name = if window == 0 { "attention" } else { "attention with a window" };
        self.expect(name, "out", &out, Want::Close(want));
    }
}
