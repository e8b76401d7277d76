//! The `GlobalAlloc` face of the heap, and its fast path.
//!
//! `alloc`: size class from the layout, pop the magazine. `dealloc`: size class from the layout, push. Anything else
//! is out of line: alignments above 16, large blocks, magazines that are empty or full, frees of more than 4 KiB. These
//! ask the table of units for the class, since a block of such a size stays in its slot when it shrinks by less than
//! half. Nothing here panics; null means no memory; errno is kept.

#![allow(unsafe_code, reason = "GlobalAlloc")]

use core::alloc::{GlobalAlloc, Layout};

use crate::heap::HEAP;
use crate::inspect::misuse::assert_unlocked;
use crate::local;
use crate::space::live_bits::HARDENED;
use crate::space::misuse::{Act, Misused};
use crate::space::size_class::{QUANTUM, SizeClass, padded};
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
            assert_may_look(layout, "a free");
            HEAP.sound(HEAP.spans().take_back(block, layout));
        }
        if layout.align() > QUANTUM {
            return free_aligned(block, layout);
        }
        match SizeClass::exact(layout.size()) {
            Some(class) => free_small(block, class),
            None => free_by_address(block, layout.size()),
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
            assert_may_look(layout, "a change of size");
            HEAP.sound(HEAP.spans().check_live(block, layout));
        }
        if stays(block, layout, new_size) {
            return block;
        }
        let large = |size| SizeClass::of(size, layout.align()).is_none();
        if large(new_size) && large(layout.size()) && HEAP.spans().class_of(block).is_none() {
            return move_large(block, layout, new_size);
        }
        // SAFETY: the caller vouches that `new_size` and the alignment make a layout.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: as the caller vouches; the new block has room for the bytes copied and is another one; the old one
        // is freed with its own layout.
        unsafe {
            let moved = if large(new_size) { allocate_growing(new_layout) } else { self.alloc(new_layout) };
            if !moved.is_null() {
                core::ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// The checks of `hardened` take the lock of its zone for a large block.
fn assert_may_look(layout: Layout, what: &str) {
    if SizeClass::of(layout.size(), layout.align()).is_none() {
        assert_unlocked(what);
    }
}

#[inline(always)]
fn allocate_small(class: SizeClass) -> *mut u8 {
    let slot = match local::cache().magazine(class).pop() {
        Some(slot) => slot,
        None => thread::allocate_slow(class),
    };
    if HARDENED {
        HEAP.spans().hand_out(class, slot);
    }
    slot
}

#[inline(always)]
fn free_small(block: *mut u8, class: SizeClass) {
    if !local::cache().magazine(class).push(block) {
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
    let size = padded(layout.size(), layout.align());
    match SizeClass::exact(size) {
        Some(class) => free_small(block, class),
        None => free_by_address(block, size),
    }
}

/// Frees a block whose layout does not tell its class. Finding it tells whether the size can be right.
#[inline(never)]
fn free_by_address(block: *mut u8, size: usize) {
    match HEAP.spans().class_of(block) {
        Some(class) if class.may_hold(size) => free_small(block, class),
        None if SizeClass::of_size(size).is_none() => free_large(block),
        _ => HEAP.sound(Err(Misused::of(Act::Free, block as usize, SizeClass::of_size(size)))),
    }
}

/// Whether a block can stay where it is when its size changes; if so, it has the new size now.
fn stays(block: *mut u8, layout: Layout, new_size: usize) -> bool {
    let (old, new) = (padded(layout.size(), layout.align()), padded(new_size, layout.align()));
    let exact = (SizeClass::exact(old), SizeClass::exact(new));
    if exact != (None, None) {
        return exact.0 == exact.1;
    }
    match HEAP.spans().class_of(block) {
        Some(class) => class.may_hold(new),
        None if SizeClass::of_size(new).is_some() => false,
        None => {
            assert_unlocked("a change of size");
            let resized = HEAP.sound(HEAP.pages().resize_large(block, new_size, layout.align()));
            if resized {
                HEAP.check_total();
                HEAP.check_idle();
            }
            resized
        }
    }
}

#[cold]
#[inline(never)]
fn allocate_large(layout: Layout, zeroed: bool) -> *mut u8 {
    assert_unlocked("an allocation");
    let block = HEAP.pages().allocate_large(layout.size(), layout.align(), zeroed);
    HEAP.check_total();
    block
}

#[cold]
#[inline(never)]
fn allocate_growing(layout: Layout) -> *mut u8 {
    assert_unlocked("an allocation");
    let run = HEAP.pages().allocate_growing(layout.size(), layout.align());
    HEAP.check_total();
    match run {
        Some(run) => HEAP.segments().address(run).as_ptr(),
        None => core::ptr::null_mut(),
    }
}

#[cold]
#[inline(never)]
fn move_large(block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    assert_unlocked("a change of size");
    let moved = HEAP.pages().move_large(block, layout.size().min(new_size), new_size, layout.align());
    let moved = HEAP.sound(moved);
    HEAP.check_total();
    HEAP.check_idle();
    moved
}

#[cold]
#[inline(never)]
fn free_large(block: *mut u8) {
    assert_unlocked("a free");
    HEAP.sound(HEAP.pages().free_large(block));
    HEAP.check_idle();
}
