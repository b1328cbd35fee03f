use std::ops::Range;

use crate::platform;

/// Bytes in host memory: natively a `Vec<u8>`, on the web a `Uint8Array`.
///
/// On the web the bytes stay outside the wasm heap; [`Bytes::to_vec`] and [`Bytes::copy_to`] copy the part that is
/// asked for into it, and `as_uint8_array` hands out the JavaScript object itself, for example for
/// `GPUQueue.writeBuffer`.
pub struct Bytes(pub(crate) platform::Bytes);

impl Bytes {
    /// Takes over bytes from the program's own memory. On the web this copies them out of the wasm heap.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        Self(platform::Bytes::from_vec(bytes))
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `range` into a new vector.
    ///
    /// # Panics
    /// If `range` does not lie inside `0..len`, as slicing would.
    pub fn to_vec(&self, range: Range<usize>) -> Vec<u8> {
        self.assert_inside(&range);
        self.0.to_vec(range)
    }

    /// Fills `target` with the bytes from `at` on.
    ///
    /// # Panics
    /// If `at + target.len()` is beyond the end, as slicing would.
    pub fn copy_to(&self, at: usize, target: &mut [u8]) {
        self.assert_inside(&(at..at.saturating_add(target.len())));
        self.0.copy_to(at, target);
    }

    /// The bytes of `range` on their own. On the web they share memory with `self`; natively they are copied.
    ///
    /// # Panics
    /// If `range` does not lie inside `0..len`, as slicing would.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        self.assert_inside(&range);
        Self(self.0.slice(range))
    }

    /// Joins `parts` in order. On the web they never enter the wasm heap, and a single part is not copied.
    pub fn joined(mut parts: Vec<Self>) -> Self {
        match parts.len() {
            1 => parts.remove(0),
            _ => Self(platform::Bytes::joined(parts.iter().map(|part| &part.0))),
        }
    }

    /// All bytes, in place.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// The JavaScript object that holds the bytes.
    #[cfg(target_arch = "wasm32")]
    pub fn as_uint8_array(&self) -> &js_sys::Uint8Array {
        self.0.as_uint8_array()
    }

    /// `Uint8Array.subarray` clamps what is out of range, which would hand out fewer bytes than were asked for; both
    /// platforms therefore check here.
    fn assert_inside(&self, range: &Range<usize>) {
        let len = self.len();
        assert!(
            range.start <= range.end && range.end <= len,
            "bytes {}..{} asked of a block of {len} bytes",
            range.start,
            range.end
        );
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({} bytes)", self.len())
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_slicing_would_give() {
        let bytes = Bytes::from_vec((0..50).collect());
        assert_eq!(bytes.len(), 50);
        assert!(!bytes.is_empty());
        assert_eq!(bytes.to_vec(7..11), [7, 8, 9, 10]);
        assert_eq!(bytes.to_vec(50..50), []);
        let mut target = [0; 3];
        bytes.copy_to(47, &mut target);
        assert_eq!(target, [47, 48, 49]);
        assert_eq!(bytes.slice(10..20).to_vec(2..4), [12, 13]);
        assert_eq!(bytes.as_slice().len(), 50);
        let parts = || vec![bytes.slice(3..5), bytes.slice(0..0), bytes.slice(9..10)];
        assert_eq!(Bytes::joined(parts()).as_slice(), [3, 4, 9]);
        assert_eq!(Bytes::joined(parts().into_iter().take(1).collect()).as_slice(), [3, 4]);
        assert!(Bytes::joined(Vec::new()).is_empty());
    }

    #[test]
    #[should_panic(expected = "bytes 48..51 asked of a block of 50 bytes")]
    fn copying_past_the_end_panics() {
        Bytes::from_vec(vec![0; 50]).copy_to(48, &mut [0; 3]);
    }
}
