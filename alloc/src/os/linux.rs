//! Linux: mmap, madvise, mincore, futex, /proc.
//!
//! Invariant: errno is after each call what it was before. memmap2 maps the metadata; it offers no inaccessible
//! reservation, no madvise on a part of a mapping it does not own and no mincore, so libc does those.

#![allow(unsafe_code, reason = "system calls")]

use core::ffi::c_void;
use core::ptr::NonNull;

use static_assertions::const_assert_eq;

use super::threads::{self, Life, ThreadMark, Watch};
use super::{Errno, Os, PageRange};
use crate::sync::AtomicU32;
use crate::units::PAGE;

/// The running kernel.
#[derive(Debug)]
pub(crate) struct Linux {
    watch: Watch,
}

impl Linux {
    pub(crate) const fn new() -> Self {
        Self { watch: Watch::new() }
    }

    /// Undoes a move that went half way: a range of several mappings is moved one by one.
    ///
    /// # Safety
    /// Both ranges are writable, and what is resident at `to` belongs at the same place of `from`.
    unsafe fn put_back(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) {
        let mut seen = [1u8; 512];
        for first in (0..bytes / PAGE).step_by(seen.len()) {
            let seen = &mut seen[..(bytes / PAGE - first).min(512)];
            // SAFETY: inside the range.
            if self.residency(unsafe { to.add(first * PAGE) }, seen).is_err() {
                continue;
            }
            for page in (0..seen.len()).filter(|page| seen[*page] & 1 == 1) {
                let at = (first + page) * PAGE;
                // SAFETY: whole pages of ranges that lie apart.
                unsafe { from.add(at).copy_from_nonoverlapping(to.add(at), PAGE) };
            }
        }
    }
}

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

fn madvise(addr: NonNull<u8>, bytes: usize, advice: i32) -> Result<(), Errno> {
    // SAFETY: the callers below pass pages of a reservation whose contents they may lose.
    checked(|| i64::from(unsafe { libc::madvise(addr.as_ptr().cast(), bytes, advice) })).map(|_| ())
}

/// Stands for the calling process where a pidfd is asked for. Linux has it since 6.14, and since 6.16 it flushes the
/// TLBs once for all ranges of one process_madvise(2).
const PIDFD_SELF: i32 = -10000;

const_assert_eq!(size_of::<PageRange>(), size_of::<libc::iovec>());
const_assert_eq!(core::mem::offset_of!(PageRange, bytes), core::mem::offset_of!(libc::iovec, iov_len));

/// Commands of membarrier(2).
const PRIVATE_EXPEDITED: i32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;

fn membarrier(command: i32) -> bool {
    // SAFETY: the call takes no pointers.
    checked(|| unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) }).is_ok()
}

impl Os for Linux {
    fn reserve(&self, bytes: usize) -> Result<NonNull<u8>, Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let map = || {
            // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
            unsafe { libc::mmap(core::ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) }
        };
        let addr = checked(|| map() as i64)?;
        NonNull::new(addr as *mut u8).ok_or(Errno::ENOMEM)
    }

    unsafe fn unreserve(&self, addr: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller vouches that the whole mapping is unused. A refusal leaves it mapped, which is harmless.
        let _ = checked(|| i64::from(unsafe { libc::munmap(addr.as_ptr().cast(), bytes) }));
    }

    unsafe fn commit(&self, addr: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the caller vouches for the range; more access never invalidates memory.
        checked(|| i64::from(unsafe { libc::mprotect(addr.as_ptr().cast(), bytes, access) })).map(|_| ())
    }

    fn populates(&self, page: NonNull<u8>) -> bool {
        let mut seen = [0];
        self.residency(page, &mut seen).is_ok() && seen[0] & 1 == 1
    }

    unsafe fn release(&self, addr: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        madvise(addr, bytes, libc::MADV_DONTNEED)
    }

    unsafe fn release_many(&self, ranges: &[PageRange]) -> Result<(), Errno> {
        let wanted: usize = ranges.iter().map(|range| range.bytes).sum();
        // SAFETY: the ranges are laid out as the kernel's vectors, and the caller gives their pages up.
        let call = || unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                PIDFD_SELF,
                ranges.as_ptr(),
                ranges.len(),
                libc::MADV_DONTNEED,
                0,
            )
        };
        // A kernel that does not know the call, the descriptor or this advice for it refuses before anything happens;
        // one that meets a locked page says how far it came.
        let done = checked(call)?;
        if done as usize == wanted { Ok(()) } else { Err(Errno::EINVAL) }
    }

    unsafe fn move_pages(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        // mremap would unlock a whole mapping that is locked. This advice is refused for such a one; for any other it
        // says no more than that the first page is not used just now.
        madvise(from, PAGE, libc::MADV_COLD)?;
        // What is resident at the new place afterwards has come from the old one.
        madvise(to, bytes, libc::MADV_DONTNEED)?;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        let places = (from.as_ptr().cast::<c_void>(), to.as_ptr().cast::<c_void>());
        // SAFETY: the caller gives up what lies at `to`, and expects `from` to be empty.
        let moved = checked(|| unsafe { libc::mremap(places.0, bytes, bytes, flags, places.1) as i64 });
        if moved.is_err() {
            // SAFETY: as the caller vouches, and `to` held nothing before the call.
            unsafe { self.put_back(from, to, bytes) };
        }
        moved.map(|_| ())
    }

    unsafe fn advise_huge(&self, addr: NonNull<u8>, bytes: usize, wanted: bool) {
        let advice = if wanted { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        let _ = madvise(addr, bytes, advice);
    }

    fn residency(&self, addr: NonNull<u8>, pages: &mut [u8]) -> Result<(), Errno> {
        let bytes = pages.len() * PAGE;
        // SAFETY: `pages` has a byte for each page; the kernel checks the range itself.
        checked(|| i64::from(unsafe { libc::mincore(addr.as_ptr().cast(), bytes, pages.as_mut_ptr()) }))
            .map(|_| ())
    }

    fn metadata(&self, bytes: usize) -> Result<NonNull<u8>, Errno> {
        // SAFETY: the place of errno is valid for the thread's life.
        let saved = unsafe { *libc::__errno_location() };
        let map = memmap2::MmapOptions::new().len(bytes).no_reserve_swap().map_anon();
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = saved };
        match map {
            Ok(map) => {
                let map = core::mem::ManuallyDrop::new(map);
                NonNull::new(map.as_ptr().cast_mut()).ok_or(Errno::ENOMEM)
            }
            Err(error) => Err(error.raw_os_error().map_or(Errno::ENOMEM, Errno)),
        }
    }

    fn wait(&self, word: &AtomicU32, expected: u32) {
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        let timeout = core::ptr::null::<libc::timespec>();
        // SAFETY: `word` is valid for the call; no timeout. An error only means a wake without reason.
        let _ = checked(|| unsafe {
            libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, timeout)
        });
    }

    fn wake(&self, word: &AtomicU32) {
        let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
        // SAFETY: the kernel uses `word` only as an address.
        let _ = checked(|| unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 1) });
    }

    fn rss(&self) -> u64 {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: the path is a C string.
        let Ok(file) = checked(|| i64::from(unsafe { libc::open(c"/proc/self/statm".as_ptr(), flags) }))
        else {
            return 0;
        };
        let file = file as i32;
        let mut text = [0u8; 128];
        // SAFETY: `text` has room for what is asked.
        let read = checked(|| unsafe { libc::read(file, text.as_mut_ptr().cast(), text.len()) as i64 });
        // SAFETY: this call opened the file.
        let _ = checked(|| i64::from(unsafe { libc::close(file) }));
        resident_of_statm(&text[..read.unwrap_or(0) as usize])
    }

    fn now(&self) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place; this clock always exists.
        let _ = checked(|| i64::from(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }));
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn prepare_barrier(&self) {
        membarrier(REGISTER_PRIVATE_EXPEDITED);
    }

    fn barrier(&self) -> bool {
        membarrier(PRIVATE_EXPEDITED)
    }

    fn watch_forks(&self) {
        self.watch.watch_forks();
    }

    fn mark_thread(&self) -> ThreadMark {
        threads::mark_thread()
    }

    fn thread_life(&self, mark: ThreadMark) -> Life {
        threads::thread_life(mark)
    }

    fn watch_thread_exit(&self) -> bool {
        self.watch.watch_thread_exit()
    }

    fn fatal(&self, line: &[u8]) -> ! {
        // SAFETY: `line` is valid for reads of its length. Where stderr is closed there is nobody to tell.
        let _ =
            checked(|| unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) as i64 });
        // SAFETY: abort has no precondition.
        unsafe { libc::abort() }
    }
}

/// The second number of statm is the resident pages.
fn resident_of_statm(text: &[u8]) -> u64 {
    let mut fields = text.split(|byte| *byte == b' ');
    let Some(field) = fields.nth(1) else { return 0 };
    let digits = field.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
        * PAGE as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::resident_bytes;

    #[test]
    fn statm_gives_the_second_field_in_bytes() {
        assert_eq!(resident_of_statm(b"100 25 3 4 0 5 0\n"), 25 * 4096);
        assert_eq!(resident_of_statm(b"100"), 0);
        assert_eq!(resident_of_statm(b""), 0);
        assert_eq!(resident_of_statm(b"1 x 2"), 0);
    }

    #[test]
    fn a_failing_call_keeps_errno_and_reports_it() {
        // SAFETY: the place of errno is valid for the thread's life.
        unsafe { *libc::__errno_location() = 7 };
        assert_eq!(Linux::new().reserve(usize::MAX - PAGE), Err(Errno::ENOMEM));
        // SAFETY: as above.
        assert_eq!(unsafe { *libc::__errno_location() }, 7);
    }

    #[test]
    fn a_move_that_went_half_way_is_undone() {
        let os = Linux::new();
        let (half, bytes) = (600 * PAGE, 1200 * PAGE);
        let addr = os.reserve(2 * bytes).unwrap();
        // SAFETY: the ranges are the halves of the reservation made above, used by this test alone.
        unsafe {
            os.commit(addr, 2 * bytes).unwrap();
            let to = addr.add(bytes);
            (0..bytes).step_by(PAGE).for_each(|at| addr.add(at).write((at / PAGE % 251) as u8 | 1));
            os.move_pages(addr, to, half).unwrap();
            assert_eq!(resident_bytes(&os, addr, half), Ok(0), "what moved is not copied");
            os.put_back(addr, to, bytes);
            assert!((0..bytes).step_by(PAGE).all(|at| addr.add(at).read() == (at / PAGE % 251) as u8 | 1));
            os.unreserve(addr, 2 * bytes);
        }
    }

    #[test]
    fn committed_pages_are_resident_once_written_and_zero_after_release() {
        let os = Linux::new();
        let bytes = 4 * PAGE;
        let addr = os.reserve(bytes).unwrap();
        // SAFETY: the range is the whole reservation made above, used by this test alone.
        unsafe {
            os.commit(addr, bytes).unwrap();
            assert_eq!(resident_bytes(&os, addr, bytes), Ok(0));
            addr.as_ptr().add(PAGE).write(9);
            assert_eq!(resident_bytes(&os, addr, bytes), Ok(PAGE));
            os.release(addr, bytes).unwrap();
            assert_eq!(resident_bytes(&os, addr, bytes), Ok(0));
            assert_eq!(addr.as_ptr().add(PAGE).read(), 0);
            os.unreserve(addr, bytes);
        }
    }
}
