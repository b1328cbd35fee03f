//! A slice that several threads write at once, each its own places.
#![expect(unsafe_code, reason = "column tiles of a row-major matrix cannot be told apart by slices")]

use std::marker::PhantomData;

/// A mutable slice that all tasks of a parallel loop may write to. The loop decides which task writes where; bounds are
/// always checked.
pub(crate) struct SharedMut<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for a `&mut [T]`, used under the contract of `slice`.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// The places `first .. first + len` of the slice.
    ///
    /// # Safety
    /// While the slice lives, no other thread uses any of these places.
    ///
    /// # Panics
    /// When they are out of bounds.
    #[expect(clippy::mut_from_ref, reason = "the caller keeps the places apart")]
    pub unsafe fn slice(&self, first: usize, len: usize) -> &mut [T] {
        assert!(first <= self.len && len <= self.len - first, "{first} + {len} of {}", self.len);
        // SAFETY: in bounds, checked above; exclusive, by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), len) }
    }
}
