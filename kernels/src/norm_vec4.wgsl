// Sums of squares behind activations that are read by vec4.

fn squares_of(token: u32, run: u32) -> f32 {
    let at = params.squares_first + token * params.squares + run;
    return x[at / 4u][at % 4u];
}
