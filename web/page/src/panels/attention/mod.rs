//! Attention: what one head looked at, token by token.

use std::collections::VecDeque;

use gptoss_protocol::{AttentionRow, Head, ModelInfo};

use super::parts::label;
use super::{Panel, Seen, Shown};
use crate::format::CPU_DOES_NOT_TELL;
use crate::view::{Element, element};

/// The panel.
pub const PANEL: Panel = Panel {
    name: "attention",
    title: "Attention",
    line_id: "attention-line",
    how: "Weights of one head: a row for each of the last tokens, a column for each position it could look at, the newest at the right. \
          What is missing to 1 went to the sink. It takes one more kernel a token, only while it is on.",
    style: include_str!("style.css"),
    view,
};

fn view(seen: &Seen<'_>) -> Shown {
    let rows = &seen.inside.inside.attention;
    // What somebody typed stays; until then the inputs say what the picture shows.
    let said = rows.back().map(|row| row.head).or(seen.head).unwrap_or_default();
    let input = |id: &'static str, number: u32| {
        let input = element("input").id(id).with("inputmode", "numeric").with("autocomplete", "off");
        input.with("value", number.to_string())
    };
    let watch = element("button").id("attention-on").class("quiet").with("type", "button");
    let watch = watch.with("aria-pressed", if seen.head.is_some() { "true" } else { "false" }).text("watch");
    let chosen: Element = element("div")
        .class("heads")
        .child(label("attention-layer", "Layer"))
        .child(input("attention-layer", said.layer))
        .child(label("attention-head", "Head"))
        .child(input("attention-head", said.head))
        .child(watch);
    let map = element("canvas").id("attention-map").with("role", "img").with("aria-label", "Attention is not watched");
    let line = match seen.head_problem {
        "" => line(rows, seen.head, seen.inside.inside.is_mapped),
        problem => problem.to_owned(),
    };
    Shown { line, body: vec![chosen.into(), map.flag("hidden", rows.is_empty()).into()], ..Shown::default() }
}

/// Rows that are shown, the newest last.
pub const ROWS: usize = 34;

/// The head that the user wants to watch; what it must be in words, if the model has no such head.
///
/// # Errors
/// What was expected, for the user.
pub fn head(layer: &str, head: &str, model: Option<&ModelInfo>) -> Result<Head, String> {
    let number = |text: &str, most: Option<u32>, what: &str| {
        let number = text.trim().parse::<u32>().ok().filter(|number| most.is_none_or(|most| *number < most));
        let range = most.map_or_else(|| "a whole number".to_owned(), |most| format!("0 to {}", most.saturating_sub(1)));
        number.ok_or_else(|| format!("{what} is \"{text}\", expected {range}"))
    };
    let layer = number(layer, model.map(|model| model.layers_run), "The layer")?;
    let head = number(head, model.map(|model| model.query_heads), "The head")?;
    Ok(Head { layer, head })
}

/// What the panel says beside its name. The CPU computes with a mapped file.
fn line(rows: &VecDeque<AttentionRow>, watched: Option<Head>, is_mapped: bool) -> String {
    match (rows.back(), watched) {
        (Some(row), _) => format!("layer {} head {} · sink {:.2}", row.head.layer, row.head.head, row.sink),
        (None, Some(head)) if is_mapped => format!("layer {} head {}: {CPU_DOES_NOT_TELL}", head.layer, head.head),
        (None, Some(head)) => format!("layer {} head {}: from the next token on", head.layer, head.head),
        (None, None) => "not watched".to_owned(),
    }
}

/// Part of the map: where a weight is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// Row, the newest token's last.
    pub row: usize,
    /// Positions before the newest token: 0 is its own.
    pub back: u32,
    /// The weight.
    pub weight: f32,
}

/// The weights of the last rows on the positions that fit, `columns` of them.
pub fn weights(rows: &VecDeque<AttentionRow>, columns: u32) -> Vec<Weight> {
    let Some(newest) = rows.back() else { return Vec::new() };
    let first_row = rows.len().saturating_sub(ROWS);
    let mut all = Vec::new();
    for (row, of) in rows.iter().skip(first_row).enumerate() {
        for (key, &weight) in (of.first_position..).zip(&of.weights) {
            let back = newest.position.wrapping_sub(key);
            if back < columns && weight > 0.0 {
                all.push(Weight { row, back, weight });
            }
        }
    }
    all
}

/// The key that got most, with its weight: for those who do not see the map.
pub fn label_of(rows: &VecDeque<AttentionRow>) -> String {
    let Some(row) = rows.back() else { return "Attention is not watched".to_owned() };
    let most = (row.first_position..).zip(&row.weights).max_by(|a, b| a.1.total_cmp(b.1));
    let key = most.map_or_else(String::new, |(key, weight)| format!("most to position {key}, {weight:.2}; "));
    format!(
        "Position {} of layer {} head {}: {key}{:.2} to the sink",
        row.position, row.head.layer, row.head.head, row.sink
    )
}

#[cfg(test)]
mod tests {
    use gptoss_protocol::Event;

    use super::super::tests::{html, html_of, model, seen, state};
    use super::*;
    use crate::state::State;

    fn row(position: u32, first_position: u32, weights: &[f32]) -> AttentionRow {
        AttentionRow {
            head: Head { layer: 1, head: 2 },
            position,
            first_position,
            weights: weights.to_vec(),
            sink: 0.25,
        }
    }

    #[test]
    fn weights_are_where_their_keys_are() {
        let rows = VecDeque::from([row(4, 2, &[0.1, 0.2, 0.45]), row(5, 3, &[0.0, 0.25, 0.5])]);
        let all = weights(&rows, 3);
        let expected = [
            Weight { row: 0, back: 2, weight: 0.2 },
            Weight { row: 0, back: 1, weight: 0.45 },
            Weight { row: 1, back: 1, weight: 0.25 },
            Weight { row: 1, back: 0, weight: 0.5 },
        ];
        assert_eq!(all, expected);
        assert_eq!(label_of(&rows), "Position 5 of layer 1 head 2: most to position 5, 0.50; 0.25 to the sink");
        assert!(line(&rows, None, false).starts_with("layer 1 head 2"));
    }

    #[test]
    fn the_head_that_is_watched_is_pressed_and_what_cannot_be_is_said() {
        let state = state([]);
        assert!(html(&PANEL, &state).contains("id=\"attention-line\">not watched<"));
        let mut seen = seen(&state);
        seen.head = Some(Head { layer: 3, head: 7 });
        let said = html_of(&PANEL, &seen);
        assert!(
            said.contains("aria-pressed=\"true\"") && said.contains("layer 3 head 7: from the next token on"),
            "{said}"
        );
        let cpu = super::super::tests::state([model(), Event::Mapped { bytes: 9 }]);
        let said = html_of(&PANEL, &Seen { head: seen.head, ..super::super::tests::seen(&cpu) });
        assert!(said.contains("layer 3 head 7: the CPU engine does not tell this"), "{said}");
        seen.head_problem = "The layer is \"x\", expected 0 to 5";
        assert!(html_of(&PANEL, &seen).contains(">The layer is &quot;x&quot;, expected 0 to 5<"));
    }

    /// A recording that is opened shows the head that was watched then.
    #[test]
    fn the_inputs_say_what_the_picture_shows() {
        let inputs = |state: &State| {
            let said = html(&PANEL, state);
            let value = |id: &str| {
                let (_, tag) = said.split_once(&format!("<input id=\"{id}\"")).expect("an input");
                let (_, value) = tag.split_once("value=\"").expect("a value");
                value.split_once('"').expect("its end").0.to_owned()
            };
            [value("attention-layer"), value("attention-head")]
        };
        assert_eq!(inputs(&state([])), ["0", "0"]);
        assert_eq!(inputs(&state([Event::Attention(row(4, 2, &[0.1]))])), ["1", "2"]);
    }

    #[test]
    fn a_head_that_there_is_not_is_refused_in_words() {
        assert_eq!(head("3", " 7 ", None), Ok(Head { layer: 3, head: 7 }));
        assert_eq!(head("x", "0", None), Err("The layer is \"x\", expected a whole number".to_owned()));
    }
}
