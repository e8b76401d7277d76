//! Single system calls that more than one file of this room makes.
//!
//! Invariant: errno is after each call what it was before.

#![allow(unsafe_code, reason = "system calls")]

use core::ptr::NonNull;

use static_assertions::const_assert_eq;

use super::api::{Errno, PageRange};

/// Runs `call`, which answers -1 for an error, and puts errno back.
pub(super) fn checked(call: impl FnOnce() -> i64) -> Result<i64, Errno> {
    // SAFETY: the place of errno is valid for the thread's life.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above; only this thread uses it.
    let saved = unsafe { *place };
    let answer = call();
    if answer != -1 {
        return Ok(answer);
    }
    // SAFETY: as above.
    let errno = unsafe { core::mem::replace(&mut *place, saved) };
    Err(Errno(errno))
}

/// Gives advice about a range.
///
/// # Safety
/// The range is whole pages of a reservation, whose contents may go as the advice says.
pub(super) unsafe fn madvise(addr: NonNull<u8>, bytes: usize, advice: i32) -> Result<(), Errno> {
    // SAFETY: passed on to the caller.
    checked(|| i64::from(unsafe { libc::madvise(addr.as_ptr().cast(), bytes, advice) })).map(|_| ())
}

/// Stands for the calling process where a pidfd is asked for. Linux has it since 6.14, and since 6.16 it flushes the
/// TLBs once for all ranges of one process_madvise(2).
const PIDFD_SELF: i32 = -10000;

const_assert_eq!(size_of::<PageRange>(), size_of::<libc::iovec>());
const_assert_eq!(core::mem::offset_of!(PageRange, bytes), core::mem::offset_of!(libc::iovec, iov_len));

pub(super) fn membarrier(command: i32) -> Result<i64, Errno> {
    // SAFETY: the call takes no pointers.
    checked(|| unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) })
}

/// Gives several ranges back; returns the bytes that it came to.
///
/// # Safety
/// As for [`Os::release_many`](super::api::Os::release_many).
pub(super) unsafe fn process_madvise(ranges: &[PageRange]) -> Result<usize, Errno> {
    let (count, advice) = (ranges.len(), libc::MADV_DONTNEED);
    // SAFETY: the ranges are laid out as the kernel's vectors, and the caller gives their pages up.
    let call =
        || unsafe { libc::syscall(libc::SYS_process_madvise, PIDFD_SELF, ranges.as_ptr(), count, advice, 0) };
    checked(call).map(|bytes| bytes as usize)
}

/// Commands of membarrier(2).
pub(super) const PRIVATE_EXPEDITED: i32 = 1 << 3;
pub(super) const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;

/// Whether none of the limits is set against which a move counts anew, after its target is gone. With one that was lowered
/// below what is mapped already the move fails, and so does filling the hole.
pub(super) fn is_unlimited() -> bool {
    [libc::RLIMIT_AS, libc::RLIMIT_DATA].into_iter().all(|resource| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid place.
        let asked = checked(|| i64::from(unsafe { libc::getrlimit(resource, &raw mut limit) }));
        asked.is_ok() && limit.rlim_cur == libc::RLIM_INFINITY
    })
}

/// Whether the mapping that holds an address is locked in memory.
pub(super) fn is_locked(addr: NonNull<u8>, page_size: usize) -> bool {
    // Refused with EBUSY for a locked mapping on every kernel, as POSIX has it; nothing is done for anonymous memory.
    // Advice that is refused likewise (MADV_COLD) would split a huge page.
    // SAFETY: the contents of private anonymous memory cannot be invalidated.
    checked(|| i64::from(unsafe { libc::msync(addr.as_ptr().cast(), page_size, libc::MS_INVALIDATE) }))
        .is_err()
}

/// Maps private memory without a charge, at a place that nothing is mapped at.
pub(super) fn map(at: *mut u8, bytes: usize, access: i32, fixed: i32) -> Result<NonNull<u8>, Errno> {
    debug_assert!(fixed & libc::MAP_FIXED == 0, "what is mapped stays");
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    // SAFETY: a new mapping where nothing is mapped touches nothing that exists.
    let addr = checked(|| unsafe { libc::mmap(at.cast(), bytes, access, flags, -1, 0) as i64 })?;
    NonNull::new(addr as *mut u8).ok_or(Errno::ENOMEM)
}

/// Unmaps a range that nobody uses. A refusal leaves it mapped, which is harmless.
///
/// # Safety
/// The range is one that the caller mapped, and nobody else knows or uses it.
pub(super) unsafe fn unmap(addr: NonNull<u8>, bytes: usize) {
    // SAFETY: passed on to the caller.
    let _ = checked(|| i64::from(unsafe { libc::munmap(addr.as_ptr().cast(), bytes) }));
}

/// The resident set; `None` if the file cannot be opened.
pub(super) fn read_rss(page_size: usize) -> Option<u64> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string.
    let file = checked(|| i64::from(unsafe { libc::open(c"/proc/self/statm".as_ptr(), flags) })).ok()?;
    let file = file as i32;
    let mut text = [0u8; 128];
    // SAFETY: `text` has room for what is asked.
    let read = checked(|| unsafe { libc::read(file, text.as_mut_ptr().cast(), text.len()) as i64 });
    // SAFETY: this call opened the file.
    let _ = checked(|| i64::from(unsafe { libc::close(file) }));
    Some(resident_of_statm(&text[..read.unwrap_or(0) as usize], page_size as u64))
}

/// The second number of statm is the resident pages.
fn resident_of_statm(text: &[u8], page: u64) -> u64 {
    let mut fields = text.split(|byte| *byte == b' ');
    let Some(field) = fields.nth(1) else { return 0 };
    let digits = field.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))) * page
}

/// Writes a line to stderr with one call and ends the process as a crash.
pub(crate) fn fatal(line: &[u8]) -> ! {
    // SAFETY: `line` is valid for reads of its length. Where stderr is closed there is nobody to tell.
    let _ = checked(|| unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) as i64 });
    // SAFETY: abort has no precondition.
    unsafe { libc::abort() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statm_gives_the_second_field_in_bytes() {
        assert_eq!(resident_of_statm(b"100 25 3 4 0 5 0\n", 4096), 25 * 4096);
        assert_eq!(resident_of_statm(b"100 25 3 4 0 5 0\n", 16384), 25 * 16384);
        assert_eq!(resident_of_statm(b"100", 4096), 0);
        assert_eq!(resident_of_statm(b"", 4096), 0);
        assert_eq!(resident_of_statm(b"1 x 2", 4096), 0);
    }
}
