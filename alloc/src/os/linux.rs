//! Linux: mmap, madvise, mincore, futex, /proc.
//!
//! Invariant: errno is after each call what it was before. memmap2 maps the metadata; it offers no inaccessible
//! reservation, no madvise on a part of a mapping it does not own and no mincore, so libc does those.

#![allow(unsafe_code, reason = "system calls")]

use core::ptr::NonNull;

use super::api::{AtThreadEnd, Errno, ForkHandlers, Life, Moved, Os, PageRange, ThreadMark};
use super::call::{
    PRIVATE_EXPEDITED, REGISTER_PRIVATE_EXPEDITED, checked, fatal, madvise, map, membarrier, process_madvise,
    read_rss, unmap,
};
use super::moves::move_front;
use super::probe::{Feature, Probe};
use super::support::{KernelSupport, Sandbox};
use super::threads::{self, Watch};
use crate::base::sync::{AtomicPtr, AtomicU32};
use crate::base::units::{PAGE, PAGES_PER_UNIT, PageGroup};

/// The running kernel.
#[derive(Debug)]
pub(crate) struct Linux {
    watch: Watch,
    pub(super) kernel: Probe,
}

impl Linux {
    pub(crate) const fn new() -> Self {
        Self { watch: Watch::new(), kernel: Probe::new() }
    }
}

impl Os for Linux {
    fn pages(&self) -> PageGroup {
        self.kernel.pages()
    }

    fn reserve(&self, bytes: usize) -> Result<NonNull<u8>, Errno> {
        map(core::ptr::null_mut(), bytes, libc::PROT_NONE, 0)
    }

    unsafe fn unreserve(&self, addr: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller vouches that the whole mapping is unused.
        unsafe { unmap(addr, bytes) };
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
        debug_assert!(self.pages().divides(addr.as_ptr() as usize, bytes), "the kernel would round it up");
        // SAFETY: whole pages of a reservation, which the caller gives up.
        unsafe { madvise(addr, bytes, libc::MADV_DONTNEED) }
    }

    unsafe fn release_many(&self, ranges: &[PageRange]) -> Result<(), Errno> {
        let whole = |range: &PageRange| self.pages().divides(range.addr as usize, range.bytes);
        debug_assert!(ranges.iter().all(whole), "the kernel would round it up");
        let wanted: usize = ranges.iter().map(|range| range.bytes).sum();
        if !self.kernel.has(Feature::ReleaseMany) {
            return Err(Errno(libc::ENOSYS));
        }
        // One that meets a locked page says how far it came.
        // SAFETY: as the caller vouches.
        let done = unsafe { process_madvise(ranges)? };
        if done == wanted { Ok(()) } else { Err(Errno::EINVAL) }
    }

    unsafe fn move_pages(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Moved {
        debug_assert!([from, to].iter().all(|at| self.pages().divides(at.as_ptr() as usize, bytes)));
        // SAFETY: passed on to the caller.
        unsafe { move_front(&self.kernel, from, to, bytes) }
    }

    unsafe fn advise_huge(&self, addr: NonNull<u8>, bytes: usize, wanted: bool) {
        if !self.kernel.has(Feature::HugeAdvice) {
            return;
        }
        let advice = if wanted { libc::MADV_HUGEPAGE } else { libc::MADV_NOHUGEPAGE };
        // SAFETY: a range of a reservation, as the caller vouches; this advice changes no contents.
        let _ = unsafe { madvise(addr, bytes, advice) };
    }

    fn residency(&self, addr: NonNull<u8>, pages: &mut [u8]) -> Result<(), Errno> {
        let (bytes, group) = (pages.len() * PAGE, self.pages().len());
        debug_assert!(self.pages().divides(addr.as_ptr() as usize, bytes));
        if !self.kernel.has(Feature::Residency) {
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
        self.kernel.support()
    }

    fn sandbox(&self) -> Sandbox {
        self.kernel.sandbox()
    }

    fn lock_in(&self) {
        self.kernel.lock_in();
    }

    fn rss(&self) -> u64 {
        if self.kernel.has(Feature::Rss) { read_rss(self.pages().bytes()).unwrap_or(0) } else { 0 }
    }

    fn now(&self) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place; this clock always exists.
        let _ = checked(|| i64::from(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }));
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    fn prepare_barrier(&self) {
        if self.kernel.has(Feature::Barrier) {
            let _ = membarrier(REGISTER_PRIVATE_EXPEDITED);
        }
    }

    fn has_barrier(&self) -> bool {
        self.kernel.has(Feature::Barrier)
    }

    fn barrier(&self) -> bool {
        self.kernel.has(Feature::Barrier) && membarrier(PRIVATE_EXPEDITED).is_ok()
    }

    fn watch_forks(&self, handlers: ForkHandlers) {
        self.watch.watch_forks(handlers);
    }

    fn mark_thread(&self) -> ThreadMark {
        // Without a barrier nobody reaches for the thread, and the calls that identify it may be forbidden.
        if self.kernel.has(Feature::Barrier) { threads::mark_thread() } else { ThreadMark::default() }
    }

    fn thread_life(&self, mark: ThreadMark) -> Life {
        if self.kernel.has(Feature::Barrier) { threads::thread_life(mark) } else { Life::Unknown }
    }

    unsafe fn set_bit<T>(&self, pointer: *mut AtomicPtr<T>, mask: usize) -> bool {
        // SAFETY: passed on to the caller.
        unsafe { threads::set_bit(pointer.cast(), mask) }
    }

    fn watch_thread_exit(&self, at_end: AtThreadEnd) -> bool {
        self.watch.watch_thread_exit(at_end)
    }

    fn fatal(&self, line: &[u8]) -> ! {
        fatal(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::resident_bytes;

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
