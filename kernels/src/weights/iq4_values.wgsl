// What a 4-bit code of IQ4_NL and IQ4_XS stands for: one of 16 unevenly spaced values.
// −127 −104 −83 −65, −49 −35 −22 −10, 1 13 25 38, 53 69 89 113, each plus 128 in a byte, the first lowest.
fn value_of(nibble: vec4<u32>) -> vec4<f32> {
    let upper = (nibble & vec4<u32>(8u)) != vec4<u32>(0u);
    let first = select(vec4<u32>(0x3f2d1801u), vec4<u32>(0xa6998d81u), upper);
    let second = select(vec4<u32>(0x766a5d4fu), vec4<u32>(0xf1d9c5b5u), upper);
    let four = select(first, second, (nibble & vec4<u32>(4u)) != vec4<u32>(0u));
    return vec4<f32>((four >> ((nibble & vec4<u32>(3u)) * 8u)) & vec4<u32>(0xffu)) - 128.0;
}

