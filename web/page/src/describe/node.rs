//! Where the model computes, in words: in this tab, or at a node.

use crate::state::State;

/// The device that the model runs on, with the node that has it.
pub fn device(state: &State) -> String {
    let device = match (&state.adapter, state.node()) {
        (Some(adapter), _) => Some(format!("{} · {} tier", adapter.name, adapter.tier)),
        // Nothing but the CPU computes with a mapped file.
        (None, Some(_)) => state.inside.is_mapped.then(|| "CPU".to_owned()),
        (None, None) => Some("no GPU asked for yet".to_owned()),
    };
    let parts = state.node().map(str::to_owned).into_iter().chain(device);
    parts.collect::<Vec<_>>().join(" · ")
}

/// The heading of the page and what stands below it, before anything is loaded, given the node that stands in the address field.
pub fn lead(node: Option<&str>) -> [String; 2] {
    match node {
        Some(node) => [
            "OpenAI’s open model, at a node".to_owned(),
            format!("The node at {node} computes. What you write goes there, and its answers come back."),
        ],
        None => [
            "OpenAI’s open model, in this tab, on your GPU".to_owned(),
            "The file streams in as it is. Nothing you write leaves this machine.".to_owned(),
        ],
    }
}

/// What is said where STOP had no effect, and the button's words that ends it.
pub fn stuck(state: &State) -> [String; 2] {
    match state.node() {
        Some(node) => [
            format!(
                "The node at {node} does not react. Once the page has left it, the node stops what it does for this page as soon as it \
                 can. Its model stays loaded there, and USE PYLON comes back to it."
            ),
            "Leave the node".to_owned(),
        ],
        None => [
            "Something in the engine hangs. Ending the engine stops it for certain. The model has to be loaded again then; what is \
             cached in this browser stays."
                .to_owned(),
            "End the engine".to_owned(),
        ],
    }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{AdapterInfo, Event, FailureKind, NextAttempt, Trouble, TroubleKind};

    use super::*;
    use crate::describe::sentence;
    use crate::panels::tests::{ask_node, model, state};
    use crate::state::STOP_PATIENCE_MS;

    const INDEX: &str = include_str!("../../../../index.html");
    const NODE: &str = "pylon://gpubox.lan:9899";

    #[test]
    fn without_a_node_the_document_says_it_already() {
        for words in lead(None).into_iter().chain(stuck(&State::default())).chain([device(&State::default())]) {
            assert!(INDEX.contains(&format!(">{words}<")), "{words}");
        }
    }

    #[test]
    fn a_node_is_named_with_what_it_computes_on() {
        assert_eq!(device(&state([ask_node(NODE)])), "no GPU asked for yet", "nothing answers so far");
        assert_eq!(device(&state([ask_node(NODE), model()])), NODE);
        let mut cpu = state([ask_node(NODE), model(), Event::Mapped { bytes: 9 }, Event::Ready { load_ms: 1.0 }]);
        assert_eq!(device(&cpu), format!("{NODE} · CPU"));
        assert_eq!(sentence(&cpu), format!("The model waits for a question, at the node {NODE}."));
        let adapter = AdapterInfo { name: "H100".into(), ..adapter() };
        let gpu = state([ask_node(NODE), Event::Adapter(adapter), model()]);
        assert_eq!(device(&gpu), format!("{NODE} · H100 · baseline tier"));
        let [heading, lead] = lead(Some(NODE));
        assert!(!heading.contains("tab") && lead.contains(NODE) && !lead.contains("leaves this machine"), "{lead}");

        cpu.answer_requested(&gptoss_protocol::Prompt::default());
        cpu.stop_requested(0.0);
        cpu.time_passed(STOP_PATIENCE_MS);
        assert_eq!(sentence(&cpu), "Stopping, but the node does not react.");
        let [words, button] = stuck(&cpu);
        assert!(words.contains(NODE) && !words.contains("engine") && button == "Leave the node", "{words}");
    }

    #[test]
    fn a_connection_that_broke_is_told_also_while_nobody_asks() {
        let file = NODE.to_owned();
        let next = Some(NextAttempt { attempt: 2, attempts: 11, wait_ms: 500.0 });
        let gone = Trouble { what: TroubleKind::NodeGone, file: file.clone(), offset_bytes: 0, missing_bytes: 0, next };
        let ready = [ask_node(NODE), model(), Event::Ready { load_ms: 1.0 }];
        let broken = state(ready.clone().into_iter().chain([Event::Trouble(gone.clone())]));
        let said = sentence(&broken);
        assert!(said.contains("The connection to the node broke: attempt 2 of 11"), "{said}");
        let over = Event::TroubleOver { file, offset_bytes: 0, attempts: 2, elapsed_ms: 9.0 };
        let back = state(ready.into_iter().chain([Event::Trouble(gone), over]));
        assert_eq!(sentence(&back), format!("The model waits for a question, at the node {NODE}."));
    }

    #[test]
    fn a_node_that_is_gone_is_not_named_and_neither_is_its_gpu() {
        let failure = gptoss_protocol::Failure {
            kind: FailureKind::Unreachable,
            message: "it is gone".into(),
            advice: String::new(),
            parameter: None,
        };
        let events = [ask_node(NODE), Event::Adapter(adapter()), model(), Event::HostDied(failure)];
        assert_eq!(device(&state(events)), "no GPU asked for yet");
    }

    fn adapter() -> AdapterInfo {
        AdapterInfo {
            name: "GPU".into(),
            backend: "Vulkan".into(),
            software: false,
            max_buffer_bytes: 1 << 30,
            max_binding_bytes: 1 << 27,
            max_workgroup_storage_bytes: 16_384,
            features: Vec::new(),
            tier: gptoss_protocol::Tier::Baseline,
        }
    }
}
