// The 4-bit codes of a block of 32, 16 bytes: byte j holds weight j in its low nibble and weight j + 16 in its high
// one. Vector i of the result is weights 4i to 4i + 3.
fn nibbles(packed: vec4<u32>) -> array<vec4<u32>, 8> {
    let low = vec4<u32>(0u, 8u, 16u, 24u);
    let high = vec4<u32>(4u, 12u, 20u, 28u);
    let mask = vec4<u32>(15u);
    return array<vec4<u32>, 8>(
        (vec4<u32>(packed.x) >> low) & mask,
        (vec4<u32>(packed.y) >> low) & mask,
        (vec4<u32>(packed.z) >> low) & mask,
        (vec4<u32>(packed.w) >> low) & mask,
        (vec4<u32>(packed.x) >> high) & mask,
        (vec4<u32>(packed.y) >> high) & mask,
        (vec4<u32>(packed.z) >> high) & mask,
        (vec4<u32>(packed.w) >> high) & mask,
    );
}

// Bits 4i to 4i + 3 of `high`, each where the fifth bit of a code is.
fn fifth_bits(high: u32, i: u32) -> vec4<u32> {
    return ((vec4<u32>(high >> (4u * i)) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(4u);
}

