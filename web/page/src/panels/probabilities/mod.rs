//! The ribbon: one cell for each token of an answer, as high as the token was probable.

use gptoss_protocol::TokenInfo;

use super::chat::token_words;
use super::{Panel, Seen, Shown, next_token};
use crate::format;
use crate::view::element;

/// The panel.
pub const PANEL: Panel = Panel {
    name: "probabilities",
    title: "Probabilities",
    line_id: "probabilities-line",
    how: "One cell for each token of the answer, those of the format included; its height is the probability that the model gave it. \
          Point at one, or press it, to see what else was likely. Arrow keys go from token to token.",
    style: include_str!("style.css"),
    view,
};

fn view(seen: &Seen<'_>) -> Shown {
    let (answer, place) = next_token::looked_at(seen.picture, seen.token);
    let canvas = element("canvas").id("ribbon").with("tabindex", "0").with("role", "img");
    let body = vec![canvas.with("aria-label", "No token was drawn yet").into()];
    let is_empty = answer.tokens.is_empty();
    let line = if is_empty { "once there are tokens".to_owned() } else { line(&answer.tokens, place) };
    Shown { line, body, is_empty, ..Shown::default() }
}

/// Where the cells of a ribbon are, in CSS pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ribbon {
    /// Cells side by side.
    pub columns: u32,
    /// Rows that fit.
    pub rows: u32,
    /// Distance from one cell to the next in its row.
    pub pitch: f64,
    /// Distance from one row to the next.
    pub row_pitch: f64,
    /// Place of the first token that is shown: the oldest give way.
    pub first: u32,
    /// Tokens that are shown.
    pub count: u32,
}

/// Height of a cell, in CSS pixels.
pub const CELL_HEIGHT: f64 = 24.0;
/// Room below a row for the texts of its tokens.
const TEXT_HEIGHT: f64 = 14.0;
/// Widths of a cell with the gap beside it, in CSS pixels. The widest that shows all tokens is taken: a few have room for
/// their texts, and cells move only when an answer outgrows a width.
const PITCHES: [f64; 6] = [44.0, 22.0, 14.0, 9.0, 6.0, 4.0];

impl Ribbon {
    /// As many of `tokens` tokens as fit, in cells that are as wide as that allows.
    pub fn new(width: f64, height: f64, tokens: u32) -> Self {
        let row_pitch = CELL_HEIGHT + TEXT_HEIGHT;
        let rows = ((height / row_pitch).floor() as u32).max(1);
        // Whole columns, so that nothing is lost at the end of a row.
        let columns_of = |pitch: f64| ((width / pitch).floor() as u32).max(1);
        let narrowest = columns_of(PITCHES[PITCHES.len() - 1]);
        let columns = PITCHES.into_iter().map(columns_of).find(|columns| columns * rows >= tokens).unwrap_or(narrowest);
        let shown_rows = tokens.div_ceil(columns);
        let first = shown_rows.saturating_sub(rows) * columns;
        Self { columns, rows, pitch: width / f64::from(columns), row_pitch, first, count: tokens - first.min(tokens) }
    }

    /// Left upper corner of a token's cell; `None` if it is not shown.
    pub fn place(&self, token: u32) -> Option<(f64, f64)> {
        let at = token.checked_sub(self.first).filter(|at| *at < self.count)?;
        Some((f64::from(at % self.columns) * self.pitch, f64::from(at / self.columns) * self.row_pitch))
    }

    /// The token whose cell is at this point.
    pub fn hit(&self, x: f64, y: f64) -> Option<u32> {
        if x < 0.0 || y < 0.0 {
            return None;
        }
        let (column, row) = ((x / self.pitch) as u32, (y / self.row_pitch) as u32);
        let at = row * self.columns + column;
        (column < self.columns && at < self.count).then(|| self.first + at)
    }
}

/// What the panel says beside its name.
fn line(tokens: &[TokenInfo], looked_at: Option<u32>) -> String {
    match looked_at.and_then(|place| tokens.get(place as usize)) {
        Some(token) => format!("{} · {}", format::visible_token(&shown(token)), token_words(token)),
        None => format!("{} · point at one: what else was likely", format::plural(tokens.len() as u64, "token")),
    }
}

/// The token's own text, with specials by name.
pub fn shown(token: &TokenInfo) -> String {
    let own = token.top.iter().find(|top| top.id == token.id);
    own.map_or_else(|| token.text.clone(), |top| top.text.clone())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{asked, html, html_of, seen, state, token};
    use super::*;

    #[test]
    fn the_token_that_is_looked_at_is_said_in_words() {
        let state = state([asked(), token(0), token(1)]);
        assert!(html(&PANEL, &state).contains(">2 tokens · point at one: what else was likely<"));
        let mut seen = seen(&state);
        seen.token = Some((0, 1));
        let said = html_of(&PANEL, &seen);
        assert!(said.contains("␣word1 · probability 75.0 %, entropy 0.50 nats, 25 ms"), "{said}");
    }

    #[test]
    fn every_token_that_fits_has_a_place_of_its_own() {
        for (width, height, tokens) in
            [(500.0, 168.0, 0), (500.0, 168.0, 1), (500.0, 168.0, 148), (300.0, 168.0, 4000), (90.0, 20.0, 33)]
        {
            let ribbon = Ribbon::new(width, height, tokens);
            assert!(ribbon.count <= ribbon.columns * ribbon.rows, "{ribbon:?}");
            assert!(ribbon.count <= tokens && (tokens == 0 || ribbon.count > 0), "{ribbon:?}");
            for token in 0..tokens {
                let Some((x, y)) = ribbon.place(token) else { continue };
                assert!(x >= 0.0 && x + ribbon.pitch <= width + 1e-6, "{ribbon:?}");
                assert_eq!(ribbon.hit(x + ribbon.pitch / 2.0, y + 1.0), Some(token), "{ribbon:?}");
            }
            assert_eq!(ribbon.place(tokens), None);
            if tokens > 0 {
                assert!(ribbon.place(tokens - 1).is_some(), "the newest is always shown");
            }
        }
        assert_eq!(Ribbon::new(100.0, 100.0, 3).hit(99.0, 99.0), None);
    }

    #[test]
    fn few_tokens_have_room_for_their_texts_and_cells_seldom_move() {
        assert!(Ribbon::new(330.0, 168.0, 6).pitch >= 44.0);
        assert!(Ribbon::new(330.0, 168.0, 4000).pitch < 5.0);
        let widths: std::collections::BTreeSet<u32> =
            (1..4000).map(|tokens| Ribbon::new(330.0, 168.0, tokens).columns).collect();
        assert_eq!(widths.len(), PITCHES.len());
    }
}
