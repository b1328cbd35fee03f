use gptoss_protocol::{
    Command, Envelope, Event, Expect, Failure, FailureKind, GateCheck, GateComparison, GateFacts, GateProgress,
    GateReport, GateSlice, GateStep, GateTensor, GateVerdict, GateWhole, ModelLocation, Replay, RequestId, Sequencer,
    SliceFigures, Stage, StageStatus, Tier, TierFigures, WorstValue,
};
use serde_json::{Value, json};

use super::view::sentence;
use super::*;
use crate::action::{Action, GatePress};
use crate::state::{Phase, State};
use crate::view::{Element, Node};

const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Plays events, numbered as page and worker number them.
struct Run {
    own: Sequencer,
    worker: Sequencer,
    state: State,
    gates: Gates,
}

impl Run {
    fn asked(slice: Option<GateSlice>) -> Self {
        let mut run = Self {
            own: Sequencer::new(1),
            worker: Sequencer::new(2),
            state: State::default(),
            gates: Gates::default(),
        };
        let model = ModelLocation::Url { url: "http://h/m.gguf".into() };
        let asked = run.own.wrap(
            0.0,
            Some(RequestId(0)),
            Event::Asked { command: Command::Gate { model, slice, whole: None } },
        );
        run.take(&asked);
        run
    }

    fn take(&mut self, sent: &Envelope) {
        let got = Envelope::from_json(&sent.to_json()).expect("round trip");
        assert_eq!(&got, sent, "what is told survives the wire");
        self.state.apply(&got);
        self.gates.apply(&got.event);
    }

    fn told(&mut self, event: Event) -> &mut Self {
        let sent = self.worker.wrap(1.0, Some(RequestId(0)), event);
        self.take(&sent);
        self
    }

    fn page(&self) -> Node {
        crate::view::element("main").children(found(&self.state, &self.gates)).into()
    }

    fn text(&self, id: &str) -> String {
        let page = self.page();
        let found = page.find(&|element| element.attribute("id") == Some(id)).unwrap_or_else(|| panic!("no {id}"));
        Node::Element(found.clone()).all_text()
    }
}

fn slice() -> Option<GateSlice> {
    Some(GateSlice { tensor: Some("blk.0.ffn_up_exps.weight".into()), ..GateSlice::default() })
}

fn report(gate: char, verdict: GateVerdict) -> GateReport {
    GateReport {
        gate,
        title: "limits: every size follows".into(),
        path: "http://h/m.gguf".into(),
        facts: GateFacts(vec![("file bytes".into(), json!(12_109_566_560_u64))]),
        checks: vec![GateCheck {
            check: "sizes add up".into(),
            ok: verdict == GateVerdict::Pass,
            found: "they end".into(),
        }],
        comparisons: Vec::new(),
        verdict,
        not_run: None,
        advice: None,
        slice: None,
    }
}

fn comparison(expect: Expect, relative_error: f64, ok: bool) -> GateComparison {
    GateComparison {
        what: "y = W x on the GPU".into(),
        against: "the scalar reference".into(),
        shape: vec![2741],
        expect,
        tolerance: 1e-5,
        values: 2741,
        not_finite: 0,
        max_abs: 4.75e-7,
        largest_expected: 3.0,
        relative_error: Some(relative_error),
        ok,
        mean_abs: Some(1.25e-8),
        worst: Some(WorstValue { index: 1203, got: 0.5, expected: 0.25 }),
        tier: Some(Tier::Baseline),
    }
}

fn of_slice(relative_error: f64) -> GateReport {
    let ok = relative_error <= 1e-5;
    let figures = SliceFigures {
        tensor: "blk.0.ffn_up_exps.weight".into(),
        format: "MXFP4".into(),
        shape: vec![2880, 2880, 32],
        expert: Some(3),
        rows: 2741,
        columns: 1440,
        file: "m.gguf".into(),
        offset_bytes: 1000,
        fetched_bytes: 4_193_730,
        multiplied_bytes: 2_096_865,
        requests: 1,
        sha256: SHA256.into(),
        fetch_ms: 12.5,
        upload_ms: 3.25,
        reference_ms: 140.0,
        gpu_bytes: 4_200_000,
        usual_tolerance: true,
        rounding: 2.26e-6,
        tiers: vec![
            TierFigures { tier: Tier::Baseline, same_as: None, multiply_ms: Some(0.5), readback_ms: Some(0.75) },
            TierFigures { tier: Tier::F16, same_as: Some(Tier::Baseline), multiply_ms: None, readback_ms: None },
        ],
    };
    let comparisons = vec![comparison(Expect::Equal, relative_error, ok), comparison(Expect::Different, 1.2, true)];
    let verdict = if ok { GateVerdict::Pass } else { GateVerdict::Fail };
    GateReport { checks: Vec::new(), comparisons, slice: Some(figures), ..report('c', verdict) }
}

fn has(page: &Node, is_wanted: impl Fn(&Element) -> bool) -> bool {
    page.find(&is_wanted).is_some()
}

#[test]
fn a_slice_is_followed_from_the_click_to_the_verdict() {
    let mut run = Run::asked(slice());
    assert_eq!((run.state.phase, run.state.can_stop()), (Phase::Loading, true));
    run.told(Event::Stage { stage: Stage::GgufHeader, status: StageStatus::Started, elapsed_ms: None });
    assert_eq!(sentence(&run.state, &run.gates), "Reading the file's header.");
    run.told(Event::Stage { stage: Stage::GgufHeader, status: StageStatus::Completed, elapsed_ms: Some(7.5) });
    run.told(report('a', GateVerdict::Pass).to_event());
    let at = |step| GateProgress {
        tensor: "blk.0.ffn_up_exps.weight".into(),
        step,
        fetched_bytes: 0,
        needed_bytes: 9,
        elapsed_ms: 1.0,
    };
    run.told(Event::GateProgress(at(GateStep::Upload)));
    assert_eq!(sentence(&run.state, &run.gates), "blk.0.ffn_up_exps.weight: upload, repack.");
    let html = run.page().to_html();
    assert!(html.contains("<li data-status=\"pass\"><span>header</span><b>7.5 ms</b>"), "{html}");
    assert!(html.contains("<li data-status=\"pass\"><span>fetch</span>"), "{html}");
    assert!(html.contains("<li data-status=\"running\"><span>upload, repack</span>"), "{html}");
    assert!(html.contains("<li data-status=\"\"><span>scalar F64</span>"), "{html}");
    assert!(!html.contains("gate-verdict"), "no verdict yet");

    run.told(of_slice(3e-7).to_event());
    run.told(Event::GatesEnded { verdict: GateVerdict::Pass, elapsed_ms: 1234.0 });
    assert_eq!((run.state.phase, run.state.can_stop()), (Phase::Idle, false));
    assert_eq!(
        (run.text("gate-verdict"), sentence(&run.state, &run.gates)),
        ("PASS".into(), "2 gates in 1.23 s.".into())
    );
    let html = run.page().to_html();
    for words in [
        SHA256,
        "bytes 1000 to 4194729 of m.gguf",
        "tail -c +1001 FILE | head -c 4193730 | sha256sum",
        "<dt>Fetched</dt><dd>4.19 MB</dd>",
        "<dt>Multiplied</dt><dd>2.10 MB</dd>",
        "<dt>Requests</dt><dd>1</dd>",
        "2880 × 2880 × 32",
        "<dt>Expert</dt><dd>3</dd>",
        "<span>compare</span><b>3.00e-7</b>",
        "<td>4.75e-7</td><td>1.25e-8</td><td>3.00e-7</td>",
        "the same kernel as baseline",
        "Largest difference: row 1\u{202f}203, got 5e-1, expected 2.5e-1.",
        "Tolerance 1.00e-5, the usual one",
        "12\u{202f}109\u{202f}566\u{202f}560",
    ] {
        assert!(html.contains(words), "{words} is not in {html}");
    }
}

#[test]
fn a_failure_says_which_gate_and_why() {
    let mut run = Run::asked(slice());
    run.told(of_slice(3e-3).to_event());
    run.told(Event::GatesEnded { verdict: GateVerdict::Fail, elapsed_ms: 5.0 });
    assert_eq!(run.text("gate-verdict"), "FAIL");
    assert_eq!(run.text("gate-why"), "Gate c. y = W x on the GPU: relative error 3.00e-3, at most 1e-5");
    assert!(has(&run.page(), |it| it.attribute("class") == Some("product") && it.attribute("data-ok") == Some("no")));
    assert!(run.page().to_html().contains(SHA256), "the hash of what was compared is shown all the same");
}

#[test]
fn what_could_not_run_says_why_and_what_helps() {
    let mut run = Run::asked(slice());
    let mut none = report('c', GateVerdict::CouldNotRun);
    none.checks.clear();
    none.not_run = Some("m.gguf has no tensor blk.0.x".into());
    none.advice = Some("Choose a tensor from the list of this file.".into());
    run.told(none.to_event());
    run.told(Event::GatesEnded { verdict: GateVerdict::CouldNotRun, elapsed_ms: 5.0 });
    assert_eq!(run.text("gate-verdict"), "COULD NOT RUN");
    assert!(run.text("gate-end").contains("has no tensor blk.0.x") && run.text("gate-end").contains("Choose a tensor"));

    // Nothing came of it at all.
    let mut run = Run::asked(slice());
    let failure = Failure {
        kind: FailureKind::Source,
        message: "http://h/m.gguf answered HTTP 404".into(),
        advice: "Check the address.".into(),
        parameter: None,
    };
    run.told(Event::Failed { stage: Stage::RangeCheck, failure });
    assert_eq!((run.state.phase, run.text("gate-verdict")), (Phase::Error, "COULD NOT RUN".into()));
    assert!(run.text("gate-end").contains("HTTP 404") && run.text("gate-end").contains("Check the address."));

    let mut run = Run::asked(slice());
    run.told(Event::Stopped { model_loaded: false });
    assert_eq!((run.text("gate-verdict"), sentence(&run.state, &run.gates)), ("STOPPED".into(), "Stopped.".into()));
    assert!(!run.gates.running);
}

/// What is told of a whole model: no slice, but comparisons with numbers.
#[test]
fn a_whole_model_is_compared_with_its_figures() {
    let mut run = Run::asked(None);
    let progress = GateProgress {
        tensor: "layer 1 of 6".into(),
        step: GateStep::Reference,
        fetched_bytes: 0,
        needed_bytes: 0,
        elapsed_ms: 1.0,
    };
    run.told(Event::GateProgress(progress));
    assert_eq!(sentence(&run.state, &run.gates), "layer 1 of 6: scalar F64.");
    let equal = GateComparison {
        what: "GPU logits of all positions".into(),
        against: "scalar arithmetic, all 6 layers".into(),
        shape: vec![72, 1280],
        values: 92_160,
        tier: None,
        ..comparison(Expect::Equal, 3e-7, true)
    };
    let control = GateComparison { tier: None, ..comparison(Expect::Different, 1.2, true) };
    let facts = GateFacts(vec![("layers".into(), json!("6 of 6"))]);
    let told = GateReport { facts, comparisons: vec![equal, control], ..report('d', GateVerdict::Pass) };
    run.told(told.to_event());
    run.told(Event::GatesEnded { verdict: GateVerdict::Pass, elapsed_ms: 5.0 });
    assert_eq!(run.text("gate-why"), "Logits after 6 of 6 layers: the GPU gives what scalar arithmetic gives.");
    let html = run.page().to_html();
    for words in [
        "relative error 3.00e-7, at most 1e-5; max abs 4.75e-7 of values up to 3.00e0; 92\u{202f}160 values; scalar arithmetic, all 6 layers",
        "relative error 1.20e0, a control, which must be above 1e-5",
        "<span>compare</span><b>3.00e-7</b>",
        "<dt>layers</dt><dd>6 of 6</dd>",
    ] {
        assert!(html.contains(words), "{words} is not in {html}");
    }
    assert!(html.contains("<section class=\"gate-card\" data-gate=\"d\""), "it is open: {html}");
}

#[test]
fn several_types_have_a_line_each() {
    let mut run = Run::asked(Some(GateSlice::default()));
    for error in [1e-7, 2e-7, 1e-3] {
        run.told(of_slice(error).to_event());
    }
    let html = run.page().to_html();
    assert_eq!(html.matches("<tr data-ok=\"yes\"><td>MXFP4").count(), 2, "{html}");
    assert_eq!(html.matches("<tr data-ok=\"no\"><td>MXFP4").count(), 1, "{html}");
}

#[test]
fn the_form_knows_the_tensor_that_is_typed() {
    let mut run = Run::asked(None);
    let tensor = |name: &str, shape: &[u64], usual_rows| GateTensor {
        name: name.into(),
        format: "MXFP4".into(),
        shape: shape.to_vec(),
        bytes: 1 << 20,
        usual_rows,
        block_weights: 32,
    };
    let tensors = vec![tensor("experts", &[2880, 2880, 32], Some(2741)), tensor("norm", &[2880], None)];
    run.told(Event::GateTensors { tensors });
    let options: String = super::tensors(&run.gates).iter().map(Node::to_html).collect();
    let expected = "<option value=\"experts\">MXFP4 2880 × 2880 × 32</option>\
        <option value=\"norm\">MXFP4 2880, not multiplied</option>";
    assert_eq!(options, expected);
    let tensor = run.gates.tensor("experts").expect("listed");
    let placeholders = [Field::Expert, Field::Columns, Field::Rows, Field::Gguf].map(|it| placeholder(it, tensor));
    assert_eq!(placeholders.map(Option::unwrap_or_default), ["0, at most 31", "2880, in 32s", "2741 of 2880", ""]);
    // The same file again: its list is still there to choose from.
    let model = run.gates.model.clone().expect("asked");
    run.gates.apply(&Event::Asked { command: Command::Gate { model, slice: None, whole: None } });
    assert_eq!(run.gates.tensors.len(), 2);
}

#[test]
fn the_json_has_the_reports_as_pylon_prints_them() {
    let mut run = Run::asked(slice());
    run.told(of_slice(3e-7).to_event());
    run.told(Event::GatesEnded { verdict: GateVerdict::Pass, elapsed_ms: 5.0 });
    let json: Value = serde_json::from_str(&run.gates.to_json()).expect("JSON");
    assert_eq!(json["verdict"], "pass");
    let gate = &json["gates"][0];
    for name in ["gate", "title", "path", "facts", "checks", "comparisons", "verdict", "not_run"] {
        assert!(gate.get(name).is_some(), "{name} is not in {gate}");
    }
    assert_eq!((&gate["gate"], &gate["slice"]["sha256"]), (&json!("c"), &json!(SHA256)));
    assert_eq!(gate["comparisons"][0]["relative_error"], 3e-7);
    assert_eq!(gate["comparisons"][0]["worst"]["index"], 1203);
}

#[test]
fn the_address_is_read_and_nothing_in_it_is_ignored() {
    let (inputs, refused) =
        parse("?gguf=%2Fapi%2Fm.gguf&tensor=a.b&expert=3&k=64&n=10&tolerance=1e-6&layers=2&utm_source=x");
    assert_eq!(refused, []);
    assert_eq!(inputs.get(Field::Gguf), "/api/m.gguf");
    let expected = GateSlice {
        tensor: Some("a.b".into()),
        expert: Some(3),
        columns: Some(64),
        rows: Some(10),
        tolerance: Some(1e-6),
        sha256: None,
    };
    let whole = GateWhole { layers: Some(2), tolerance: Some(1e-6) };
    assert_eq!(inputs.chosen(), Ok((expected, whole)));
    assert_eq!(parse("").0.chosen().map(|(slice, _)| slice.tensor), Ok(Some("output.weight".into())));
    for (query, words) in [
        ("?k=x", "k is \"x\""),
        ("?n=-1", "n is \"-1\""),
        ("?layers=all", "layers is \"all\""),
        ("?tolerance=-1", "zero or above"),
        ("?tolerance=nan", "zero or above"),
        ("?rows=3", "a parameter \"rows\" that the gate page does not know"),
        ("?n=1&n=2", "n stands in the address more than once"),
        ("?gguf=file:///m.gguf", "cannot open file: addresses"),
        ("?tensor=%ff", "not valid percent-encoded UTF-8"),
    ] {
        let (_, refused) = parse(query);
        assert!(refused.len() == 1 && refused[0].1.contains(words), "{query}: {refused:?}");
    }
}

/// The form stands in index.html: every field has its input there, with a label and a place for what is wrong with it, and every
/// button of the program one.
#[test]
fn the_document_has_what_the_program_reads() {
    let document = include_str!("../../../../../index.html");
    for field in Field::ALL {
        let id = field.id();
        for wanted in [format!("for=\"{id}\""), format!(" id=\"{id}\""), format!("id=\"{id}-error\"")] {
            assert!(document.contains(&wanted), "index.html has no {wanted}");
        }
    }
    for press in [GatePress::Run, GatePress::Stop, GatePress::Header, GatePress::EachType, GatePress::WholeModel] {
        let button = format!("id=\"gate-{}\"", press.name());
        assert!(document.contains(&button) && document.contains(&Action::Gate(press).to_string()), "no {button}");
    }
}
