// Causal attention with sinks over the KV cache, one query head of one token per workgroup.
//
//   s_j = q · k_j / 8            for keys j in (position − window, position], or all j ≤ position when window = 0
//   out = Σ_j exp(s_j − m) v_j / (exp(sink − m) + Σ_j exp(s_j − m)),   m = max(sink, max_j s_j)
//
// The sink joins maximum and denominator only: it has no value, and the 1/8 does not apply to it.
// Keys come in tiles of 64 with a running maximum (flash attention): lane = key for the scores, lane = dimension for the
// values. Two barriers a tile. Query head h reads KV head h / (query_heads / kv_heads).
// Tiles begin where the query's window does, so that there are no more of them than keys ask for; where that is within a
// block of the cache [blocks, 64 positions, kv_heads, 64], a tile lies in two. Both are looked up once (step.rs).
// Keys that the query does not see are not read: what is there may be anything.
// The error is that of the scores, F32 sums of 64 products: measured 2.3e-6 for scores of standard deviation 1.7 and values
// of 1, 1.3e-5 for 16; tested to 6e-6 · max(1, deviation / 2) + 1e-5 · |out|. An F16 cache is read exactly.
// A score or a sink that is not finite goes into the sums as it is: as a maximum, or with a weight of zero, it would vanish.
// Bindings 6 and 7 and load_key / load_value come from the cache file prepended to this one.

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
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read> status: array<u32>;
@group(0) @binding(8) var<storage, read> rows: array<u32>;

const HEAD_DIM = 64u;
// A lane is a key of a tile as well as a dimension.
const_assert HEAD_DIM == BLOCK_TOKENS;
const MASKED = -3.0e38;
var<workgroup> query: array<f32, HEAD_DIM>;
var<workgroup> scores: array<f32, BLOCK_TOKENS>;
var<workgroup> weights: array<f32, BLOCK_TOKENS>;

@compute @workgroup_size(HEAD_DIM)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (status[STATUS_HALT_LAYER] < params.layer) {
        return;
    }
    let head = group.x;
    let token = group.y;
    let heads = params.query_heads + 2u * params.kv_heads;
    let kv_head = head / (params.query_heads / params.kv_heads);
    let position = row_position(token);
    var first = 0u;
    if (params.window != 0u && position + 1u > params.window) {
        first = position + 1u - params.window;
    }

    query[lane] = qkv[(token * heads + head) * HEAD_DIM + lane] * 0.125;
    workgroupBarrier();

    var maximum = sinks[head];
    var total = 1.0;
    var value = 0.0;
    if (!is_finite(maximum)) {
        total = maximum;
        value = maximum;
    }
    for (var tile = first; tile <= position; tile += BLOCK_TOKENS) {
        let keys_here = min(BLOCK_TOKENS, position + 1u - tile);
        // Of key i of the tile: near + i in the first block, far + i (of which far may have wrapped) in the second.
        let in_first = BLOCK_TOKENS - tile % BLOCK_TOKENS;
        let near = (block_of(token, params.table_first, tile) + 1u) * BLOCK_TOKENS - in_first;
        let far = block_of(token, params.table_first, tile + keys_here - 1u) * BLOCK_TOKENS - in_first;
        let is_seen = lane < keys_here;
        var score = MASKED;
        if (is_seen) {
            let at = ((select(far, near, lane < in_first) + lane) * params.kv_heads + kv_head) * 32u;
            score = 0.0;
            for (var pair = 0u; pair < 32u; pair++) {
                score += dot(vec2<f32>(query[2u * pair], query[2u * pair + 1u]), load_key(at + pair));
            }
        }
        scores[lane] = score;
        workgroupBarrier();

        var tile_maximum = maximum;
        for (var i = 0u; i < BLOCK_TOKENS; i++) {
            tile_maximum = max(tile_maximum, scores[i]);
        }
        let weight = select(score, exp(score - tile_maximum), is_finite(score));
        weights[lane] = select(0.0, weight, is_seen);
        workgroupBarrier();

        let shrink = exp(maximum - tile_maximum);
        value *= shrink;
        total *= shrink;
        for (var i = 0u; i < keys_here; i++) {
            let at = ((select(far, near, i < in_first) + i) * params.kv_heads + kv_head) * 32u + lane / 2u;
            let both = load_value(at);
            value += weights[i] * select(both.x, both.y, (lane & 1u) == 1u);
            total += weights[i];
        }
        maximum = tile_maximum;
    }
    out[(token * params.query_heads + head) * HEAD_DIM + lane] = value / total;
}
