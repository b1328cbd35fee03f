//! Memory: what is planned for the GPU and for the host, what was allocated of it, and what has to be fetched.

use gptoss_protocol::MemoryPlan;

use super::parts::{Rows, heading, or_not_told};
use super::{Panel, Seen, Shown};
use crate::describe::{disk, left_to_load};
use crate::format::{bytes, count, fraction, percent};
use crate::state::State;
use crate::view::{Element, element};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "memory",
    title: "Memory",
    line_id: "memory-summary",
    how: "The plan is worked out from the file's header and the limits the browser granted, before anything big is fetched. \
          Allocated is the sum of the GPU buffers the engine holds, as it counts them at their creation and release. Browsers \
          do not say how much memory a GPU has, nor what a driver adds. The wasm heap is the engine's own; it never shrinks.",
    style: include_str!("style.css"),
    view,
};

fn view(seen: &Seen<'_>) -> Shown {
    let state = seen.state;
    let plan = state.plan.as_ref();
    let allocated = state.gpu_allocated_bytes;
    let line = match (allocated, plan) {
        (Some(now), Some(plan)) => Some(format!("{} of {} allocated", bytes(now), bytes(plan.gpu_total_bytes))),
        (Some(now), None) => Some(format!("{} allocated", bytes(now))),
        (None, Some(plan)) => Some(format!("{} planned on the GPU", bytes(plan.gpu_total_bytes))),
        (None, None) => None,
    };
    let body = vec![
        map(plan, allocated).into(),
        on_gpu(state).view().into(),
        heading("In host memory").into(),
        on_host(state).view().into(),
        heading("To be read").into(),
        to_read(state).view().into(),
    ];
    Shown { is_empty: line.is_none(), line: or_not_told(line, state.inside.is_mapped), body, ..Shown::default() }
}

/// What is planned, by what it is for; below it, how much of that is allocated.
fn map(plan: Option<&MemoryPlan>, allocated: Option<u64>) -> Element {
    let total = plan.map_or(0, |plan| plan.gpu_total_bytes);
    let part =
        |kind: &'static str, size: u64| element("i").class(kind).share("--share", fraction(size, total).unwrap_or(0.0));
    let parts = plan.map_or([0; 4], |plan| [plan.dense_bytes, plan.expert_bytes, plan.kv_bytes, plan.scratch_bytes]);
    let planned = ["dense", "slots", "kv", "scratch"].into_iter().zip(parts).map(|(kind, size)| part(kind, size));
    let now = allocated.and_then(|now| fraction(now, total)).unwrap_or(0.0);
    let map = element("div").class("map").with("aria-hidden", "true");
    map.child(element("p").class("planned").children(planned))
        .child(element("p").class("allocated").child(element("i").share("--share", now)))
}

fn on_gpu(state: &State) -> Rows {
    let plan = state.plan.as_ref();
    let mut rows = Rows::default();
    let parts = plan.map(|plan| [plan.dense_bytes, plan.expert_bytes, plan.kv_bytes, plan.scratch_bytes]);
    let notes = plan.map(|plan| {
        let slots = format!("{} of {} a layer", plan.expert_slots_per_layer, plan.experts_per_layer);
        let tokens = format!("{} tokens", count(u64::from(plan.kv_capacity_tokens)));
        [String::new(), slots, tokens, String::new()]
    });
    let names = [
        ("plan-dense", "Dense weights", "dense"),
        ("plan-experts", "Expert slots", "slots"),
        ("plan-kv", "KV cache", "kv"),
        ("plan-scratch", "Scratch", "scratch"),
    ];
    for ((at, (id, name, kind)), note) in names.into_iter().enumerate().zip(notes.unwrap_or_default()) {
        let size = parts.map(|parts| parts[at]);
        let share = size.zip(plan).and_then(|(size, plan)| fraction(size, plan.gpu_total_bytes));
        rows.add(id, name, size.map(bytes)).bar(share).note(note).kind(kind);
    }
    let given = plan.map(|plan| match plan.budget_bytes {
        Some(budget) => format!("fitted to {}", bytes(budget)),
        None => "no limit set".to_owned(),
    });
    rows.add("plan-gpu", "Planned", plan.map(|plan| bytes(plan.gpu_total_bytes)))
        .note(given.unwrap_or_default())
        .kind("sum");
    let share = state.gpu_allocated_bytes.zip(plan).and_then(|(now, plan)| fraction(now, plan.gpu_total_bytes));
    let note = share.map_or_else(String::new, percent);
    rows.add("memory-allocated", "Allocated", state.gpu_allocated_bytes.map(bytes)).bar(share).note(note);
    rows
}

fn on_host(state: &State) -> Rows {
    let mut rows = Rows::default();
    let embedding = state.plan.as_ref().map(|plan| bytes(plan.host_bytes));
    rows.add("plan-host", "Embedding", embedding).note("planned".to_owned());
    rows.add("memory-wasm-heap", "Wasm heap", state.wasm_heap_bytes.map(bytes)).note("peak".to_owned());
    rows
}

fn to_read(state: &State) -> Rows {
    let plan = state.plan.as_ref();
    let mut rows = Rows::default();
    rows.add("plan-load", "Before it is ready", plan.map(|plan| bytes(plan.load_bytes)));
    let first_token = plan.map(|plan| bytes(plan.first_token_bytes));
    rows.add("plan-first-token", "To the first token", first_token).note("at least".to_owned());
    rows.add("plan-all", "With every expert", plan.map(|plan| bytes(plan.all_bytes)));
    if let Some(plan) = plan.filter(|plan| plan.on_disk_bytes > 0) {
        rows.add("plan-on-disk", "Without a slot", Some(bytes(plan.on_disk_bytes)));
    }
    rows.add("plan-seconds", "Left", left_to_load(state));
    if let Some((free, to_cache)) = disk(state) {
        let note = to_cache.map_or_else(String::new, |size| format!("{} to come", bytes(size)));
        rows.add("plan-disk", "Free for the cache", Some(bytes(free))).note(note);
    }
    rows
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::Event;

    use super::super::tests::{html, model, state};
    use super::*;

    fn plan() -> MemoryPlan {
        MemoryPlan {
            dense_bytes: 2_000_000,
            expert_bytes: 5_000_000,
            expert_slots_per_layer: 8,
            experts_per_layer: 32,
            kv_bytes: 2_000_000,
            kv_capacity_tokens: 4096,
            scratch_bytes: 1_000_000,
            gpu_total_bytes: 10_000_000,
            ..MemoryPlan::default()
        }
    }

    #[test]
    fn what_is_planned_is_a_map_and_what_is_allocated_a_part_of_it() {
        let said = html(&PANEL, &state([Event::Plan(plan()), Event::GpuMemory { allocated_bytes: 7_500_000 }]));
        assert!(said.contains("id=\"memory-summary\">7.50 MB of 10.0 MB allocated<"), "{said}");
        assert!(said.contains("<i class=\"slots\" style=\"--share: 50.00%\"></i>"), "{said}");
        assert!(said.contains("<p class=\"allocated\"><i style=\"--share: 75.00%\"></i></p>"), "{said}");
        assert!(said.contains("id=\"plan-experts\">5.00 MB</dd><dd class=\"note\">8 of 32 a layer</dd>"), "{said}");
        // The heap was not told of.
        assert_eq!(said.matches("not measured").count(), 1 + 1, "the heap, and what is left: {said}");
    }

    #[test]
    fn of_a_node_on_the_cpu_it_says_that_nothing_will_come() {
        let said = html(&PANEL, &state([model(), Event::Mapped { bytes: 9 }]));
        assert!(said.contains("id=\"memory-summary\">the CPU engine does not tell this<"), "{said}");
    }

    #[test]
    fn before_there_is_a_plan_it_is_one_line() {
        let said = html(&PANEL, &state([Event::WasmHeap { bytes: 1 << 20 }]));
        assert!(said.contains("data-empty=\"\"") && said.contains("id=\"memory-summary\">not measured<"), "{said}");
    }
}
