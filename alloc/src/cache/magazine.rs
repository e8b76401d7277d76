//! A thread's caches: one magazine of free slots for each class.
//!
//! `slots[stolen..len]` are slots of the class that this thread owns: their bits are clear in the bitmaps. The pop and
//! the push are the allocator's fast path: they touch the header and one entry of the stack, no object, no
//! descriptor, nothing atomic but plain moves.
//!
//! # Who may touch what
//! The owner pops and pushes without a lock, as long as its thread local points to the cache. Everything else, by
//! the owner or by a release, holds the cache's lock. A release steals slots from the caches of running threads:
//! 1. under the lock, so that the owner is in none of its slow paths, it points the owner's thread local to a closed cache;
//! 2. without any lock, it has every running thread pass a memory barrier. From now on, as long as the thread local
//!    points elsewhere, no new pop or push begins on the cache, and at most *one* is under way: that which had read the
//!    thread local before, perhaps of a thread that was preempted inside it;
//! 3. under the lock again it looks whether the thread local still points elsewhere (`detached`). If not, the owner has been
//!    in a slow path since, and the release leaves the cache alone. If so, it has not: only its slow paths point it back;
//! 4. the one pop or push reads or writes the top of one stack, so from each stack all entries below the top are the
//!    release's to take. It notes how many (`stolen`) and leaves `len` alone, which the pending pop or push may yet write.
//!
//! The owner's next pop or push finds the other cache, goes to its slow path, takes the lock, moves what is left of
//! its stacks down (`mend`) and points its thread local back. None of this costs the fast path an instruction.

#![allow(unsafe_code, reason = "the stacks are raw memory behind the headers")]

use core::cell::Cell;
use core::ptr::NonNull;

use static_assertions::const_assert;

use crate::base::sync::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use crate::base::units::UnitIndex;
use crate::os::{Guard, Lock, Os, ThreadMark};
use crate::space::size_class::{CLASSES, MAGAZINE_SLOTS, SizeClass};

/// Slots that a new magazine may hold: small, so that a thread that lives shortly takes little.
const FIRST_CAPACITY: u32 = 16;

/// A cache batches its updates of the heap's total of bytes handed out: what it owes is less than this.
const MOST_DRIFT: usize = 32 * 1024;

/// A stack of free slots of one class.
#[derive(Debug)]
pub(crate) struct Magazine {
    slots: Cell<*mut *mut u8>,
    len: AtomicU32,
    /// Entries that it may hold now. 0 until the thread's first slow path for the class: see `open`.
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

    /// Whether the thread has come to its slow path for this class before.
    pub(crate) fn is_open(&self) -> bool {
        self.capacity.get() > 0
    }

    /// What it holds, the oldest first.
    pub(crate) fn held(&self) -> &[*mut u8] {
        self.entries(0, self.len())
    }

    /// The entries `from..to` of the stack, which nobody changes meanwhile.
    fn entries(&self, from: usize, to: usize) -> &[*mut u8] {
        debug_assert!(to <= self.capacity());
        if from >= to {
            return &[];
        }
        // SAFETY: `slots[..len]` is initialised, and `to` is at most the `len` that the caller has seen. The caller
        // holds the cache's lock and either is the owner or takes only what lies below the top.
        unsafe { core::slice::from_raw_parts(self.slots.get().add(from), to - from) }
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
    /// How many entries at the bottom of each stack a release has taken since the owner's last slow path.
    stolen: [AtomicU32; CLASSES],
    /// Whether any of these is not 0.
    has_stolen: AtomicBool,
    /// Whether a release has pointed the owner's thread local elsewhere since the owner's last slow path. Changed under
    /// the lock. The thread local itself may be gone when this is asked.
    pub(crate) detached: AtomicBool,
    /// The owner's thread local that points here, if there is an owner that others can reach. Changed under the lock.
    pub(crate) pointer: AtomicPtr<AtomicPtr<ThreadCache>>,
    /// The owner. Used under the lock.
    pub(crate) owner: Cell<ThreadMark>,
    /// Held for all but the fast path.
    pub(crate) lock: Lock<()>,
    /// What the capacity of each magazine was last, for this thread or the one before.
    widths: [Cell<u32>; CLASSES],
    /// The span that each class allocates from.
    current: [Cell<u32>; CLASSES],
    /// Slots that came in and went out, each written by the owner alone.
    pub(crate) mallocs: AtomicU64,
    pub(crate) frees: AtomicU64,
    /// Bytes that it handed out less those it took back, as far as the heap's count has not got them.
    drift: Cell<isize>,
    /// Whether a thread has it.
    pub(crate) taken: AtomicBool,
    /// Whether a thread has had it since its stacks were last given back.
    pub(crate) used: AtomicBool,
    /// The next in the list of all caches.
    pub(crate) next: AtomicPtr<ThreadCache>,
}

// SAFETY: other threads read only the atomic fields; the cells belong to the thread that took the cache, and pass to
// the next one through the lock of the registry.
unsafe impl Sync for ThreadCache {}

/// A closed cache: every magazine is empty and full at once, so both fast paths leave for the slow path without a check of
/// their own.
#[derive(Debug)]
#[cfg_attr(not(loom), repr(C, align(8192)))]
#[cfg_attr(loom, repr(C, align(65536)))]
struct Closed {
    _below: [u8; ThreadCache::CLOSED],
    cache: ThreadCache,
}

impl Closed {
    const fn new() -> Self {
        Self { _below: [0; ThreadCache::CLOSED], cache: ThreadCache::absent() }
    }
}

/// The cache of threads that have none.
static ABSENT: Closed = Closed::new();
/// The cache of threads that had one and are ending.
static GONE: Closed = Closed::new();

const_assert!(align_of::<Closed>().is_multiple_of(2 * ThreadCache::CLOSED));
const_assert!(size_of::<ThreadCache>() <= ThreadCache::CLOSED);

impl ThreadCache {
    /// The bit that the address of a closed cache has, and that of any other has not. At a cache's own address with this
    /// bit lies a closed one, in zeroed memory that nobody writes. So a release detaches a cache by setting this bit in the
    /// owner's thread local, and whatever thread's cache is found there, it becomes a closed one.
    pub(crate) const CLOSED: usize =
        if size_of::<Self>() > 4096 { size_of::<Self>().next_power_of_two() } else { 4096 };

    /// What the address of a cache is a multiple of.
    pub(crate) const ALIGN: usize = 2 * Self::CLOSED;

    /// Where the stacks begin, behind the cache and the closed one.
    pub(crate) const STACKS: usize = 2 * Self::CLOSED;

    /// Bytes of a cache with its stacks, a multiple of its alignment.
    pub(crate) const BYTES: usize =
        (Self::STACKS + MAGAZINE_SLOTS * size_of::<*mut u8>()).next_multiple_of(Self::ALIGN);

    const fn absent() -> Self {
        Self {
            magazines: [const { Magazine::empty() }; CLASSES],
            stolen: [const { AtomicU32::new(0) }; CLASSES],
            has_stolen: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            pointer: AtomicPtr::new(core::ptr::null_mut()),
            owner: Cell::new(ThreadMark { process: 0, thread: 0, robust_list: 0 }),
            lock: Lock::new(()),
            widths: [const { Cell::new(0) }; CLASSES],
            current: [const { Cell::new(UnitIndex::NIL.0) }; CLASSES],
            mallocs: AtomicU64::new(0),
            frees: AtomicU64::new(0),
            drift: Cell::new(0),
            taken: AtomicBool::new(false),
            used: AtomicBool::new(false),
            next: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// What a thread starts with.
    pub(crate) const fn no_cache() -> *mut Self {
        (&raw const ABSENT.cache).cast_mut()
    }

    /// What a thread ends with.
    pub(crate) fn past_cache() -> *mut Self {
        (&raw const GONE.cache).cast_mut()
    }

    pub(crate) fn is_past(&self) -> bool {
        core::ptr::eq(self, &raw const GONE.cache)
    }

    /// The cache, for who holds its lock.
    #[inline]
    pub(crate) fn locked<'a, O: Os>(&'a self, guard: &'a Guard<'_, (), O>) -> Locked<'a> {
        debug_assert!(guard.is_of(&self.lock));
        Locked(self)
    }

    /// The cache, for who knows that no other thread uses it: the child of a fork, and models, for which each lock is a step
    /// more.
    pub(crate) const fn of_sole_thread(&self) -> Locked<'_> {
        Locked(self)
    }

    /// Makes a cache with empty magazines of zeroed memory.
    ///
    /// # Safety
    /// `memory` is zeroed, aligned to [`Self::ALIGN`], [`Self::BYTES`] long, and never used otherwise or unmapped.
    pub(crate) unsafe fn set_up(memory: NonNull<u8>) -> &'static Self {
        debug_assert!(memory.addr().get().is_multiple_of(Self::ALIGN));
        // SAFETY: zeroed memory is a valid cache: counts, null pointers and flags. The caller gives it up for good.
        let cache: &Self = unsafe { memory.cast::<Self>().as_ref() };
        // SAFETY: the stacks follow inside the memory.
        let mut stack = unsafe { memory.as_ptr().add(Self::STACKS) }.cast::<*mut u8>();
        for class in SizeClass::all() {
            let most = class.geometry().magazine;
            let magazine = &cache.magazines[class.index()];
            magazine.slots.set(stack);
            cache.widths[class.index()].set(FIRST_CAPACITY.min(most));
            cache.current[class.index()].set(UnitIndex::NIL.0);
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

    /// Bytes in free slots that it holds. Any thread may ask.
    pub(crate) fn held_bytes(&self) -> u64 {
        let held = |class: SizeClass| {
            let stolen = self.stolen[class.index()].load(Ordering::Relaxed) as usize;
            self.magazine(class).len().saturating_sub(stolen) * class.size()
        };
        SizeClass::all().map(|class| held(class) as u64).sum()
    }

    /// Adds to one of the counters, which only the owner writes.
    pub(crate) fn count(counter: &AtomicU64, more: usize) {
        // Relaxed: a statistic with one writer.
        counter.store(counter.load(Ordering::Relaxed) + more as u64, Ordering::Relaxed);
    }
}

/// A cache whose lock the caller holds: what only the holder may do.
#[derive(Clone, Copy)]
pub(crate) struct Locked<'a>(&'a ThreadCache);

impl core::ops::Deref for Locked<'_> {
    type Target = ThreadCache;

    #[inline]
    fn deref(&self) -> &ThreadCache {
        self.0
    }
}

impl<'a> Locked<'a> {
    /// Opens the magazine of a class, as wide as it was last.
    pub(crate) fn open(self, class: SizeClass) {
        self.magazine(class).capacity.set(self.widths[class.index()].get());
    }

    /// Opens a magazine or doubles its capacity, up to what the class allows; false if it was there already.
    pub(crate) fn widen(self, class: SizeClass) -> bool {
        let magazine = self.magazine(class);
        if !magazine.is_open() {
            self.open(class);
            return true;
        }
        let (old, most) = (magazine.capacity.get(), class.geometry().magazine);
        magazine.capacity.set((old * 2).min(most));
        self.widths[class.index()].set(magazine.capacity.get());
        old < most
    }

    /// Says who the owner is, and where its thread local is if others can reach it.
    pub(crate) fn belongs_to(self, owner: ThreadMark, pointer: *mut AtomicPtr<ThreadCache>) {
        self.owner.set(owner);
        let pointer = if owner.can_be_found() { pointer } else { core::ptr::null_mut() };
        // Relaxed: the lock orders it.
        self.pointer.store(pointer, Ordering::Relaxed);
    }

    /// Closes all magazines, which are empty, for the next thread.
    pub(crate) fn close(self) {
        self.magazines.iter().for_each(|magazine| magazine.capacity.set(0));
    }

    pub(crate) fn set_current(self, class: SizeClass, span: UnitIndex) {
        self.current[class.index()].set(span.0);
    }

    /// The entries of a class that a release may take from a thread that goes on: all below the top of the stack. They
    /// count as taken from here on.
    ///
    /// The caller has gone through the steps in the head of this file.
    pub(crate) fn steal(self, class: SizeClass) -> &'a [*mut u8] {
        let magazine = self.0.magazine(class);
        let stolen = &self.stolen[class.index()];
        let (from, to) = (stolen.load(Ordering::Relaxed) as usize, magazine.len().saturating_sub(1));
        if from < to {
            // Relaxed: the lock orders it.
            stolen.store(to as u32, Ordering::Relaxed);
            self.has_stolen.store(true, Ordering::Relaxed);
        }
        magazine.entries(from, to)
    }

    /// Moves what a release has left of the stacks to their bottoms. Only the owner calls this, before it
    /// points its thread local back.
    pub(crate) fn mend(self) {
        // Relaxed: the lock orders it.
        self.detached.store(false, Ordering::Relaxed);
        if !self.has_stolen.load(Ordering::Relaxed) {
            return;
        }
        self.has_stolen.store(false, Ordering::Relaxed);
        for class in SizeClass::all() {
            let stolen = self.stolen[class.index()].swap(0, Ordering::Relaxed) as usize;
            self.magazine(class).forget_oldest(stolen);
        }
    }

    /// Counts bytes handed out, or taken back if below zero. Returns what to add to the heap's total, in batches: else the
    /// total's cache line would bounce at each refill.
    pub(crate) fn count_handed(self, bytes: isize) -> isize {
        let drift = self.drift.get() + bytes;
        let due = drift.unsigned_abs() >= MOST_DRIFT;
        self.drift.set(if due { 0 } else { drift });
        if due { drift } else { 0 }
    }

    /// Takes what the cache owes to the heap's total.
    pub(crate) fn settle_drift(self) -> isize {
        self.drift.replace(0)
    }
}
