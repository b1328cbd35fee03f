// What sampling and the page need from each row of logits that is wanted, without reading the rows back:
// the CANDIDATES most likely tokens in order (ties: lower id first), ln Σ exp at temperature 1 and at the sampling
// temperature, the entropy at temperature 1, and how many logits were not finite.
//
// logits [head_tokens, vocabulary] F32, sampled [head_tokens]: one workgroup for each row, at the temperature of its
// token. Selection is exact: a radix search finds the smallest key that makes it, 8 bits a pass.
//
// The sums are F32 over vocabulary / 256 terms a lane: measured 2.9e-6 in log-sum-exp and entropy at 201088; tested to
// 5e-6 + 1e-6 · |value|.

struct Params {
    vocabulary: u32,
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

struct Candidate {
    token: u32,
    logit: f32,
}

// What becomes of a row of logits: Sampled in sample.rs.
struct Sampled {
    non_finite: u32,
    top_token: u32,
    top_logit: f32,
    log_sum_exp: f32,
    log_sum_exp_tempered: f32,
    entropy_nats: f32,
    padding_0: u32,
    padding_1: u32,
    candidates: array<Candidate, CANDIDATES>,
}

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read_write> sampled: array<Sampled>;

const CANDIDATES = 64u;
const LANES = 256u;
var<workgroup> partial: array<vec4<f32>, LANES>;
var<workgroup> histogram: array<atomic<u32>, 256>;
var<workgroup> non_finite: atomic<u32>;
var<workgroup> found: atomic<u32>;
var<workgroup> prefix: u32;
var<workgroup> remaining: u32;
var<workgroup> ties: array<u32, LANES>;
var<workgroup> chosen: array<Candidate, CANDIDATES>;

// Orders like the float it came from.
fn key_of(logit: f32) -> u32 {
    let bits = bitcast<u32>(logit);
    return bits ^ select(0x80000000u, 0xffffffffu, (bits & 0x80000000u) != 0u);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.x * params.vocabulary;
    let inverse_temperature = row_inverse_temperature(step.head_first + group.x);
    let wanted = min(CANDIDATES, params.vocabulary);
    if (lane == 0u) {
        atomicStore(&non_finite, 0u);
        atomicStore(&found, 0u);
        prefix = 0u;
        remaining = wanted;
    }
    workgroupBarrier();

    // The maximum, and values that are not numbers (exponent all ones).
    var maximum = -3.4e38;
    for (var i = lane; i < params.vocabulary; i += LANES) {
        let logit = logits[row + i];
        if ((bitcast<u32>(logit) & 0x7f800000u) == 0x7f800000u) {
            atomicAdd(&non_finite, 1u);
        } else {
            maximum = max(maximum, logit);
        }
    }
    partial[lane].x = maximum;
    workgroupBarrier();
    for (var i = 0u; i < LANES; i++) {
        maximum = max(maximum, partial[i].x);
    }
    workgroupBarrier();

    // Σ e^d, Σ d e^d and Σ e^(d / T), d = logit − maximum.
    var sums = vec4<f32>(0.0);
    for (var i = lane; i < params.vocabulary; i += LANES) {
        let distance = logits[row + i] - maximum;
        let weight = exp(distance);
        sums += vec4<f32>(weight, distance * weight, exp(distance * inverse_temperature), 0.0);
    }
    partial[lane] = sums;
    workgroupBarrier();
    if (lane == 0u) {
        var total = vec4<f32>(0.0);
        for (var i = 0u; i < LANES; i++) {
            total += partial[i];
        }
        sampled[group.x].non_finite = atomicLoad(&non_finite);
        sampled[group.x].log_sum_exp = maximum + log(total.x);
        sampled[group.x].log_sum_exp_tempered = maximum * inverse_temperature + log(total.z);
        sampled[group.x].entropy_nats = log(total.x) - total.y / total.x;
    }

    // The smallest key among the `wanted` largest, byte by byte from the top.
    for (var shift_up = 0u; shift_up < 32u; shift_up += 8u) {
        let shift = 24u - shift_up;
        atomicStore(&histogram[lane], 0u);
        workgroupBarrier();
        let known = prefix;
        for (var i = lane; i < params.vocabulary; i += LANES) {
            let key = key_of(logits[row + i]);
            // Shifting by 32 is not defined: the first pass takes every key.
            if (shift_up == 0u || (key >> ((shift + 8u) & 31u)) == known) {
                atomicAdd(&histogram[(key >> shift) & 255u], 1u);
            }
        }
        workgroupBarrier();
        if (lane == 0u) {
            var bin = 255u;
            loop {
                let count = atomicLoad(&histogram[bin]);
                if (count >= remaining || bin == 0u) {
                    break;
                }
                remaining -= count;
                bin--;
            }
            prefix = (known << 8u) | bin;
        }
        workgroupBarrier();
    }
    let threshold = prefix;
    let ties_wanted = remaining;

    // All above the threshold, in any order; of those at it the ones with the lowest ids. Each lane owns a run of ids.
    let run = (params.vocabulary + LANES - 1u) / LANES;
    let first = min(lane * run, params.vocabulary);
    let last = min(first + run, params.vocabulary);
    var my_ties = 0u;
    for (var i = first; i < last; i++) {
        let key = key_of(logits[row + i]);
        if (key > threshold) {
            let place = atomicAdd(&found, 1u);
            if (place < CANDIDATES) {
                chosen[place] = Candidate(i, logits[row + i]);
            }
        }
        my_ties += select(0u, 1u, key == threshold);
    }
    ties[lane] = my_ties;
    workgroupBarrier();
    var place = wanted - ties_wanted;
    for (var i = 0u; i < lane; i++) {
        place += ties[i];
    }
    for (var i = first; i < last && place < wanted; i++) {
        if (key_of(logits[row + i]) == threshold) {
            chosen[place] = Candidate(i, logits[row + i]);
            place++;
        }
    }
    workgroupBarrier();

    // Sort by rank: with so few, counting is the simplest that has no ties.
    if (lane < wanted) {
        let mine = chosen[lane];
        var rank = 0u;
        for (var i = 0u; i < wanted; i++) {
            let other = chosen[i];
            let before = key_of(other.logit) > key_of(mine.logit)
                || (key_of(other.logit) == key_of(mine.logit) && other.token < mine.token);
            rank += select(0u, 1u, before);
        }
        sampled[group.x].candidates[rank] = mine;
        if (rank == 0u) {
            sampled[group.x].top_token = mine.token;
            sampled[group.x].top_logit = mine.logit;
        }
    }
}
