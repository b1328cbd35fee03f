// SwiGLU of gpt-oss: gate clamped from above, up on both sides.
//
//   swiglu(g, u) = g' · sigmoid(1.702 g') · (u' + 1),   g' = min(g, 7),   u' = clamp(u, −7, 7)
//
// The clamps would make an ordinary number of one that is not finite: that is passed on.

const LIMIT = 7.0;
const ALPHA = 1.702;

fn swiglu(g: f32, u: f32) -> f32 {
    let gate = min(g, LIMIT);
    let up = clamp(u, -LIMIT, LIMIT);
    let activated = gate / (1.0 + exp(-ALPHA * gate)) * (up + 1.0);
    return select(g + u, activated, is_finite(g) && is_finite(u));
}

