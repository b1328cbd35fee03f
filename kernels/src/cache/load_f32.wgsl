// KV cache in F32, in pairs of neighbouring dimensions, as read by attention.wgsl.

@group(0) @binding(6) var<storage, read> keys: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read> values: array<vec2<f32>>;

fn load_key(pair: u32) -> vec2<f32> {
    return keys[pair];
}

fn load_value(pair: u32) -> vec2<f32> {
    return values[pair];
}
