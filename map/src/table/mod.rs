//! [`Table`]: the raw table behind the map. One generation in the steady state, two during a change.
//!
//! Where a key lives: during a change, in the old generation if the frontier of evacuation has not passed its home there,
//! else in `main`, or, if its probe ran past the frontier, still in the old one. So a lookup probes one generation, and
//! a second one only if the home is passed and `main` has no such key. The steady state pays one predicted branch; the
//! rest is out of line.
//!
//! Invariants, checked by `verify`:
//! - `items` counts the entries of both generations, `old().items` those of the old one;
//! - `growth_left` more empty slots of `main` may be used; during a change it is never less than `old().items`, so that
//!   all entries fit, whatever the hasher answers;
//! - each generation has an empty slot, so each probe ends.
//!
//! A shared reference never moves anything. No locks, except where statistics are published.
#![allow(unsafe_code, reason = "entries in raw memory, told initialized by their tags")]

mod boxed;
pub(crate) mod change;
mod clone;
pub(crate) mod scan;
mod size;
mod verify;

use core::panic::RefUnwindSafe;
use core::ptr::NonNull;

use crate::generation::Generation;
use crate::generation::error::TryReserveError;
use crate::generation::tag::Tag;
use crate::stats::life::{Brief, Extra};
use crate::table::boxed::try_box;
use crate::table::change::old::Old;
use crate::table::change::pacing;

/// A slot of one of the generations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) slot: usize,
    pub(crate) in_old: bool,
}

impl Place {
    const fn main(slot: usize) -> Self {
        Self { slot, in_old: false }
    }

    const fn old(slot: usize) -> Self {
        Self { slot, in_old: true }
    }
}

/// See the module.
pub(crate) struct Table<T> {
    pub(crate) main: Generation<T>,
    /// Empty slots of `main` that may still be used. Each entry of the old generation has one of them reserved.
    pub(crate) growth_left: usize,
    /// Entries in both generations.
    pub(crate) items: usize,
    /// A removal that leaves fewer entries than this starts a shrink. 0 while there is a change.
    pub(crate) shrink_at: usize,
    /// The generation that is being evacuated, and whatever else most tables do without.
    pub(crate) extra: Option<Box<Extra<T>>>,
    pub(crate) brief: Brief,
}

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
    pub(crate) const NAMED: u8 = 2;
    /// Flag: the table does not shrink by itself.
    const GROW_ONLY: u8 = 4;

    /// Flag: `main` is larger than the caches.
    pub(crate) const LARGE: u8 = 8;

    #[inline]
    pub(crate) const fn new() -> Self {
        Self {
            main: Generation::without_slots(),
            growth_left: 0,
            items: 0,
            shrink_at: 0,
            extra: None,
            brief: Brief::new(),
        }
    }

    pub(crate) fn with_capacity(capacity: usize) -> Result<Self, TryReserveError> {
        let slots = pacing::slots_for(capacity).ok_or(TryReserveError::CapacityOverflow)?;
        let mut table = Self::new();
        table.main = Generation::new_whole(slots)?;
        table.growth_left = pacing::load_limit(slots);
        table.brief.begin(slots);
        table.brief.ask();
        table.raise_floor(capacity)?;
        table.publish_all();
        Ok(table)
    }

    /// Entries that fit before the table grows.
    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.items + self.growth_left - self.old_items()
    }

    /// Whether there are two generations.
    #[inline]
    pub(crate) const fn is_changing(&self) -> bool {
        self.brief.flags & Self::CHANGING != 0
    }

    /// Whether each write is published.
    #[inline]
    pub(crate) const fn is_named(&self) -> bool {
        self.brief.flags & Self::NAMED != 0
    }

    /// Whether a write needs to see to `main` alone: there is no change, and nobody to tell.
    #[inline]
    pub(crate) const fn is_plain(&self) -> bool {
        self.brief.flags & (Self::CHANGING | Self::NAMED) == 0
    }

    /// Whether a lookup needs to see to `main` alone, and nothing to fetch.
    #[inline]
    const fn is_simple(&self) -> bool {
        self.brief.flags & (Self::CHANGING | Self::LARGE) == 0
    }

    /// Whether the table shrinks by itself.
    #[inline]
    pub(crate) const fn auto_shrink(&self) -> bool {
        self.brief.flags & Self::GROW_ONLY == 0
    }

    pub(crate) fn set_auto_shrink(&mut self, on: bool) {
        self.brief.flags &= !Self::GROW_ONLY;
        self.brief.flags |= if on { 0 } else { Self::GROW_ONLY };
        self.update_shrink_at();
    }

    /// The generation that is being evacuated.
    #[inline]
    pub(crate) fn old(&self) -> Option<&Old<T>> {
        self.extra.as_ref()?.old.as_ref()
    }

    #[inline]
    pub(crate) fn old_mut(&mut self) -> Option<&mut Old<T>> {
        self.extra.as_mut()?.old.as_mut()
    }

    /// Begins a change, for which there is the extra part already.
    pub(crate) fn set_old(&mut self, old: Old<T>) {
        let Some(extra) = &mut self.extra else { return };
        extra.old = Some(old);
        self.brief.flags |= Self::CHANGING;
    }

    /// Ends a change.
    pub(crate) fn take_old(&mut self) -> Option<Old<T>> {
        self.brief.flags &= !Self::CHANGING;
        self.extra.as_mut()?.old.take()
    }

    /// The extra part, made if there is none.
    pub(crate) fn need_extra(&mut self) -> Result<&mut Extra<T>, TryReserveError> {
        let extra = match self.extra.take() {
            Some(extra) => extra,
            None => try_box(Extra::new())?,
        };
        Ok(self.extra.insert(extra))
    }

    /// The capacity that the user asked for.
    pub(crate) fn floor(&self) -> usize {
        self.extra.as_ref().map_or(0, |extra| extra.floor)
    }

    /// Notes that the user asked for a capacity. Small ones need no note: no automatic shrink goes below them.
    pub(crate) fn raise_floor(&mut self, capacity: usize) -> Result<(), TryReserveError> {
        if capacity > pacing::LEAST_FLOOR {
            let extra = self.need_extra()?;
            extra.floor = extra.floor.max(capacity);
        }
        self.update_shrink_at();
        Ok(())
    }

    /// Sets what the user asked for anew, as for [`raise_floor`](Self::raise_floor).
    pub(crate) fn set_floor(&mut self, capacity: usize) -> Result<(), TryReserveError> {
        if let Some(extra) = &mut self.extra {
            extra.floor = 0;
        }
        self.raise_floor(capacity)
    }

    /// Whether a vacant slot of `main` may be filled, in the steady state: empty ones only up to the load limit.
    #[inline]
    pub(crate) const fn can_fill_main(&self, slot: usize) -> bool {
        self.growth_left > 0 || !self.main.tag(slot).is_empty()
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
            _ => &self.main,
        }
    }

    /// The entry at `place`.
    #[inline]
    pub(crate) fn entry(&self, place: Place) -> NonNull<T> {
        if place.in_old { self.generation(true).entry(place.slot) } else { self.main.entry(place.slot) }
    }

    /// The entry with this hash that `is_same`.
    #[inline]
    pub(crate) fn get(&self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<NonNull<T>> {
        if !self.is_simple() {
            return self.get_split(hash, is_same);
        }
        self.main.find(hash, is_same).map(|slot| self.main.entry(slot))
    }

    #[cold]
    #[inline(never)]
    fn get_split(&self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<NonNull<T>> {
        if self.main.is_large() {
            self.main.fetch_entries(hash);
        }
        self.find_split(hash, is_same).map(|place| self.entry(place))
    }

    /// Finds an entry in two generations, or in one that is large.
    #[inline]
    fn find_split(&self, hash: u64, mut is_same: impl FnMut(&T) -> bool) -> Option<Place> {
        let Some(old) = self.old() else {
            return self.main.find(hash, is_same).map(Place::main);
        };
        if old.is_passed(hash) {
            let found = self.main.find(hash, &mut is_same).map(Place::main);
            if found.is_some() || old.items == 0 {
                return found;
            }
        }
        old.generation.find(hash, is_same).map(Place::old)
    }

    /// As [`get`](Self::get), for an entry that is about to be removed: does its share of a change.
    #[inline]
    pub(crate) fn find_to_remove(
        &mut self,
        hash: u64,
        is_same: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Option<Place> {
        if self.is_changing() {
            return self.find_to_remove_split(hash, is_same, hasher);
        }
        self.main.find(hash, is_same).map(Place::main)
    }

    #[cold]
    #[inline(never)]
    fn find_to_remove_split(
        &mut self,
        hash: u64,
        is_same: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Option<Place> {
        self.grow_work(&hasher);
        self.find_split(hash, is_same)
    }

    /// The place of the entry with this hash that `is_same`, or else a vacant place that can be [filled](Self::fill)
    /// with one. Grows the table if need be, and does its share of a change.
    #[inline]
    pub(crate) fn find_or_place(
        &mut self,
        hash: u64,
        is_same: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Result<Place, Place> {
        if self.is_changing() {
            return self.find_or_place_split(hash, is_same, hasher);
        }
        self.find_or_place_steady(hash, is_same, hasher)
    }

    /// As [`find_or_place`](Self::find_or_place), without a change under way.
    #[inline]
    fn find_or_place_steady(
        &mut self,
        hash: u64,
        is_same: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Result<Place, Place> {
        match self.main.find_or_vacant(hash, is_same) {
            Ok(slot) => Ok(Place::main(slot)),
            Err(slot) if self.can_fill_main(slot) => Err(Place::main(slot)),
            Err(_) => Err(self.place_after_growth(hash, hasher)),
        }
    }

    #[cold]
    #[inline(never)]
    fn find_or_place_split(
        &mut self,
        hash: u64,
        mut is_same: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Result<Place, Place> {
        self.grow_work(&hasher);
        let Some(old) = self.old() else {
            return self.find_or_place_steady(hash, is_same, hasher);
        };
        let room = self.growth_left > old.items;
        let found = if old.is_passed(hash) {
            let found = self
                .main
                .find_or_vacant(hash, &mut is_same)
                .map(Place::main)
                .map_err(|slot| (room || !self.main.tag(slot).is_empty()).then_some(Place::main(slot)));
            match found {
                Err(_) if old.items > 0 => match old.generation.find(hash, is_same) {
                    Some(slot) => Ok(Place::old(slot)),
                    None => found,
                },
                _ => found,
            }
        } else {
            old.generation
                .find_or_vacant(hash, is_same)
                .map(Place::old)
                .map_err(|slot| (room && old.can_fill(slot)).then_some(Place::old(slot)))
        };
        found.map_err(|vacant| vacant.unwrap_or_else(|| self.vacant_place(hash, &hasher)))
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn place_after_growth(&mut self, hash: u64, hasher: impl Fn(&T) -> u64) -> Place {
        if self.main.slots() == 0 && self.extra.is_none() {
            // The first entry of most maps. No table so small shrinks by itself.
            const { assert!(pacing::shrink_below(pacing::FIRST_SLOTS, 0) == 0) };
            self.main = Generation::new(pacing::FIRST_SLOTS).unwrap_or_else(|error| error.raise());
            self.growth_left = pacing::load_limit(pacing::FIRST_SLOTS);
            self.brief.begin(pacing::FIRST_SLOTS);
            if self.main.is_large() {
                self.update_shrink_at();
            }
        } else {
            self.grow(&hasher);
        }
        self.vacant_place(hash, &hasher)
    }

    /// Starts the change that a table at its load limit needs.
    fn grow(&mut self, hasher: &impl Fn(&T) -> u64) {
        let change = pacing::at_limit(self.items, self.main.slots());
        let (kind, slots) = change.unwrap_or_else(|| TryReserveError::CapacityOverflow.raise());
        self.change(kind, slots, hasher).unwrap_or_else(|error| error.raise());
    }

    /// A place for an entry with this hash, which is not in the table.
    fn vacant_place(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) -> Place {
        loop {
            if self.is_changing() {
                if let Some(place) = self.vacant_place_split(hash) {
                    return place;
                }
                // The pacing keeps this from happening, unless a reservation was smaller than the writes of a change,
                // or the hasher clusters or lies.
                self.finish(hasher);
            }
            let slot = self.main.find_vacant(hash);
            if self.can_fill_main(slot) {
                return Place::main(slot);
            }
            self.grow(hasher);
        }
    }

    /// A place during a change. None if the bounds of a generation are reached, so that the change must end first.
    fn vacant_place_split(&self, hash: u64) -> Option<Place> {
        let old = self.old()?;
        let room = self.growth_left > old.items;
        if !old.is_passed(hash) {
            let slot = old.generation.find_vacant(hash);
            return (room && old.can_fill(slot)).then_some(Place::old(slot));
        }
        let slot = self.main.find_vacant(hash);
        (room || !self.main.tag(slot).is_empty()).then_some(Place::main(slot))
    }

    /// Puts `value` at the vacant `place`, which was found for this hash.
    ///
    /// # Safety
    /// The place came from [`find_or_place`](Self::find_or_place), and the table did not change since.
    #[inline]
    pub(crate) unsafe fn fill(&mut self, place: Place, hash: u64, value: T) -> NonNull<T> {
        let entry = match self.old_mut() {
            Some(old) if place.in_old => {
                // SAFETY: the place is vacant, and it is in `old`, where it was found.
                let entry = unsafe { old.fill(place.slot, hash, value) };
                self.items += 1;
                entry
            }
            // SAFETY: the place is a vacant slot of `main`, where it was found.
            _ => unsafe { self.fill_main(place.slot, hash, value) },
        };
        if self.is_named() {
            self.publish_len();
        }
        entry
    }

    /// Puts `value` into a vacant slot of `main`, which was found for this hash. Tells nobody.
    ///
    /// # Safety
    /// The slot is vacant, and `growth_left` is not 0 if it is empty.
    #[inline]
    pub(crate) unsafe fn fill_main(&mut self, slot: usize, hash: u64, value: T) -> NonNull<T> {
        debug_assert!(!self.main.tag(slot).is_full());
        self.growth_left -= usize::from(self.main.tag(slot).is_empty());
        let entry = self.main.entry(slot);
        // SAFETY: the slot exists and is vacant, so that nothing is overwritten. The entry is written before the tag
        // says so.
        unsafe {
            entry.write(value);
            self.main.set_tag(slot, Tag::full(hash));
        }
        self.items += 1;
        entry
    }

    /// Takes the entry at `place` out.
    ///
    /// # Safety
    /// The place is full.
    #[inline]
    pub(crate) unsafe fn take(&mut self, place: Place) -> T {
        let entry = match self.old_mut() {
            Some(old) if place.in_old => {
                // SAFETY: the place is full, and in `old`. Vacating the slot passes the entry to the caller.
                let entry = unsafe {
                    old.vacate(place.slot);
                    old.generation.entry(place.slot).read()
                };
                self.items -= 1;
                entry
            }
            // SAFETY: the place is a full slot of `main`.
            _ => unsafe { self.take_main(place.slot) },
        };
        if self.is_named() {
            self.publish_len();
        }
        entry
    }

    /// Takes the entry of a slot of `main` out. Tells nobody.
    ///
    /// # Safety
    /// The slot is full.
    #[inline]
    pub(crate) unsafe fn take_main(&mut self, slot: usize) -> T {
        self.items -= 1;
        // SAFETY: the slot is full; reading the entry and vacating the slot passes it to the caller.
        unsafe {
            self.growth_left += usize::from(self.main.vacate(slot));
            self.main.entry(slot).read()
        }
    }
}

impl<T> Drop for Table<T> {
    #[inline]
    fn drop(&mut self) {
        if self.extra.is_some() {
            self.withdraw();
        }
        self.drop_entries();
    }
}
