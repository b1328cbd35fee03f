//! The KV cache: how many positions the layers hold, of those they have room for.

use super::parts::{Rows, or_not_measured};
use super::{Panel, Seen, Shown};
use crate::core::picture::{kv_positions, slides};
use crate::format::{bytes, count, fraction, percent, plural};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "kv",
    title: "KV cache",
    line_id: "kv-summary",
    how: "Tokens that the answer's sequence holds, of those it has room for; told before each token. Layers with full attention \
          keep all of them, layers whose attention slides only their window. The size is that of the whole cache, allocated once \
          when the model is loaded, filled or not. Reused are tokens of the prompt that it held already.",
    style: include_str!("style.css"),
    view,
};

fn view(seen: &Seen<'_>) -> Shown {
    let state = seen.state;
    let kv = state.kv.map(|kv| (u64::from(kv.used_tokens), u64::from(kv.capacity_tokens), kv.bytes));
    let line = kv.map(|(used, room, size)| format!("{} of {} tokens · {}", count(used), count(room), bytes(size)));
    let layers = state.inside.layers_run;
    let mut rows = Rows::default();
    for (id, name, sliding) in [("kv-full", "Full attention", false), ("kv-sliding", "Sliding window", true)] {
        let mut of_kind = (0..layers).filter(|layer| slides(state, *layer) == sliding);
        let held = of_kind.next().and_then(|first| kv_positions(state, first));
        let number = of_kind.count() as u64 + u64::from(held.is_some());
        if let Some((used, room)) = held {
            let value = format!("{} of {}", count(u64::from(used)), count(u64::from(room)));
            let share = fraction(u64::from(used), u64::from(room));
            rows.add(id, name, Some(value)).bar(share).note(plural(number, "layer"));
        }
    }
    let room = kv.map(|(used, room, _)| room.saturating_sub(used));
    rows.add("kv-room", "Room left", room.map(|room| plural(room, "token")));
    if let Some(prefill) = state.answer.prefill.as_ref() {
        let (reused, total) = (u64::from(prefill.reused_tokens), u64::from(prefill.total_tokens));
        let share = fraction(reused, total).map_or_else(String::new, percent);
        let value = format!("{} of {}", count(reused), count(total));
        rows.add("kv-reused", "Reused of the prompt", Some(value)).note(share);
    }
    rows.add("kv-bytes", "Allocated", kv.map(|(.., size)| bytes(size)));
    Shown { is_empty: kv.is_none(), line: or_not_measured(line), body: vec![rows.view().into()], ..Shown::default() }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::Event;

    use super::super::tests::{html, model, state};
    use super::*;

    #[test]
    fn layers_that_slide_hold_their_window_and_the_others_everything() {
        let kv = |used_tokens| Event::Kv { used_tokens, capacity_tokens: 8192, bytes: 13_860_864 };
        let said = html(&PANEL, &state([model(), kv(300)]));
        assert!(said.contains("id=\"kv-summary\">300 of 8\u{202f}192 tokens · 13.9 MB<"), "{said}");
        assert!(said.contains("id=\"kv-full\">300 of 8\u{202f}192</dd><dd class=\"note\">3 layers<"), "{said}");
        assert!(said.contains("id=\"kv-sliding\">128 of 128</dd><dd class=\"note\">3 layers<"), "{said}");
        assert!(!said.contains("not measured"), "{said}");
        assert!(html(&PANEL, &state([model()])).contains("data-empty"));
    }
}
