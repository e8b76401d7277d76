//! [`Block`]: raw memory from the program's global allocator, owned, freed on drop with the layout it came with.
//!
//! Invariant: `ptr` came from `std::alloc` with exactly `layout()`, and nobody else frees it. Every pointer passes
//! `black_box`, so that the optimizer cannot remove a pair of allocation and free, and one byte of every new block
//! is written, as a program would write what it asked for.
//!
//! The block of `ebbtide-tests` is another: it calls ebbtide whatever the global allocator is, takes any alignment and
//! knows which of its bytes were written, all of which would be measured here.
#![allow(
    unsafe_code,
    reason = "calls the global allocator as collections do, without their own work around it"
)]

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error, realloc};
use std::hint::black_box;
use std::ops::Range;
use std::ptr::NonNull;

/// Alignment of every block: what most Rust types need.
const ALIGN: usize = 8;

/// One block of memory.
#[derive(Debug)]
pub struct Block {
    ptr: NonNull<u8>,
    size: usize,
}

// SAFETY: a block is plain memory without thread affinity: `std::alloc` lets any thread free it.
unsafe impl Send for Block {}

fn layout(size: usize) -> Layout {
    assert!(size > 0 && size < isize::MAX as usize / 2, "a block has at least one byte");
    // SAFETY: ALIGN is a power of two, and the size rounded up to it stays below isize::MAX as just asserted.
    unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
}

fn checked(ptr: *mut u8, size: usize) -> NonNull<u8> {
    NonNull::new(black_box(ptr)).unwrap_or_else(|| handle_alloc_error(layout(size)))
}

impl Block {
    /// Allocates `size > 0` bytes.
    #[inline]
    #[must_use]
    pub fn new(size: usize) -> Self {
        // SAFETY: the layout's size is not zero.
        let ptr = checked(unsafe { alloc(layout(size)) }, size);
        let mut block = Self { ptr, size };
        block.touch(0);
        block
    }

    /// Allocates `size > 0` bytes and writes one byte in each 4 KiB page.
    #[must_use]
    pub fn touched(size: usize) -> Self {
        let mut block = Self::new(size);
        block.touch_pages();
        block
    }

    /// Allocates `size > 0` bytes that read as zero, and writes nothing.
    #[inline]
    #[must_use]
    pub fn zeroed(size: usize) -> Self {
        // SAFETY: the layout's size is not zero.
        let ptr = checked(unsafe { alloc_zeroed(layout(size)) }, size);
        Self { ptr, size }
    }

    /// Changes the size, keeping the contents up to the smaller of the two, and writes the last byte.
    #[inline]
    pub fn resize(&mut self, size: usize) {
        let _ = layout(size);
        // SAFETY: the pointer came from the same allocator with this layout; the new size was checked to be
        // neither zero nor near isize::MAX.
        self.ptr = checked(unsafe { realloc(self.ptr.as_ptr(), layout(self.size), size) }, size);
        self.size = size;
        self.touch(size - 1);
    }

    /// Writes the byte at `at`.
    ///
    /// # Panics
    /// If `at` is not inside the block.
    #[inline]
    pub fn touch(&mut self, at: usize) {
        assert!(at < self.size);
        // SAFETY: `at` is inside the block, which this value owns; volatile, so that the store is not removed.
        unsafe { self.ptr.as_ptr().add(at).write_volatile(at as u8) };
    }

    /// Writes one byte in each 4 KiB page.
    pub fn touch_pages(&mut self) {
        for at in (0..self.size).step_by(4096) {
            self.touch(at);
        }
    }

    /// First address, and the one behind the last.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        let start = self.ptr.as_ptr() as usize;
        start..start + self.size
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the pointer came from the same allocator with this layout, and is not used again.
        unsafe { dealloc(black_box(self.ptr.as_ptr()), layout(self.size)) };
    }
}
