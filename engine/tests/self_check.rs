//! The check of the kernels on the adapter at hand: it passes where they are right, and catches each that is made
//! wrong.

use std::cell::RefCell;
use std::rc::Rc;

use crate::support::{memory, print};
use gptoss_engine::{LoadPolicy, Model, load, open_gpu, preflight};
use gptoss_kernels::GpuOptions;
use gptoss_kernels::testbed::{ShaderFault, Testbed};
use gptoss_model::{GpuError, Host, StageError};
use gptoss_protocol::{Event, FailureKind, LoadOptions, SelfCheck, Stage};
use gptoss_source::Source;

const MODEL: &[u8] = include_bytes!("../../models/nano/gpt-oss-nano.gguf");

/// Keeps what was remembered, and the reports of the self-check. Stops before any weight is fetched.
#[derive(Default)]
struct Memory {
    keys: RefCell<Vec<String>>,
    reports: RefCell<Vec<SelfCheck>>,
}

impl Host for Memory {
    fn emit(&self, event: Event) {
        if let Event::SelfCheck(report) = event {
            self.reports.borrow_mut().push(report);
        }
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn remembered(&self, key: &str) -> bool {
        self.keys.borrow().iter().any(|known| known == key)
    }

    fn remember(&self, key: &str) {
        self.keys.borrow_mut().push(key.to_owned());
    }
}

/// Loads a model; the self-check comes on the way.
async fn try_load(file: &[u8], gpu: GpuOptions, options: &LoadOptions, host: &dyn Host) -> Result<Model, StageError> {
    let gpu = open_gpu(&gpu, host).await.expect("a GPU adapter: install a Vulkan driver (mesa-vulkan-drivers)");
    let source: Rc<dyn Source> = memory("model", file);
    let prepared = preflight(&gpu, source.as_ref(), options, LoadPolicy::First, host).await.expect("a valid file");
    load(gpu, source, prepared, host).await
}

fn broken(fault: ShaderFault) -> GpuOptions {
    let testbed = Testbed::default();
    testbed.break_shader(fault);
    GpuOptions { testbed: Some(Rc::new(testbed)), ..GpuOptions::default() }
}

/// Runs with 8 lanes per row as on a GPU, and with 1 as on a software adapter.
async fn a_right_adapter_passes_and_says_how_well(lanes_per_row: u32) {
    let host = Memory::default();
    let begin = web_time::Instant::now();
    let gpu = GpuOptions { lanes_per_row: Some(lanes_per_row), ..GpuOptions::default() };
    try_load(MODEL, gpu, &LoadOptions::default(), &host).await.expect("nano loads");
    let reports = host.reports.take();
    let [report] = &reports[..] else { panic!("one report, got {reports:?}") };
    // Repacking of Q8_0 and MXFP4; products of Q8_0, and those that are added to the residual stream, each for one and
    // for many tokens; RoPE; attention, and what a head looks at, with and without a window; router; gate and up, down,
    // combine; sample.
    assert_eq!((report.kernels, report.remembered), (16, false), "{report:?}");
    let worst = report.worst_error.expect("measured");
    // A tenth of what is allowed.
    assert!(worst > 0.0 && worst < 1e-5, "{report:?}");
    assert!(report.elapsed_ms <= begin.elapsed().as_secs_f64() * 1e3);
    print(&format!("self-check of nano, {lanes_per_row} lanes to a row: {report:?}"));
}

const fn fault(kernel: &'static str, from: &'static str, to: &'static str) -> ShaderFault {
    ShaderFault { kernel, from, to }
}

/// Faults that a compiler or driver might make, and the name that the error must have. The first ones are tried in
/// Chromium, too.
const FAULTS: [(ShaderFault, &str); 46] = [
    (fault("matmul", "sum += bias[params.bias_first + row]", "sum += 0.0"), "matmul Q8_0, many tokens"),
    (fault("experts_gate_up", "0xc8643210u", "0xc8643211u"), "experts_gate_up MXFP4"),
    (fault("attention", "var total = 1.0;", "var total = 0.0;"), "attention with a window"),
    (fault("repack", "<< (8u * byte)", "<< (4u * byte)"), "repack Q8_0"),
    // Only seen by one of the two pipelines.
    (fault("matmul", "i < TOKENS_PER_GROUP; i++", "i < min(TOKENS_PER_GROUP, 7u); i++"), "matmul Q8_0, many tokens"),
    (fault("matmul", "select(step.tokens, step.head_tokens,", "select(step.tokens, 0u,"), "matmul Q8_0, one token"),
    (fault("matmul", "vec4<u32>(word << 24u", "vec4<u32>(word << 23u"), "matmul Q8_0, one token"),
    (fault("matmul", "(block & 1u) * 16u", "(block & 0u) * 16u"), "matmul Q8_0, one token"),
    (fault("matmul", "/ f32(columns) + epsilon", "/ f32(columns + 1u)"), "matmul Q8_0, one token"),
    (fault("matmul", "select(0u, step.head_first, is_head)", "0u"), "matmul Q8_0, one token"),
    (fault("matmul_residual", "+ residual[at]", "+ 0.0"), "matmul_residual Q8_0, one token"),
    (fault("matmul_residual", "normed[at] = sum *", "normed[at] = product *"), "matmul_residual Q8_0, one token"),
    (fault("matmul_residual", "return sum * sum;", "return sum;"), "matmul_residual Q8_0, one token"),
    (fault("router", "/ f32(columns) + epsilon", "/ f32(columns)"), "router"),
    (fault("experts_gate_up", "/ f32(columns) + epsilon", "/ f32(columns)"), "experts_gate_up MXFP4"),
    (fault("experts_combine", "* norm[column]", "* norm[0]"), "experts_combine"),
    (fault("experts_combine", "= sum * sum;", "= sum;"), "experts_combine"),
    (fault("rope", "- qkv[at + 32u] * turn.y", "+ qkv[at + 32u] * turn.y"), "rope"),
    (fault("rope", "position * 32u + 2u * j)", "(position & 63u) * 32u + 2u * j)"), "rope"),
    (fault("rope", "position % BLOCK_TOKENS", "position % (BLOCK_TOKENS - 1u)"), "rope"),
    (fault("attention", "position + 1u - params.window", "position - params.window"), "attention with a window"),
    (fault("attention", "var maximum = sinks[head]", "var maximum = sinks[0]"), "attention with a window"),
    (fault("attention", "total *= shrink", "total *= 1.0"), "attention with a window"),
    (fault("rope", "block_of(token, params.table_first, position)", "block_of(token, 0u, position)"), "rope"),
    (
        fault("attention", "block_of(token, params.table_first, tile)", "block_of(0u, params.table_first, tile)"),
        "attention with a window",
    ),
    (fault("sample", "step.head_first + group.x", "group.x"), "sample"),
    (
        fault("attention_row", "position + 1u - params.window", "position - params.window"),
        "attention_row with a window",
    ),
    (fault("attention_row", "let head = watched[0]", "let head = 0u"), "attention_row with a window"),
    (fault("attention_row", "var total = of_sink", "var total = 0.0"), "attention_row with a window"),
    (fault("attention_row", "step.tokens - 1u", "0u"), "attention_row with a window"),
    (fault("attention", "var first = 0u", "var first = min(2u, position)"), "attention with a window"),
    (fault("router", "logits[expert] > logits[chosen]", "logits[expert] >= logits[chosen]"), "router"),
    (fault("router", ".weight /= total", ".weight *= 1.0"), "router"),
    (fault("router", "atomicAdd(&status[STATUS_MISSES], count)", "atomicAdd(&status[STATUS_MISSES], 1u)"), "router"),
    (fault("repack", "(next << (31u - shift)) << 1u", "next << (31u - shift)"), "repack Q8_0"),
    (fault("experts_gate_up", "const ALPHA = 1.702", "const ALPHA = 1.7"), "experts_gate_up MXFP4"),
    (fault("experts_gate_up", "const LIMIT = 7.0", "const LIMIT = 7.5"), "experts_gate_up MXFP4"),
    (fault("experts_gate_up", "if (slot >= params.slots)", "if (slot == 77u)"), "experts_gate_up MXFP4"),
    (fault("experts_down", "+ biases[params.bias_base", "+ biases[0u * params.bias_base"), "experts_down MXFP4"),
    (fault("experts_combine", "routes[first_route + pair].weight *", "0.5 *"), "experts_combine"),
    (fault("experts_combine", "params.layer * step.tokens *", "0u *"), "experts_combine"),
    (fault("experts_gate_up", "params.layer * step.tokens *", "0u *"), "experts_gate_up MXFP4"),
    (fault("experts_down", "params.layer * step.tokens *", "0u *"), "experts_down MXFP4"),
    (fault("router", "params.layer * step.tokens +", "0u +"), "router"),
    (fault("sample", "other.token < mine.token", "other.token > mine.token"), "sample"),
    (fault("sample", "exp(distance * inverse_temperature)", "exp(distance)"), "sample"),
];

async fn faults_are_caught(model: &[u8], faults: &[(ShaderFault, &str)]) {
    let mut missed = Vec::new();
    for (fault, name) in faults {
        let host = Memory::default();
        let Err(error) = try_load(model, broken(*fault), &LoadOptions::default(), &host).await else {
            missed.push(format!("{fault:?} passed: {:?}", host.reports.take()));
            continue;
        };
        let failure = error.failure();
        let gptoss_model::EngineError::Gpu(GpuError::Wrong(wrong)) = &error.error else {
            missed.push(format!("{fault:?}: {error}"));
            continue;
        };
        if (error.stage, failure.kind, &*wrong.kernel) != (Stage::SelfCheck, FailureKind::WrongResults, *name) {
            missed.push(format!("{fault:?} is {name}: {error}"));
        }
        let told = [&wrong.adapter, &wrong.kernel, &wrong.expected, &wrong.got];
        assert!(!wrong.adapter.is_empty() && told.iter().all(|word| failure.message.contains(*word)), "{error}");
        assert!(host.keys.borrow().is_empty() && host.reports.borrow().is_empty(), "nothing to remember");
    }
    assert!(missed.is_empty(), "{} of {} faults\n{}", missed.len(), faults.len(), missed.join("\n"));
}

/// Another build is another set of kernels: here one whose constant is right but written otherwise.
async fn a_passed_check_is_remembered_for_this_build_and_adapter() {
    let host = Memory::default();
    let options = LoadOptions::default();
    for expected in [false, true] {
        try_load(MODEL, GpuOptions::default(), &options, &host).await.expect("nano loads");
        let report = host.reports.borrow_mut().pop().expect("a report");
        assert_eq!(report.remembered, expected, "{report:?}");
        assert_eq!((report.kernels == 0, report.worst_error.is_none()), (expected, expected), "{report:?}");
    }
    let [key] = &host.keys.borrow().clone()[..] else { panic!("remembered once") };
    let gpu = open_gpu(&GpuOptions::default(), &host).await.expect("a GPU");
    assert!(key.contains(&gpu.adapter().identity) && !gpu.adapter().identity.is_empty(), "{key}");

    let harmless = broken(fault("rope", "* 0u", "* 0u"));
    try_load(MODEL, harmless, &options, &host).await.expect("nano loads");
    assert!(host.reports.borrow_mut().pop().expect("a report").remembered, "the same text is the same build");
    let rewritten = broken(fault("router", "var squares = 0.0", "var squares = 0.0e0"));
    try_load(MODEL, rewritten, &options, &host).await.expect("nano loads");
    assert!(!host.reports.borrow_mut().pop().expect("a report").remembered, "another build");
    // Other kernels are another matter, too.
    let wide = LoadOptions { kv_f32: true, ..options.clone() };
    try_load(MODEL, GpuOptions::default(), &wide, &host).await.expect("nano loads");
    assert!(!host.reports.borrow_mut().pop().expect("a report").remembered, "other kernels");

    let elsewhere = Memory::default();
    let renamed = key.replace(&gpu.adapter().identity, "another adapter");
    elsewhere.keys.borrow_mut().push(renamed);
    try_load(MODEL, GpuOptions::default(), &options, &elsewhere).await.expect("nano loads");
    assert!(!elsewhere.reports.borrow_mut().pop().expect("a report").remembered, "another adapter");
}

everywhere!(passes, async {
    a_right_adapter_passes_and_says_how_well(8).await;
    a_right_adapter_passes_and_says_how_well(1).await;
});
everywhere!(remembered, a_passed_check_is_remembered_for_this_build_and_adapter());

#[cfg(target_arch = "wasm32")]
everywhere!(faults, faults_are_caught(MODEL, &FAULTS[..4]));

#[cfg(not(target_arch = "wasm32"))]
mod native {
    use gptoss_gguf::WeightType;
    use gptoss_synth::{Spec, TypeMix, parse_type};

    use super::*;

    everywhere!(faults, faults_are_caught(MODEL, &FAULTS));

    /// Each of the 16 values of an MXFP4 code, wrong alone.
    #[test]
    fn every_code_of_mxfp4_is_checked() {
        // Doubled magnitudes, a nibble each; zero becomes one half, the others lose or gain one bit.
        let wrong = |code: u32| 0xc864_3210u32 ^ (1 << (code % 8 * 4));
        let table = |code: u32| {
            let negative = "(nibbles & vec4<u32>(8u)) != vec4<u32>(0u)";
            let (positive, other) = if code < 8 { (wrong(code), 0xc864_3210) } else { (0xc864_3210, wrong(code)) };
            format!("select(vec4<u32>({positive:#x}u), vec4<u32>({other:#x}u), {negative})").leak()
        };
        let only = |code| fault("experts_down", "vec4<u32>(0xc8643210u)", table(code));
        let faults: Vec<_> = (0..16).map(|code| (only(code), "experts_down MXFP4")).collect();
        crate::support::run(faults_are_caught(MODEL, &faults));
    }

    /// A fault of each format that leaves most weights right. A kernel without fault passes in every format.
    const OF_FORMATS: &[(WeightType, &str, &str)] = &[
        (WeightType::F32, "weights[i] = ", "weights[max(i, 1u)] = "),
        (WeightType::F16, "unpack2x16float(packed.w)", "unpack2x16float(packed.z)"),
        (WeightType::Bf16, "word & 0xffff0000u", "word & 0xfff00000u"),
        (WeightType::Q4_0, "(block & 1u) * 16u", "0u"),
        (WeightType::Q4_1, "+ minimum", "- minimum"),
        (WeightType::Q5_0, "second, is_odd)", "first, is_odd)"),
        (WeightType::Q5_1, "fifth_bits(high, i)", "fifth_bits(high, i & 6u)"),
        (WeightType::Q4K, "(low >> 4u) | ((minimum_byte >> 6u) << 4u)", "low >> 4u"),
        (WeightType::Q5K, "fifth(high.w, s)", "fifth(high.z, s)"),
        (WeightType::Q6K, "pair << 16u", "pair << 24u"),
        (WeightType::Q3K, "low_bits >> 8u", "low_bits"),
        (WeightType::Iq4Xs, "(high << 4u)", "(high << 3u)"),
        (WeightType::Iq3S, "(ninth & 2u) << 7u", "(ninth & 1u) << 8u"),
        (WeightType::Iq3Xxs, "countOneBits(seven)", "seven"),
        // One of 127.
        (WeightType::Iq4Nl, "0x766a5d4fu", "0x766a5d4eu"),
    ];

    #[test]
    fn every_format_is_checked() {
        crate::support::run(async {
            // nano has the other two, see above.
            assert_eq!(OF_FORMATS.len() + 2, WeightType::ALL.len(), "every type has a fault");
            for &(format, from, to) in OF_FORMATS {
                let kind = parse_type(format.name()).expect("a type of GGUF");
                let file = Spec::tiny().layers(1).types(TypeMix::Uniform(kind)).to_bytes().expect("a model");
                let host = Memory::default();
                try_load(&file, GpuOptions::default(), &LoadOptions::default(), &host).await.expect("loads");
                println!("{}: {:?}", format.name(), host.reports.take());
                let name = format!("matmul {}, one token", format.name());
                faults_are_caught(&file, &[(fault("matmul", from, to), &name)]).await;
            }
        });
    }
}
