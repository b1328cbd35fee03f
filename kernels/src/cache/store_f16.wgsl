// KV cache in F16, in pairs of neighbouring dimensions, as written by rope.wgsl. Packing needs no shader-f16.

@group(0) @binding(5) var<storage, read_write> keys: array<u32>;
@group(0) @binding(6) var<storage, read_write> values: array<u32>;

const LARGEST_CACHED: f32 = 65504.0;

fn store_key(pair: u32, value: vec2<f32>) {
    keys[pair] = pack2x16float(value);
}

fn store_value(pair: u32, value: vec2<f32>) {
    values[pair] = pack2x16float(value);
}
