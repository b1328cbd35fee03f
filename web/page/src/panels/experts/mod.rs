//! The expert cache: what was found on the GPU, and what had to be read first.

use super::parts::{Rows, line, or_not_measured};
use super::{Panel, Seen, Shown};
use crate::format::{bytes, count, fraction, percent, plural};
use crate::view::{Node, element};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "experts",
    title: "Expert cache",
    line_id: "experts-summary",
    how: "An expert that a batch of tokens needs counts once a layer. A hit found it in its GPU slot; a miss read it first, and \
          an eviction made room for it. The engine counts at the lookups. The line has a point for each of the last tokens: \
          what the counter of misses grew by from the token before; the prompt's own misses are not in it.",
    style: include_str!("style.css"),
    view,
};

fn view(seen: &Seen<'_>) -> Shown {
    let experts = seen.state.experts;
    let misses = &seen.state.per_token.misses;
    let rate = experts.and_then(|experts| fraction(experts.hits, experts.hits + experts.misses));
    let said = match (experts, rate) {
        (_, Some(rate)) => Some(format!("{} hits", percent(rate))),
        (Some(experts), None) => Some(format!("{} slots, none used yet", count(u64::from(experts.slots)))),
        (None, None) => None,
    };
    let resident = experts.map(|experts| (u64::from(experts.resident), u64::from(experts.slots)));
    let missed = experts.and_then(|experts| fraction(experts.misses, experts.hits + experts.misses));
    let mut rows = Rows::default();
    rows.add("experts-hits", "Hits", experts.map(|experts| count(experts.hits))).bar(rate);
    rows.add("experts-misses", "Misses", experts.map(|experts| count(experts.misses))).bar(missed).kind("bad");
    rows.add("experts-evictions", "Evictions", experts.map(|experts| count(experts.evictions)));
    let slots = resident.map(|(now, all)| format!("{} of {}", count(now), count(all)));
    rows.add("experts-resident", "In slots", slots)
        .bar(resident.and_then(|(now, all)| fraction(now, all)))
        .kind("slots");
    rows.add("experts-loaded", "Read one by one", experts.map(|experts| bytes(experts.loaded_bytes)));
    let sum: u32 = misses.iter().sum();
    let words = format!("{} in the last {}", misses_words(sum), plural(misses.len() as u64, "token"));
    if let Some(last) = misses.last() {
        rows.add("experts-token", "Missed by last token", Some(count(u64::from(*last))));
    }
    let values: Vec<f32> = misses.iter().map(|misses| *misses as f32).collect();
    // A line of no misses at all says nothing that the numbers do not.
    let spark = element("div").class("spark").flag("hidden", sum == 0);
    let spark = spark.child(line(&values, 4.0, words.clone())).child(element("p").class("note").text(words));
    let body: Vec<Node> = vec![rows.view().into(), spark.into()];
    Shown { is_empty: experts.is_none(), line: or_not_measured(said), body, ..Shown::default() }
}

fn misses_words(misses: u32) -> String {
    if misses == 1 { "1 miss".to_owned() } else { format!("{} misses", count(u64::from(misses))) }
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::{CacheCounters, Event};

    use super::super::tests::{html, state, token};
    use super::*;

    #[test]
    fn misses_are_counted_and_told_apart_by_token() {
        let at = |hits, misses| {
            let counters = CacheCounters { hits, misses, resident: 12, slots: 48, ..CacheCounters::default() };
            Event::Experts(counters)
        };
        let said = html(&PANEL, &state([at(0, 10), token(0), at(20, 12), token(1), at(42, 14), token(2)]));
        assert!(said.contains("id=\"experts-summary\">75.0 % hits<"), "{said}");
        assert!(said.contains("id=\"experts-resident\">12 of 48<"), "{said}");
        assert!(said.contains("4 misses in the last 2 tokens"), "{said}");
        let none = html(&PANEL, &state([]));
        assert!(none.contains("data-empty"), "{none}");
        // Counted, and nothing found or missed yet: that is no rate of zero.
        let counted = html(&PANEL, &state([at(0, 0)]));
        assert!(counted.contains("48 slots, none used yet") && !counted.contains("data-empty"), "{counted}");
    }
}
