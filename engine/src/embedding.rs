//! The embedding table: kept in host memory as it is in the file, since only rows of it are ever needed.

use gptoss_model::{EngineError, MatrixTensor};
use gptoss_source::Bytes;

/// Rows of `token_embd.weight`, undecoded.
pub struct Embedding {
    tensor: MatrixTensor,
    /// First row and bytes of each piece, sorted by row. On the web the bytes are in JavaScript's memory.
    pieces: Vec<(u64, Bytes)>,
}

impl Embedding {
    /// `pieces`: file offset and bytes, in any order, together the whole tensor.
    pub fn new(tensor: MatrixTensor, pieces: Vec<(u64, Bytes)>) -> Self {
        let row_of = |offset_bytes: u64| (offset_bytes - tensor.offset_bytes) / tensor.row_bytes();
        let mut pieces: Vec<_> = pieces.into_iter().map(|(offset, bytes)| (row_of(offset), bytes)).collect();
        pieces.sort_by_key(|(row, _)| *row);
        Self { tensor, pieces }
    }

    /// The row of a token, decoded: `[hidden]` F32.
    pub fn row(&self, token: u32) -> Result<Vec<f32>, EngineError> {
        let row = u64::from(token);
        if row >= self.tensor.rows {
            return Err(EngineError::Token { id: token, vocabulary: self.tensor.rows as u32 });
        }
        let (first, bytes) = &self.pieces[self.pieces.partition_point(|(first, _)| *first <= row) - 1];
        let mut raw = vec![0; self.tensor.row_bytes() as usize];
        bytes.copy_to(((row - first) * self.tensor.row_bytes()) as usize, &mut raw);
        Ok(self.tensor.format.decode(&raw))
    }
}
