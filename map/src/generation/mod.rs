//! [`Generation`]: the memory of one bucket array.
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
//! Entries are not dropped here: who drops a generation has taken or dropped them before. No locks.
#![allow(unsafe_code, reason = "raw memory of the table")]

pub(crate) mod error;
#[cfg(test)]
pub(crate) mod failures;
mod memory;
mod probing;
mod retire;
pub(crate) mod tag;
pub(crate) mod window;

use core::alloc::Layout;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use ebbtide_alloc::Region;

use crate::generation::error::TryReserveError;
use crate::generation::memory::{Memory, PAGE};
use crate::generation::tag::Tag;
use crate::generation::window::{WIDTH, Window};
use crate::stats::registry::UNNAMED_OWNER;

/// The window that every map without memory shares.
static EMPTY_TAGS: [u8; WIDTH] = [Tag::EMPTY.0; WIDTH];

/// One bucket array of entries `T`.
#[derive(Debug)]
pub(crate) struct Generation<T> {
    /// The first tag. Readable from here: `slots + 16` tags, or 16 of the shared window. Below: the entries.
    tags: NonNull<u8>,
    /// Slots less one; slots are a power of two. 0 for the shared window, which has no slots at all.
    mask: usize,
    marker: PhantomData<T>,
}

impl<T> Generation<T> {
    /// A generation without slots, which needs no memory. Looking a key up in it finds nothing.
    #[inline]
    pub(crate) const fn without_slots() -> Self {
        let tags = NonNull::from_ref(&EMPTY_TAGS).cast();
        Self { tags, mask: 0, marker: PhantomData }
    }

    /// An empty generation of `slots` (a power of two from 4 up, or 0).
    ///
    /// O(1) where the memory is known to be zero, else the time to clear the tags.
    #[inline]
    pub(crate) fn new(slots: usize) -> Result<Self, TryReserveError> {
        Self::new_in(slots, Region::new)
    }

    /// As [`new`](Self::new), for a table that is to be filled soon: one that was reserved, or a clone. It may have
    /// huge pages, which a table that grows by itself does without: the first touch of one would be a pause.
    #[inline]
    pub(crate) fn new_whole(slots: usize) -> Result<Self, TryReserveError> {
        Self::new_in(slots, Region::new_whole)
    }

    #[inline]
    fn new_in(slots: usize, region: fn(usize) -> Option<Region>) -> Result<Self, TryReserveError> {
        debug_assert!(slots == 0 || slots.is_power_of_two() && slots >= 4);
        let tags = match Memory::of::<T>(slots).ok_or(TryReserveError::CapacityOverflow)? {
            Memory::Shared => return Ok(Self::without_slots()),
            Memory::Block(layout, offset) => Self::new_block(layout, offset, slots)?,
            Memory::Arena(bytes, offset) => Self::new_arena(bytes, offset, slots, region)?,
        };
        Ok(Self { tags, mask: slots - 1, marker: PhantomData })
    }

    /// What memory this generation has.
    #[inline]
    pub(crate) const fn memory(&self) -> Memory {
        if self.mask == 0 {
            return Memory::Shared;
        }
        // SAFETY: it was not `None` when the generation was made of as many slots, and they are not 0.
        unsafe { Memory::of_valid::<T>(self.mask + 1) }
    }

    #[inline]
    fn new_block(layout: Layout, offset: usize, slots: usize) -> Result<NonNull<u8>, TryReserveError> {
        // SAFETY: the layout has a size, that of the tags at least. `offset + slots + 16` is its size, and nobody else
        // uses the block. `offset` is a multiple of the entry's alignment, and so the tags are aligned for entries
        // below them.
        unsafe {
            let base = NonNull::new(std::alloc::alloc(layout));
            let tags = base.ok_or(TryReserveError::AllocError { layout })?.add(offset);
            if slots <= WIDTH {
                // Two windows that meet or overlap: without a call.
                tags.write_bytes(Tag::EMPTY.0, WIDTH);
                tags.add(slots).write_bytes(Tag::EMPTY.0, WIDTH);
            } else {
                tags.write_bytes(Tag::EMPTY.0, slots + WIDTH);
            }
            Ok(tags)
        }
    }

    #[cold]
    fn new_arena(
        bytes: usize,
        offset: usize,
        slots: usize,
        region: fn(usize) -> Option<Region>,
    ) -> Result<NonNull<u8>, TryReserveError> {
        let failed = || match Layout::from_size_align(bytes, PAGE) {
            Ok(layout) => TryReserveError::AllocError { layout },
            Err(_) => TryReserveError::CapacityOverflow,
        };
        #[cfg(test)]
        if failures::is_due() {
            return Err(failed());
        }
        let mut region = region(bytes).ok_or_else(failed)?;
        debug_assert_eq!(region.len(), bytes);
        region.zero(offset..offset + slots + WIDTH);
        region.set_owner(UNNAMED_OWNER);
        // SAFETY: the offset is within the region, as is the last tag. Its base is aligned to 64 KiB, so that the tags
        // are aligned for entries below them.
        Ok(unsafe { region.into_raw().add(offset) })
    }

    /// Gives an arena back.
    #[cold]
    fn free_arena(&mut self) {
        drop(self.region().map(ManuallyDrop::into_inner));
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
    pub(crate) const fn entry(&self, slot: usize) -> NonNull<T> {
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
    pub(crate) const fn bytes(&self) -> usize {
        match self.memory() {
            Memory::Shared => 0,
            Memory::Block(layout, _) => layout.size(),
            Memory::Arena(bytes, _) => bytes,
        }
    }

    /// Whether a slot from `first` to `end` is full.
    pub(crate) fn any_full(&self, first: usize, end: usize) -> bool {
        (first..end).step_by(WIDTH).any(|position| {
            let beyond = WIDTH.saturating_sub(end - position);
            self.window(position).full().0 << beyond != 0
        })
    }
}

impl<T> Drop for Generation<T> {
    #[inline]
    fn drop(&mut self) {
        if self.mask == 0 {
            return;
        }
        match self.memory() {
            // SAFETY: the block was allocated with this layout, and its tags start at this offset.
            Memory::Block(layout, offset) => unsafe {
                std::alloc::dealloc(self.tags.as_ptr().sub(offset), layout);
            },
            Memory::Arena(..) => self.free_arena(),
            Memory::Shared => {}
        }
    }
}
