//! What a [`Generation`] gives back while it lives: pages of dead entries and tags, to the OS or to the next generation.
//!
//! Invariant: what was given back is never touched again; the callers vouch for it. No locks.
#![allow(unsafe_code, reason = "declares raw memory dead")]

use core::mem::ManuallyDrop;

use ebbtide_alloc::Region;

use crate::generation::Generation;
use crate::generation::memory::Memory;
use crate::generation::window::WIDTH;

/// Smallest arena, in bytes, of which parts are retired early. Smaller ones leave whole: the next one of the size is
/// likely to need the pages. Smaller under test.
const RETIRE_FROM: usize = if cfg!(any(test, fuzzing)) { 512 } else { 4 << 20 };

impl<T> Generation<T> {
    /// The region, to look at or to retire parts of. It is this generation's: it must not be dropped.
    pub(crate) fn region(&self) -> Option<ManuallyDrop<Region>> {
        match self.memory() {
            // SAFETY: the region was taken apart when the generation was made, with this base and length, and lives
            // as long as the generation.
            Memory::Arena(bytes, offset) => unsafe {
                Some(ManuallyDrop::new(Region::from_raw(self.tags().sub(offset), bytes)))
            },
            _ => None,
        }
    }

    /// Resident bytes. A system call for arenas.
    pub(crate) fn resident_bytes(&self) -> usize {
        self.region().map_or(self.bytes(), |region| region.resident_bytes())
    }

    /// Declares the entry bytes dead that lie from `from` to `to` bytes below the tags. Returns the bytes of whole pages
    /// among them.
    ///
    /// # Safety
    /// No entry that touches them is read or written again.
    pub(crate) unsafe fn retire_entries(&self, from: usize, to: usize) -> usize {
        let Memory::Arena(_, tags) = self.memory() else { return 0 };
        debug_assert!(from <= to && to <= tags);
        // SAFETY: the caller vouches that nothing there is accessed again.
        self.region().map_or(0, |region| unsafe { region.retire(tags - to..tags - from) })
    }

    /// Whether pages of dead entries should go to `next` rather than to the OS.
    pub(crate) fn may_hand_on(&self, next: &Self) -> bool {
        match (self.region(), next.region()) {
            (Some(from), Some(to)) => size_of::<T>() > 0 && from.may_hand_on(&to),
            _ => false,
        }
    }

    /// Says that they begin to go there.
    pub(crate) fn begin_handing_on(&self) {
        if let Some(region) = self.region() {
            region.begin_handing_on();
        }
    }

    /// As [`retire_entries`](Self::retire_entries), but their pages go to the entries of `next` that lie from `at` bytes
    /// below its tags on, unless there are pages already. Returns whether they moved; if not, nothing was done.
    ///
    /// # Safety
    /// No entry that touches these bytes is read or written again, and none of `next` that touches as many bytes from
    /// `at` on was written.
    pub(crate) unsafe fn hand_entries_on(&self, from: usize, to: usize, next: &Self, at: usize) -> bool {
        let (Memory::Arena(_, tags), Memory::Arena(_, next_tags)) = (self.memory(), next.memory()) else {
            return false;
        };
        let (Some(region), Some(next_region)) = (self.region(), next.region()) else { return false };
        let end = at + (to - from);
        // The range begins where the lowest of the entries begins.
        if to > tags || end > next.slots() * size_of::<T>() {
            return false;
        }
        // SAFETY: passed on to the caller.
        unsafe { region.hand_on(tags - to..tags - from, &next_region, next_tags - end) }
    }

    /// Declares tags `from..to` dead. Returns the bytes of whole pages among them.
    ///
    /// # Safety
    /// No tag of the generation is read or written again.
    pub(crate) unsafe fn retire_tags(&self, from: usize, to: usize) -> usize {
        let Memory::Arena(_, tags) = self.memory() else { return 0 };
        debug_assert!(from <= to && to <= self.tags_len());
        // SAFETY: the caller vouches that nothing there is accessed again.
        self.region().map_or(0, |region| unsafe { region.retire(tags + from..tags + to) })
    }

    /// Tags and copies, in bytes.
    pub(crate) const fn tags_len(&self) -> usize {
        self.mask() + 1 + WIDTH
    }

    /// Whether parts of the memory can be given back: it is an arena, and not a small one.
    pub(crate) const fn can_retire(&self) -> bool {
        match self.memory() {
            Memory::Arena(bytes, _) => bytes >= RETIRE_FROM,
            _ => false,
        }
    }
}
