//! What the allocator asks of an operating system, as one trait, and the types of it.
//!
//! Contract, on which the layers above rely:
//! - reserved memory is inaccessible and costs nothing until it is committed;
//! - committed memory that was never written reads as zero;
//! - after a successful `release` the pages are not resident and read as zero until written again;
//! - no call changes errno.

#![allow(unsafe_code, reason = "the calls act on raw memory")]

use core::ffi::c_void;
use core::ptr::NonNull;

use super::support::{KernelSupport, Sandbox};
use crate::base::sync::{AtomicPtr, AtomicU32};
use crate::base::units::{PAGE, PageGroup};

/// Why the OS refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    /// `MADV_DONTNEED` answers so when the pages are locked.
    pub(crate) const EINVAL: Self = Self(libc::EINVAL);
    pub(crate) const ENOMEM: Self = Self(libc::ENOMEM);
    /// Something is mapped where nothing should be.
    pub(crate) const EEXIST: Self = Self(libc::EEXIST);
}

/// Whole pages in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct PageRange {
    pub(crate) addr: *mut u8,
    pub(crate) bytes: usize,
}

impl PageRange {
    pub(crate) const EMPTY: Self = Self { addr: core::ptr::null_mut(), bytes: 0 };
}

// SAFETY: a range is a pair of numbers; what is done with the memory is another's duty.
unsafe impl Send for PageRange {}

/// What came of a move, with the bytes from the start of the range that this is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The pages are at the target. The source is as after [`Os::release`].
    There(usize),
    /// They cannot be moved. Nothing has changed, but that the target may read as zero.
    Refused(usize),
    /// As [`Refused`](Self::Refused), and the target is a fresh mapping: advice for it must be given again.
    Refilled(usize),
    /// The source has not changed, and the target is not the heap's any more: nobody may touch or release it.
    Lost,
}

/// What tells a thread from others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadMark {
    /// The number of its process: a child of a fork that ran no handlers has the caches, but not the threads, of its
    /// parent.
    pub(crate) process: i32,
    pub(crate) thread: i32,
    /// The address of its robust list; 0 if the kernel knows none, or does not say.
    pub(crate) robust_list: usize,
}

impl ThreadMark {
    /// Whether other threads can find out that the thread goes on. Otherwise nobody may reach for its thread locals.
    pub(crate) fn can_be_found(self) -> bool {
        self.robust_list != 0
    }
}

/// What became of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It goes on, and its thread locals are mapped.
    Lives,
    /// It is over, for good.
    Over,
    /// It is ending, or another thread has its number, or it belongs to another process, or the kernel does not say.
    Unknown,
}

/// What is called around each fork, on the thread that forks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkHandlers {
    pub(crate) before: unsafe extern "C" fn(),
    pub(crate) in_parent: unsafe extern "C" fn(),
    pub(crate) in_child: unsafe extern "C" fn(),
}

/// What is called when a thread ends. The value passed means nothing.
pub(crate) type AtThreadEnd = unsafe extern "C" fn(*mut c_void);

/// What the allocator needs of an operating system.
pub(crate) trait Os: Sync {
    /// The kernel's pages. Every range below is whole ones, unless it says otherwise.
    fn pages(&self) -> PageGroup;

    /// Reserves `bytes` of inaccessible address space, page-aligned.
    fn reserve(&self, bytes: usize) -> Result<NonNull<u8>, Errno>;

    /// Gives a reservation back.
    ///
    /// # Safety
    /// `addr` and `bytes` are those of one reservation, of which nothing is in use.
    unsafe fn unreserve(&self, addr: NonNull<u8>, bytes: usize);

    /// Makes whole pages of a reservation readable and writable.
    ///
    /// # Safety
    /// The range is page-aligned and inside one reservation.
    unsafe fn commit(&self, addr: NonNull<u8>, bytes: usize) -> Result<(), Errno>;

    /// Whether a page that was committed just now is resident though nobody has touched it, as under `mlockall`.
    fn populates(&self, page: NonNull<u8>) -> bool;

    /// Gives whole pages back: they become zero and leave the resident set.
    ///
    /// # Safety
    /// The range is page-aligned, inside one reservation, and nothing reads what it holds any more.
    unsafe fn release(&self, addr: NonNull<u8>, bytes: usize) -> Result<(), Errno>;

    /// Gives all of several ranges back in one call. After an error any of them may have gone; an OS that takes one
    /// range at a time always errs.
    ///
    /// # Safety
    /// As for [`release`](Self::release), for each.
    unsafe fn release_many(&self, ranges: &[PageRange]) -> Result<(), Errno>;

    /// Moves the pages at the front of one range to another, whose own pages go back to the OS: of as many bytes as can
    /// be moved at once, or refuses as many as cannot. The caller goes on behind them.
    ///
    /// # Safety
    /// Both ranges are page-aligned, inside segments of the heap, committed and apart; nothing reads what the new one
    /// holds, and nobody changes either meanwhile.
    unsafe fn move_pages(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Moved;

    /// Allows or forbids huge pages for a range of a reservation. A refusal is of no consequence.
    ///
    /// # Safety
    /// The range is page-aligned and inside one reservation.
    unsafe fn advise_huge(&self, addr: NonNull<u8>, bytes: usize, wanted: bool);

    /// Looks which pages of 4 KiB from `addr` on are resident, and sets the lowest bit of one byte of `pages` for each that is.
    fn residency(&self, addr: NonNull<u8>, pages: &mut [u8]) -> Result<(), Errno>;

    /// Fresh zeroed memory for the allocator's own tables. It is never given back.
    fn metadata(&self, bytes: usize) -> Result<NonNull<u8>, Errno>;

    /// Sleeps while `word` is `expected`, or wakes for no reason.
    fn wait(&self, word: &AtomicU32, expected: u32);

    /// Wakes one sleeper of `word`.
    fn wake(&self, word: &AtomicU32);

    /// What the kernel offers now.
    fn support(&self) -> KernelSupport;

    /// Whether the process is in a sandbox now, and since when.
    fn sandbox(&self) -> Sandbox;

    /// Has no call made from now on but mmap, munmap, mprotect, madvise with `MADV_DONTNEED`, and futex.
    fn lock_in(&self);

    /// The resident set of the process in bytes, 0 if it cannot be read.
    fn rss(&self) -> u64;

    /// A clock that never goes back, in nanoseconds.
    fn now(&self) -> u64;

    /// Prepares [`barrier`](Self::barrier). Cheap while the process has one thread.
    fn prepare_barrier(&self);

    /// Whether [`barrier`](Self::barrier) is to be had, and [`thread_life`](Self::thread_life) with it.
    fn has_barrier(&self) -> bool;

    /// Has every running thread of the process pass a full memory barrier before it returns. False if that is not to
    /// be had.
    fn barrier(&self) -> bool;

    /// Has the handlers called around each fork, and keeps the object that holds them in memory. The first call counts.
    fn watch_forks(&self, handlers: ForkHandlers);

    /// What tells the calling thread from others.
    fn mark_thread(&self) -> ThreadMark;

    /// What became of a thread.
    fn thread_life(&self, mark: ThreadMark) -> Life;

    /// Sets a bit, given as a mask, of a pointer that may not be there any more: in a thread local of another thread. One
    /// atomic operation. False if nothing is mapped there, and then nothing was done.
    ///
    /// # Safety
    /// What is mapped there, if anything, is a pointer that whoever reads it may find with this bit.
    unsafe fn set_bit<T>(&self, pointer: *mut AtomicPtr<T>, mask: usize) -> bool;

    /// Has `at_end` called when the calling thread ends. False if that is not to be had. The first call decides for all.
    fn watch_thread_exit(&self, at_end: AtThreadEnd) -> bool;

    /// Writes a line to stderr with one call and ends the process as a crash.
    fn fatal(&self, line: &[u8]) -> !;
}

/// Bytes of a page-aligned range that are resident.
pub(crate) fn resident_bytes<O: Os>(os: &O, addr: NonNull<u8>, bytes: usize) -> Result<usize, Errno> {
    let mut seen = [0u8; 1024];
    let mut resident = 0;
    for from in (0..bytes / PAGE).step_by(seen.len()) {
        let seen = &mut seen[..(bytes / PAGE - from).min(1024)];
        // SAFETY: inside the range, whose end does not wrap.
        os.residency(unsafe { addr.add(from * PAGE) }, seen)?;
        resident += seen.iter().filter(|byte| **byte & 1 == 1).count() * PAGE;
    }
    Ok(resident)
}
