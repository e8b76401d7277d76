//! [`Current`]: the generation that takes new entries, and how many more.
//!
//! Invariant: no more slots are used than the load limit, so that one is empty and each probe ends. No locks.
#![allow(unsafe_code, reason = "entries in raw memory, told initialized by their tags")]

use core::ptr::NonNull;

use crate::generation::Generation;
use crate::generation::tag::Tag;
use crate::table::change::pacing;

/// See the module.
pub(crate) struct Current<T> {
    pub(crate) generation: Generation<T>,
    /// Empty slots that may still be used.
    pub(super) growth_left: usize,
}

impl<T> Current<T> {
    #[inline]
    pub(crate) const fn without_slots() -> Self {
        Self { generation: Generation::without_slots(), growth_left: 0 }
    }

    /// A generation of which so many slots are used.
    pub(crate) const fn new(generation: Generation<T>, used: usize) -> Self {
        let growth_left = pacing::load_limit(generation.slots()) - used;
        Self { generation, growth_left }
    }

    #[inline]
    pub(crate) const fn growth_left(&self) -> usize {
        self.growth_left
    }

    /// Slots that are used: full ones and tombstones.
    pub(crate) const fn used(&self) -> usize {
        pacing::load_limit(self.generation.slots()) - self.growth_left
    }

    /// Whether a vacant slot may be filled: empty ones only up to the load limit, less the slots that are `reserved`.
    #[inline]
    pub(crate) const fn can_fill(&self, slot: usize, reserved: usize) -> bool {
        self.growth_left > reserved || !self.generation.tag(slot).is_empty()
    }

    /// Counts as used what is in `other`, of which this is a clone.
    pub(crate) const fn take_room_of(&mut self, other: &Self) {
        self.growth_left = other.growth_left;
    }

    /// Puts `value` into a vacant slot, which was found for this hash.
    ///
    /// # Safety
    /// The slot is vacant, and [can be filled](Self::can_fill).
    #[inline]
    pub(crate) unsafe fn fill(&mut self, slot: usize, hash: u64, value: T) -> NonNull<T> {
        debug_assert!(!self.generation.tag(slot).is_full());
        self.growth_left -= usize::from(self.generation.tag(slot).is_empty());
        let entry = self.generation.entry(slot);
        // SAFETY: the slot exists and is vacant, so that nothing is overwritten. The entry is written before the tag
        // says so.
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
    #[inline]
    pub(crate) unsafe fn take(&mut self, slot: usize) -> T {
        // SAFETY: the slot is full; reading the entry and vacating the slot passes it to the caller.
        unsafe {
            self.growth_left += usize::from(self.generation.vacate(slot));
            self.generation.entry(slot).read()
        }
    }

    /// Marks all slots empty, without dropping what is there. O(1) if none was used.
    pub(crate) fn forget(&mut self) {
        if self.used() > 0 {
            self.generation.clear_tags();
            self.growth_left = pacing::load_limit(self.generation.slots());
        }
    }
}
