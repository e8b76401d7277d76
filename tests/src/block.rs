//! [`Block`]: memory taken from ebbtide through `GlobalAlloc`, with a pattern that tells whether anyone else wrote
//! to it.
//!
//! Invariant: `ptr` came from `Allocator` with exactly `layout`, is freed once, on drop, and every byte below
//! `written` was written. Calls go to `ebbtide_alloc::Allocator`, which is what `ebbtide::Ebbtide` forwards to, so
//! that a test may use it whatever its own global allocator is.
#![allow(unsafe_code, reason = "calls the allocator under test directly")]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ops::Range;
use std::ptr::NonNull;

use ebbtide_alloc::Allocator;

const ALLOCATOR: Allocator = Allocator::new();

/// One live block.
#[derive(Debug)]
pub struct Block {
    ptr: NonNull<u8>,
    layout: Layout,
    /// Bytes that may be read: all that were written, or are zero by promise.
    written: usize,
    /// Each [`STRIDE`]-th byte below this was written by [`mark`](Self::mark).
    marked: usize,
}

/// Bytes from mark to mark: several in each page.
const STRIDE: usize = 512;

// SAFETY: a block is plain memory without thread affinity: `GlobalAlloc` lets any thread free it.
unsafe impl Send for Block {}

/// The byte that belongs at `at` in a block filled with `seed`. Differs between neighbouring seeds and positions.
const fn pattern(seed: u64, at: usize) -> u8 {
    let mixed = (seed ^ (at as u64 / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8 ^ (at as u8)
}

impl Block {
    /// `size` bytes aligned to 8.
    ///
    /// # Panics
    /// If the allocator has no memory.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 8).expect("tests ask for possible sizes here");
        Self::try_new(layout).expect("out of memory")
    }

    /// `size` bytes with an alignment.
    ///
    /// # Panics
    /// If the layout is impossible, or the allocator has no memory.
    #[must_use]
    pub fn new_aligned(size: usize, align: usize) -> Self {
        let layout = Layout::from_size_align(size, align).expect("tests ask for possible layouts here");
        Self::try_new(layout).expect("out of memory")
    }

    /// `size` bytes aligned to 8, each of them written.
    ///
    /// # Panics
    /// If the allocator has no memory.
    #[must_use]
    pub fn filled(size: usize, seed: u64) -> Self {
        let mut block = Self::new(size);
        block.fill(seed);
        block
    }

    /// Memory for `layout`, which must not be empty. None if the allocator gives null.
    ///
    /// # Panics
    /// If the layout is empty, or the block is not aligned.
    #[must_use]
    pub fn try_new(layout: Layout) -> Option<Self> {
        assert!(layout.size() > 0, "GlobalAlloc takes no empty layouts");
        // SAFETY: the layout's size is not zero.
        let ptr = black_box(unsafe { ALLOCATOR.alloc(layout) });
        Self::checked(ptr, layout, 0)
    }

    /// Memory for `layout` that reads as zero. None if the allocator gives null.
    ///
    /// # Panics
    /// If the layout is empty, or the block is not aligned.
    #[must_use]
    pub fn try_zeroed(layout: Layout) -> Option<Self> {
        assert!(layout.size() > 0, "GlobalAlloc takes no empty layouts");
        // SAFETY: the layout's size is not zero.
        let ptr = black_box(unsafe { ALLOCATOR.alloc_zeroed(layout) });
        Self::checked(ptr, layout, layout.size())
    }

    fn checked(ptr: *mut u8, layout: Layout, written: usize) -> Option<Self> {
        let ptr = NonNull::new(ptr)?;
        assert_eq!(ptr.as_ptr() as usize % layout.align(), 0, "{ptr:?} is not aligned for {layout:?}");
        Some(Self { ptr, layout, written, marked: 0 })
    }

    /// Changes the size. On failure the block stays as it was, and the answer is false.
    ///
    /// # Panics
    /// If the size is 0 or impossible for the alignment, or the block is not aligned afterwards.
    #[must_use]
    pub fn try_resize(&mut self, size: usize) -> bool {
        let layout = Layout::from_size_align(size, self.layout.align()).expect("a possible layout");
        assert!(size > 0, "GlobalAlloc takes no empty layouts");
        // SAFETY: the block is live with this layout; the new size is not zero, and a layout of it exists.
        let ptr = black_box(unsafe { ALLOCATOR.realloc(self.ptr.as_ptr(), self.layout, size) });
        let Some(ptr) = NonNull::new(ptr) else { return false };
        assert_eq!(ptr.as_ptr() as usize % layout.align(), 0, "{ptr:?} is not aligned for {layout:?}");
        (self.ptr, self.layout) = (ptr, layout);
        (self.written, self.marked) = (self.written.min(size), self.marked.min(size));
        true
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the block is live and owned by `self`, and its first `written` bytes are initialized.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.written) }
    }

    /// Writes every byte.
    pub fn fill(&mut self, seed: u64) {
        for at in 0..self.layout.size() {
            // SAFETY: `at` is inside the block, which is live and owned by `self`.
            unsafe { self.ptr.as_ptr().add(at).write(pattern(seed, at)) };
        }
        self.written = self.layout.size();
        black_box(self.ptr);
    }

    /// Writes a byte in each 512: what a test can afford for large blocks. Undoes [`fill`](Self::fill).
    pub fn mark(&mut self, seed: u64) {
        for at in (0..self.layout.size()).step_by(STRIDE) {
            // SAFETY: `at` is inside the block, which is live and owned by `self`.
            unsafe { self.ptr.as_ptr().add(at).write(pattern(seed, at)) };
        }
        self.marked = self.layout.size();
        black_box(self.ptr);
    }

    /// Do the first `len` bytes still bear the marks that `mark(seed)` wrote?
    #[must_use]
    pub fn bears(&self, seed: u64, len: usize) -> bool {
        let start = black_box(self.ptr).as_ptr();
        // SAFETY: below `marked`, which is at most the size of the live block, each such byte was written.
        let is_whole = |at: usize| unsafe { start.add(at).read() } == pattern(seed, at);
        len <= self.marked && (0..len).step_by(STRIDE).all(is_whole)
    }

    /// Does each of the first `len` bytes still hold what `fill(seed)` wrote?
    #[must_use]
    pub fn holds(&self, seed: u64, len: usize) -> bool {
        let bytes = black_box(self.bytes());
        len <= bytes.len() && bytes[..len].iter().enumerate().all(|(at, &byte)| byte == pattern(seed, at))
    }

    /// Are all bytes zero?
    #[must_use]
    pub fn is_zero(&self) -> bool {
        let bytes = black_box(self.bytes());
        bytes.len() == self.layout.size() && bytes.iter().all(|&byte| byte == 0)
    }

    /// First address.
    #[must_use]
    pub fn address(&self) -> usize {
        self.ptr.as_ptr() as usize
    }

    /// First address, and the one behind the last.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.address()..self.address() + self.size()
    }

    /// Bytes asked for.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.layout.size()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the block is live with this layout, and is not used again.
        unsafe { ALLOCATOR.dealloc(black_box(self.ptr.as_ptr()), self.layout) };
    }
}
