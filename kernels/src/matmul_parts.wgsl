// y[t, first + r] = s[t] · Σ_k W[r, k] · x[t, k] + bias[r]
//
// x [tokens, columns] F32, bias [rows] F32, y [tokens, y_stride] F32. s is 1, or what norm.wgsl makes of x: then x is a row of
// the residual stream times the norm's weight. Geometry and error: products.wgsl. What
// matmul.wgsl and matmul_subgroups.wgsl share.

struct Params {
    rows: u32,
    blocks_per_row: u32,
    // Where the rows start in a row of y, and how long a row of y is.
    y_first: u32,
    y_stride: u32,
    // First of this shard's biases, and first word of its scales. Codes start at 0.
    bias_first: u32,
    scales_base: u32,
    layer: u32,
    flags: u32,
    // Where the sums of squares begin in x, and how many of them a token has; 0: x is multiplied as it is.
    squares_first: u32,
    squares: u32,
    epsilon: f32,
    padding_0: u32,
}

const HAS_BIAS = 1u;
const HEAD = 2u;

@group(0) @binding(0) var<uniform> step: Step;
@group(0) @binding(1) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read> status: array<u32>;

fn write(token: u32, tokens: u32, row: u32, product: f32) {
    if (token >= tokens || row >= params.rows) {
        return;
    }
    var sum = product;
    if ((params.flags & HAS_BIAS) != 0u) {
        sum += bias[params.bias_first + row];
    }
    y[token * params.y_stride + params.y_first + row] = sum;
}
