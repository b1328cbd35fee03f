// KV cache in F16, in pairs of neighbouring dimensions, as read by attention.wgsl.

@group(0) @binding(6) var<storage, read> keys: array<u32>;
@group(0) @binding(7) var<storage, read> values: array<u32>;

fn load_key(pair: u32) -> vec2<f32> {
    return unpack2x16float(keys[pair]);
}

fn load_value(pair: u32) -> vec2<f32> {
    return unpack2x16float(values[pair]);
}
