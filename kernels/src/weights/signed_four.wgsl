// Four weights of IQ3_S or IQ3_XXS before scaling: an entry of the grid has their magnitudes, the first in its lowest
// byte, and bit i of `signs` is set where weight i is negative. Higher bits are ignored.
fn signed_four(entry: u32, signs: u32) -> vec4<f32> {
    let magnitudes = vec4<f32>((vec4<u32>(entry) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu));
    let is_negative = (vec4<u32>(signs) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>(0u);
    return select(magnitudes, -magnitudes, is_negative);
}

