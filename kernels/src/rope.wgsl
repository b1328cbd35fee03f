// Rotary embedding (NeoX halves: dimension i pairs with i + 32) of queries and keys, in place and into the cache.
//
//   q'[i]      = q[i] · cos(p, i) − q[i + 32] · sin(p, i)
//   q'[i + 32] = q[i + 32] · cos(p, i) + q[i] · sin(p, i)
//
// qkv [tokens, (query_heads + 2 · kv_heads) · 64] F32; the table holds cos and sin (YaRN, concentration included) for
// each position and i < 32; caches [blocks, 64 positions, kv_heads, 64], written where the block table of a token's
// sequence says (step.rs).
// The table is rounded once; two products and a sum follow: measured 4.8e-7 for values of 6, tested to 1e-6 + 3e-7 · |q'|.
// An F16 cache rounds keys and values to 11 bits; WGSL leaves the direction to the device: tested to 2^-10 of the value.
// Queries, keys and values are looked at for values that are not finite, keys and values also for such as the cache
// cannot hold.
// Bindings 5 and 6, LARGEST_CACHED and store_key / store_value come from the cache file prepended to this one.

struct Params {
    query_heads: u32,
    kv_heads: u32,
    // Words from a sequence's block tables to the one of this layer.
    table_first: u32,
    layer: u32,
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read_write> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(7) var<storage, read> rows: array<u32>;

// A thread takes dimensions 2j, 2j + 1 and their partners, so that a packed pair of the cache has one writer.
const THREADS_PER_HEAD = 16u;

fn rotate(at: u32, angle: u32) -> vec2<f32> {
    let turn = table[angle];
    return vec2<f32>(qkv[at] * turn.x - qkv[at + 32u] * turn.y, qkv[at + 32u] * turn.x + qkv[at] * turn.y);
}

fn check_finite(values: vec4<f32>) {
    let exponents = bitcast<vec4<u32>>(values) & vec4<u32>(0x7f800000u);
    if (any(exponents == vec4<u32>(0x7f800000u))) {
        note(FOUND_PROJECTIONS);
    }
}

// A number that the cache cannot hold would become infinite there, or on some devices any number.
fn check_range(values: vec4<f32>) {
    if (any(abs(values) > vec4<f32>(LARGEST_CACHED))) {
        note(FOUND_CACHE);
    }
}

// The place in a cache of the first head of a position of the token's sequence.
fn cached_at(token: u32, position: u32) -> u32 {
    let block = block_of(token, params.table_first, position);
    return (block * BLOCK_TOKENS + position % BLOCK_TOKENS) * params.kv_heads;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (atomicLoad(&status[STATUS_HALT_LAYER]) < params.layer) {
        return;
    }
    let heads = params.query_heads + 2u * params.kv_heads;
    let token = id.x / (heads * THREADS_PER_HEAD);
    if (token >= step.tokens) {
        return;
    }
    let head = (id.x / THREADS_PER_HEAD) % heads;
    let j = id.x % THREADS_PER_HEAD;
    let position = row_position(token);
    let at = (token * heads + head) * 64u;

    if (head < params.query_heads + params.kv_heads) {
        let even = rotate(at + 2u * j, position * 32u + 2u * j);
        let odd = rotate(at + 2u * j + 1u, position * 32u + 2u * j + 1u);
        check_finite(vec4<f32>(even, odd));
        if (head < params.query_heads) {
            qkv[at + 2u * j] = even.x;
            qkv[at + 2u * j + 1u] = odd.x;
            qkv[at + 32u + 2u * j] = even.y;
            qkv[at + 33u + 2u * j] = odd.y;
        } else {
            let cached = (cached_at(token, position) + head - params.query_heads) * 32u + j;
            check_range(vec4<f32>(even, odd));
            store_key(cached, vec2<f32>(even.x, odd.x));
            store_key(cached + 16u, vec2<f32>(even.y, odd.y));
        }
    } else {
        let cached = (cached_at(token, position) + head - params.query_heads - params.kv_heads) * 32u + 2u * j;
        let value = vec4<f32>(qkv[at + 4u * j], qkv[at + 4u * j + 1u], qkv[at + 4u * j + 2u], qkv[at + 4u * j + 3u]);
        check_finite(value);
        check_range(value);
        store_value(cached, value.xy);
        store_value(cached + 1u, value.zw);
    }
}
