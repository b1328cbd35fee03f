// KV cache in F32, in pairs of neighbouring dimensions, as written by rope.wgsl.

@group(0) @binding(5) var<storage, read_write> keys: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> values: array<vec2<f32>>;

const LARGEST_CACHED: f32 = 0x1.fffffep+127;

fn store_key(pair: u32, value: vec2<f32>) {
    keys[pair] = value;
}

fn store_value(pair: u32, value: vec2<f32>) {
    values[pair] = value;
}
