// logits[e] = s · weight[e] · x + bias[e];  the k largest (ties: lower index) and their softmax;  which of them are resident.
//
// x [tokens, columns] F32, weight [experts, columns] F32, bias [experts] F32 → routes [layers, tokens, k], those of this layer.
// s is 1, or what norm.wgsl makes of x.
// One workgroup per token; logits in F32. A use of an expert that is not resident halts the layers after this one: the
// first such layer and its missing experts go into the status.
// Logits are looked at for values that are not finite. Only a bias of −∞ may make a logit −∞: that expert is never chosen.
//
// Logits of a few units are good to about 1e-6: measured 1.2e-6 relative in the weights, tested to 1e-5. Logits that are
// nearer than that may be chosen in another order than exact arithmetic would; equal rows are equal here too.

struct Params {
    columns: u32,
    experts: u32,
    experts_per_token: u32,
    layer: u32,
    // Where the sums of squares begin in x, and how many of them a token has; 0: x is multiplied as it is (norm.wgsl).
    squares_first: u32,
    squares: u32,
    epsilon: f32,
    padding_0: u32,
}

struct Route {
    expert: u32,
    weight: f32,
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> routes: array<Route>;
// [layers, experts]: slot, or MISS.
@group(0) @binding(6) var<storage, read> page_table: array<u32>;
// [layers, experts]: step.stamp of the last use.
@group(0) @binding(7) var<storage, read_write> last_used: array<atomic<u32>>;
@group(0) @binding(8) var<storage, read_write> status: array<atomic<u32>>;

const MISS = 0xffffffffu;
const LANES = 64u;
const MAX_EXPERTS = 128u;
const LANES_PER_EXPERT = 8u;
// The logit of an expert that is never chosen, or not again.
const LEAST: f32 = -0x1.fffffep+127;
var<workgroup> partial: array<f32, LANES>;
var<workgroup> logits: array<f32, MAX_EXPERTS>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let token = group.x;
    let scale = scale_of(token, lane);
    for (var first = 0u; first < params.experts; first += LANES / LANES_PER_EXPERT) {
        let expert = first + lane / LANES_PER_EXPERT;
        var sum = 0.0;
        if (expert < params.experts) {
            for (var i = lane % LANES_PER_EXPERT; i < params.columns; i += LANES_PER_EXPERT) {
                sum += weight[expert * params.columns + i] * x[token * params.columns + i];
            }
        }
        partial[lane] = sum;
        workgroupBarrier();
        if (lane % LANES_PER_EXPERT == 0u && expert < params.experts) {
            var product = 0.0;
            for (var i = 0u; i < LANES_PER_EXPERT; i++) {
                product += partial[lane + i];
            }
            let total = bias[expert] + scale * product;
            logits[expert] = total;
            if (is_minus_infinity(total) && is_minus_infinity(bias[expert])) {
                logits[expert] = LEAST;
            } else if (!is_finite(total)) {
                note(FOUND_ROUTER);
            }
        }
        workgroupBarrier();
    }
    // A layer after the one that halted sees stale activations: it must not touch routes or counts.
    if (lane == 0u && atomicLoad(&status[STATUS_HALT_LAYER]) >= params.layer) {
        choose(token);
    }
}

// What the norm makes of the token's products; all lanes come here together.
fn scale_of(token: u32, lane: u32) -> f32 {
    var sum = 0.0;
    for (var run = lane; run < params.squares; run += LANES) {
        sum += x[params.squares_first + token * params.squares + run];
    }
    partial[lane] = sum;
    workgroupBarrier();
    var squares = 0.0;
    for (var i = 0u; i < LANES; i++) {
        squares += partial[i];
    }
    workgroupBarrier();
    return select(inverse_root(squares, params.columns, params.epsilon), 1.0, params.squares == 0u);
}

fn is_minus_infinity(value: f32) -> bool {
    return bitcast<u32>(value) == 0xff800000u;
}

fn choose(token: u32) {
    let first = (params.layer * step.tokens + token) * params.experts_per_token;
    var best = 0.0;
    var total = 0.0;
    for (var k = 0u; k < params.experts_per_token; k++) {
        var chosen = 0u;
        for (var expert = 1u; expert < params.experts; expert++) {
            if (logits[expert] > logits[chosen]) {
                chosen = expert;
            }
        }
        let logit = logits[chosen];
        if (logit <= LEAST) {
            note(FOUND_ROUTER);
        }
        logits[chosen] = LEAST;
        if (k == 0u) {
            best = logit;
        }
        let unnormalised = exp(logit - best);
        total += unnormalised;
        routes[first + k] = Route(chosen, unnormalised);
        look_up(chosen);
    }
    for (var k = 0u; k < params.experts_per_token; k++) {
        routes[first + k].weight /= total;
    }
}

fn look_up(expert: u32) {
    let at = params.layer * params.experts + expert;
    // An expert is read once for all tokens of a batch that choose it, and counts once.
    let count = select(0u, 1u, atomicExchange(&last_used[at], step.stamp) != step.stamp);
    if (page_table[at] == MISS) {
        atomicAdd(&status[STATUS_MISSES], count);
        atomicOr(&status[STATUS_MISSED + expert / 32u], 1u << (expert % 32u));
        atomicMin(&status[STATUS_HALT_LAYER], params.layer);
    } else {
        atomicAdd(&status[STATUS_HITS], count);
    }
}
