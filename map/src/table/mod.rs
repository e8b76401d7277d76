//! [`Table`]: the raw table behind the map. One generation in the steady state, two during a change.
//!
//! Where a key lives: during a change, in the old generation if the frontier of evacuation has not passed its home there,
//! else in `current`, or, if its probe ran past the frontier, still in the old one. So a lookup probes one generation, and
//! a second one only if the home is passed and `current` has no such key. The steady state pays one predicted branch; the
//! rest is out of line.
//!
//! Invariants, checked by `verify`:
//! - `items` counts the entries of both generations, `old().items` those of the old one;
//! - `current` has room for more entries, during a change for at least `old().items`, so that all fit, whatever the
//!   hasher answers;
//! - each generation has an empty slot, so each probe ends.
//!
//! A shared reference never moves anything. No locks, except where statistics are published.
#![allow(unsafe_code, reason = "entries in raw memory, told initialized by their tags")]

mod boxed;
pub(crate) mod change;
mod clone;
mod current;
mod extra;
mod figures;
mod lookup;
#[cfg(feature = "rayon")]
pub(crate) mod pieces;
mod resize;
pub(crate) mod scan;
mod size;
mod verify;

use core::panic::RefUnwindSafe;
use core::ptr::NonNull;

use crate::generation::Generation;
use crate::generation::error::TryReserveError;
use crate::stats::brief::Brief;
use crate::table::change::old::Old;
use crate::table::change::{Change, pacing};
use crate::table::current::Current;
use crate::table::extra::Extra;

/// A slot of one of the generations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) slot: usize,
    pub(crate) in_old: bool,
}

impl Place {
    const fn current(slot: usize) -> Self {
        Self { slot, in_old: false }
    }

    const fn old(slot: usize) -> Self {
        Self { slot, in_old: true }
    }
}

/// See the module.
pub(crate) struct Table<T> {
    pub(crate) current: Current<T>,
    /// Entries in both generations.
    items: usize,
    /// A removal that leaves fewer entries than this starts a shrink. 0 while there is a change.
    shrink_at: usize,
    /// The change under way, and whatever else most tables do without.
    extra: Option<Box<Extra<T>>>,
    /// See the constants of [`Table`].
    flags: u8,
    brief: Brief,
}

static_assertions::const_assert_eq!(size_of::<Table<u64>>(), 6 * size_of::<usize>() + 8);

// SAFETY: the table owns its entries and its memory, which belongs to no thread.
unsafe impl<T: Send> Send for Table<T> {}
// SAFETY: through `&Table` entries are only read.
unsafe impl<T: Sync> Sync for Table<T> {}
/// Nothing changes through a shared reference, so only entries can be seen during a change. Maps, their iterators and
/// entries have it from here.
impl<T: RefUnwindSafe> RefUnwindSafe for Table<T> {}

impl<T> Table<T> {
    /// Flag: there are two generations.
    const CHANGING: u8 = 1;
    /// Flag: the length is published with each write.
    const NAMED: u8 = 2;
    /// Flag: the table does not shrink by itself.
    const GROW_ONLY: u8 = 4;
    /// Flag: `current` is larger than the caches.
    const LARGE: u8 = 8;

    #[inline]
    pub(crate) const fn new() -> Self {
        Self {
            current: Current::without_slots(),
            items: 0,
            shrink_at: 0,
            extra: None,
            flags: 0,
            brief: Brief::new(),
        }
    }

    pub(crate) fn with_capacity(capacity: usize) -> Result<Self, TryReserveError> {
        let slots = pacing::slots_for(capacity).ok_or(TryReserveError::CapacityOverflow)?;
        let mut table = Self::new();
        table.current = Current::new(Generation::new_whole(slots)?, 0);
        table.brief.begin(slots);
        table.brief.ask();
        table.raise_floor(capacity)?;
        table.publish_all();
        Ok(table)
    }

    /// Number of entries.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.items
    }

    /// Entries that fit before the table grows.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.items + self.current.growth_left() - self.old_items()
    }

    /// Whether there are two generations.
    #[inline]
    pub(crate) const fn is_changing(&self) -> bool {
        self.flags & Self::CHANGING != 0
    }

    /// Whether each write is published.
    #[inline]
    pub(crate) const fn is_named(&self) -> bool {
        self.flags & Self::NAMED != 0
    }

    /// Whether a write needs to see to `current` alone: there is no change, and nobody to tell.
    #[inline]
    pub(crate) const fn is_plain(&self) -> bool {
        self.flags & (Self::CHANGING | Self::NAMED) == 0
    }

    #[inline]
    fn change(&self) -> Option<&Change<T>> {
        self.extra.as_ref()?.change.as_ref()
    }

    #[inline]
    fn change_mut(&mut self) -> Option<&mut Change<T>> {
        self.extra.as_mut()?.change.as_mut()
    }

    /// The generation that is being evacuated.
    #[inline]
    pub(crate) fn old(&self) -> Option<&Old<T>> {
        self.change().map(|change| &change.old)
    }

    /// Begins a change, for which there is the extra part already.
    fn set_change(&mut self, change: Change<T>) {
        let Some(extra) = &mut self.extra else { return };
        extra.change = Some(change);
        self.flags |= Self::CHANGING;
    }

    /// Ends a change.
    fn take_change(&mut self) -> Option<Change<T>> {
        self.flags &= !Self::CHANGING;
        self.extra.as_mut()?.change.take()
    }

    /// The extra part, made if there is none.
    fn need_extra(&mut self) -> Result<&mut Extra<T>, TryReserveError> {
        let extra = match self.extra.take() {
            Some(extra) => extra,
            None => Extra::boxed()?,
        };
        Ok(self.extra.insert(extra))
    }

    /// Entries of the old generation.
    #[inline]
    pub(crate) fn old_items(&self) -> usize {
        self.old().map_or(0, |old| old.items)
    }

    #[inline]
    pub(crate) fn generation(&self, in_old: bool) -> &Generation<T> {
        match self.old() {
            Some(old) if in_old => &old.generation,
            _ => &self.current.generation,
        }
    }

    /// The entry at `place`.
    #[inline]
    pub(crate) fn entry(&self, place: Place) -> NonNull<T> {
        if place.in_old {
            self.generation(true).entry(place.slot)
        } else {
            self.current.generation.entry(place.slot)
        }
    }

    /// Puts `value` at the vacant `place`, which was found for this hash.
    ///
    /// # Safety
    /// The place came from [`find_or_place`](Self::find_or_place), and the table did not change since.
    #[inline]
    pub(crate) unsafe fn fill(&mut self, place: Place, hash: u64, value: T) -> NonNull<T> {
        let entry = match self.change_mut() {
            Some(change) if place.in_old => {
                // SAFETY: the place is vacant, and it is in the old generation, where it was found.
                let entry = unsafe { change.old.fill(place.slot, hash, value) };
                self.items += 1;
                entry
            }
            // SAFETY: the place is a vacant slot of `current`, where it was found.
            _ => unsafe { self.fill_current(place.slot, hash, value) },
        };
        if self.is_named() {
            self.publish_len();
        }
        entry
    }

    /// Puts `value` into a vacant slot of `current`, which was found for this hash. Publishes nothing.
    ///
    /// # Safety
    /// The slot is vacant, and [can be filled](Current::can_fill).
    #[inline]
    pub(crate) unsafe fn fill_current(&mut self, slot: usize, hash: u64, value: T) -> NonNull<T> {
        // SAFETY: passed on to the caller.
        let entry = unsafe { self.current.fill(slot, hash, value) };
        self.items += 1;
        entry
    }

    /// Takes the entry at `place` out.
    ///
    /// # Safety
    /// The place is full.
    #[inline]
    pub(crate) unsafe fn take(&mut self, place: Place) -> T {
        let entry = match self.change_mut() {
            Some(change) if place.in_old => {
                // SAFETY: the place is full, and in the old generation.
                let entry = unsafe { change.old.take(place.slot) };
                self.items -= 1;
                entry
            }
            // SAFETY: the place is a full slot of `current`.
            _ => unsafe { self.take_current(place.slot) },
        };
        if self.is_named() {
            self.publish_len();
        }
        entry
    }

    /// Takes the entry of a slot of `current` out. Publishes nothing.
    ///
    /// # Safety
    /// The slot is full.
    #[inline]
    pub(crate) unsafe fn take_current(&mut self, slot: usize) -> T {
        self.items -= 1;
        // SAFETY: passed on to the caller.
        unsafe { self.current.take(slot) }
    }
}

impl<T> Drop for Table<T> {
    #[inline]
    fn drop(&mut self) {
        // First: an entry's drop may look at the rows.
        if let Some(extra) = &mut self.extra {
            extra.life.listing.withdraw();
        }
        self.drop_entries();
    }
}
