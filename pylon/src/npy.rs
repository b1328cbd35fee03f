//! NPY, NumPy's file format for one array, version 1.0 (numpy.org/neps/nep-0001-npy-format.html).

use std::io::{self, Write};

/// Magic, version and header together are padded to a multiple of this.
const ALIGNMENT_BYTES: usize = 64;

/// Writes F32 values in C order as an array of `rows` × `columns`.
///
/// # Errors
/// Those of `to`.
pub fn write_f32(to: &mut impl Write, values: &[f32], columns: usize) -> io::Result<()> {
    let rows = values.len() / columns;
    let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    // Magic (6), version (2) and header length (2) come first; the header ends with a line break.
    let total = (10 + dictionary.len() + 1).next_multiple_of(ALIGNMENT_BYTES);
    let header = format!("{dictionary:<width$}\n", width = total - 11);
    to.write_all(b"\x93NUMPY\x01\x00")?;
    to.write_all(&(header.len() as u16).to_le_bytes())?;
    to.write_all(header.as_bytes())?;
    for chunk in values.chunks(1 << 16) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|value| value.to_le_bytes()).collect();
        to.write_all(&bytes)?;
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected bytes are those of numpy.save for np.array([[1, 2, 3], [4, 5, 6]], dtype="<f4").
    #[test]
    fn the_file_is_the_one_that_numpy_writes() {
        let mut file = Vec::new();
        write_f32(&mut file, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3).expect("memory");
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!(std::str::from_utf8(&file[10..128]).expect("ASCII"), format!("{text:<117}\n"));
        assert_eq!(file[128..132], 1.0f32.to_le_bytes());
        assert_eq!(file.len(), 128 + 24);
    }
}
