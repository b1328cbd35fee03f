//! The small pictures, on Canvas 2D. Each has its numbers in words as its label.

use std::collections::VecDeque;

use gptoss_protocol::{AttentionRow, Envelope, TokenInfo};
use wasm_bindgen::JsCast;
use wasm_bindgen::JsValue;

use super::canvas::{Canvas, Place};
use super::dom::report;
use crate::format;
use crate::panels::attention;
use crate::panels::network::cells::TensorCell;
use crate::panels::probabilities::{CELL_HEIGHT, Ribbon, shown};
use crate::panels::timeline::{Mark, Playhead, mark};
use crate::state::Answer;

/// Cells of the weight stream, in CSS pixels.
const CELL: f64 = 8.0;
const CELL_GAP: f64 = 2.0;
/// One token of a line, in CSS pixels.
const STEP: f64 = 3.0;

/// Ids of the canvases.
pub const CANVASES: [&str; 6] =
    ["core-canvas", "weights-cells", "rate-line", "ribbon", "timeline-line", "attention-map"];

/// A picture that is drawn again only when `key` changes, or its place.
pub struct Picture<K> {
    canvas: Canvas,
    drawn: Option<K>,
}

impl<K: PartialEq> Picture<K> {
    pub fn new(id: &str) -> Self {
        Self { canvas: Canvas::new(id), drawn: None }
    }

    /// Its place or colours are others: it has to be drawn again.
    pub fn redraw(&mut self) {
        self.canvas.forget_place();
        self.drawn = None;
    }

    /// Draws unless it shows that already; nothing where there is no room.
    fn draw(&mut self, key: K, draw: impl FnOnce(&mut Canvas, &Place)) {
        if self.drawn.as_ref() == Some(&key) {
            return;
        }
        let Some(place) = self.canvas.place() else { return };
        self.canvas.clear(&place);
        draw(&mut self.canvas, &place);
        self.drawn = Some(key);
    }
}

/// One cell per tensor: it fills with its bytes, and its frame is bright while some are on their way.
pub fn draw_tensors(picture: &mut Picture<Vec<TensorCell>>, cells: Vec<TensorCell>) {
    if picture.drawn.as_ref() == Some(&cells) {
        return;
    }
    let pitch = CELL + CELL_GAP;
    let Some(page) = picture.canvas.place() else { return };
    let columns = ((page.width + CELL_GAP) / pitch).floor().max(1.0) as usize;
    picture.canvas.set_height(cells.len().div_ceil(columns).max(1) as f64 * pitch - CELL_GAP);
    let all = cells.clone();
    picture.draw(cells, |canvas, page| {
        let context = &canvas.context;
        for (index, cell) in all.iter().enumerate() {
            let (x, y) = ((index % columns) as f64 * pitch, (index / columns) as f64 * pitch);
            context.set_stroke_style_str(page.colour(if cell.is_under_way { "--text" } else { "--line-strong" }));
            context.stroke_rect(x + 0.5, y + 0.5, CELL - 1.0, CELL - 1.0);
            if cell.fill > 0 {
                let height = CELL * f64::from(cell.fill) / f64::from(u8::MAX);
                context.set_fill_style_str(page.colour(cell.colour));
                context.fill_rect(x, y + CELL - height, CELL, height);
            }
        }
        let full = all.iter().filter(|cell| cell.fill == u8::MAX).count();
        canvas.label(&match all.len() {
            0 => "No tensor is known yet".to_owned(),
            count => format!("{full} of {count} tensors are in place"),
        });
    });
}

/// Tokens per second of each of the latest tokens.
pub fn draw_rate(picture: &mut Picture<(u32, usize)>, answer: &Answer) {
    picture.draw((answer.number, answer.tokens.len()), |canvas, page| {
        // The first token's time is that of the prompt's last batch.
        let after_first = answer.tokens.iter().skip(1).filter(|token| token.elapsed_ms > 0.0);
        let values: Vec<f32> = after_first.map(|token| (1000.0 / token.elapsed_ms) as f32).collect();
        draw_line(canvas, page, &values);
    });
}

/// The last values as a line, the newest at the right, from 0 to the highest.
fn draw_line(canvas: &Canvas, page: &Place, values: &[f32]) {
    let count = ((page.width - 8.0) / STEP).max(2.0) as usize;
    let values = &values[values.len().saturating_sub(count)..];
    let Some(&last) = values.last() else { return };
    let highest = values.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    let y = |value: f32| page.height - 4.0 - f64::from(value / highest) * (page.height - 8.0);
    let context = &canvas.context;
    context.set_stroke_style_str(page.colour("--accent"));
    context.set_line_width(1.5);
    context.begin_path();
    for (index, &value) in values.iter().enumerate() {
        context.line_to(2.0 + index as f64 * STEP, y(value));
    }
    context.stroke();
    context.set_fill_style_str(page.colour("--text"));
    let end = 2.0 + (values.len() - 1) as f64 * STEP;
    context.fill_rect(end - 1.5, y(last) - 1.5, 3.0, 3.0);
}

/// What the ribbon depends on.
pub type RibbonKey = (u32, usize, Option<u32>);

/// One cell for each token; `looked_at` is framed.
pub fn draw_ribbon(picture: &mut Picture<RibbonKey>, answer: &Answer, looked_at: Option<u32>) {
    let tokens = answer.tokens.as_slice();
    picture.draw((answer.number, tokens.len(), looked_at), |canvas, page| {
        let ribbon = Ribbon::new(page.width, page.height, tokens.len() as u32);
        let context = &canvas.context;
        context.set_font("8.5px ui-monospace, monospace");
        let mut free_from = (0.0, -1.0);
        for place in ribbon.first..ribbon.first + ribbon.count {
            let Some((x, y)) = ribbon.place(place) else { continue };
            let token = &tokens[place as usize];
            let probability = f64::from(token.probability.unwrap_or(0.0));
            let width = (ribbon.pitch - 1.5).max(1.0);
            context.set_fill_style_str(page.colour("--raised"));
            context.fill_rect(x, y, width, CELL_HEIGHT);
            context.set_fill_style_str(page.colour(match probability {
                p if p >= 0.9 => "--accent-low",
                p if p >= 0.6 => "--accent-mid",
                p if p >= 0.3 => "--accent",
                _ => "--bad",
            }));
            let height = (CELL_HEIGHT * probability).max(1.0);
            context.fill_rect(x, y + CELL_HEIGHT - height, width, height);
            if looked_at == Some(place) {
                context.set_stroke_style_str(page.colour("--text"));
                context.stroke_rect(x - 0.5, y - 0.5, width + 1.0, CELL_HEIGHT + 1.0);
            }
            // A text stands under its cell where the one before leaves room.
            if free_from.1 != y || x >= free_from.0 {
                let text: String = format::visible_token(&shown(token)).chars().take(10).collect();
                context.set_fill_style_str(page.colour("--text-dim"));
                report(context.fill_text(&text, x, y + CELL_HEIGHT + 9.0));
                free_from = (x + text.chars().count() as f64 * 5.2 + 4.0, y);
            }
        }
        canvas.label(&match answer.tokens.last() {
            None => "No token was drawn yet".to_owned(),
            Some(_) => {
                let unsure = tokens.iter().filter(|token| token.probability.is_none_or(|p| p < 0.5)).count();
                let tokens = format::plural(tokens.len() as u64, "token");
                format!("Probabilities of {tokens}; {unsure} of them were below one half")
            }
        });
    });
}

/// The token of the ribbon at a point of its canvas.
pub fn ribbon_hit(picture: &mut Picture<RibbonKey>, tokens: &[TokenInfo], x: f64, y: f64) -> Option<u32> {
    let page = picture.canvas.place()?;
    Ribbon::new(page.width, page.height, tokens.len() as u32).hit(x, y)
}

/// The whole recording as marks, and the moment that is shown.
pub fn draw_timeline(
    picture: &mut Picture<(u64, usize, Option<usize>)>,
    events: &VecDeque<Envelope>,
    run: u64,
    playhead: Playhead,
) {
    picture.draw((run, events.len(), playhead.at), |canvas, page| {
        let columns = (page.width / STEP).max(1.0) as usize;
        let mut counts = vec![[0u32; 4]; columns];
        for (at, envelope) in events.iter().enumerate() {
            if let Some(mark) = mark(&envelope.event) {
                counts[at * columns / events.len()][mark as usize] += 1;
            }
        }
        let context = &canvas.context;
        for (column, counts) in counts.iter().enumerate() {
            let all: u32 = counts.iter().sum();
            if all == 0 {
                continue;
            }
            let colour = if counts[Mark::Trouble as usize] > 0 {
                "--bad"
            } else if counts[Mark::Token as usize] > 0 {
                "--accent"
            } else if counts[Mark::Prompt as usize] > 0 {
                "--text-dim"
            } else {
                "--cool"
            };
            context.set_fill_style_str(page.colour(colour));
            let height = (f64::from(all).sqrt() * 7.0).min(page.height - 4.0);
            context.fill_rect(column as f64 * STEP, (page.height - height) / 2.0, 2.0, height);
        }
        let share = playhead.at.map_or(1.0, |at| at as f64 / events.len().max(1) as f64);
        context.set_fill_style_str(page.colour("--text"));
        context.fill_rect((share * page.width - 2.0).max(0.0), 1.0, 2.0, page.height - 2.0);
    });
}

/// Rows for the last tokens, columns for the positions they looked at, the newest at the right.
pub fn draw_attention(picture: &mut Picture<(u64, usize)>, rows: &VecDeque<AttentionRow>, revision: u64) {
    picture.draw((revision, rows.len()), |canvas, page| {
        canvas.label(&attention::label_of(rows));
        const CELL: f64 = 6.0;
        let columns = (page.width / CELL).max(1.0) as u32;
        let row_height = page.height / attention::ROWS as f64;
        let context = &canvas.context;
        context.set_fill_style_str(page.colour("--cool"));
        for weight in attention::weights(rows, columns) {
            context.set_global_alpha(f64::from(weight.weight).sqrt().clamp(0.0, 1.0));
            let x = page.width - f64::from(weight.back + 1) * CELL;
            context.fill_rect(x, weight.row as f64 * row_height, CELL - 1.0, (row_height - 0.8).max(1.0));
        }
        context.set_global_alpha(1.0);
        // How far the newest token can look, where that is less than the map.
        if let Some(row) = rows.back().filter(|row| row.first_position > 0) {
            let x = page.width - f64::from(row.position + 1 - row.first_position) * CELL;
            context.set_fill_style_str(page.colour("--accent"));
            context.fill_rect(x - 1.0, 0.0, 1.0, page.height);
        }
    });
}

/// Sets a custom property that a style sheet draws from, as a share of one.
pub fn set_share(target: &JsValue, property: &str, share: f64) {
    if let Some(element) = target.dyn_ref::<web_sys::HtmlElement>() {
        report(element.style().set_property(property, &format!("{:.2}%", share.clamp(0.0, 1.0) * 100.0)));
    }
}
