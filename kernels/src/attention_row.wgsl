// What one query head of the batch's last token looks at: the weights that attention.wgsl gives its keys, for whoever wants to
// see them.
//
//   row[0] = exp(sink − m) / n,   row[1 + i] = exp(s_j − m) / n  for key j = first + i of those that the token sees
//   s_j = q · k_j / 8,   m = max(sink, max_j s_j),   n = exp(sink − m) + Σ_j exp(s_j − m)
//
// qkv [tokens, (query_heads + 2 · kv_heads) · 64] F32 after rope, sinks [query_heads] F32, cache as in attention.wgsl, row
// [1 + keys] F32. watched[0] is the head. One workgroup, each lane with every 256th key; five barriers.
// The error is that of the scores, as in attention.wgsl: for scores of standard deviation 1.7 tested to 2e-5 of a weight and
// 1e-7. A batch with a score that is not finite is refused as a whole, so nobody sees its row.
// Bindings 6 and 7 and load_key come from the cache file prepended to this one; the values are not read.

struct Params {
    query_heads: u32,
    kv_heads: u32,
    // 0: full attention.
    window: u32,
    // Words from a sequence's block tables to the one of this layer.
    table_first: u32,
    layer: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> sinks: array<f32>;
@group(0) @binding(4) var<storage, read_write> row: array<f32>;
@group(0) @binding(5) var<storage, read> status: array<u32>;
@group(0) @binding(8) var<storage, read> rows: array<u32>;
@group(0) @binding(9) var<storage, read> watched: array<u32>;

const LANES = 256u;
const HEAD_DIM = 64u;
var<workgroup> query: array<f32, HEAD_DIM>;
var<workgroup> largest: array<f32, LANES>;
var<workgroup> sums: array<f32, LANES>;
// Both are reduced in two steps: each of the first lanes takes every PARTS-th value, and every lane what these made.
const PARTS = 16u;
var<workgroup> parts: array<f32, PARTS>;

@compute @workgroup_size(LANES)
fn main(@builtin(local_invocation_index) lane: u32) {
    if (status[STATUS_HALT_LAYER] < params.layer) {
        return;
    }
    let token = step.tokens - 1u;
    let head = watched[0];
    let heads = params.query_heads + 2u * params.kv_heads;
    let kv_head = head / (params.query_heads / params.kv_heads);
    let position = row_position(token);
    var first = 0u;
    if (params.window != 0u && position + 1u > params.window) {
        first = position + 1u - params.window;
    }
    let keys_seen = position + 1u - first;
    if (lane < HEAD_DIM) {
        query[lane] = qkv[(token * heads + head) * HEAD_DIM + lane] * 0.125;
    }
    workgroupBarrier();

    let sink = sinks[head];
    var maximum = sink;
    for (var i = lane; i < keys_seen; i += LANES) {
        let key = first + i;
        let slot = block_of(token, params.table_first, key) * BLOCK_TOKENS + key % BLOCK_TOKENS;
        let at = (slot * params.kv_heads + kv_head) * 32u;
        var score = 0.0;
        for (var pair = 0u; pair < 32u; pair++) {
            score += dot(vec2<f32>(query[2u * pair], query[2u * pair + 1u]), load_key(at + pair));
        }
        row[1u + i] = score;
        maximum = max(maximum, score);
    }
    largest[lane] = maximum;
    workgroupBarrier();
    if (lane < PARTS) {
        for (var i = lane; i < LANES; i += PARTS) {
            maximum = max(maximum, largest[i]);
        }
        parts[lane] = maximum;
    }
    workgroupBarrier();
    for (var i = 0u; i < PARTS; i++) {
        maximum = max(maximum, parts[i]);
    }

    // A lane comes back to the keys that it scored.
    var sum = 0.0;
    for (var i = lane; i < keys_seen; i += LANES) {
        let share = exp(row[1u + i] - maximum);
        row[1u + i] = share;
        sum += share;
    }
    sums[lane] = sum;
    workgroupBarrier();
    if (lane < PARTS) {
        var part = 0.0;
        for (var i = lane; i < LANES; i += PARTS) {
            part += sums[i];
        }
        parts[lane] = part;
    }
    workgroupBarrier();
    let of_sink = exp(sink - maximum);
    var total = of_sink;
    for (var i = 0u; i < PARTS; i++) {
        total += parts[i];
    }
    for (var i = lane; i < keys_seen; i += LANES) {
        row[1u + i] /= total;
    }
    if (lane == 0u) {
        row[0] = of_sink / total;
    }
}
