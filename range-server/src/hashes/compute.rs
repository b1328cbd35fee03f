use std::fmt::Write as _;
use std::io;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{CHUNK_BYTES, FileHashes};

/// Error of a computation that nobody wants any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// Why there are no hashes.
#[derive(Debug, Error)]
pub enum ComputeError {
    /// The bytes cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// [`Cancelled`].
    #[error("cancelled")]
    Cancelled,
}

/// Hashes `size_bytes` bytes, which `read(buffer, offset)` supplies. `advance` is called with the number of hashed
/// bytes after each chunk. Two cores are used if available: one hashes the whole, the other the chunk.
///
/// # Errors
/// A [`ComputeError`] if reading fails or `advance` says so.
pub fn compute(
    size_bytes: u64,
    read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    mut advance: impl FnMut(u64) -> Result<(), Cancelled>,
) -> Result<FileHashes, ComputeError> {
    let mut buffer = vec![0; CHUNK_BYTES.min(size_bytes) as usize];
    let mut whole = Sha256::new();
    let mut chunks = Vec::with_capacity(size_bytes.div_ceil(CHUNK_BYTES) as usize);
    let mut offset = 0;
    while offset < size_bytes {
        let chunk = &mut buffer[..CHUNK_BYTES.min(size_bytes - offset) as usize];
        read(chunk, offset)?;
        let chunk = &*chunk;
        let of_chunk = std::thread::scope(|scope| {
            scope.spawn(|| whole.update(chunk));
            Sha256::digest(chunk)
        });
        chunks.push(hex(&of_chunk));
        offset += chunk.len() as u64;
        advance(offset).map_err(|Cancelled| ComputeError::Cancelled)?;
    }
    Ok(FileHashes { size_bytes, sha256: hex(&whole.finalize()), chunk_bytes: CHUNK_BYTES, chunks })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> FileHashes {
        let read = |buffer: &mut [u8], offset: u64| {
            buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
            Ok(())
        };
        compute(bytes.len() as u64, read, |_| Ok(())).unwrap()
    }

    #[test]
    fn known_answers() {
        // FIPS 180-2, appendix B.1 and B.3, and the hash of nothing.
        const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        const MILLION_A: &str = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!((of(b"abc").sha256, of(b"abc").chunks), (ABC.to_owned(), vec![ABC.to_owned()]));
        assert_eq!(of(&vec![b'a'; 1_000_000]).sha256, MILLION_A);
        assert_eq!((of(b"").sha256, of(b"").chunks.len()), (NOTHING.to_owned(), 0));
    }

    #[test]
    fn chunks_begin_where_the_last_one_ended() {
        let chunk = CHUNK_BYTES as usize;
        let bytes: Vec<u8> = (0..2 * chunk + 5).map(|i| (i / chunk) as u8).collect();
        let hashes = of(&bytes);
        let expected: Vec<String> = bytes.chunks(chunk).map(|part| hex(&Sha256::digest(part))).collect();
        assert_eq!((hashes.chunks, hashes.sha256), (expected, hex(&Sha256::digest(&bytes))));
    }

    #[test]
    fn it_can_be_cancelled_and_reports_failing_reads() {
        let cancelled =
            compute(10 * CHUNK_BYTES, |_, _| Ok(()), |done| if done < 8 << 20 { Ok(()) } else { Err(Cancelled) });
        assert!(matches!(cancelled, Err(ComputeError::Cancelled)));
        let failed = compute(10, |_, _| Err(io::ErrorKind::UnexpectedEof.into()), |_| Ok(()));
        assert!(matches!(failed, Err(ComputeError::Io(_))));
    }
}
