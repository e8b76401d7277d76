//! [`Memory`]: where the bytes of a generation lie. A function of its slots and the type of its entries.
//!
//! No state, no locks.
#![allow(unsafe_code, reason = "layouts that were checked once")]

use core::alloc::Layout;

use crate::generation::window::WIDTH;

/// Regions separate entries from tags by whole pages, so that entries can be retired without the tags.
pub(crate) const PAGE: usize = 4096;
/// Alignment of a region's base.
const UNIT: usize = 64 << 10;
/// Largest table, in bytes, that lies in a block of the global allocator. Smaller under test.
const BLOCK_BYTES: usize = if cfg!(any(test, fuzzing)) { 512 } else { 128 << 10 };

/// Where the bytes of a generation come from: a function of its slots and the type of its entries, so that it needs
/// no room in the map.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Memory {
    /// The shared window. There is nothing to free.
    Shared,
    /// A block of the global allocator. The tags start at this offset.
    Block(Layout, usize),
    /// An arena of so many bytes. The tags start at this offset from its base.
    Arena(usize, usize),
}

impl Memory {
    /// What memory a generation of `slots` has. `None` if it does not fit the address space.
    pub(crate) const fn of<T>(slots: usize) -> Option<Self> {
        if slots == 0 {
            return Some(Self::Shared);
        }
        // Each sum below is less than twice this one.
        let Some(entries) = slots.checked_mul(size_of::<T>() + 1) else { return None };
        let Some(bytes) = entries.checked_add(2 * UNIT + 2 * align_of::<T>()) else { return None };
        // SAFETY: the slots are more than 0 and fit.
        if bytes > isize::MAX as usize { None } else { Some(unsafe { Self::of_valid::<T>(slots) }) }
    }

    /// As [`of`](Self::of), without asking.
    ///
    /// # Safety
    /// That one does not return `None` for `slots`, which are not 0.
    #[inline]
    pub(crate) const unsafe fn of_valid<T>(slots: usize) -> Self {
        let align = if align_of::<T>() > WIDTH { align_of::<T>() } else { WIDTH };
        let data = slots * size_of::<T>();
        let offset = (data + align - 1) & !(align - 1);
        let bytes = offset + slots + WIDTH;
        if bytes <= BLOCK_BYTES || align > UNIT {
            // SAFETY: an alignment is a power of two, and that the size fits says the caller.
            return Self::Block(unsafe { Layout::from_size_align_unchecked(bytes, align) }, offset);
        }
        let align = if align > PAGE { align } else { PAGE };
        let offset = (data + align - 1) & !(align - 1);
        Self::Arena((offset + slots + WIDTH + UNIT - 1) & !(UNIT - 1), offset)
    }
}
