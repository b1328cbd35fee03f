// KV cache in F16, in pairs of neighbouring dimensions, as read by attention.wgsl with shader-f16: the same numbers as
// load_f16.wgsl, without unpacking words.

@group(0) @binding(6) var<storage, read> keys: array<vec2<f16>>;
@group(0) @binding(7) var<storage, read> values: array<vec2<f16>>;

fn load_key(pair: u32) -> vec2<f32> {
    return vec2<f32>(keys[pair]);
}

fn load_value(pair: u32) -> vec2<f32> {
    return vec2<f32>(values[pair]);
}
