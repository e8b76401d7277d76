//! Linux: mmap, madvise, mincore, futex, /proc.
//!
//! Invariant: errno is after each call what it was before. memmap2 maps the metadata; it offers no inaccessible
//! reservation, no madvise on a part of a mapping it does not own and no mincore, so libc does those.

#![allow(unsafe_code, reason = "system calls")]

use core::ptr::NonNull;

use static_assertions::const_assert_eq;

use super::moves;
use super::probe::{Feature, PRIVATE_EXPEDITED, REGISTER_PRIVATE_EXPEDITED};
use super::threads::{self, Life, ThreadMark, Watch};
use super::{Errno, Moved, Os, PageRange};
use crate::stats::{KernelSupport, Sandbox};
use crate::sync::{AtomicPtr, AtomicU32, Ordering};
use crate::units::{PAGE, PAGES_PER_UNIT, PageGroup, UNIT};

/// The running kernel.
#[derive(Debug)]
pub(crate) struct Linux {
    watch: Watch,
    /// Bytes of a page of the kernel; 0 before anybody has asked.
    page_size: AtomicU32,
    /// What may be called: see [`Offers`](super::probe::Offers). 0 before the probe.
    pub(super) offers: AtomicU32,
}

impl Linux {
    pub(crate) const fn new() -> Self {
        Self { watch: Watch::new(), page_size: AtomicU32::new(0), offers: AtomicU32::new(0) }
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

pub(super) fn membarrier(command: i32) -> Result<i64, Errno> {
    // SAFETY: the call takes no pointers.
    checked(|| unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) })
}

/// Gives several ranges back; returns the bytes that it came to.
///
/// # Safety
/// As for [`Os::release_many`].
pub(super) unsafe fn process_madvise(ranges: &[PageRange]) -> Result<usize, Errno> {
    let (count, advice) = (ranges.len(), libc::MADV_DONTNEED);
    // SAFETY: the ranges are laid out as the kernel's vectors, and the caller gives their pages up.
    let call =
        || unsafe { libc::syscall(libc::SYS_process_madvise, PIDFD_SELF, ranges.as_ptr(), count, advice, 0) };
    checked(call).map(|bytes| bytes as usize)
}

impl Linux {
    #[cold]
    fn ask_page_size(&self) -> usize {
        // SAFETY: the call only reads what the kernel gave the process at its start.
        let bytes = unsafe { libc::getauxval(libc::AT_PAGESZ) } as usize;
        if !bytes.is_power_of_two() || !(PAGE..=UNIT).contains(&bytes) {
            self.fatal(b"ebbtide: the kernel's pages are not of 4 to 64 KiB\n");
        }
        // Relaxed: whoever asks too gets the same answer.
        self.page_size.store(bytes as u32, Ordering::Relaxed);
        bytes
    }

    /// The resident set; `None` if the file cannot be opened.
    pub(super) fn read_rss(&self) -> Option<u64> {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: the path is a C string.
        let file = checked(|| i64::from(unsafe { libc::open(c"/proc/self/statm".as_ptr(), flags) })).ok()?;
        let file = file as i32;
        let mut text = [0u8; 128];
        // SAFETY: `text` has room for what is asked.
        let read = checked(|| unsafe { libc::read(file, text.as_mut_ptr().cast(), text.len()) as i64 });
        // SAFETY: this call opened the file.
        let _ = checked(|| i64::from(unsafe { libc::close(file) }));
        Some(resident_of_statm(&text[..read.unwrap_or(0) as usize], self.pages().bytes() as u64))
    }

    fn is_whole(&self, addr: NonNull<u8>, bytes: usize) -> bool {
        self.pages().divides(addr.as_ptr() as usize, bytes)
    }
}

impl Os for Linux {
    fn pages(&self) -> PageGroup {
        match self.page_size.load(Ordering::Relaxed) {
            0 => PageGroup::new(self.ask_page_size()),
            bytes => PageGroup::new(bytes as usize),
        }
    }

    fn reserve(&self, bytes: usize) -> Result<NonNull<u8>, Errno> {
        moves::map(core::ptr::null_mut(), bytes, libc::PROT_NONE, 0)
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
        let mut seen = [0; PAGES_PER_UNIT];
        self.residency(page, &mut seen[..self.pages().len()]).is_ok() && seen[0] & 1 == 1
    }

    unsafe fn release(&self, addr: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        debug_assert!(self.is_whole(addr, bytes), "the kernel would round it up");
        madvise(addr, bytes, libc::MADV_DONTNEED)
    }

    unsafe fn release_many(&self, ranges: &[PageRange]) -> Result<(), Errno> {
        let whole = |range: &PageRange| self.pages().divides(range.addr as usize, range.bytes);
        debug_assert!(ranges.iter().all(whole), "the kernel would round it up");
        let wanted: usize = ranges.iter().map(|range| range.bytes).sum();
        if !self.has(Feature::ReleaseMany) {
            return Err(Errno(libc::ENOSYS));
        }
        // One that meets a locked page says how far it came.
        // SAFETY: as the caller vouches.
        let done = unsafe { process_madvise(ranges)? };
        if done == wanted { Ok(()) } else { Err(Errno::EINVAL) }
    }

    unsafe fn move_pages(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Moved {
        debug_assert!(self.is_whole(from, bytes) && self.is_whole(to, bytes));
        // SAFETY: passed on to the caller.
        unsafe { moves::move_front(self, from, to, bytes) }
    }

    unsafe fn advise_huge(&self, addr: NonNull<u8>, bytes: usize, wanted: bool) {
        if !self.has(Feature::HugeAdvice) {
            return;
        }
        let advice = if wanted { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        let _ = madvise(addr, bytes, advice);
    }

    fn residency(&self, addr: NonNull<u8>, pages: &mut [u8]) -> Result<(), Errno> {
        let (bytes, group) = (pages.len() * PAGE, self.pages().len());
        debug_assert!(self.is_whole(addr, bytes));
        if !self.has(Feature::Residency) {
            return Err(Errno(libc::ENOSYS));
        }
        // SAFETY: `pages` has a byte for each page of the kernel, if not more; the kernel checks the range itself.
        checked(|| i64::from(unsafe { libc::mincore(addr.as_ptr().cast(), bytes, pages.as_mut_ptr()) }))?;
        if group > 1 {
            // The kernel's bytes stand at the front. From the end on, none is overwritten before it is read.
            (0..pages.len()).rev().for_each(|page| pages[page] = pages[page / group]);
        }
        Ok(())
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

    fn support(&self) -> KernelSupport {
        self.support_now()
    }

    fn sandbox(&self) -> Sandbox {
        self.sandbox_now()
    }

    fn lock_in(&self) {
        self.lock_in_now();
    }

    fn rss(&self) -> u64 {
        if self.has(Feature::Rss) { self.read_rss().unwrap_or(0) } else { 0 }
    }

    fn now(&self) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place; this clock always exists.
        let _ = checked(|| i64::from(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }));
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn prepare_barrier(&self) {
        if self.has(Feature::Barrier) {
            let _ = membarrier(REGISTER_PRIVATE_EXPEDITED);
        }
    }

    fn has_barrier(&self) -> bool {
        self.has(Feature::Barrier)
    }

    fn barrier(&self) -> bool {
        self.has(Feature::Barrier) && membarrier(PRIVATE_EXPEDITED).is_ok()
    }

    fn watch_forks(&self) {
        self.watch.watch_forks();
    }

    fn mark_thread(&self) -> ThreadMark {
        // Without a barrier nobody reaches for the thread, and the calls that identify it may be forbidden.
        if self.has(Feature::Barrier) { threads::mark_thread() } else { ThreadMark::default() }
    }

    fn thread_life(&self, mark: ThreadMark) -> Life {
        if self.has(Feature::Barrier) { threads::thread_life(mark) } else { Life::Unknown }
    }

    unsafe fn set_bit<T>(&self, pointer: *mut AtomicPtr<T>, mask: usize) -> bool {
        // SAFETY: passed on to the caller.
        unsafe { threads::set_bit(pointer.cast(), mask) }
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
fn resident_of_statm(text: &[u8], page: u64) -> u64 {
    let mut fields = text.split(|byte| *byte == b' ');
    let Some(field) = fields.nth(1) else { return 0 };
    let digits = field.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))) * page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::resident_bytes;

    #[test]
    fn statm_gives_the_second_field_in_bytes() {
        assert_eq!(resident_of_statm(b"100 25 3 4 0 5 0\n", 4096), 25 * 4096);
        assert_eq!(resident_of_statm(b"100 25 3 4 0 5 0\n", 16384), 25 * 16384);
        assert_eq!(resident_of_statm(b"100", 4096), 0);
        assert_eq!(resident_of_statm(b"", 4096), 0);
        assert_eq!(resident_of_statm(b"1 x 2", 4096), 0);
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
