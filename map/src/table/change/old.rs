//! [`Old`]: the generation that a change evacuates, and how far it came.
//!
//! Invariants:
//! - slots below `passed` hold no entry, but for those whose probe wrapped around the end;
//! - entries whose home is `begun` or above are all here. One whose home is below can be in either generation: its
//!   home is passed, the slot where it lies perhaps not;
//! - `passed` is a multiple of sixteen, and `begun` is the same or sixteen more;
//! - `headroom` more empty slots may be used, and one more is always left.
#![allow(unsafe_code, reason = "entries in raw memory, told initialized by their tags")]

use core::ptr::NonNull;

use crate::generation::Generation;
use crate::generation::tag::Tag;
use crate::generation::window::{Matches, WIDTH};
use crate::table::change::pacing;
use crate::table::change::retiring::Retiring;

/// See the module.
#[derive(Debug)]
pub(crate) struct Old<T> {
    pub(crate) generation: Generation<T>,
    /// Entries still here.
    pub(crate) items: usize,
    /// Entries that went to the other generation.
    pub(crate) moved: u64,
    /// Positions passed, in order from 0. Beyond the number of slots it counts a second round, for what wrapped.
    passed: usize,
    /// Homes whose entries may have moved.
    begun: usize,
    /// Empty slots that inserts may still use.
    headroom: usize,
    retiring: Retiring,
}

impl<T> Old<T> {
    /// A generation of so many entries, which are to go to `next`.
    pub(crate) fn new(generation: Generation<T>, next: &Generation<T>, items: usize) -> Self {
        let headroom = pacing::headroom(generation.slots());
        let retiring = Retiring::new(&generation, next);
        Self { generation, items, moved: 0, passed: 0, begun: 0, headroom, retiring }
    }

    /// A copy of the state around `generation`, for a clone of the map. What was moved and given back was the source's.
    pub(crate) fn like(&self, generation: Generation<T>) -> Self {
        Self { generation, moved: 0, retiring: self.retiring.like(), ..*self }
    }

    /// Finds the slot of an entry. Without entries it looks at nothing: then the tags may be retired.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<usize> {
        if self.items == 0 {
            return None;
        }
        self.generation.find(hash, is_same)
    }

    /// Homes passed.
    pub(crate) fn nevacuate(&self) -> usize {
        self.passed.min(self.generation.slots())
    }

    /// Bytes that were retired or handed on.
    pub(crate) fn dead_bytes(&self) -> usize {
        self.retiring.dead_bytes().min(self.generation.bytes())
    }

    /// Whether the frontier has passed the home of this hash: its entries are in the other generation, but for those whose
    /// probes ran past the frontier. If not, they are all here.
    #[inline]
    pub(crate) const fn is_passed(&self, hash: u64) -> bool {
        self.generation.home(hash) < self.begun
    }

    /// Whether no entry is left, and none comes here any more.
    pub(crate) const fn is_drained_of_entries(&self) -> bool {
        self.items == 0 && self.passed >= self.generation.slots()
    }

    /// Whether that is all, since no memory is left either that has to go in batches.
    pub(crate) const fn is_done(&self) -> bool {
        self.is_drained_of_entries() && !self.retiring.is_due(&self.generation)
    }

    /// Whether a vacant slot may be filled: that neither uses up the last empty slots nor touches dead memory.
    pub(crate) const fn can_fill(&self, slot: usize) -> bool {
        (self.headroom > 0 || !self.generation.tag(slot).is_empty()) && !self.is_dead(slot)
    }

    /// Whether bytes of slot `slot` may be retired.
    const fn is_dead(&self, slot: usize) -> bool {
        let begin = slot * size_of::<T>();
        self.retiring.is_dead(begin, begin + size_of::<T>())
    }

    /// Begins to move the entries of the next window. `None` if all were moved.
    #[inline]
    pub(crate) const fn begin_window(&mut self) -> Option<usize> {
        let slots = self.generation.slots();
        if self.passed >= 2 * slots {
            return None;
        }
        self.begun = self.passed + WIDTH;
        Some(self.passed & (slots - 1))
    }

    /// Homes whose entries may move, those of the window under way included.
    #[inline]
    pub(crate) const fn homes_begun(&self) -> usize {
        self.begun
    }

    /// Forgets entries of the window at `position` that were moved out.
    ///
    /// # Safety
    /// The position is a multiple of sixteen, these slots of it are full, and their entries are the caller's.
    #[inline]
    pub(crate) unsafe fn bury(&mut self, position: usize, moved: Matches) {
        // SAFETY: a generation that changes in steps has 32 slots and more. The rest is passed on to the caller.
        unsafe { self.generation.bury(position, moved) };
        self.items -= moved.count();
        self.moved += moved.count() as u64;
    }

    /// All entries of the window are moved.
    #[inline]
    pub(crate) const fn end_window(&mut self) {
        self.passed = self.begun;
    }

    /// Puts `value` into a vacant slot.
    ///
    /// # Safety
    /// The slot [can be filled](Self::can_fill), and was found for this hash, whose home is not passed.
    pub(crate) unsafe fn fill(&mut self, slot: usize, hash: u64, value: T) -> NonNull<T> {
        debug_assert!(self.can_fill(slot) && !self.is_passed(hash));
        self.headroom -= usize::from(self.generation.tag(slot).is_empty());
        self.items += 1;
        let entry = self.generation.entry(slot);
        // SAFETY: the slot is vacant and its memory alive. The entry is written before the tag says so.
        unsafe {
            entry.write(value);
            self.generation.set_tag(slot, Tag::full(hash));
        }
        entry
    }

    /// Takes the entry of a slot out.
    ///
    /// # Safety
    /// The slot is full.
    pub(crate) unsafe fn take(&mut self, slot: usize) -> T {
        self.items -= 1;
        // SAFETY: the slot is full; vacating the slot and reading the entry passes it to the caller.
        unsafe {
            self.headroom += usize::from(self.generation.vacate(slot));
            self.generation.entry(slot).read()
        }
    }

    /// Retires what lies behind the frontier, or hands it on to `next`.
    pub(crate) fn retire_passed(&mut self, next: &Generation<T>) {
        let passed = self.nevacuate();
        // SAFETY: slots behind the frontier are filled only as `can_fill` says, so not if they are dead.
        unsafe { self.retiring.retire_passed(&self.generation, passed, next) };
    }

    /// Retires a batch of what is left once no entry is. Returns whether that was all.
    pub(crate) fn retire_rest(&mut self) -> bool {
        if !self.is_drained_of_entries() {
            debug_assert!(false, "entries are left");
            return false;
        }
        // SAFETY: all homes are passed, so that no insert comes here, and no entry is left and none will come: `find` and
        // scans look at no generation without entries.
        unsafe { self.retiring.retire_rest(&self.generation) }
    }

    /// Checks that dead memory holds no entry, and that bounds are in order.
    pub(crate) fn verify(&self, empty: usize) {
        let slots = self.generation.slots();
        assert!(self.passed <= 2 * slots);
        assert!(self.headroom < empty, "headroom {}, empty {empty}", self.headroom);
        for slot in (0..slots).filter(|&slot| self.is_dead(slot)) {
            assert!(slot < self.passed, "slot {slot} is dead before its time");
        }
    }
}
