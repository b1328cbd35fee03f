//! Slices that are right: every type, every place, and figures that can be checked elsewhere.

use gptoss_gates::GateError;
use gptoss_kernels::GpuOptions;
use gptoss_protocol::{Event, Expect, GateSlice, GateStep, GateVerdict, Tier};
use gptoss_synth::edit::{Edit, RawTensor};
use gptoss_synth::{SUPPORTED_TYPES, Spec, TensorType, TypeMix};

use crate::support::{Memory, gate_c, gpu, header, nano, of, run, run_slice, sha256};

#[test]
fn the_demo_model_passes_with_figures_that_the_file_has() {
    let bytes = nano();
    let (verdict, reports) = run_slice(&bytes, of("output.weight"));
    assert_eq!(verdict, GateVerdict::Pass, "{reports:#?}");
    assert_eq!(reports.iter().map(|report| report.gate).collect::<String>(), "aec");
    let tensor = header(&bytes).tensor("output.weight").expect("an output matrix").clone();
    let figures = reports[2].slice.as_ref().expect("figures");
    let range = &bytes[tensor.offset as usize..][..tensor.size_bytes as usize];
    assert_eq!(figures.sha256, sha256(range), "the whole tensor, which is below 8 MB");
    assert_eq!((figures.offset_bytes, figures.fetched_bytes), (tensor.offset, tensor.size_bytes));
    assert_eq!((figures.requests, figures.multiplied_bytes, figures.expert), (1, tensor.size_bytes, None));
    assert_eq!([figures.columns, figures.rows], tensor.shape[..]);
    assert!(figures.usual_tolerance && figures.rounding > 1e-7 && figures.rounding < 1e-5, "{figures:?}");
    let baseline = figures.tiers.first().expect("a tier");
    assert!(baseline.tier == Tier::Baseline && baseline.multiply_ms.is_some_and(|ms| ms > 0.0), "{baseline:?}");

    let [same, control, ..] = &reports[2].comparisons[..] else { panic!("{reports:#?}") };
    assert_eq!((same.expect, same.values, same.tier), (Expect::Equal, tensor.shape[1], Some(Tier::Baseline)));
    let worst = same.worst.expect("some value is the worst");
    assert!((worst.got - worst.expected).abs() == same.max_abs && worst.index < tensor.shape[1], "{worst:?}");
    assert!(same.mean_abs.is_some_and(|mean| mean > 0.0 && mean < same.max_abs), "{same:?}");
    assert!(control.expect == Expect::Different && control.relative_error.is_some_and(|error| error > 0.1));
}

#[test]
fn every_type_passes_dense_and_of_an_expert() {
    let gpu = gpu(&GpuOptions::default());
    for kind in SUPPORTED_TYPES {
        // Rows of 256, so that the types with blocks of 256 are what they are called.
        let spec = Spec::tiny().layers(1).hidden(256).ff(256).types(TypeMix::Uniform(kind));
        let bytes = spec.to_bytes().expect("a file");
        for (tensor, expert) in [("blk.0.attn_q.weight", None), ("blk.0.ffn_down_exps.weight", Some(1))] {
            let (report, figures) = gate_c(&bytes, &gpu, &GateSlice { expert, ..of(tensor) }).expect("it runs");
            assert_eq!(report.verdict, GateVerdict::Pass, "{kind} {report:#?}");
            assert_eq!((figures.format.as_str(), figures.expert), (kind.name(), expert));
            let begin = figures.offset_bytes as usize;
            assert_eq!(figures.sha256, sha256(&bytes[begin..begin + figures.fetched_bytes as usize]), "{kind}");
        }
    }
}

/// The second expert's rows begin where the first one's end, and a slice of fewer columns fetches whole rows.
#[test]
fn experts_rows_and_columns_are_where_they_should_be() {
    let (bytes, gpu) = (nano(), gpu(&GpuOptions::default()));
    let tensor = header(&bytes).tensor("blk.2.ffn_gate_exps.weight").expect("experts").clone();
    let [columns, rows, experts] = tensor.shape[..] else { panic!("{tensor:?}") };
    let row_bytes = tensor.size_bytes / rows / experts;
    let asked = GateSlice { expert: Some(3), rows: Some(10), columns: Some(32), ..of(&tensor.name) };
    let (report, figures) = gate_c(&bytes, &gpu, &asked).expect("it runs");
    assert_eq!(report.verdict, GateVerdict::Pass, "{report:#?}");
    assert_eq!(figures.offset_bytes, tensor.offset + 3 * rows * row_bytes);
    assert_eq!((figures.fetched_bytes, figures.multiplied_bytes), (10 * row_bytes, 10 * row_bytes * 32 / columns));
    assert_eq!(report.comparisons[0].shape, [10]);
}

/// A matrix that takes several reads and, where bindings are small, several shards.
#[test]
fn large_slices_are_read_in_pieces_and_sharded() {
    let spec = Spec::tiny().layers(1).types(TypeMix::Uniform(TensorType::Q8_0));
    let mut edit = Edit::read(&spec.to_bytes().expect("a file"));
    let blocks = edit.tensor("blk.0.attn_q.weight").data.clone();
    let data = blocks.into_iter().cycle().take(20_000 * 512 / 32 * 34).collect();
    let (name, shape, kind) = ("large.weight".to_owned(), vec![512, 20_000], TensorType::Q8_0.id());
    edit.tensors.push(RawTensor { name, shape, kind, data });
    let bytes = edit.write();
    let gpu = gpu(&GpuOptions { max_binding_bytes: Some(6 << 20), ..GpuOptions::default() });
    let all = GateSlice { rows: Some(20_000), ..of("large.weight") };
    let (report, figures) = gate_c(&bytes, &gpu, &all).expect("it runs");
    assert_eq!(report.verdict, GateVerdict::Pass, "{report:#?}");
    assert!(figures.requests >= 2 && figures.fetched_bytes == 20_000 * 512 / 32 * 34, "{figures:?}");
    let shards = report.facts.0.iter().find(|(name, _)| name == "shards on the GPU").expect("a fact");
    assert!(shards.1.as_u64().is_some_and(|shards| shards >= 2), "{shards:?}");
    let (_, usual) = gate_c(&bytes, &gpu, &of("large.weight")).expect("it runs");
    assert!(usual.fetched_bytes <= 8 << 20 && usual.fetched_bytes + 544 > 8 << 20, "about 8 MB: {usual:?}");
}

#[test]
fn one_tensor_of_each_type_of_a_file_of_many_types() {
    let spec = Spec::tiny().layers(2).types(TypeMix::Mxfp4);
    let spec = spec.tensor_type("blk.0.attn_k.weight", TensorType::Q4_0);
    let spec = spec.tensor_type("blk.1.attn_v.weight", TensorType::F16);
    let bytes = spec.to_bytes().expect("a file");
    let host = Memory::default();
    let verdict = run(&bytes, Some(&GateSlice::default()), &host).expect("nobody stopped it");
    let reports = host.reports();
    assert_eq!(verdict, GateVerdict::Pass, "{reports:#?}");
    let mut formats: Vec<String> =
        reports.iter().filter_map(|report| report.slice.as_ref()).map(|slice| slice.format.clone()).collect();
    formats.sort_unstable();
    assert_eq!(formats, ["F16", "F32", "MXFP4", "Q4_0", "Q8_0"]);
    assert!(reports.iter().any(|report| report.gate == 'f'), "the MXFP4 slice is decoded, too");
}

#[test]
fn the_way_of_a_slice_is_told_step_by_step() {
    let host = Memory::default();
    run(&nano(), Some(&of("blk.0.ffn_up_exps.weight")), &host).expect("nobody stopped it");
    let events = host.events.take();
    let Some(Event::GateTensors { tensors }) = events.iter().find(|event| matches!(event, Event::GateTensors { .. }))
    else {
        panic!("{events:#?}")
    };
    let experts = tensors.iter().find(|tensor| tensor.name == "blk.0.ffn_up_exps.weight").expect("listed");
    assert_eq!((experts.usual_rows, experts.block_weights), (Some(experts.shape[1]), 32));
    let norm = tensors.iter().find(|tensor| tensor.name == "output_norm.weight").expect("listed");
    assert_eq!(norm.usual_rows, None, "a vector is multiplied by nothing");
    let steps: Vec<GateStep> = events
        .iter()
        .filter_map(|event| match event {
            Event::GateProgress(progress) => Some(progress.step),
            _ => None,
        })
        .collect();
    assert!(steps.starts_with(&GateStep::ALL), "{steps:?}");
    let last = events.last().expect("an end");
    assert!(matches!(last, Event::GatesEnded { verdict: GateVerdict::Pass, elapsed_ms } if *elapsed_ms > 0.0));
}

#[test]
fn what_does_not_fit_is_said_with_what_would() {
    let (bytes, gpu) = (nano(), gpu(&GpuOptions::default()));
    let output = || of("output.weight");
    let experts = || of("blk.0.ffn_gate_exps.weight");
    for (asked, words) in [
        (of("output.wait"), "model.gguf has no tensor output.wait"),
        (of("output_norm.weight"), "expected a matrix of one of these types: "),
        (
            GateSlice { columns: Some(100), ..output() },
            "k is 100; expected at most 192, the tensor's, and a multiple of 32",
        ),
        (GateSlice { columns: Some(40), ..output() }, "a multiple of 32"),
        (GateSlice { columns: Some(0), ..output() }, "at least 32"),
        (GateSlice { rows: Some(5000), ..output() }, "n is 5000; expected at most 1280"),
        (GateSlice { rows: Some(0), ..output() }, "at least 1"),
        (GateSlice { expert: Some(8), ..experts() }, "expert is 8; expected at most 7"),
        (GateSlice { expert: Some(1), ..output() }, "expected none, since output.weight has no experts"),
        (GateSlice { tolerance: Some(-1.0), ..output() }, "tolerance is -1; expected a number that is zero or above"),
        (GateSlice { sha256: Some("abc".into()), ..output() }, "sha256 is abc; expected 64 hex digits"),
    ] {
        let error = gate_c(&bytes, &gpu, &asked).map(drop).expect_err("it does not fit");
        assert!(error.is_missing(), "no verdict on the arithmetic: {error:?}");
        let message = error.message("model.gguf");
        assert!(message.contains(words), "{message}");
        assert!(!error.advice().is_empty());
    }
    // Through the whole run it is a report, after those of the other gates.
    let (verdict, reports) = run_slice(&bytes, of("output.wait"));
    assert_eq!((verdict, reports.len()), (GateVerdict::CouldNotRun, 3));
    assert!(reports[2].not_run.as_ref().is_some_and(|why| why.contains("output.wait")) && reports[2].advice.is_some());
    assert!(matches!(gate_c(&bytes, &gpu, &of("")), Err(GateError::NoTensor { .. })));
}
