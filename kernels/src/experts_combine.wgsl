// x[t, i] += Σ_k weight[t, k] · y[t · k_count + k, i], in the order of the choices: the sum does not depend on which
// expert was resident when. The residual stream is looked at for values that are not finite.
//
// Four products added in F32: tested to 3e-7 of the largest |x|, since a device may fuse multiplication and addition.
// x [tokens, columns] F32, y [tokens · k_count, columns] F32.

struct Params {
    columns: u32,
    experts_per_token: u32,
    layer: u32,
    padding_0: u32,
}

struct Route {
    expert: u32,
    weight: f32,
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read> routes: array<Route>;
@group(0) @binding(4) var<storage, read_write> x: array<f32>;
@group(0) @binding(5) var<storage, read_write> status: array<atomic<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (atomicLoad(&status[STATUS_HALT_LAYER]) <= params.layer || id.x >= step.tokens * params.columns) {
        return;
    }
    let token = id.x / params.columns;
    let column = id.x % params.columns;
    var sum = x[id.x];
    for (var k = 0u; k < params.experts_per_token; k++) {
        let pair = token * params.experts_per_token + k;
        sum += routes[pair].weight * y[pair * params.columns + column];
    }
    x[id.x] = sum;
    if (!is_finite(sum)) {
        note(FOUND_EXPERTS);
    }
}
