//! The device: which GPU it is, what it grants, and whether it computes what it should.

use gptoss_protocol::{AdapterInfo, SelfCheck};

use super::parts::{Rows, heading};
use super::{Panel, Seen, Shown};
use crate::describe::node::device;
use crate::format::{bytes, milliseconds, plural};
use crate::view::{Element, Node, element};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "device",
    title: "Device",
    line_id: "device-line",
    how: "What the browser says of its GPU, and the limits it granted to this page, which may be less than the GPU's own; where a node \
          answers, what the node says of what it computes on. The self-check \
          runs every kernel of the model with known vectors and compares with a scalar reference; the error is the largest difference \
          relative to the root mean square of the result. A feature that is not reported may be there all the same.",
    style: include_str!("style.css"),
    view,
};

/// The optional features that matter for speed or measurements.
const TELLING_FEATURES: [&str; 3] = ["shader-f16", "subgroups", "timestamp-query"];

fn view(seen: &Seen<'_>) -> Shown {
    let adapter = seen.state.adapter.as_ref();
    let check = seen.state.self_check.as_ref();
    let mut rows = Rows::default();
    if let Some(node) = seen.state.node() {
        rows.add("device-node", "Node", Some(node.to_owned()));
        if seen.state.inside.is_mapped {
            rows.add("", "Computes on", Some("CPU".to_owned()));
        }
    }
    if let Some(adapter) = adapter {
        add_limits(&mut rows, adapter);
    }
    let mut body: Vec<Node> = vec![rows.view().id("device-facts").into()];
    if let Some(adapter) = adapter {
        body.push(heading("Features").into());
        body.push(features(adapter).into());
    }
    body.push(heading("Self-check").into());
    body.push(checked(check).view().into());
    let gates = element("a").with("href", "../ml-inference").text("Check it");
    let what = ": a slice of a tensor from the file to this GPU and back, with all figures.";
    body.push(element("p").class("note").child(gates).text(what).into());
    let line = match (adapter, seen.state.node()) {
        (Some(adapter), None) => format!("{} tier", adapter.tier),
        _ => device(seen.state),
    };
    Shown { line, body, is_empty: adapter.is_none() && seen.state.node().is_none(), ..Shown::default() }
}

fn add_limits(rows: &mut Rows, adapter: &AdapterInfo) {
    rows.add("", "GPU", Some(adapter.name_or_backend()));
    if adapter.software {
        rows.add("", "Kind", Some("software: it works, slowly".to_owned()));
    }
    rows.add("", "Backend", Some(adapter.backend.clone()));
    rows.add("", "Kernel tier", Some(adapter.tier.to_string()));
    rows.add("", "Largest buffer", Some(bytes(adapter.max_buffer_bytes)));
    rows.add("", "Largest binding", Some(bytes(adapter.max_binding_bytes)));
    rows.add("", "Workgroup memory", Some(bytes(u64::from(adapter.max_workgroup_storage_bytes))));
}

/// The telling features with whether they are there, then the names of all others.
fn features(adapter: &AdapterInfo) -> Element {
    let tag = |name: &str, has: bool| {
        let words = if has { "offered" } else { "not reported" };
        element("li")
            .with("data-has", if has { "yes" } else { "no" })
            .text(name)
            .child(element("small").text(format!(" {words}")))
    };
    let telling = TELLING_FEATURES.map(|name| tag(name, adapter.features.iter().any(|offered| offered == name)));
    let others: Vec<&str> =
        adapter.features.iter().map(String::as_str).filter(|name| !TELLING_FEATURES.contains(name)).collect();
    let rest = element("li").class("rest").text(others.join(", "));
    element("ul")
        .id("device-features")
        .class("features")
        .children(telling)
        .children((!others.is_empty()).then_some(rest))
}

fn checked(check: Option<&SelfCheck>) -> Rows {
    let mut rows = Rows::default();
    let Some(check) = check else {
        rows.add("self-check", "Kernels", None);
        return rows;
    };
    if check.remembered {
        rows.add("self-check", "Kernels", Some("passed before on this adapter, with this build".to_owned()));
        return rows;
    }
    let kernels = format!("{} right", plural(u64::from(check.kernels), "kernel"));
    rows.add("self-check", "Kernels", Some(kernels)).note(milliseconds(Some(check.elapsed_ms)));
    let worst = check.worst_error.map(|error| format!("{error:.1e}"));
    rows.add("self-check-error", "Worst error", worst).note(check.worst_kernel.clone().unwrap_or_default());
    rows
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{Event, Tier};

    use super::super::tests::{ask_node, html, model, state};
    use super::*;

    fn adapter() -> Event {
        Event::Adapter(AdapterInfo {
            name: "SwiftShader".into(),
            backend: "BrowserWebGpu".into(),
            software: true,
            max_buffer_bytes: 1 << 30,
            max_binding_bytes: 1 << 27,
            max_workgroup_storage_bytes: 16_384,
            features: vec!["shader-f16".into(), "bgra8unorm-storage".into()],
            tier: Tier::Baseline,
        })
    }

    #[test]
    fn limits_features_and_the_check_are_told() {
        let check = SelfCheck {
            kernels: 21,
            remembered: false,
            elapsed_ms: 230.8,
            worst_error: Some(4.2e-6),
            worst_kernel: Some("attention".into()),
        };
        let said = html(&PANEL, &state([adapter(), Event::SelfCheck(check.clone())]));
        for words in [
            "software: it works, slowly",
            ">134 MB<",
            "<li data-has=\"yes\">shader-f16<small> offered</small></li>",
            "<li data-has=\"no\">subgroups<small> not reported</small></li>",
            "<li class=\"rest\">bgra8unorm-storage</li>",
            ">21 kernels right</dd><dd class=\"note\">231 ms<",
            ">4.2e-6</dd><dd class=\"note\">attention<",
        ] {
            assert!(said.contains(words), "no {words} in {said}");
        }
        let remembered = SelfCheck { kernels: 0, remembered: true, worst_error: None, worst_kernel: None, ..check };
        let again = html(&PANEL, &state([adapter(), Event::SelfCheck(remembered)]));
        assert!(again.contains("passed before on this adapter"), "{again}");
        assert!(html(&PANEL, &state([])).contains("data-empty"));
    }

    #[test]
    fn a_node_is_told_with_what_it_computes_on() {
        let address = "pylon://gpubox.lan:9899";
        let cpu = html(&PANEL, &state([ask_node(address), model(), Event::Mapped { bytes: 9 }]));
        assert!(cpu.contains("id=\"device-line\">pylon://gpubox.lan:9899 · CPU<"), "{cpu}");
        assert!(cpu.contains("id=\"device-node\">pylon://gpubox.lan:9899<") && cpu.contains(">CPU</dd>"), "{cpu}");
        assert!(!cpu.contains("data-empty"), "{cpu}");
        let gpu = html(&PANEL, &state([ask_node(address), adapter(), model()]));
        assert!(gpu.contains("id=\"device-node\"") && gpu.contains(">134 MB<"), "{gpu}");
        assert!(!html(&PANEL, &state([adapter()])).contains("device-node"));
    }
}
