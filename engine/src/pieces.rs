//! Cutting tensors into pieces, and pieces into reads. Pure: says which bytes go where, touches neither file nor GPU.

use std::ops::Range;
use std::rc::Rc;

use gptoss_gguf::CodeOrder;
use gptoss_kernels::GpuBuffer;
use gptoss_kernels::weights::{Matrix, PlaneLayout};
use gptoss_model::{MatrixTensor, PlainTensor};
use gptoss_protocol::{ExpertPlace, FileRange};

/// A run of bytes of the file with one destination.
#[derive(Clone)]
pub struct Piece {
    pub offset_bytes: u64,
    pub len_bytes: u64,
    pub sink: Sink,
    /// The tensor to report when this piece has arrived; only the last piece of a tensor has it.
    pub completes: Option<Completed>,
    /// The expert that it is a part of.
    pub expert: Option<ExpertPlace>,
}

/// A tensor that has arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Completed {
    pub name: String,
    pub format: &'static str,
    pub size_bytes: u64,
}

/// Where a piece goes.
#[derive(Clone)]
pub enum Sink {
    /// Copied to a buffer without change.
    Copy { buffer: Rc<GpuBuffer>, offset_bytes: u64 },
    /// A whole tensor, widened to F32. Only small tensors: their bytes pass through the engine's own memory.
    Widen { buffer: Rc<GpuBuffer>, offset_bytes: u64, tensor: Rc<PlainTensor> },
    /// Whole rows, split into planes.
    Repack {
        buffer: Rc<GpuBuffer>,
        planes_offset_bytes: u64,
        planes: PlaneLayout,
        rows: u64,
        first_row: u64,
        row_step: u64,
        codes: CodeOrder,
    },
    /// Kept in host memory: rows of the embedding.
    Host,
}

/// Where the rows of a tensor go on the GPU.
#[derive(Clone)]
pub struct Target {
    pub buffer: Rc<GpuBuffer>,
    pub planes_offset_bytes: u64,
    pub planes: PlaneLayout,
    pub first_row: u64,
    pub row_step: u64,
    /// Order of the codes in the file.
    pub codes: CodeOrder,
}

/// The piece that puts a plain tensor into a buffer.
pub fn plain(tensor: &PlainTensor, buffer: &Rc<GpuBuffer>, offset_bytes: u64) -> Piece {
    let buffer = Rc::clone(buffer);
    let sink = if tensor.is_used_as_it_is() {
        Sink::Copy { buffer, offset_bytes }
    } else {
        Sink::Widen { buffer, offset_bytes, tensor: Rc::new(tensor.clone()) }
    };
    Piece {
        offset_bytes: tensor.offset_bytes,
        len_bytes: tensor.size_bytes,
        sink,
        completes: Some(Completed {
            name: tensor.name.clone(),
            format: tensor.format.name(),
            size_bytes: tensor.size_bytes,
        }),
        expert: None,
    }
}

/// The pieces that put a dense tensor into rows `first_row ..` of a matrix, cut at shard borders and at `piece_bytes`.
pub fn dense(tensor: &MatrixTensor, matrix: &Matrix, first_row: u64, piece_bytes: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut row = 0;
    while row < tensor.rows {
        let target_row = first_row + row;
        let shard = matrix.shard_of(target_row);
        let left_in_shard = shard.first_row + shard.layout.rows - target_row;
        let rows = left_in_shard.min(tensor.rows - row);
        let target = Target {
            buffer: Rc::clone(&shard.buffer),
            planes_offset_bytes: 0,
            planes: shard.layout,
            first_row: target_row - shard.first_row,
            row_step: 1,
            codes: tensor.codes,
        };
        pieces.extend(rows_to(&target, tensor.offset_bytes + row * tensor.row_bytes(), rows, piece_bytes));
        row += rows;
    }
    complete(&mut pieces, tensor);
    pieces
}

/// The pieces that put some rows of one expert into its slot.
pub fn expert(
    tensor: &MatrixTensor,
    expert: ExpertPlace,
    rows: &Range<u64>,
    target: &Target,
    piece_bytes: u64,
) -> Vec<Piece> {
    let offset_bytes = tensor.expert_offset_bytes(expert.expert) + rows.start * tensor.row_bytes();
    let mut pieces = rows_to(target, offset_bytes, rows.end - rows.start, piece_bytes);
    pieces.iter_mut().for_each(|piece| piece.expert = Some(expert));
    pieces
}

/// The pieces of the embedding, of whole rows, which stay in host memory.
pub fn host(tensor: &MatrixTensor, piece_bytes: u64) -> Vec<Piece> {
    let rows_per_piece = (piece_bytes / tensor.row_bytes()).max(1);
    let mut pieces: Vec<Piece> = (0..tensor.rows)
        .step_by(rows_per_piece as usize)
        .map(|row| Piece {
            offset_bytes: tensor.offset_bytes + row * tensor.row_bytes(),
            len_bytes: rows_per_piece.min(tensor.rows - row) * tensor.row_bytes(),
            sink: Sink::Host,
            completes: None,
            expert: None,
        })
        .collect();
    complete(&mut pieces, tensor);
    pieces
}

/// Marks the last piece of a tensor.
pub fn complete(pieces: &mut [Piece], tensor: &MatrixTensor) {
    if let Some(last) = pieces.last_mut() {
        last.completes =
            Some(Completed { name: tensor.name.clone(), format: tensor.format.name(), size_bytes: tensor.size_bytes });
    }
}

fn rows_to(target: &Target, offset_bytes: u64, rows: u64, piece_bytes: u64) -> Vec<Piece> {
    let row_bytes = target.planes.file_row_bytes();
    let rows_per_piece = (piece_bytes / row_bytes).max(1);
    let piece = |row: u64, rows: u64, sink: Sink| Piece {
        offset_bytes: offset_bytes + row * row_bytes,
        len_bytes: rows * row_bytes,
        sink,
        completes: None,
        expert: None,
    };
    if target.planes.format.is_quantised() {
        let chunks = (0..rows).step_by(rows_per_piece as usize);
        return chunks
            .map(|row| {
                let rows = rows_per_piece.min(rows - row);
                let first_row = target.first_row + row * target.row_step;
                piece(
                    row,
                    rows,
                    Sink::Repack {
                        buffer: Rc::clone(&target.buffer),
                        planes_offset_bytes: target.planes_offset_bytes,
                        planes: target.planes,
                        rows,
                        first_row,
                        row_step: target.row_step,
                        codes: target.codes,
                    },
                )
            })
            .collect();
    }
    // Unquantised rows are copied; rows that are spread out (gate and up) one by one.
    let chunk = if target.row_step == 1 { rows_per_piece } else { 1 };
    (0..rows)
        .step_by(chunk as usize)
        .map(|row| {
            let target_row = target.first_row + row * target.row_step;
            let sink = Sink::Copy {
                buffer: Rc::clone(&target.buffer),
                offset_bytes: target.planes_offset_bytes + target_row * row_bytes,
            };
            piece(row, chunk.min(rows - row), sink)
        })
        .collect()
}

/// Adjacent pieces of the file that are fetched by one read.
pub struct Span {
    pub offset_bytes: u64,
    pub len_bytes: u64,
    pub pieces: Vec<Piece>,
}

impl Span {
    /// The part of the file that is read.
    pub fn range(&self) -> FileRange {
        FileRange { offset_bytes: self.offset_bytes, bytes: self.len_bytes }
    }
}

/// Groups pieces into reads of at most `span_bytes` (or one piece), in file order, without gaps, so that every fetched
/// byte is used.
pub fn spans(mut pieces: Vec<Piece>, span_bytes: u64) -> Vec<Span> {
    pieces.sort_by_key(|piece| piece.offset_bytes);
    let mut spans: Vec<Span> = Vec::new();
    for piece in pieces {
        match spans.last_mut() {
            Some(span)
                if span.offset_bytes + span.len_bytes == piece.offset_bytes
                    && span.len_bytes + piece.len_bytes <= span_bytes =>
            {
                span.len_bytes += piece.len_bytes;
                span.pieces.push(piece);
            }
            _ => {
                spans.push(Span { offset_bytes: piece.offset_bytes, len_bytes: piece.len_bytes, pieces: vec![piece] });
            }
        }
    }
    spans
}
