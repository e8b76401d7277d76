//! A thread's caches: one magazine of free slots for each class.
//!
//! Invariants: only the owning thread changes a magazine, others read `len` alone. `slots[..len]` are slots of the
//! class that this thread owns: their bits are clear in the bitmaps. The pop and the push are the allocator's fast
//! path: they touch the header and one entry of the stack, no object, no descriptor, nothing atomic but plain moves.

#![allow(unsafe_code, reason = "the stacks are raw memory behind the headers")]

use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use crate::size_class::{CLASSES, MAGAZINE_SLOTS, SizeClass};
use crate::units::UnitIndex;

/// Slots that a new magazine may hold: small, so that a thread that lives shortly takes little.
const FIRST_CAPACITY: u32 = 16;

/// A stack of free slots of one class.
#[derive(Debug)]
pub(crate) struct Magazine {
    slots: Cell<*mut *mut u8>,
    len: AtomicU32,
    capacity: Cell<u32>,
}

impl Magazine {
    const fn empty() -> Self {
        Self { slots: Cell::new(core::ptr::null_mut()), len: AtomicU32::new(0), capacity: Cell::new(0) }
    }

    /// Takes the slot that was put last.
    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<*mut u8> {
        // Relaxed: other threads read `len` only for statistics.
        let len = self.len.load(Ordering::Relaxed);
        if len == 0 {
            return None;
        }
        self.len.store(len - 1, Ordering::Relaxed);
        // SAFETY: `slots[..len]` is initialised, and only this thread uses it.
        Some(unsafe { *self.slots.get().add(len as usize - 1) })
    }

    /// Puts a slot; false if there is no room.
    #[inline(always)]
    pub(crate) fn push(&self, slot: *mut u8) -> bool {
        let len = self.len.load(Ordering::Relaxed);
        if len == self.capacity.get() {
            return false;
        }
        // SAFETY: `slots` has `capacity` entries, `len` is below, and only this thread uses it.
        unsafe { *self.slots.get().add(len as usize) = slot };
        self.len.store(len + 1, Ordering::Relaxed);
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity.get() as usize
    }

    /// Doubles the capacity up to what the class allows; false if it was there already.
    pub(crate) fn widen(&self, class: SizeClass) -> bool {
        let most = class.geometry().magazine;
        let old = self.capacity.get();
        self.capacity.set((old * 2).min(most));
        old < most
    }

    /// What it holds, the oldest first.
    pub(crate) fn held(&self) -> &[*mut u8] {
        if self.len() == 0 {
            return &[];
        }
        // SAFETY: `slots[..len]` is initialised. The owner alone calls this and changes nothing meanwhile.
        unsafe { core::slice::from_raw_parts(self.slots.get(), self.len()) }
    }

    /// Drops the oldest `count` entries, whose slots were flushed.
    pub(crate) fn forget_oldest(&self, count: usize) {
        let len = self.len();
        debug_assert!(count <= len);
        if count == 0 {
            return;
        }
        let slots = self.slots.get();
        // SAFETY: both ranges lie in `slots[..len]`.
        unsafe { core::ptr::copy(slots.add(count), slots, len - count) };
        self.len.store((len - count) as u32, Ordering::Relaxed);
    }

    /// Has an empty magazine filled: `fill` writes slots into the stack, the next to be used last, and returns how
    /// many. They must fill the end of the part that it is given.
    pub(crate) fn fill(&self, most: usize, fill: impl FnOnce(&mut [*mut u8]) -> usize) -> usize {
        debug_assert!(self.len() == 0 && most <= self.capacity());
        let slots = self.slots.get();
        if slots.is_null() {
            return 0;
        }
        // SAFETY: `most` entries lie inside the stack, which only this thread uses; entries of a fresh stack are null
        // pointers, so all of them are initialised.
        let part = unsafe { core::slice::from_raw_parts_mut(slots, most) };
        let filled = fill(part);
        part.copy_within(most - filled.., 0);
        self.len.store(filled as u32, Ordering::Relaxed);
        filled
    }
}

/// All that one thread caches. Lives in metadata and is used again by later threads.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct ThreadCache {
    magazines: [Magazine; CLASSES],
    /// The span that each class allocates from.
    current: [Cell<u32>; CLASSES],
    /// Slots that came in and went out, each written by the owner alone.
    pub(crate) mallocs: AtomicU64,
    pub(crate) frees: AtomicU64,
    /// Whether a thread has it.
    pub(crate) taken: AtomicBool,
    /// The next in the list of all caches.
    pub(crate) next: AtomicPtr<ThreadCache>,
}

// SAFETY: other threads read only the atomic fields; the cells belong to the thread that took the cache, and pass to
// the next one through the lock of the registry.
unsafe impl Sync for ThreadCache {}

/// The cache of threads that have none: every magazine is empty and full at once, so both fast paths leave for the
/// slow path without a check of their own.
static ABSENT: ThreadCache = ThreadCache::absent();
/// The same for threads that had one and are ending.
static GONE: ThreadCache = ThreadCache::absent();

impl ThreadCache {
    /// Bytes of a cache with its stacks, a multiple of its alignment.
    pub(crate) const BYTES: usize =
        (size_of::<Self>() + MAGAZINE_SLOTS * size_of::<*mut u8>()).next_multiple_of(align_of::<Self>());

    const fn absent() -> Self {
        Self {
            magazines: [const { Magazine::empty() }; CLASSES],
            current: [const { Cell::new(UnitIndex::NIL.0) }; CLASSES],
            mallocs: AtomicU64::new(0),
            frees: AtomicU64::new(0),
            taken: AtomicBool::new(false),
            next: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// What a thread starts with.
    pub(crate) const fn no_cache() -> *const Self {
        &raw const ABSENT
    }

    /// What a thread ends with.
    pub(crate) fn past_cache() -> *const Self {
        &raw const GONE
    }

    pub(crate) fn is_past(&self) -> bool {
        core::ptr::eq(self, &raw const GONE)
    }

    /// Whether it is one that a thread took.
    pub(crate) fn is_real(&self) -> bool {
        !self.is_past() && !core::ptr::eq(self, &raw const ABSENT)
    }

    /// Makes a cache with empty magazines of zeroed memory.
    ///
    /// # Safety
    /// `memory` is zeroed, aligned for a cache, [`Self::BYTES`] long, and never used otherwise or unmapped.
    pub(crate) unsafe fn set_up(memory: NonNull<u8>) -> &'static Self {
        debug_assert!(memory.cast::<Self>().is_aligned());
        // SAFETY: zeroed memory is a valid cache: counts, null pointers and flags. The caller gives it up for good.
        let cache: &Self = unsafe { memory.cast::<Self>().as_ref() };
        // SAFETY: the stacks follow the header inside the memory.
        let mut stack = unsafe { memory.as_ptr().add(size_of::<Self>()) }.cast::<*mut u8>();
        for class in SizeClass::all() {
            let most = class.geometry().magazine;
            let magazine = &cache.magazines[class.index()];
            magazine.slots.set(stack);
            magazine.capacity.set(FIRST_CAPACITY.min(most));
            cache.set_current(class, UnitIndex::NIL);
            // SAFETY: the stacks of all classes together have `MAGAZINE_SLOTS` entries.
            stack = unsafe { stack.add(most as usize) };
        }
        cache
    }

    #[inline(always)]
    pub(crate) fn magazine(&self, class: SizeClass) -> &Magazine {
        // SAFETY: a class's index is below `CLASSES`.
        unsafe { self.magazines.get_unchecked(class.index()) }
    }

    pub(crate) fn current(&self, class: SizeClass) -> UnitIndex {
        UnitIndex(self.current[class.index()].get())
    }

    pub(crate) fn set_current(&self, class: SizeClass, span: UnitIndex) {
        self.current[class.index()].set(span.0);
    }

    /// Bytes in free slots that it holds. Any thread may ask.
    pub(crate) fn held_bytes(&self) -> u64 {
        SizeClass::all().map(|class| (self.magazine(class).len() * class.size()) as u64).sum()
    }

    /// Adds to one of the counters, which only the owner writes.
    pub(crate) fn count(counter: &AtomicU64, more: usize) {
        // Relaxed: a statistic with one writer.
        counter.store(counter.load(Ordering::Relaxed) + more as u64, Ordering::Relaxed);
    }
}
