//! Probing in a [`Generation`]: as in SwissTable and hashbrown, windows of 16 tags from the home position (the low bits of
//! the hash) at triangular distances, which visit each position of a power of two.
//!
//! Invariants: a window that a probe for some entry passed over has no empty tag; at least one tag is empty. No locks.
#![allow(unsafe_code, reason = "entries in raw memory, told initialized by their tags")]

use crate::generation::Generation;
use crate::generation::tag::Tag;
use crate::generation::window::{Matches, WIDTH, Window, prefetch};

/// Bytes of entries from which on lookups fetch entries and tags at once: more than the caches hold. Few under test.
const FETCH_BYTES: usize = if cfg!(any(test, fuzzing)) { 1024 } else { 64 << 20 };

/// The positions of a probe, one after the other.
#[derive(Clone, Copy)]
struct Probe {
    /// Where the window to look at begins.
    position: usize,
    /// How far it is from the one before.
    stride: usize,
    mask: usize,
}

impl Probe {
    #[inline]
    const fn advance(&mut self) {
        self.stride += WIDTH;
        self.position = (self.position + self.stride) & self.mask;
    }
}

impl<T> Generation<T> {
    /// Fetches the first entry that may have this hash while its tag is on its way, where neither is likely to be in a
    /// cache. Most of all that makes two walks of the page table one after the other into two at once.
    #[inline]
    pub(crate) fn fetch_entries(&self, hash: u64) {
        prefetch(self.entry(self.home(hash)).as_ptr().cast());
    }

    /// Whether that is worthwhile.
    pub(crate) const fn is_large(&self) -> bool {
        self.mask >= const { FETCH_BYTES / if size_of::<T>() == 0 { 1 } else { size_of::<T>() } }
    }

    /// The probe for `hash`.
    #[inline]
    const fn probe(&self, hash: u64) -> Probe {
        Probe { position: self.home(hash), stride: 0, mask: self.mask }
    }

    /// Number of the full slot with this tag in the window at `position` whose entry `is_same`.
    #[inline]
    fn find_in(
        &self,
        window: Window,
        position: usize,
        tag: Tag,
        is_same: &mut impl FnMut(&T) -> bool,
    ) -> Option<usize> {
        let mut candidates = window.equal(tag);
        while candidates.any() {
            let slot = (position + candidates.first()) & self.mask;
            // SAFETY: its tag says that the slot is full, so the entry is initialized, and it is only read.
            if is_same(unsafe { self.entry(slot).as_ref() }) {
                return Some(slot);
            }
            candidates = candidates.without_first();
        }
        None
    }

    /// Number of the full slot with this hash whose entry `is_same`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut is_same: impl FnMut(&T) -> bool) -> Option<usize> {
        let tag = Tag::full(hash);
        let mut probe = self.probe(hash);
        loop {
            let window = self.window(probe.position);
            let found = self.find_in(window, probe.position, tag, &mut is_same);
            if found.is_some() || window.empty().any() {
                return found;
            }
            probe.advance();
        }
    }

    /// As [`find`](Self::find), and if there is none, the first vacant slot in its probe order.
    #[inline]
    pub(crate) fn find_or_vacant(
        &self,
        hash: u64,
        mut is_same: impl FnMut(&T) -> bool,
    ) -> Result<usize, usize> {
        let tag = Tag::full(hash);
        let mut probe = self.probe(hash);
        let mut vacant = None;
        loop {
            let window = self.window(probe.position);
            if let Some(slot) = self.find_in(window, probe.position, tag, &mut is_same) {
                return Ok(slot);
            }
            if vacant.is_none() {
                vacant = self.vacant_in(probe.position, window.vacant());
            }
            if window.empty().any() {
                // An empty slot is vacant, so one was found in this window at the latest.
                return Err(self.really_vacant(vacant.unwrap_or(probe.position)));
            }
            probe.advance();
        }
    }

    /// The first slot for an entry with this hash. There must be one.
    #[inline]
    pub(crate) fn find_vacant(&self, hash: u64) -> usize {
        self.really_vacant(self.find_vacant_large(hash))
    }

    /// As [`find_vacant`](Self::find_vacant), in a table of at least sixteen slots.
    #[inline]
    pub(crate) fn find_vacant_large(&self, hash: u64) -> usize {
        let mut probe = self.probe(hash);
        loop {
            if let Some(slot) = self.vacant_in(probe.position, self.window(probe.position).vacant()) {
                return slot;
            }
            probe.advance();
        }
    }

    #[inline]
    fn vacant_in(&self, position: usize, vacant: Matches) -> Option<usize> {
        if vacant.any() { Some((position + vacant.first()) & self.mask) } else { None }
    }

    /// In a small table the empty tags behind the last slot stand for slots that may be full. The window at 0 then
    /// has the first vacant slot of all.
    #[inline]
    fn really_vacant(&self, slot: usize) -> usize {
        if self.tag(slot).is_full() {
            debug_assert!(self.mask < WIDTH);
            return self.window(0).vacant().first() & self.mask;
        }
        slot
    }

    /// Marks full slot `slot` vacant. Returns whether it became empty, not a tombstone.
    ///
    /// It may become empty if each window that contains it has an empty tag: then no probe passed over it.
    ///
    /// # Safety
    /// The slot is full, and its entry is the caller's from here on.
    #[inline]
    pub(crate) unsafe fn vacate(&mut self, slot: usize) -> bool {
        debug_assert!(self.tag(slot).is_full());
        let before = self.window(slot.wrapping_sub(WIDTH) & self.mask).empty();
        let after = self.window(slot).empty();
        let empty = before.trailing_misses() + after.first() < WIDTH;
        // SAFETY: the slot is full, so it exists, and a vacant tag promises nothing.
        unsafe { self.set_tag(slot, if empty { Tag::EMPTY } else { Tag::TOMBSTONE }) };
        empty
    }

    /// Makes tombstones of full slots of the window at `position`, a multiple of sixteen.
    ///
    /// # Safety
    /// The generation has 32 slots or more, and the entries of these slots are the caller's from here on.
    #[inline]
    pub(crate) unsafe fn bury(&mut self, position: usize, full: Matches) {
        debug_assert!(self.mask >= 2 * WIDTH - 1 && position.is_multiple_of(WIDTH));
        let window = self.window(position);
        debug_assert_eq!(full.0 & !window.full().0, 0);
        if full == window.full() {
            // SAFETY: the window lies within the tags, and its copy, if it has one, starts where the tags end.
            unsafe {
                window.store_buried(self.tags.add(position).as_ptr());
                if position == 0 {
                    window.store_buried(self.tags.add(self.mask + 1).as_ptr());
                }
            }
            return;
        }
        for offset in full {
            // SAFETY: the slot exists, and a vacant tag promises nothing.
            unsafe { self.set_tag(position + offset, Tag::TOMBSTONE) };
        }
    }
}
