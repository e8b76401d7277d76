//! # ebbtide-alloc
//!
//! A global allocator over mmap whose idle memory goes back to the OS when asked, with an exact report of what left,
//! what stayed, and why.
//!
//! Most programs use it through the `ebbtide` crate, which adds policies and maps. Alone:
//!
//! ```
//! use ebbtide_alloc::{Allocator, ReleaseOptions};
//!
//! #[global_allocator]
//! static GLOBAL: Allocator = Allocator::new();
//!
//! let burst: Vec<Vec<u8>> = (0..1000).map(|_| vec![1; 10_000]).collect();
//! drop(burst);
//! let report = ebbtide_alloc::release(ReleaseOptions::new());
//! assert!(report.released_bytes > 8_000_000);
//! ```
//!
//! ## Layers
//! Each folder uses only those below it: `release` -> `inspect` -> `cache` -> `spans` -> `pages` -> `space` -> `os` ->
//! `base`. Files directly in `src` put them together: the `GlobalAlloc` face, the static heap, regions, the locks around a
//! fork. Linux only, with pages of 4 to 64 KiB.
//!
//! ## Misuse
//! A double free, an address that was not allocated here, and a large block freed by an address inside it end the
//! process with one line on stderr and an abort, where a slow path sees them: when a thread cache is flushed, and
//! whenever a block above 32 KiB is freed. The line names the address, the size class, and the state of the span:
//!
//! ```text
//! ebbtide: double free of 0x7f3a5c210040 (class 64 B, span listed)
//! ```
//!
//! With the feature `hardened` every free and realloc is checked before anything is done, layouts too, at the price of an
//! atomic operation for each allocation and each free. What is freed once more after its memory was handed out anew is
//! a free of the new block to any allocator, and is not found.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("ebbtide runs on 64-bit Linux only: its heap is built on mmap, madvise and futex");

/// The examples of `README.md`, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(feature = "allocator-api2")]
mod allocator_api;
mod base;
mod cache;
mod fork;
mod global;
mod heap;
mod held;
mod inspect;
mod local;
#[cfg(all(test, loom))]
mod models;
mod os;
mod pages;
mod region;
mod release;
#[cfg(feature = "serde")]
mod serialize;
mod space;
mod spans;
#[cfg(all(test, not(loom)))]
mod tests;
mod thread;

#[doc(hidden)]
pub use base::seats;
#[doc(hidden)]
pub use fork::set_child_hook;
pub use global::Allocator;
#[doc(hidden)]
pub use held::{HeapLock, held_locks};
#[doc(hidden)]
pub use inspect::misuse::assert_unlocked;
pub use inspect::report::{BlockReason, Blocked, BlockedList, Mib, ReleaseOptions, ReleaseReport};
pub use inspect::stats::{MemStats, Usage};
pub use inspect::verify::{Fault, HeapError};
pub use os::{KernelSupport, Sandbox};
pub use pages::arena::Retire;
pub use pages::kept::Kept;
pub use region::{Region, retire_mode, set_retire_mode};

use heap::HEAP;
use os::Os;

/// Gives idle memory back to the OS, within the bounds of `options`, and says what happened.
///
/// Reaches free runs, the free pages inside spans that are partly live, tails of large blocks and retired pages of
/// regions. Free slots in thread caches are taken back first: all of the caller's own, and of other threads', asleep or
/// busy, all but one of each size class, which is reported. Other threads go on meanwhile; one that needs its cache
/// refilled just then waits for microseconds. A second release waits for the first.
///
/// Allocates nothing. O(heap / 64 KiB) plus the kernel's time for the pages that leave.
pub fn release(options: ReleaseOptions) -> ReleaseReport {
    assert_unlocked("a release");
    if !thread::flush() {
        HEAP.caches.share();
    }
    HEAP.release(options)
}

/// Gives the free slots that the calling thread's cache holds back to their spans, so that they are free memory like any
/// other: other threads can take them, and policies and releases see whole free pages. For a thread that is about to
/// sleep. Nothing leaves the process by this alone, unless it trips the pressure hook.
///
/// Costs some nanoseconds for each slot held, and about a microsecond in any case; the thread's next allocation of each size
/// refills its cache, about as dear. A thread that has no cache pays nothing. It allocates nothing and takes no lock
/// for longer than a refill does; it waits for a release that looks at this cache just then.
///
/// # Examples
/// ```
/// # #[global_allocator]
/// # static GLOBAL: ebbtide_alloc::Allocator = ebbtide_alloc::Allocator::new();
/// drop(vec![String::from("some"), String::from("work")]);
/// ebbtide_alloc::flush_thread_cache();
/// std::thread::park_timeout(std::time::Duration::from_millis(1));
/// ```
pub fn flush_thread_cache() {
    if thread::flush() {
        HEAP.check_idle();
    }
}

/// Gives back what of the allocator's own tables describes only idle memory, and says how many resident bytes that were.
/// A [`release()`] without bounds does so too; one that stops at a bound may not come to it. Waits for a release under way.
///
/// O(free runs), plus the kernel's time.
pub fn release_tables() -> u64 {
    HEAP.release_tables()
}

/// A snapshot of the heap, taken without stopping anybody. O(heap / 64 KiB).
///
/// [`MemStats::limit`] is `None`: limits belong to the layer above.
#[must_use]
pub fn mem_stats() -> MemStats {
    HEAP.snapshot()
}

/// Says that the program is about to lock itself in: from now on the allocator makes no system call but `mmap`, `munmap`,
/// `mprotect`, `madvise` with `MADV_DONTNEED`, and `futex`, for good.
///
/// It would notice a filter (seccomp) by itself, by asking for one (`prctl(PR_GET_SECCOMP)`) before it makes any other call. A
/// program whose filter kills for that question calls this first. The price: pages are not moved but copied, other threads'
/// caches are left alone by releases, and what was never touched counts as resident. Where a filter that kills for `prctl`,
/// `clone` or `wait4` is there before the program begins, `EBBTIDE_KERNEL=plain` in its environment says the same. O(1).
///
/// # Examples
/// ```
/// ebbtide_alloc::enter_sandbox();
/// // From here on a filter may be installed.
/// let kernel = ebbtide_alloc::mem_stats().kernel;
/// assert!(kernel.sandboxed && !kernel.moves_pages);
/// ```
pub fn enter_sandbox() {
    HEAP.os().lock_in();
}

/// Whether the process is in a sandbox, as far as it can tell.
#[doc(hidden)]
#[must_use]
pub fn sandbox() -> Sandbox {
    HEAP.os().sandbox()
}

/// Whether `address` lies in this allocator's address space. O(1).
#[must_use]
pub fn owns(address: *const u8) -> bool {
    HEAP.segments().unit_of(address as usize).is_some()
}

/// Sets the function to call when memory leaves the bounds of [`bound_idle`] or [`bound_resident`]. It is called on the
/// thread that freed or allocated, without locks, once for each time that a bound was set; it may allocate. If it panics,
/// the process aborts.
pub fn set_pressure_hook(hook: fn()) {
    HEAP.pressure.set_hook(hook);
}

/// Has the hook called when a slow path frees and finds [`Usage::idle`] outside `bounds`. An end of `u64::MAX` means
/// never.
pub fn bound_idle(bounds: core::ops::RangeInclusive<u64>) {
    HEAP.pressure.bound_idle(bounds);
}

/// Has the hook called when a slow path takes pages and finds [`Usage::total`] above the start of `bounds`, before anybody
/// touches these pages. From then on, until this is called again, the end of `bounds` is what counts, at each such path.
/// `u64::MAX` means never.
pub fn bound_resident(bounds: core::ops::RangeInclusive<u64>) {
    HEAP.pressure.bound_total(bounds);
}

/// Where the memory is, from running totals. O(1): what a policy may ask on every check.
#[must_use]
pub fn usage() -> Usage {
    HEAP.usage()
}

/// Calls `visit` for the resident pages that regions with an owner retired, or left when they were dropped, and that
/// nothing has used since: what a release could give back, by owner. An owner is visited once for each row of pages.
///
/// O(heap / 64 KiB), without stopping anybody.
///
/// ```
/// let region = ebbtide_alloc::Region::new(1 << 20).expect("out of memory");
/// region.set_owner(77);
/// drop(region);
/// // Nobody wrote to it, so no page needs to be resident; but as far as the heap knows they are.
/// let mut bytes = 0;
/// ebbtide_alloc::each_kept(|kept| bytes += if kept.owner == 77 { kept.bytes } else { 0 });
/// assert!(bytes <= 1 << 20);
/// ```
pub fn each_kept(mut visit: impl FnMut(Kept)) {
    HEAP.pages().each_kept(&mut visit);
}

/// Checks the invariants of the whole heap, and of the caller's cache. The heap should be at rest.
///
/// # Errors
/// The first fault that the walk meets.
///
/// O(heap / 64 KiB); allocates nothing.
///
/// ```
/// assert_eq!(ebbtide_alloc::verify(), Ok(()));
/// ```
pub fn verify() -> Result<(), HeapError> {
    // Drops the entries that a release stole from the caller's cache.
    local::mend();
    HEAP.verify(local::own_cache())
}
