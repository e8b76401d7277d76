//! [`Ebbtide`]: the type for `#[global_allocator]`. It holds nothing and takes no lock; every call is forwarded to
//! the allocator below and inlines into it.
#![allow(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]

use core::alloc::{GlobalAlloc, Layout};
use ebbtide_alloc::Allocator;

/// The global allocator: zero-sized, made in a `const` context.
///
/// # Examples
/// ```
/// #[global_allocator]
/// static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();
///
/// assert_eq!(size_of_val(&GLOBAL), 0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Ebbtide;

impl Ebbtide {
    /// The allocator.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

const INNER: Allocator = Allocator::new();

// SAFETY: every method hands its arguments unchanged to the same method of `Allocator`, which implements this trait,
// and returns what that returned. So each promise of the trait holds because it holds for `Allocator`: all of its
// values stand for the one process-wide heap, so that a block of one `INNER` may be freed through another.
unsafe impl GlobalAlloc for Ebbtide {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises a layout of non-zero size, which is all that the callee asks.
        unsafe { INNER.alloc(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller promises that `ptr` is a live block from this allocator with this layout; those come
        // from `INNER` alone.
        unsafe { INNER.dealloc(ptr, layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        unsafe { INNER.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as for `dealloc`; the caller also promises that `new_size` is not 0 and does not overflow `isize`
        // when rounded up to the alignment, which is the rest of what the callee asks.
        unsafe { INNER.realloc(ptr, layout, new_size) }
    }
}

#[cfg(feature = "allocator-api2")]
mod single {
    use core::alloc::Layout;
    use core::ptr::NonNull;

    use allocator_api2::alloc::{AllocError, Allocator as AllocatorApi};

    use super::{Ebbtide, INNER};

    /// # Examples
    /// ```
    /// let numbers = allocator_api2::vec::Vec::<u8, _>::with_capacity_in(100, ebbtide::Ebbtide::new());
    /// assert!(numbers.capacity() >= 100);
    /// ```
    // SAFETY: every method is that of `Allocator`, all of whose values stand for the one process-wide heap.
    unsafe impl AllocatorApi for Ebbtide {
        #[inline]
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            INNER.allocate(layout)
        }

        #[inline]
        fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            INNER.allocate_zeroed(layout)
        }

        #[inline]
        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: passed on to the caller; likewise below.
            unsafe { INNER.deallocate(block, layout) }
        }

        #[inline]
        unsafe fn grow(
            &self,
            block: NonNull<u8>,
            old: Layout,
            new: Layout,
        ) -> Result<NonNull<[u8]>, AllocError> {
            // SAFETY: as above.
            unsafe { INNER.grow(block, old, new) }
        }

        #[inline]
        unsafe fn shrink(
            &self,
            block: NonNull<u8>,
            old: Layout,
            new: Layout,
        ) -> Result<NonNull<[u8]>, AllocError> {
            // SAFETY: as above.
            unsafe { INNER.shrink(block, old, new) }
        }
    }
}
