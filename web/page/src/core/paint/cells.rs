//! The cells, and what leads to them.

use crate::core::Cell;
use crate::core::geometry::{CHARACTER, Geometry, Rect};
use crate::core::picture::{CellLook, Level, Picture};
use crate::core::strip::slices_of;
use crate::format;
use crate::state::inside::Inside;

use super::brush::{Align, Brush, Colour};

/// Opacities that cells on the GPU are told apart by. Cells of one are drawn in one go.
const STEPS: usize = 24;

/// Below this height, in CSS pixels, a frame would be all that there is of a cell.
const LEAST_FRAMED: f64 = 4.0;

/// Cells by their opacity; kept from one drawing to the next, so that none allocates.
#[derive(Default)]
pub struct Buckets([Vec<u32>; STEPS]);

/// How cells are drawn.
#[derive(Clone, Copy)]
pub struct Way {
    /// As bright as the answer used them, whatever the last batch chose.
    pub cumulative: bool,
    /// They are so large that light has to be spared, and numbers can be read in them.
    pub is_large: bool,
}

/// All cells.
pub fn cells(brush: &Brush<'_>, picture: &Picture, rects: &[Rect], buckets: &mut Buckets, way: Way) {
    absent(brush, picture, rects);
    on_gpu(brush, picture, rects, buckets, way);
    let glows = chose_few(picture);
    for (look, rect) in picture.cells.iter().zip(rects) {
        match look.level {
            Level::Chosen if way.cumulative => {}
            Level::Chosen if way.is_large => chosen_large(brush, look, *rect),
            Level::Chosen => chosen(brush, look, *rect, glows),
            Level::Awaited => filling(brush, look, *rect, Colour::Accent),
            Level::Missed => filling(brush, look, *rect, Colour::Bad),
            Level::Evicted => evicted(brush, *rect),
            Level::Absent if look.fill > 0.0 => filled(brush, look.fill, *rect, Colour::AccentMid, 0.6),
            Level::Absent | Level::Resident => {}
        }
    }
}

fn absent(brush: &Brush<'_>, picture: &Picture, rects: &[Rect]) {
    let is_framed = rects.first().is_some_and(|rect| rect.height >= LEAST_FRAMED);
    let absent = picture.cells.iter().zip(rects).filter(|(look, _)| look.level == Level::Absent);
    brush.context.begin_path();
    for (_, rect) in absent {
        if is_framed {
            brush.context.rect(rect.x + 0.5, rect.y + 0.5, rect.width - 1.0, rect.height - 1.0);
        } else {
            brush.context.rect(rect.x, rect.y, rect.width, rect.height);
        }
    }
    if is_framed {
        brush.stroke(Colour::Line, 0.34, 1.0);
        brush.context.stroke();
    } else {
        brush.fill(Colour::Line, 0.2);
        brush.context.fill();
    }
}

fn on_gpu(brush: &Brush<'_>, picture: &Picture, rects: &[Rect], buckets: &mut Buckets, way: Way) {
    let Way { cumulative, is_large } = way;
    buckets.0.iter_mut().for_each(Vec::clear);
    for (look, index) in picture.cells.iter().zip(0..) {
        let is_shown = look.level == Level::Resident || look.level == Level::Chosen && (cumulative || look.fill == 1.0);
        if is_shown {
            let alpha = opacity(look, cumulative) * if is_large && !cumulative { 0.6 } else { 1.0 };
            buckets.0[((alpha * STEPS as f64) as usize).min(STEPS - 1)].push(index);
        }
    }
    for (indices, step) in buckets.0.iter().zip(0..).filter(|(indices, _)| !indices.is_empty()) {
        brush.fill(Colour::Accent, (f64::from(step) + 0.5) / STEPS as f64);
        brush.context.begin_path();
        for &index in indices {
            let rect = rects[index as usize];
            brush.context.rect(rect.x, rect.y, rect.width, rect.height);
        }
        brush.context.fill();
    }
}

fn opacity(look: &CellLook, cumulative: bool) -> f64 {
    let heat = f64::from(look.heat);
    if cumulative {
        return 0.08 + 0.9 * heat * heat;
    }
    // What was used just now, or came just now, has not gone dark yet.
    let after = (0.2 * f64::from(look.glow)).max(0.5 * f64::from(look.arrival));
    (0.15 + 0.24 * heat * heat + after).min(1.0)
}

/// Whether so few experts were chosen that each can have a light and a line of its own. A batch of a prompt chooses
/// nearly all.
fn chose_few(picture: &Picture) -> bool {
    const FEW_OF_LAYER: usize = 8;
    let chosen = picture.cells.iter().filter(|look| look.level == Level::Chosen).count();
    chosen <= FEW_OF_LAYER * picture.shape.layers as usize
}

fn chosen(brush: &Brush<'_>, look: &CellLook, rect: Rect, glows: bool) {
    let (weight, glow) = (f64::from(look.weight), f64::from(look.glow));
    if glows && glow > 0.0 {
        let reach = 3.0 + (3.0 + rect.height * 0.5) * weight;
        brush.glow(rect, reach, Colour::Accent, (0.3 + 0.7 * weight) * glow);
    }
    brush.fill(Colour::Accent, 0.4 + 0.35 * weight + 0.25 * glow);
    brush.rect(rect);
    // As long as the expert's share compared with the heaviest one: white while it is new, and then still told by
    // brightness.
    brush.fill(Colour::Text, 0.12 + 0.6 * glow);
    brush.rect(Rect { width: rect.width * weight * 0.5, ..rect });
}

/// A frame and a bar as long as the weight compared with the heaviest one: filled, large cells would outshine all else.
fn chosen_large(brush: &Brush<'_>, look: &CellLook, rect: Rect) {
    const BAR: f64 = 4.0;
    let (weight, glow) = (f64::from(look.weight), f64::from(look.glow));
    brush.fill(Colour::Accent, 0.06 + 0.14 * weight + 0.3 * glow * weight);
    brush.rect(rect);
    brush.stroke(Colour::Accent, 0.4 + 0.3 * weight + 0.3 * glow, 1.0 + weight);
    brush.frame(rect, 1.0 + weight);
    let bar = Rect { y: rect.bottom() - BAR - 1.0, height: BAR, x: rect.x + 1.0, width: (rect.width - 2.0) * weight };
    if glow > 0.0 {
        brush.glow(bar, 9.0, Colour::Accent, 0.8 * glow);
    }
    brush.fill(Colour::Accent, 1.0);
    brush.rect(bar);
    brush.fill(Colour::Text, 0.9 * glow);
    brush.rect(bar);
}

/// What large cells have room for: the expert, the weight that the last batch gave it, and its uses in this answer.
pub fn numbers(brush: &Brush<'_>, geometry: &Geometry, inside: &Inside, rects: &[Rect]) {
    let experts = geometry.shape.experts.max(1) as usize;
    for ((expert, rect), index) in inside.cells.iter().zip(rects).zip(0..) {
        let y = rect.y + geometry.text_size + 2.0;
        // Dim text could not be read on a cell that fills.
        brush.fill(Colour::Text, 0.65);
        brush.text(&(index % experts).to_string(), rect.x + 5.0, y, Align::Left);
        if inside.is_chosen(expert) {
            brush.fill(Colour::Text, 1.0);
            brush.text(&format!("{:.2}", expert.weight), rect.right() - 5.0, y, Align::Right);
        } else if expert.uses > 0 {
            brush.text(&format!("× {}", format::count(u64::from(expert.uses))), rect.right() - 5.0, y, Align::Right);
        }
    }
}

fn filling(brush: &Brush<'_>, look: &CellLook, rect: Rect, colour: Colour) {
    if colour == Colour::Bad {
        brush.glow(rect, 8.0, colour, 0.8);
    }
    filled(brush, look.fill, rect, colour, 0.65);
    if rect.height >= LEAST_FRAMED {
        brush.stroke(colour, 0.95, 1.0);
        brush.frame(rect, 1.0);
    } else {
        brush.fill(colour, 0.3);
        brush.rect(rect);
    }
}

fn filled(brush: &Brush<'_>, share: f32, rect: Rect, colour: Colour, alpha: f64) {
    brush.fill(colour, alpha);
    brush.rect(Rect { width: rect.width * f64::from(share), ..rect });
}

/// A cross: the place is empty again.
fn evicted(brush: &Brush<'_>, rect: Rect) {
    if rect.height < LEAST_FRAMED {
        brush.fill(Colour::Dim, 0.3);
        return brush.rect(rect);
    }
    brush.stroke(Colour::Dim, 0.45, 1.0);
    brush.frame(rect, 1.0);
    let context = brush.context;
    context.begin_path();
    context.move_to(rect.x, rect.y);
    context.line_to(rect.right(), rect.bottom());
    context.move_to(rect.right(), rect.y);
    context.line_to(rect.x, rect.bottom());
    context.stroke();
}

/// Lines from the thread to the experts that it took: bright for a moment, and to those of the selected layer for as
/// long as it is selected.
pub fn links(brush: &Brush<'_>, geometry: &Geometry, picture: &Picture, rects: &[Rect], selected_layer: Option<u32>) {
    let experts = picture.shape.experts.max(1);
    if !chose_few(picture) {
        return;
    }
    for ((look, rect), index) in picture.cells.iter().zip(rects).zip(0_u32..) {
        if look.level != Level::Chosen {
            continue;
        }
        let layer = index / experts;
        let glow = f64::from(look.glow).max(if selected_layer == Some(layer) { 0.9 } else { 0.0 });
        if glow <= 0.02 {
            continue;
        }
        let weight = f64::from(look.weight);
        let (x, y) = (geometry.column(layer).centre_x(), geometry.kv.bottom());
        brush.stroke(Colour::Accent, (0.06 + 0.26 * weight) * glow, 0.5 + 1.2 * weight);
        brush.context.begin_path();
        brush.context.move_to(x, y);
        let depth = (rect.y - y) / 2.0;
        brush.context.bezier_curve_to(x, y + depth, rect.centre_x(), rect.y - depth, rect.centre_x(), rect.y);
        brush.context.stroke();
    }
}

/// The frame of the selected cell, and where its bytes are in the file.
pub fn selected(brush: &Brush<'_>, geometry: &Geometry, inside: &Inside, rects: &[Rect], cell: Cell) {
    let index = cell.layer as usize * geometry.shape.experts as usize + cell.expert as usize;
    let Some(rect) = rects.get(index).filter(|_| cell.expert < geometry.shape.experts) else { return };
    brush.stroke(Colour::Text, 1.0, 1.5);
    brush.context.stroke_rect(rect.x - 1.5, rect.y - 1.5, rect.width + 3.0, rect.height + 3.0);
    brush.fill(Colour::Text, 1.0);
    let strip = geometry.strip;
    for slice in slices_of(inside, cell) {
        let width = ((slice.end - slice.start) * strip.width).max(2.0);
        let x = strip.x + slice.start * strip.width;
        brush.rect(Rect { x, y: strip.y - 3.0, width, height: 2.0 });
        brush.rect(Rect { x, y: strip.bottom() + 1.0, width, height: 2.0 });
    }
}

/// What is said of the miss that a batch waits for, beside its cell.
pub fn miss(brush: &Brush<'_>, picture: &Picture, rects: &[Rect], geometry: &Geometry) {
    let Some((cell, text)) = &picture.miss else { return };
    let Some(rect) = rects.get((cell.layer * picture.shape.experts + cell.expert) as usize) else { return };
    let size = geometry.text_size;
    let width = text.chars().count() as f64 * size * CHARACTER + 8.0;
    let is_right = rect.right() + 4.0 + width <= brush.look.width;
    let x = if is_right { rect.right() + 4.0 } else { (rect.x - 4.0 - width).max(0.0) };
    let y = (rect.centre_y() - size / 2.0 - 2.0).min(geometry.cells.bottom() - size - 4.0);
    let ground = Rect { x, y, width, height: size + 4.0 };
    // Text over cells could not be read.
    brush.context.clear_rect(ground.x, ground.y, ground.width, ground.height);
    brush.fill(Colour::Bad, 0.16);
    brush.rect(ground);
    brush.fill(Colour::Bad, 1.0);
    brush.text(text, x + 4.0, y + size, Align::Left);
}
