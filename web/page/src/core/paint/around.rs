//! What is around the cells: the file, the way of the stream, KV caches, norms, names and the legend.

use std::f64::consts::{FRAC_PI_2, TAU};

use crate::core::geometry::{CHARACTER, Geometry, LEGEND, LEGEND_SAMPLE, Rect};
use crate::core::picture::{Picture, ReadHead};
use crate::core::strip::{Bin, Part, Strip};
use crate::format;
use crate::state::State;
use crate::state::inside::Inside;

use super::brush::{Align, Brush, Colour};

/// The file: each bar is filled as far as its bytes are here.
pub fn strip(brush: &Brush<'_>, geometry: &Geometry, strip: &Strip, state: &State) {
    let place = geometry.strip;
    brush.fill(Colour::Line, 0.2);
    brush.rect(place);
    let width = place.width / strip.bins.len().max(1) as f64;
    let gap = (width * 0.3).min(0.7);
    // From the ground up: what is in place, what came, what gave way.
    let bars = |colour: Colour, alpha: f64, part: Option<Part>, share: fn(&Bin) -> (f32, f32)| {
        brush.fill(colour, alpha);
        brush.context.begin_path();
        for (bin, index) in strip.bins.iter().zip(0..).filter(|(bin, _)| part.is_none_or(|part| bin.part == part)) {
            let (from, to) = share(bin);
            if to > from {
                let height = f64::from(to - from) * place.height;
                let y = place.bottom() - f64::from(to.min(1.0)) * place.height;
                brush.context.rect(place.x + f64::from(index) * width, y, width - gap, height);
            }
        }
        brush.context.fill();
    };
    for part in [Part::Header, Part::Dense, Part::Experts] {
        let (colour, alpha) = part_colour(part);
        bars(colour, alpha, Some(part), |bin| (0.0, bin.placed));
    }
    bars(Colour::Accent, 0.4, None, |bin| (bin.placed, bin.placed + bin.arrived));
    bars(Colour::Dim, 0.3, None, |bin| (bin.placed + bin.arrived, bin.placed + bin.arrived + bin.evicted));

    let y = geometry.strip_names.bottom() - 3.0;
    let character = geometry.text_size * CHARACTER;
    let size = state.inside.map.as_ref().map(|map| format::bytes(map.file_bytes)).unwrap_or_default();
    let room = place.right() - size.chars().count() as f64 * character - 8.0;
    let mut free_from = place.x;
    for (part, share) in &strip.names {
        // Where most of the part is, or the next free place: the sample says which bars are meant.
        let x = (place.x + share * place.width).max(free_from);
        let end = x + PART_SAMPLE + part.name().chars().count() as f64 * character;
        if end <= room {
            let (colour, alpha) = part_colour(*part);
            brush.fill(colour, alpha);
            brush.rect(Rect { x, y: y - 6.0, width: 5.0, height: 6.0 });
            brush.fill(Colour::Dim, 0.75);
            brush.text(part.name(), x + PART_SAMPLE, y, Align::Left);
            free_from = end + 2.0 * character;
        }
    }
    brush.fill(Colour::Dim, 0.75);
    brush.text(&size, place.right(), y, Align::Right);
}

/// Width of the sample before the name of a part, with the gap after it.
const PART_SAMPLE: f64 = 9.0;

fn part_colour(part: Part) -> (Colour, f64) {
    match part {
        Part::Header => (Colour::Cool, 0.8),
        Part::Dense => (Colour::Accent, 0.85),
        Part::Experts => (Colour::AccentMid, 0.7),
    }
}

/// Reads under way: bright heads on the file, and lines to the cells that their bytes are for.
pub fn reads(brush: &Brush<'_>, geometry: &Geometry, picture: &Picture, rects: &[Rect]) {
    for read in &picture.reads {
        head(brush, geometry, read);
    }
    brush.dotted(true);
    for read in &picture.reads {
        let (x, y) = (geometry.strip.x + read.from * geometry.strip.width, geometry.strip.bottom() + 3.0);
        let (colour, alpha) = if read.is_missed { (Colour::Bad, 0.7) } else { (Colour::Accent, 0.45) };
        brush.stroke(colour, alpha, 1.0);
        for cell in read.cells.iter().flatten() {
            let Some(rect) = rects.get((cell.layer * picture.shape.experts + cell.expert) as usize) else { continue };
            brush.context.begin_path();
            brush.context.move_to(x, y);
            let middle = geometry.cells.y;
            brush.context.bezier_curve_to(x, middle, rect.centre_x(), y, rect.centre_x(), rect.y);
            brush.context.stroke();
        }
    }
    brush.dotted(false);
}

fn head(brush: &Brush<'_>, geometry: &Geometry, read: &ReadHead) {
    const SLICES: u32 = 6;
    let strip = geometry.strip;
    let x = strip.x + read.from * strip.width;
    // A read of a few MB is less than a pixel of a large file.
    let width = ((read.to - read.from) * strip.width).max(12.0).min((strip.right() - x).max(2.0));
    let colour = if read.is_missed { Colour::Bad } else { Colour::Accent };
    let slice = width / f64::from(SLICES);
    for index in 0..SLICES {
        brush.fill(colour, 1.0 - f64::from(index) / f64::from(SLICES));
        let x = x + f64::from(index) * slice;
        brush.rect(Rect { x, y: strip.y - 2.0, width: slice + 0.3, height: strip.height + 4.0 });
    }
    let bright = Rect { x: x - 1.0, y: strip.y - 2.0, width: 3.0, height: strip.height + 4.0 };
    brush.glow(bright, 9.0, colour, 0.5);
}

/// The way through the layers: as far as the last batch is known to have come, bent by how much each layer changed it.
pub fn thread(brush: &Brush<'_>, geometry: &Geometry, picture: &Picture) {
    let thread = &picture.thread;
    let y = geometry.path_y();
    let (begin, end) = (geometry.path_begin(), geometry.path_end());
    brush.stroke(Colour::Line, 0.45, 1.0);
    brush.context.begin_path();
    brush.context.move_to(begin, y);
    brush.context.line_to(end, y);
    brush.context.stroke();

    let is_through = thread.layers_done >= picture.shape.layers;
    let tip = if is_through { end } else { geometry.path_x(f64::from(thread.layers_done)) };
    let glow = f64::from(thread.glow);
    if thread.is_known {
        let spread = (geometry.path.height * 0.4 / f64::from(thread.strands)).min(2.2);
        for strand in 0..thread.strands {
            let offset = (f64::from(strand) - f64::from(thread.strands - 1) / 2.0) * spread;
            let is_one = thread.strands == 1;
            brush.stroke(
                Colour::Accent,
                if is_one { 0.55 + 0.45 * glow } else { 0.25 + 0.35 * glow },
                if is_one { 2.0 } else { 1.0 },
            );
            // One line with a shadow is all that there is for it.
            let has_shadow = is_one && glow > 0.0;
            if has_shadow {
                shadow(brush, 12.0 * glow);
            }
            brush.context.begin_path();
            brush.context.move_to(begin, y);
            for layer in 0..thread.layers_done.min(picture.shape.layers) {
                let bend = picture.bends.get(layer as usize).copied().unwrap_or(0.0);
                let x = geometry.column(layer).centre_x();
                brush.context.line_to(x, (y + offset - f64::from(bend) * 3.0).min(geometry.path.bottom()));
            }
            brush.context.line_to(tip, y);
            brush.context.stroke();
            if has_shadow {
                shadow(brush, 0.0);
            }
        }
        let dot = Rect { x: tip - 2.0, y: y - 2.0, width: 4.0, height: 4.0 };
        brush.glow(dot, 12.0, Colour::Accent, 0.5 + 0.5 * glow);
    }
    brush.fill(Colour::Text, if thread.is_known { 1.0 } else { 0.4 });
    brush.disc(tip, y, 3.0);

    let baseline = geometry.path.y + geometry.text_size;
    brush.fill(Colour::Text, 0.9);
    brush.text(&thread.text, geometry.path.x, baseline, Align::Left);
    brush.fill(Colour::Dim, if is_through && thread.is_known { 0.95 } else { 0.6 });
    brush.text("head", geometry.path.right(), baseline, Align::Right);
}

fn shadow(brush: &Brush<'_>, blur: f64) {
    brush.context.set_shadow_blur(blur * brush.look.scale);
    brush.context.set_shadow_color(if blur > 0.0 { brush.colour(Colour::Accent) } else { "transparent" });
}

/// KV caches: a ring that fills to its window where attention slides, a bar that fills to all positions where it does
/// not.
pub fn kv(brush: &Brush<'_>, geometry: &Geometry, picture: &Picture) {
    for (kv, layer) in picture.kv.iter().zip(0..) {
        let place = geometry.kv_of(layer, kv.is_sliding);
        let is_passed = picture.thread.is_known && layer < picture.thread.layers_done;
        let bright = if is_passed { 0.9 } else { 0.5 };
        let context = brush.context;
        if kv.is_sliding {
            let radius = (place.width / 2.0 - 1.0).max(0.5);
            for (alpha, share) in [(0.22, 1.0), (bright, f64::from(kv.fill))] {
                if share > 0.0 {
                    brush.stroke(Colour::Cool, alpha, 1.5);
                    context.begin_path();
                    let end = -FRAC_PI_2 + TAU * share;
                    let _ = context.arc(place.centre_x(), place.centre_y(), radius, -FRAC_PI_2, end);
                    context.stroke();
                }
            }
        } else {
            brush.stroke(Colour::Cool, if is_passed { 0.6 } else { 0.3 }, 1.0);
            brush.frame(place, 1.0);
            if kv.fill > 0.0 {
                brush.fill(Colour::Cool, bright * 0.8);
                brush.rect(Rect { width: (place.width * f64::from(kv.fill)).max(1.0), ..place });
            }
        }
    }
}

/// Numbers of layers and experts.
pub fn names(brush: &Brush<'_>, geometry: &Geometry, picture: &Picture) {
    let y = geometry.layer_names.bottom() - 3.0;
    let step = geometry.layer_name_step();
    for layer in (0..geometry.shape.layers).step_by(step as usize) {
        let is_passed = picture.thread.is_known && layer < picture.thread.layers_done;
        brush.fill(Colour::Dim, if is_passed { 1.0 } else { 0.6 });
        brush.text(&layer.to_string(), geometry.column(layer).centre_x(), y, Align::Centre);
    }
    if !geometry.has_row_name {
        return;
    }
    brush.fill(Colour::Dim, 0.6);
    brush.text("layer", geometry.cells.x - 8.0, y, Align::Right);
    let last = geometry.shape.experts.saturating_sub(1);
    let text = match geometry.lanes {
        1 => format!("expert 0 – {last}"),
        lanes => format!("expert 0 – {last}, {} in each of {lanes} columns", geometry.rows),
    };
    let context = brush.context;
    context.save();
    let _ = context.translate(geometry.cells.x - 14.0, geometry.cells.centre_y());
    let _ = context.rotate(-FRAC_PI_2);
    brush.text(&text, 0.0, 0.0, Align::Centre);
    context.restore();
}

/// Norm of the residual stream after each layer.
pub fn norms(brush: &Brush<'_>, geometry: &Geometry, picture: &Picture, inside: &Inside) {
    let place = geometry.norm;
    let Some(last) = inside.norms.as_ref().and_then(|residual| residual.norms.last()) else { return };
    brush.stroke(Colour::Dim, 0.8, 1.0);
    brush.context.begin_path();
    for (norm, index) in picture.norms.iter().zip(0_u32..) {
        // The embedding's norm is at the beginning of the path.
        let x = index.checked_sub(1).map_or(geometry.path_begin(), |layer| geometry.column(layer).centre_x());
        brush.context.line_to(x, place.bottom() - 2.0 - f64::from(*norm) * (place.height - 4.0));
    }
    brush.context.stroke();
    brush.fill(Colour::Dim, 0.9);
    let text = if geometry.has_row_name && last.is_finite() {
        format!("‖x‖ {}", format::count(last.round() as u64))
    } else {
        "‖x‖".to_owned()
    };
    brush.text(&text, brush.look.width - 6.0, place.y + geometry.text_size, Align::Right);
}

/// What the colours mean.
pub fn legend(brush: &Brush<'_>, geometry: &Geometry) {
    let y = geometry.legend.bottom() - 3.0;
    for (index, x) in geometry.legend_items() {
        let sample = Rect { x, y: y - 7.0, width: 9.0, height: 7.0 };
        match LEGEND[index] {
            "in place" => brush.fill(Colour::Accent, 0.3),
            "chosen now" => brush.fill(Colour::Accent, 1.0),
            "missed" => brush.fill(Colour::Bad, 0.9),
            "KV ring / bar" => brush.fill(Colour::Cool, 0.8),
            "coming" => brush.stroke(Colour::Accent, 0.9, 1.0),
            "evicted" => brush.stroke(Colour::Dim, 0.6, 1.0),
            _ => brush.stroke(Colour::Line, 0.7, 1.0),
        }
        match LEGEND[index] {
            "coming" | "not fetched" => brush.frame(sample, 1.0),
            "evicted" => {
                brush.frame(sample, 1.0);
                brush.context.begin_path();
                brush.context.move_to(sample.x, sample.y);
                brush.context.line_to(sample.right(), sample.bottom());
                brush.context.move_to(sample.right(), sample.y);
                brush.context.line_to(sample.x, sample.bottom());
                brush.context.stroke();
            }
            _ => brush.rect(sample),
        }
        brush.fill(Colour::Dim, 0.9);
        brush.text(LEGEND[index], x + LEGEND_SAMPLE, y, Align::Left);
    }
}
