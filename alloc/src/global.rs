//! The `GlobalAlloc` face of the heap, and its fast path.
//!
//! `alloc`: size class from the layout, pop the magazine. `dealloc`: size class from the layout, push. Anything else
//! is out of line: alignments above 16, large blocks, magazines that are empty or full. Nothing here panics; null means
//! no memory; errno is kept.

#![allow(unsafe_code, reason = "GlobalAlloc")]

use core::alloc::{GlobalAlloc, Layout};

use crate::hardened::HARDENED;
use crate::heap::HEAP;
use crate::large::same_slot;
use crate::size_class::{QUANTUM, SizeClass};
use crate::thread;

/// The allocator, as a handle without size: all of them are the same heap.
///
/// ```
/// #[global_allocator]
/// static GLOBAL: ebbtide_alloc::Allocator = ebbtide_alloc::Allocator::new();
///
/// assert!(ebbtide_alloc::owns(Box::into_raw(Box::new(1)).cast()));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

impl Allocator {
    /// The handle.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

// SAFETY: blocks come from the heap's slots and runs, which are disjoint, at least as large and as aligned as asked
// for, and stay until they are freed. The class of a block is a pure function of its layout, so `dealloc` finds the
// one that `alloc` took. Nothing unwinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline(always)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > QUANTUM {
            return allocate_aligned(layout);
        }
        match SizeClass::of_size(layout.size()) {
            Some(class) => allocate_small(class),
            None => allocate_large(layout, false),
        }
    }

    #[inline(always)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if HARDENED {
            HEAP.take_back(block, layout);
        }
        if layout.align() > QUANTUM {
            return free_aligned(block, layout);
        }
        match SizeClass::of_size(layout.size()) {
            Some(class) => free_small(block, class),
            None => free_large(block),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if SizeClass::of(layout.size(), layout.align()).is_none() {
            return allocate_large(layout, true);
        }
        // SAFETY: the caller's layout is passed on.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block was just allocated with room for `layout.size()` bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if HARDENED {
            HEAP.check_live(block, layout);
        }
        let old = SizeClass::of(layout.size(), layout.align());
        let new = SizeClass::of(new_size, layout.align());
        if same_slot(old, new) {
            return block;
        }
        if old.is_none() && new.is_none() && HEAP.resize_large(block, new_size, layout.align()) {
            HEAP.pressure.check(&HEAP.counters);
            return block;
        }
        // SAFETY: the caller vouches that `new_size` and the alignment make a layout.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: as the caller vouches; the new block has room for the bytes copied and is another one; the old one
        // is freed with its own layout.
        unsafe {
            let moved = self.alloc(new_layout);
            if !moved.is_null() {
                core::ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[inline(always)]
fn allocate_small(class: SizeClass) -> *mut u8 {
    let slot = match thread::cache().magazine(class).pop() {
        Some(slot) => slot,
        None => thread::allocate_slow(class),
    };
    if HARDENED {
        HEAP.hand_out(class, slot);
    }
    slot
}

#[inline(always)]
fn free_small(block: *mut u8, class: SizeClass) {
    if !thread::cache().magazine(class).push(block) {
        thread::free_slow(class, block);
    }
}

#[inline(never)]
fn allocate_aligned(layout: Layout) -> *mut u8 {
    match SizeClass::of(layout.size(), layout.align()) {
        Some(class) => allocate_small(class),
        None => allocate_large(layout, false),
    }
}

#[inline(never)]
fn free_aligned(block: *mut u8, layout: Layout) {
    match SizeClass::of(layout.size(), layout.align()) {
        Some(class) => free_small(block, class),
        None => free_large(block),
    }
}

#[cold]
#[inline(never)]
fn allocate_large(layout: Layout, zeroed: bool) -> *mut u8 {
    HEAP.allocate_large(layout.size(), layout.align(), zeroed)
}

#[cold]
#[inline(never)]
fn free_large(block: *mut u8) {
    HEAP.free_large(block);
    HEAP.pressure.check(&HEAP.counters);
}
