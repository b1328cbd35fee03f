//! The candidates of a token: what else could have come, and how sure the model was.

use super::parts::{Rows, line};
use super::{Panel, Seen, Shown};
use crate::format::{milliseconds, percent, plural, visible_token};
use crate::state::{Answer, State};
use crate::view::{Node, element};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "next-token",
    title: "Next token",
    line_id: "next-token-line",
    how: "Probabilities are the model's own, at temperature 1, over the whole vocabulary; the mark shows the token that was taken. \
          Entropy is that of the same distribution, in nats: 0 is certain.",
    style: include_str!("style.css"),
    view,
};

/// Tokens of the line of entropy.
const MOST_ON_LINE: usize = 96;
/// The line's scale reaches at least this far, so that a sure model draws a flat line and not noise.
const LEAST_SCALE_NATS: f32 = 1.0;

/// The answer that is looked at, and the place of the token in it, if one is.
pub fn looked_at(state: &State, token: Option<(usize, u32)>) -> (&Answer, Option<u32>) {
    let pinned = token.and_then(|(turn, place)| Some((state.all_turns().nth(turn)?.1, Some(place))));
    pinned.unwrap_or((&state.answer, None))
}

fn view(seen: &Seen<'_>) -> Shown {
    let (answer, place) = looked_at(seen.picture, seen.token);
    let token = match place {
        Some(place) => answer.tokens.get(place as usize),
        None => answer.tokens.last(),
    };
    let top = token.map_or(&[][..], |token| &token.top);
    let chosen_id = token.map(|token| token.id);
    let candidates = top.iter().map(|candidate| -> Node {
        let chosen = chosen_id == Some(candidate.id);
        let part = |class: &'static str, text: String| element("span").class(class).text(text);
        let share = f64::from(candidate.probability);
        element("li")
            .class(if chosen { "chosen" } else { "" })
            .child(part("mark", if chosen { "▸" } else { "" }.to_owned()))
            .child(part("token", visible_token(&candidate.text)))
            .child(part("bar", String::new()).share("--share", share))
            .child(part("p", percent(share)))
            .into()
    });
    let list = element("ol").id("top-tokens").class("top-tokens").with("aria-label", "Most likely tokens");
    let nats = |value: f32| format!("{value:.2} nats");
    let mut measured = Rows::default();
    measured.add("entropy-last", "Entropy", token.map(|token| nats(token.entropy_nats)));
    measured.add("entropy-mean", "Mean", answer.mean_entropy_nats().map(nats));
    measured.add("token-time", "Last token", token.map(|token| milliseconds(Some(token.elapsed_ms))));
    let first = answer.tokens.len().saturating_sub(MOST_ON_LINE);
    let entropies: Vec<f32> = answer.tokens[first..].iter().map(|token| token.entropy_nats).collect();
    let highest = entropies.iter().copied().fold(LEAST_SCALE_NATS, f32::max);
    let label = format!("Entropy of the last {}, at most {highest:.2} nats", plural(entropies.len() as u64, "token"));
    let body = vec![
        list.children(candidates).into(),
        element("div").class("spark").child(line(&entropies, LEAST_SCALE_NATS, label)).into(),
        measured.view().into(),
    ];
    let is_empty = answer.tokens.is_empty();
    let line = if is_empty { "once there is one".to_owned() } else { String::new() };
    Shown { line, body, is_empty, ..Shown::default() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{asked, html, html_of, seen, state, token};
    use super::*;

    #[test]
    fn the_token_that_was_taken_is_marked_and_another_can_be_looked_at() {
        let said = html(&PANEL, &state([token(0), token(1)]));
        let chosen = "<li class=\"chosen\"><span class=\"mark\">▸</span><span class=\"token\">␣word1</span>\
                      <span class=\"bar\" style=\"--share: 75.00%\"></span><span class=\"p\">75.0 %</span></li>";
        assert!(said.contains(chosen), "{said}");
        assert!(said.contains("id=\"entropy-last\">0.50 nats<") && said.contains("id=\"token-time\">25 ms<"), "{said}");
        let state = state([asked(), token(0), token(1)]);
        let mut seen = seen(&state);
        seen.token = Some((0, 0));
        assert!(html_of(&PANEL, &seen).contains("␣word0"));
    }

    #[test]
    fn before_the_first_token_it_is_one_line() {
        let said = html(&PANEL, &state([]));
        assert!(said.contains("data-empty") && said.contains(">once there is one<"), "{said}");
    }
}
