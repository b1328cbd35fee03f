//! What is wrong, and whether a gate finds it.

use std::rc::Rc;

use gptoss_gguf::Gguf;
use gptoss_kernels::GpuOptions;
use gptoss_kernels::testbed::{ShaderFault, Testbed};
use gptoss_protocol::{Event, FailureKind, GateSlice, GateVerdict};
use gptoss_synth::edit::Edit;
use gptoss_synth::{Spec, TensorType, TypeMix};

use crate::support::{Memory, gate_c, gpu, header, nano, of, run, run_slice, sha256};

const EXPERTS: &str = "blk.1.ffn_gate_exps.weight";

/// Position of a tensor's first byte.
fn begin(gguf: &Gguf, tensor: &str) -> usize {
    gguf.tensor(tensor).expect("a tensor").offset as usize
}

#[test]
fn a_device_that_uploads_or_multiplies_wrongly_fails() {
    let bytes = nano();
    for fault in [
        ShaderFault {
            kernel: "repack",
            from: "planes[scales_to + word] = packed;",
            to: "planes[scales_to + word] = packed ^ 1u;",
        },
        ShaderFault { kernel: "repack", from: "CODES_AT, code_words,", to: "CODES_AT + 1u, code_words," },
        ShaderFault { kernel: "matmul", from: "params.y_first", to: "params.y_first + 1u" },
    ] {
        let testbed = Rc::new(Testbed::default());
        testbed.break_shader(fault);
        let gpu = gpu(&GpuOptions { testbed: Some(testbed), ..GpuOptions::default() });
        for tensor in ["output.weight", EXPERTS] {
            let (report, figures) = gate_c(&bytes, &gpu, &of(tensor)).expect("it runs");
            assert_eq!(report.verdict, GateVerdict::Fail, "{fault:?} {tensor} {report:#?}");
            let at = figures.offset_bytes as usize;
            assert_eq!(figures.sha256, sha256(&bytes[at..at + figures.fetched_bytes as usize]), "the bytes were right");
        }
    }
}

#[test]
fn a_tolerance_that_f32_cannot_hold_fails() {
    let (verdict, reports) = run_slice(&nano(), GateSlice { tolerance: Some(1e-12), ..of("output.weight") });
    assert_eq!(verdict, GateVerdict::Fail);
    let report = reports.last().expect("gate c");
    assert!(!report.comparisons[0].ok && report.comparisons[1].ok, "{report:#?}");
    assert!(report.slice.as_ref().is_some_and(|figures| !figures.usual_tolerance));
}

/// GPU and reference get the same bytes: they agree on a wrong weight. Its hash tells whoever knows the right one.
#[test]
fn a_damaged_byte_is_found_by_its_hash_alone() {
    let whole = nano();
    let gguf = header(&whole);
    let at = begin(&gguf, EXPERTS);
    let mut damaged = whole.clone();
    damaged[at + 5] ^= 0x10;
    let (verdict, reports) = run_slice(&damaged, of(EXPERTS));
    assert_eq!(verdict, GateVerdict::Pass, "nothing says what the bytes should be: {reports:#?}");

    let rows = GateSlice { rows: Some(4), ..of(EXPERTS) };
    let bytes = 4 * gguf.tensor(EXPERTS).map(|it| it.size_bytes / it.shape[1] / it.shape[2]).expect("experts") as usize;
    let right = sha256(&whole[at..at + bytes]);
    let expecting = GateSlice { sha256: Some(right.to_uppercase()), ..rows };
    let (verdict, reports) = run_slice(&damaged, expecting.clone());
    assert_eq!(verdict, GateVerdict::Fail);
    let report = reports.iter().find(|report| report.gate == 'c').expect("gate c");
    let wrong = sha256(&damaged[at..at + bytes]);
    assert!(report.checks[0].found.contains(&wrong) && report.checks[0].found.contains(&right), "{report:#?}");
    assert!(report.comparisons.iter().all(|comparison| comparison.ok), "the arithmetic is right");
    assert_eq!(run_slice(&whole, expecting).0, GateVerdict::Pass);
}

/// An exponent of 255 is NaN: neither side may make a number of it.
#[test]
fn a_weight_that_is_no_number_fails() {
    let gpu = gpu(&GpuOptions::default());
    let mut bytes = nano();
    let gguf = header(&bytes);
    bytes[begin(&gguf, EXPERTS)] = 255;
    // The scale of a block of Q8_0.
    let at = begin(&gguf, "output.weight");
    bytes[at..at + 2].copy_from_slice(&0x7e00u16.to_le_bytes());
    for tensor in [EXPERTS, "output.weight"] {
        let (report, _) = gate_c(&bytes, &gpu, &of(tensor)).expect("it runs");
        assert_eq!((report.verdict, report.comparisons[0].not_finite), (GateVerdict::Fail, 1), "{report:#?}");
    }
}

#[test]
fn a_type_that_is_not_multiplied_here_is_said() {
    let spec = Spec::tiny().layers(1).hidden(256).ff(256).types(TypeMix::Uniform(TensorType::Q8_0));
    let mut edit = Edit::read(&spec.to_bytes().expect("a file"));
    let tensor = edit.tensor("blk.0.attn_q.weight");
    tensor.kind = TensorType::Q2K.id();
    // 84 bytes for 256 weights.
    tensor.data.truncate((tensor.shape.iter().product::<u64>() / 256 * 84) as usize);
    let bytes = edit.write();
    let host = Memory::default();
    let verdict = run(&bytes, Some(&GateSlice::default()), &host).expect("nobody stopped it");
    let reports = host.reports();
    assert_eq!(verdict, GateVerdict::Fail, "such a file does not run, which gate a says");
    let refused = reports.iter().find(|report| report.not_run.is_some()).expect("a type that is not multiplied");
    let why = refused.not_run.as_deref().unwrap_or_default();
    assert!(why.contains("Q2_K") && why.contains("MXFP4"), "{why}");
    assert!(reports.iter().any(|report| report.slice.is_some()), "the other types were looked at");
}

#[test]
fn a_file_that_ends_early_or_is_none_fails_at_its_header() {
    let mut short = nano();
    short.truncate(short.len() - 1000);
    for (bytes, words) in [(short, "truncated"), (b"<!doctype html><title>404</title>".to_vec(), "GGUF")] {
        let (verdict, reports) = run_slice(&bytes, of("output.weight"));
        assert_eq!((verdict, reports.len()), (GateVerdict::Fail, 1), "{reports:#?}");
        assert!(reports[0].gate == 'a' && reports[0].checks[0].found.contains(words), "{reports:#?}");
    }
}

#[test]
fn a_header_alone_opens_no_device() {
    let host = Memory::default();
    assert_eq!(run(&nano(), None, &host).expect("nobody stopped it"), GateVerdict::Pass);
    assert_eq!(host.reports().len(), 1);
    assert!(!host.events.borrow().iter().any(|event| matches!(event, Event::Adapter(_))));
}

/// STOP at every event ends it there, and nothing says that the gates ended.
#[test]
fn stop_ends_it_at_every_event() {
    let (bytes, slice) = (nano(), GateSlice { rows: Some(64), ..of(EXPERTS) });
    let calm = Memory::default();
    run(&bytes, Some(&slice), &calm).expect("nobody stopped it");
    let events = calm.events.borrow().len();
    assert!(events > 15, "{events}");
    for patience in 0..events - 1 {
        let host = Memory::default();
        host.patience.set(Some(patience));
        match run(&bytes, Some(&slice), &host) {
            Err(error) => assert!(error.is_cancelled() && error.failure().kind == FailureKind::Request, "{error}"),
            // After the last wait there is nothing left to stop.
            Ok(_) => {
                assert!(host.events.borrow().iter().filter(|it| matches!(it, Event::GateReport { .. })).count() >= 3)
            }
        }
    }
}
