//! Gates on a whole model: what they pass, what they find, and what their expectation is worth.

use gptoss_gates::determinism::{self, Reopen};
use gptoss_gates::whole::{Reach, Size, Subject};
use gptoss_gates::{Comparison, GatedFile, Part, Report};
use gptoss_model::Quiet;
use gptoss_model::reference::ReferenceModel;
use gptoss_protocol::{Event, Expect, GateReport, GateStep, GateVerdict, GateWhole};

use crate::support::{Memory, Opened, header, nano, run_on, run_whole};

fn gate(reports: &[GateReport], letter: char) -> &GateReport {
    reports.iter().find(|report| report.gate == letter).unwrap_or_else(|| panic!("no gate {letter}: {reports:#?}"))
}

fn fact<'a>(report: &'a GateReport, name: &str) -> &'a serde_json::Value {
    let found = report.facts.0.iter().find(|(it, _)| it == name);
    &found.unwrap_or_else(|| panic!("no fact {name}: {report:#?}")).1
}

#[test]
fn the_demo_model_passes_whole_with_its_figures() {
    let (bytes, host) = (nano(), Memory::default());
    let file = Opened::new(&bytes);
    let verdict = run_on(&file, None, Some(&GateWhole::default()), &host).expect("nobody stopped it");
    let reports = host.reports();
    assert_eq!(verdict, GateVerdict::Pass, "{reports:#?}");
    assert_eq!(reports.iter().map(|report| report.gate).collect::<String>(), "abedg");

    let read = gate(&reports, 'b');
    assert_eq!((file.openings(), fact(read, "openings")), (3, &3.into()));
    assert!(fact(read, "ranges").as_u64().is_some_and(|ranges| ranges > 32), "{read:#?}");
    assert_eq!(read.checks.len(), 3, "{read:#?}");

    // Beyond the window of 64.
    let correct = gate(&reports, 'd');
    assert_eq!(fact(correct, "layers"), "6 of 6");
    let [all, last, control] = &correct.comparisons[..] else { panic!("{correct:#?}") };
    assert_eq!((&all.shape[..], all.values), (&[72, 1280][..], 72 * 1280));
    assert!(
        [all, last].iter().all(|it| it.relative_error.is_some_and(|error| error > 0.0 && error < 1e-5)),
        "{correct:#?}"
    );
    assert!(control.expect == Expect::Different && control.relative_error.is_some_and(|error| error > 1e-2));

    let logits = gate(&reports, 'g');
    assert_eq!(fact(logits, "top 5 on the GPU").as_array().map(Vec::len), Some(5));
    assert_eq!((logits.checks.len(), logits.comparisons[0].values), (6, 1280), "{logits:#?}");

    // Nothing is told as of a model that somebody could ask.
    let events = host.events.take();
    assert!(!events.iter().any(|event| matches!(event, Event::Model(_) | Event::Plan(_))), "{events:#?}");
    let steps: Vec<GateStep> = events
        .iter()
        .filter_map(|event| match event {
            Event::GateProgress(progress) => Some(progress.step),
            _ => None,
        })
        .collect();
    for step in [GateStep::Fetch, GateStep::Multiply, GateStep::Reference] {
        assert!(steps.contains(&step), "{steps:?}");
    }
}

/// The gate's scalar arithmetic goes layer by layer, the reference model holds all weights: they share operations, and not how
/// a model is put together from them. The reference model is held against Transformers elsewhere.
#[test]
fn the_expectation_is_that_of_the_reference_model() {
    let bytes = nano();
    let gguf = header(&bytes);
    let source = Opened::new(&bytes).open();
    let parts = [Part { name: "model.gguf", gguf: &gguf }];
    let file = GatedFile { source: &source, gguf: &gguf, parts: &parts };
    let mut report = Report::new('d', "", String::new());
    let subject = Subject::new(&file, &Size::default(), Reach::BeyondWindow, &mut report).expect("the demo model");
    let expected = pollster::block_on(subject.expected(&Quiet)).expect("scalar arithmetic");
    let whole = pollster::block_on(ReferenceModel::load(source.as_ref(), false)).expect("loads");
    let shape = [subject.tokens.len() as u64, u64::from(subject.config.vocabulary)];
    let comparison = Comparison::new("layer by layer", "the reference model", &shape, 1e-6);
    let comparison = comparison.with(&expected.logits, &whole.logits(&subject.tokens));
    assert!(comparison.pass(), "{comparison:?}");
}

#[test]
fn bytes_that_change_between_openings_are_found_by_their_tensor() {
    let bytes = nano();
    let gguf = header(&bytes);
    let tensor = &gguf.tensors[0];
    let source = Opened::new(&bytes).open();
    let parts = [Part { name: "model.gguf", gguf: &gguf }];
    let file = GatedFile { source: &source, gguf: &gguf, parts: &parts };
    let check = |again: &dyn Reopen| {
        let mut report = Report::new('b', determinism::TITLE, String::new());
        pollster::block_on(determinism::check(&file, again, 3, &mut report, &Quiet)).map(|_| report.finish())
    };
    let mut damaged = bytes.clone();
    damaged[tensor.offset as usize] ^= 1;
    // Only the last of the three readings is of another version.
    let again = Opened::changing(&bytes, 1, damaged.clone());
    let report = check(&again).expect("it runs");
    assert_eq!(report.verdict, GateVerdict::Fail);
    let wrong: Vec<_> = report.checks.iter().filter(|check| !check.ok).collect();
    assert!(wrong.len() == 2 && wrong.iter().all(|check| check.found.contains(&tensor.name)), "{report:#?}");

    // Bytes that were read in another way.
    let mut report = Report::new('b', determinism::TITLE, String::new());
    let same = Opened::new(&bytes);
    let readings = determinism::check(&file, &same, 2, &mut report, &Quiet);
    let readings = pollster::block_on(readings).expect("it runs");
    for (from, ok) in [(&bytes, true), (&damaged, false)] {
        let read = readings
            .ranges()
            .iter()
            .map(|range| from[range.offset_bytes as usize..][..range.len_bytes as usize].to_vec());
        let mut report = Report::new('b', determinism::TITLE, String::new());
        readings.check_other_way("another way", &read.collect::<Vec<_>>(), &mut report);
        assert_eq!(report.verdict() == GateVerdict::Pass, ok);
        readings.check_other_way("not all of it", &[], &mut report);
        assert_eq!(report.verdict(), GateVerdict::Fail);
    }

    // A header that is another one, of a file that is as long.
    let mut renamed = bytes.clone();
    let at = renamed.windows(tensor.name.len()).position(|it| it == tensor.name.as_bytes()).expect("its name");
    renamed[at] ^= 0x20;
    let other = Opened::changing(&bytes, 0, renamed);
    let report = check(&other).expect("it runs");
    assert!(!report.checks[0].ok && report.checks[1].ok, "{report:#?}");
}

#[test]
fn what_does_not_hold_or_cannot_be_run_is_said() {
    let file = Opened::new(&nano());
    let strict = GateWhole { layers: Some(1), tolerance: Some(1e-12) };
    let (verdict, reports) = run_whole(&file, &strict);
    assert_eq!(verdict, GateVerdict::Fail);
    let correct = gate(&reports, 'd');
    assert!(!correct.comparisons[0].ok && correct.comparisons[2].ok, "{correct:#?}");
    assert_eq!((gate(&reports, 'g').verdict, fact(correct, "layers")), (GateVerdict::Fail, &"1 of 6".into()));

    let (verdict, reports) = run_whole(&file, &GateWhole { layers: Some(7), tolerance: None });
    assert_eq!((verdict, reports.len()), (GateVerdict::CouldNotRun, 4), "{reports:#?}");
    let why = gate(&reports, 'd').not_run.as_deref().unwrap_or_default();
    assert_eq!(why, "layers is 7; expected at most 6, the model's");
}

/// STOP in each part of the way ends it there, and nothing says that the gates ended.
#[test]
fn stop_ends_a_whole_model() {
    let bytes = nano();
    let whole = GateWhole { layers: Some(1), tolerance: None };
    let calm = Memory::default();
    run_on(&Opened::new(&bytes), None, Some(&whole), &calm).expect("nobody stopped it");
    let events = calm.events.take();
    let of = |wanted: &dyn Fn(&Event) -> bool| events.iter().rposition(wanted).expect("it was told") + 1;
    let step = |wanted| of(&|event| matches!(event, Event::GateProgress(progress) if progress.step == wanted));
    let read = of(&|event| matches!(event, Event::GateProgress(progress) if progress.tensor.starts_with("blk.")));
    let device = of(&|event| matches!(event, Event::Adapter(_)));
    let loaded = step(GateStep::Fetch);
    let reference = step(GateStep::Reference);
    for patience in [read, device, loaded, reference, reference - 1] {
        let host = Memory::default();
        host.patience.set(Some(patience));
        let error = run_on(&Opened::new(&bytes), None, Some(&whole), &host).expect_err("it was stopped");
        assert!(error.is_cancelled(), "{error}");
        assert!(!host.events.borrow().iter().any(|event| matches!(event, Event::GatesEnded { .. })));
    }
}
