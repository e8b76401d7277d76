//! The feature `allocator-api2`: the allocator for single collections, through the trait that std has not stabilised yet.

#![allow(unsafe_code, reason = "Allocator is an unsafe trait")]

use core::alloc::{GlobalAlloc as _, Layout};
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator as AllocatorApi};

use crate::global::Allocator;

/// A block of no bytes: aligned, and never freed.
fn empty(layout: Layout) -> NonNull<[u8]> {
    // An alignment is not 0.
    let start =
        NonNull::new(core::ptr::without_provenance_mut(layout.align())).unwrap_or(NonNull::dangling());
    NonNull::slice_from_raw_parts(start, 0)
}

fn block(start: *mut u8, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
    let start = NonNull::new(start).ok_or(AllocError)?;
    Ok(NonNull::slice_from_raw_parts(start, layout.size()))
}

impl Allocator {
    /// # Safety
    /// As for `grow` and `shrink` of the trait.
    unsafe fn resize(
        &self,
        old_block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() > 0 && new.size() > 0 && old.align() == new.align() {
            // SAFETY: the caller vouches for the block and its layout; the new size and the alignment make a layout.
            return block(unsafe { self.realloc(old_block.as_ptr(), old, new.size()) }, new);
        }
        let moved = self.allocate(new)?;
        // SAFETY: both blocks hold so many bytes and are not the same; the old one is the caller's to give up.
        unsafe {
            let bytes = old.size().min(new.size());
            core::ptr::copy_nonoverlapping(old_block.as_ptr(), moved.cast().as_ptr(), bytes);
            self.deallocate(old_block, old);
        }
        Ok(moved)
    }
}

/// # Examples
/// ```
/// use allocator_api2::vec::Vec;
///
/// let mut bytes = Vec::new_in(ebbtide_alloc::Allocator::new());
/// bytes.extend_from_slice(b"in ebbtide, whatever the global allocator is");
/// assert!(ebbtide_alloc::owns(bytes.as_ptr()));
/// ```
// SAFETY: blocks stay until they are freed, and through any handle: all are the same heap. The layouts passed on are those
// of the trait's callers, and blocks without bytes never reach the heap.
unsafe impl AllocatorApi for Allocator {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(empty(layout));
        }
        // SAFETY: the layout has a size.
        block(unsafe { self.alloc(layout) }, layout)
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(empty(layout));
        }
        // SAFETY: the layout has a size.
        block(unsafe { self.alloc_zeroed(layout) }, layout)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() > 0 {
            // SAFETY: the caller vouches that the block was allocated here with this layout.
            unsafe { self.dealloc(block.as_ptr(), layout) };
        }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        unsafe { self.resize(block, old, new) }
    }

    #[inline]
    unsafe fn shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        unsafe { self.resize(block, old, new) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_vector_grows_and_shrinks_here() {
        let mut numbers = allocator_api2::vec::Vec::new_in(Allocator::new());
        numbers.extend(0..300_000_u64);
        assert!(crate::owns(numbers.as_ptr().cast()));
        numbers.truncate(1000);
        numbers.shrink_to_fit();
        assert!(numbers.iter().copied().eq(0..1000) && crate::owns(numbers.as_ptr().cast()));
    }

    #[test]
    fn alignments_change_and_blocks_may_be_empty() {
        let here = Allocator::new();
        let layout = |size, align| Layout::from_size_align(size, align).unwrap();
        let none = here.allocate(layout(0, 64)).unwrap();
        assert_eq!((none.len(), none.cast::<u8>().addr().get() % 64), (0, 0));
        // SAFETY: each block is passed on with the layout that it was made with.
        unsafe {
            let some = here.grow(none.cast(), layout(0, 64), layout(100, 64)).unwrap();
            some.cast::<u8>().write_bytes(7, 100);
            let more = here.grow(some.cast(), layout(100, 64), layout(10_000, 4096)).unwrap();
            assert_eq!(more.cast::<u8>().addr().get() % 4096, 0);
            assert!((0..100).all(|at| more.cast::<u8>().add(at).read() == 7));
            let less = here.shrink(more.cast(), layout(10_000, 4096), layout(0, 1)).unwrap();
            here.deallocate(less.cast(), layout(0, 1));
            let zero = here.allocate_zeroed(layout(5000, 8)).unwrap();
            assert!((0..5000).all(|at| zero.cast::<u8>().add(at).read() == 0));
            here.deallocate(zero.cast(), layout(5000, 8));
        }
        assert!(here.allocate(layout(isize::MAX as usize - 4096, 1)).is_err());
    }
}
