use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;

use rustix::fs::{Advice, fadvise};
use rustix::io::{ReadWriteFlags, preadv2};

/// Reads only what is in the page cache: 0 bytes if nothing is, or if the file system does not support it.
pub(crate) fn read_cached_at(file: &File, buffer: &mut [u8], offset: u64) -> usize {
    // Whatever the error, the ordinary read that follows meets it again and reports it.
    preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

/// Starts reading these bytes into the page cache.
pub(crate) fn will_need(file: &File, offset: u64, len: u64) {
    // Without a length the advice would be for all the rest of the file.
    let Some(len) = NonZeroU64::new(len) else { return };
    // Advice that was not taken costs nothing but speed.
    let _ = fadvise(file, offset, Some(len), Advice::WillNeed);
}

/// The shortest turn that the scheduler gives (`sched_runtime` of sched(7), in nanoseconds).
const TURN_NS: u64 = 100_000;

/// Asks for soon but short turns on the processor for this thread, which works for some microseconds at a time and then
/// waits. Otherwise it waits for the turns of whoever computes on its core, which are milliseconds. Its share stays the
/// same. Before Linux 6.12 this does nothing.
#[expect(unsafe_code, reason = "the system call has no wrapper")]
pub(crate) fn prefer_short_turns() {
    let mut attributes = MaybeUninit::<libc::sched_attr>::zeroed();
    let size = size_of::<libc::sched_attr>() as libc::c_uint;
    // SAFETY: The kernel writes at most `size` bytes into `attributes`, of which all values are valid.
    let known = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size, 0) };
    // SAFETY: It was zeroed, and consists of integers.
    let mut attributes = unsafe { attributes.assume_init() };
    if known != 0 || attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return;
    }
    attributes.sched_runtime = TURN_NS;
    // What it was not given it does without.
    // SAFETY: The kernel only reads `attributes`, which say themselves how long they are.
    let _ = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
}
