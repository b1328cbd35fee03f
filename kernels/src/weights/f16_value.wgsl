// Exact for every f16, subnormals included, whatever the driver does with small floats; infinities and NaN stay so.
fn f16_value(bits: u32) -> f32 {
    let sign = (bits & 0x8000u) << 16u;
    let exponent = (bits >> 10u) & 31u;
    let mantissa = bits & 0x3ffu;
    if (exponent == 0u) {
        return select(1.0, -1.0, sign != 0u) * f32(mantissa) * 5.9604644775390625e-8;
    }
    return bitcast<f32>(sign | ((exponent + select(112u, 224u, exponent == 31u)) << 23u) | (mantissa << 13u));
}

