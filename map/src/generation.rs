//! [`Generation`]: the memory of one bucket array, and probing in it.
//!
//! ```text
//!  low addresses                                             high addresses
//!  [ padding ][ entry n-1 | .. | entry 1 | entry 0 ][ tag 0 | tag 1 | .. | tag n-1 ][ copies of tags 0..16 ]
//!                                                   ^ tags
//! ```
//! One pointer reaches both: entry i ends i entries below `tags`. Position 0 is next to the tags, so going up in
//! positions is one stream upwards in tags and one downwards in entries. The copies make an unaligned window at any
//! position readable without wrapping around. A small table (fewer than 16 slots) has its copies from 16 on and
//! empty tags between, so that each of its windows has an empty tag.
//!
//! Probing is that of SwissTable and hashbrown: windows of 16 tags from the home position (the low bits of the hash)
//! at triangular distances, which visit each position of a power of two.
//!
//! Invariants: a window that a probe for some entry passed over has no empty tag; at least one tag is empty. Entries
//! are not dropped here: who drops a generation has taken or dropped them before. No locks.
#![allow(unsafe_code, reason = "raw memory of the table")]

use core::alloc::Layout;
use core::ptr::NonNull;

use bumpalo::Bump;
use ebbtide_alloc::Region;

use crate::error::TryReserveError;
use crate::pacing;
use crate::tag::Tag;
use crate::window::{Matches, WIDTH, Window};

/// Regions separate entries from tags by whole pages, so that entries can be retired without the tags.
const PAGE: usize = 4096;
/// Alignment of a region's base.
const UNIT: usize = 64 << 10;

/// The window that every map without memory shares.
static EMPTY_TAGS: [u8; WIDTH] = [Tag::EMPTY.0; WIDTH];

/// Size and alignment of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryLayout {
    pub(crate) size: usize,
    pub(crate) align: usize,
}

impl EntryLayout {
    pub(crate) const fn of<T>() -> Self {
        Self { size: size_of::<T>(), align: align_of::<T>() }
    }
}

/// Where the bytes of a generation come from.
#[derive(Debug)]
enum Memory {
    /// The shared window. There is nothing to free.
    Shared,
    /// A bump allocator of its own, with this one allocation in it.
    Small(Bump),
    /// An arena. The tags start at this offset from its base.
    Arena(Region, usize),
}

/// One bucket array.
#[derive(Debug)]
pub(crate) struct Generation {
    /// The first tag. Readable from here: `slots + 16` tags, or 16 of the shared window. Below: the entries.
    tags: NonNull<u8>,
    /// Slots less one; slots are a power of two. 0 for the shared window, which has no slots at all.
    mask: usize,
    memory: Memory,
}

impl Generation {
    /// A generation without slots, which needs no memory. Looking a key up in it finds nothing.
    #[inline]
    pub(crate) const fn without_slots() -> Self {
        let tags = NonNull::from_ref(&EMPTY_TAGS).cast();
        Self { tags, mask: 0, memory: Memory::Shared }
    }

    /// An empty generation of `slots` (a power of two from 4 up, or 0).
    ///
    /// O(1) where the memory is known to be zero, else the time to clear the tags.
    pub(crate) fn new(slots: usize, entry: EntryLayout) -> Result<Self, TryReserveError> {
        if slots == 0 {
            return Ok(Self::without_slots());
        }
        debug_assert!(slots.is_power_of_two() && slots >= 4);
        let tag_bytes = slots.checked_add(WIDTH).ok_or(TryReserveError::CapacityOverflow)?;
        let data = slots.checked_mul(entry.size).ok_or(TryReserveError::CapacityOverflow)?;
        let align = entry.align.max(WIDTH);
        let small = data.checked_next_multiple_of(align).and_then(|offset| offset.checked_add(tag_bytes));
        match small {
            Some(bytes) if bytes <= pacing::BUMP_BYTES => {
                let layout =
                    Layout::from_size_align(bytes, align).map_err(|_| TryReserveError::CapacityOverflow)?;
                Self::new_small(slots, layout)
            }
            _ => Self::new_arena(slots, data, tag_bytes, align.max(PAGE)),
        }
    }

    fn new_small(slots: usize, layout: Layout) -> Result<Self, TryReserveError> {
        let failed = |_| TryReserveError::AllocError { layout };
        let bump = Bump::try_with_capacity(layout.size() + layout.align() - WIDTH).map_err(failed)?;
        let base = bump.try_alloc_layout(layout).map_err(failed)?;
        let offset = layout.size() - slots - WIDTH;
        // SAFETY: `offset + slots + 16` is the size of the allocation at `base`, which nobody else uses. `offset` is
        // a multiple of the entry's alignment, and so the tags are aligned for entries below them.
        let tags = unsafe {
            let tags = base.add(offset);
            tags.write_bytes(Tag::EMPTY.0, slots + WIDTH);
            tags
        };
        Ok(Self { tags, mask: slots - 1, memory: Memory::Small(bump) })
    }

    fn new_arena(slots: usize, data: usize, tag_bytes: usize, align: usize) -> Result<Self, TryReserveError> {
        let slack = if align > UNIT { align } else { 0 };
        let bytes = data
            .checked_next_multiple_of(align)
            .and_then(|offset| offset.checked_add(tag_bytes)?.checked_add(slack))
            .filter(|&bytes| bytes <= isize::MAX as usize - UNIT)
            .ok_or(TryReserveError::CapacityOverflow)?;
        let failed = || match Layout::from_size_align(bytes, PAGE) {
            Ok(layout) => TryReserveError::AllocError { layout },
            Err(_) => TryReserveError::CapacityOverflow,
        };
        #[cfg(test)]
        if crate::tests::failures::is_due() {
            return Err(failed());
        }
        let mut region = Region::new(bytes).ok_or_else(failed)?;
        let base = region.base().addr().get();
        let offset = (base + data).next_multiple_of(align) - base;
        debug_assert!(offset + tag_bytes <= region.len());
        region.zero(offset..offset + tag_bytes);
        // SAFETY: the offset is within the region: a base on a unit boundary makes it `data` rounded up, a more
        // aligned offset is less than `slack` beyond.
        let tags = unsafe { region.base().add(offset) };
        Ok(Self { tags, mask: slots - 1, memory: Memory::Arena(region, offset) })
    }

    /// Number of slots.
    #[inline]
    pub(crate) const fn slots(&self) -> usize {
        if self.mask == 0 { 0 } else { self.mask + 1 }
    }

    /// Position of the home of `hash`.
    #[inline]
    pub(crate) const fn home(&self, hash: u64) -> usize {
        hash as usize & self.mask
    }

    /// Slots less one.
    #[inline]
    pub(crate) const fn mask(&self) -> usize {
        self.mask
    }

    /// The first tag.
    #[inline]
    pub(crate) const fn tags(&self) -> NonNull<u8> {
        self.tags
    }

    /// The entry of slot `slot`. Valid to read if the slot is full, to write if there is such a slot.
    #[inline]
    pub(crate) const fn entry<T>(&self, slot: usize) -> NonNull<T> {
        debug_assert!(slot <= self.mask);
        // SAFETY: entry `slot` ends `slot` entries below the tags, within the allocation, whose size in bytes fits
        // an `isize`. Slot numbers come from masks and windows, which end at `mask`.
        unsafe { self.tags.cast::<T>().sub(slot + 1) }
    }

    /// The tag of slot `slot`.
    #[inline]
    pub(crate) const fn tag(&self, slot: usize) -> Tag {
        debug_assert!(slot <= self.mask);
        // SAFETY: tags up to `mask` are readable.
        Tag(unsafe { self.tags.add(slot).read() })
    }

    /// Sets the tag of slot `slot` and its copy.
    ///
    /// # Safety
    /// The generation has slots, `slot` is one of them, and if the tag says full, its entry is initialized.
    #[inline]
    pub(crate) unsafe fn set_tag(&mut self, slot: usize, tag: Tag) {
        debug_assert!(self.mask != 0 && slot <= self.mask);
        // The copy of a slot below 16 is behind the last tag; other slots are "copied" to themselves.
        let copy = (slot.wrapping_sub(WIDTH) & self.mask) + WIDTH;
        // SAFETY: `slot <= mask` and `copy <= mask + 16`, and `mask + 17` tags are writable.
        unsafe {
            self.tags.add(slot).write(tag.0);
            self.tags.add(copy).write(tag.0);
        }
    }

    /// The window at position `position`.
    #[inline]
    pub(crate) const fn window_at(&self, position: usize) -> *const u8 {
        debug_assert!(position <= self.mask);
        // SAFETY: positions up to `mask` are within the tags.
        unsafe { self.tags.add(position).as_ptr() }
    }

    /// Loads the window at position `position`.
    #[inline]
    pub(crate) fn window(&self, position: usize) -> Window {
        // SAFETY: behind each position up to `mask` there are sixteen tags, copies included.
        unsafe { Window::load(self.window_at(position)) }
    }

    /// Number of the full slot with this hash whose entry `is_same`.
    #[inline]
    pub(crate) fn find<T>(&self, hash: u64, mut is_same: impl FnMut(&T) -> bool) -> Option<usize> {
        let tag = Tag::full(hash);
        let mut position = self.home(hash);
        let mut stride = 0;
        loop {
            let window = self.window(position);
            let mut candidates = window.equal(tag);
            while candidates.any() {
                let slot = (position + candidates.first()) & self.mask;
                // SAFETY: its tag says that the slot is full, so the entry is initialized, and it is only read.
                if is_same(unsafe { self.entry::<T>(slot).as_ref() }) {
                    return Some(slot);
                }
                candidates = candidates.without_first();
            }
            if window.empty().any() {
                return None;
            }
            stride += WIDTH;
            position = (position + stride) & self.mask;
        }
    }

    /// As [`find`](Self::find), and if there is none, the first vacant slot in its probe order.
    #[inline]
    pub(crate) fn find_or_vacant<T>(
        &self,
        hash: u64,
        mut is_same: impl FnMut(&T) -> bool,
    ) -> Result<usize, usize> {
        let tag = Tag::full(hash);
        let mut position = self.home(hash);
        let mut stride = 0;
        let mut vacant = None;
        loop {
            let window = self.window(position);
            let mut candidates = window.equal(tag);
            while candidates.any() {
                let slot = (position + candidates.first()) & self.mask;
                // SAFETY: its tag says that the slot is full, so the entry is initialized, and it is only read.
                if is_same(unsafe { self.entry::<T>(slot).as_ref() }) {
                    return Ok(slot);
                }
                candidates = candidates.without_first();
            }
            if vacant.is_none() {
                vacant = self.vacant_in(position, window.vacant());
            }
            if window.empty().any() {
                // An empty slot is vacant, so one was found in this window at the latest.
                return Err(self.really_vacant(vacant.unwrap_or(position)));
            }
            stride += WIDTH;
            position = (position + stride) & self.mask;
        }
    }

    /// The first slot for an entry with this hash. There must be one.
    #[inline]
    pub(crate) fn find_vacant(&self, hash: u64) -> usize {
        let mut position = self.home(hash);
        let mut stride = 0;
        loop {
            if let Some(slot) = self.vacant_in(position, self.window(position).vacant()) {
                return self.really_vacant(slot);
            }
            stride += WIDTH;
            position = (position + stride) & self.mask;
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

    /// Marks all slots empty.
    pub(crate) fn clear_tags(&mut self) {
        if self.mask != 0 {
            // SAFETY: `mask + 17` tags are writable.
            unsafe { self.tags.write_bytes(Tag::EMPTY.0, self.mask + 1 + WIDTH) };
        }
    }

    /// Copies the tags of `other`.
    ///
    /// # Safety
    /// `other` has as many slots. Entries of slots that are full there are initialized before they are used here.
    pub(crate) unsafe fn copy_tags(&mut self, other: &Self) {
        debug_assert_eq!(self.mask, other.mask);
        if self.mask != 0 {
            // SAFETY: both have `mask + 17` tags, in different allocations.
            unsafe { self.tags.copy_from_nonoverlapping(other.tags, self.mask + 1 + WIDTH) };
        }
    }

    /// Bytes of the memory behind it, as it was asked for.
    pub(crate) fn bytes(&self) -> usize {
        match &self.memory {
            Memory::Shared => 0,
            Memory::Small(bump) => bump.allocated_bytes(),
            Memory::Arena(region, _) => region.len(),
        }
    }

    /// Resident bytes. A system call for arenas.
    pub(crate) fn resident_bytes(&self) -> usize {
        match &self.memory {
            Memory::Arena(region, _) => region.resident_bytes(),
            _ => self.bytes(),
        }
    }

    /// Declares the entry bytes dead that lie from `from` to `to` bytes below the tags.
    ///
    /// # Safety
    /// No entry that touches them is read or written again.
    pub(crate) unsafe fn retire_entries(&self, from: usize, to: usize) -> usize {
        debug_assert!(from <= to);
        match &self.memory {
            Memory::Arena(region, tags) => {
                debug_assert!(to <= *tags);
                // SAFETY: the caller vouches that nothing there is accessed again.
                unsafe { region.retire(tags - to..tags - from) }
            }
            _ => 0,
        }
    }

    /// Declares tags `from..to` dead, of `tags_len`.
    ///
    /// # Safety
    /// No tag of the generation is read or written again.
    pub(crate) unsafe fn retire_tags(&self, from: usize, to: usize) -> usize {
        debug_assert!(from <= to && to <= self.tags_len());
        match &self.memory {
            // SAFETY: the caller vouches that nothing there is accessed again.
            Memory::Arena(region, tags) => unsafe { region.retire(tags + from..tags + to) },
            _ => 0,
        }
    }

    /// Tags and copies, in bytes.
    pub(crate) const fn tags_len(&self) -> usize {
        self.mask + 1 + WIDTH
    }

    /// Whether the memory is an arena.
    pub(crate) const fn is_arena(&self) -> bool {
        matches!(self.memory, Memory::Arena(..))
    }
}
