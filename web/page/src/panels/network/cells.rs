//! One cell for each tensor of the file: how much of it is where it will be used.

use gptoss_protocol::{ExpertPlace, FileRange, TensorPlace};

use crate::state::Inside;
use crate::state::inside::{ExpertTensor, Place};

/// A tensor as a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorCell {
    /// Variable of the colour, by how wide the stored weights are.
    pub colour: &'static str,
    /// How much of it is here: 255 is all.
    pub fill: u8,
    /// Whether bytes of it are on their way.
    pub is_under_way: bool,
}

/// A cell for each tensor, in the order of the file; none before that is known.
pub fn cells(inside: &Inside) -> Vec<TensorCell> {
    let tensors = inside.map.as_ref().map_or(&[][..], |map| &map.tensors);
    let mut cells: Vec<TensorCell> = tensors
        .iter()
        .zip(&inside.complete)
        .map(|(tensor, complete)| TensorCell {
            colour: colour(&tensor.format),
            fill: if *complete { u8::MAX } else { level(inside.arrived.covered(range(tensor)), tensor.bytes) },
            is_under_way: false,
        })
        .collect();
    for tensor in &inside.expert_tensors {
        if let Some(cell) = cells.get_mut(tensor.tensor as usize) {
            cell.fill = level(bytes_here(inside, tensor), tensor.slice_bytes * u64::from(inside.experts));
        }
    }
    for read in &inside.under_way {
        mark(tensors, &mut cells, read);
    }
    cells
}

/// Bytes of a tensor of experts that are on the GPU or came for it; those of evicted experts are neither.
fn bytes_here(inside: &Inside, tensor: &ExpertTensor) -> u64 {
    let of = |expert| match inside.expert(ExpertPlace { layer: tensor.layer, expert }) {
        Some(known) if known.place == Place::Resident => tensor.slice_bytes,
        _ => inside.arrived.covered(tensor.slice(expert)),
    };
    (0..inside.experts).map(of).sum()
}

/// Tensors that a read under way brings bytes of.
fn mark(tensors: &[TensorPlace], cells: &mut [TensorCell], read: &FileRange) {
    let end = read.offset_bytes.saturating_add(read.bytes);
    let first = tensors.partition_point(|tensor| tensor.offset_bytes + tensor.bytes <= read.offset_bytes);
    for (tensor, cell) in tensors.iter().zip(cells).skip(first) {
        if tensor.offset_bytes >= end {
            break;
        }
        cell.is_under_way = true;
    }
}

fn range(tensor: &TensorPlace) -> std::ops::Range<u64> {
    tensor.offset_bytes..tensor.offset_bytes + tensor.bytes
}

/// A level is full only where everything is here, and empty only where nothing is.
fn level(here: u64, all: u64) -> u8 {
    match here {
        0 => 0,
        here if here >= all => u8::MAX,
        here => (here as f64 / all as f64 * 253.0) as u8 + 1,
    }
}

/// How wide a stored weight is, as a colour.
fn colour(format: &str) -> &'static str {
    match format {
        "MXFP4" => "--accent",
        "Q8_0" => "--accent-mid",
        _ => "--text-dim",
    }
}
