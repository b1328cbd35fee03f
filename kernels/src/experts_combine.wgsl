// x[t, i] += Σ_k weight[t, k] · y[t · k_count + k, i], in the order of the choices: the sum does not depend on which
// expert was resident when. And the next norm's first half (norm.wgsl): normed[t, i] = x[t, i] · norm[i], Σ x[t, i]². The
// residual stream is looked at for values that are not finite. Without choices, before the first layer, only the norm's half.
//
// Four products added in F32: tested to 3e-7 of the largest |x|, since a device may fuse multiplication and addition.
// x [tokens, columns] F32, y [tokens · k_count, columns] F32, weight of [layers, tokens, k_count], norm [columns] F32; one sum of squares for each workgroup, which
// has 64 columns of one token.

struct Params {
    columns: u32,
    experts_per_token: u32,
    layer: u32,
    // Where the sums of squares begin in normed.
    squares_first: u32,
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
@group(0) @binding(5) var<storage, read> norm: array<f32>;
@group(0) @binding(6) var<storage, read_write> normed: array<f32>;
@group(0) @binding(7) var<storage, read_write> status: array<atomic<u32>>;

const LANES = 64u;
var<workgroup> squared: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let token = group.y;
    let column = group.x * LANES + lane;
    let halted = atomicLoad(&status[STATUS_HALT_LAYER]) <= params.layer;
    squared[lane] = 0.0;
    if (!halted && column < params.columns) {
        let at = token * params.columns + column;
        let first_route = params.layer * step.tokens * params.experts_per_token;
        var sum = x[at];
        for (var k = 0u; k < params.experts_per_token; k++) {
            let pair = token * params.experts_per_token + k;
            sum += routes[first_route + pair].weight * y[pair * params.columns + column];
        }
        x[at] = sum;
        normed[at] = sum * norm[column];
        squared[lane] = sum * sum;
        // A bad embedding is found by the first layer's projections, which name the right place.
        if (params.experts_per_token > 0u && !is_finite(sum)) {
            note(FOUND_EXPERTS);
        }
    }
    workgroupBarrier();
    if (!halted && lane == 0u) {
        var sum = 0.0;
        for (var i = 0u; i < LANES; i++) {
            sum += squared[i];
        }
        normed[params.squares_first + token * groups.x + group.x] = sum;
    }
}
