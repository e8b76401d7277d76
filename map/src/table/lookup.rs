//! Finding entries of a [`Table`], and places for new ones. The steady state is inlined, changes are out of line. No locks.

use core::ptr::NonNull;

use crate::generation::Generation;
use crate::generation::error::TryReserveError;
use crate::table::change::old::Old;
use crate::table::change::pacing;
use crate::table::current::Current;
use crate::table::{Place, Table};

impl<T> Table<T> {
    /// Whether a lookup needs to see to `current` alone, and nothing to fetch.
    #[inline]
    const fn is_simple(&self) -> bool {
        self.flags & (Self::CHANGING | Self::LARGE) == 0
    }

    /// The entry with this hash that `is_same`.
    #[inline]
    pub(crate) fn get(&self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<NonNull<T>> {
        if !self.is_simple() {
            return self.get_split(hash, is_same);
        }
        self.current.generation.find(hash, is_same).map(|slot| self.current.generation.entry(slot))
    }

    #[cold]
    #[inline(never)]
    fn get_split(&self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<NonNull<T>> {
        if self.current.generation.is_large() {
            self.current.generation.fetch_entries(hash);
        }
        self.find_split(hash, is_same).map(|place| self.entry(place))
    }

    /// Finds an entry in two generations, or in one that is large.
    #[inline]
    fn find_split(&self, hash: u64, mut is_same: impl FnMut(&T) -> bool) -> Option<Place> {
        let Some(old) = self.old() else {
            return self.current.generation.find(hash, is_same).map(Place::current);
        };
        if old.is_passed(hash) {
            let found = self.current.generation.find(hash, &mut is_same).map(Place::current);
            if found.is_some() {
                return found;
            }
        }
        old.find(hash, is_same).map(Place::old)
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
        self.current.generation.find(hash, is_same).map(Place::current)
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
        match self.current.generation.find_or_vacant(hash, is_same) {
            Ok(slot) => Ok(Place::current(slot)),
            Err(slot) if self.current.can_fill(slot, 0) => Err(Place::current(slot)),
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
        let vacant = if old.is_passed(hash) {
            let slot = match self.current.generation.find_or_vacant(hash, &mut is_same) {
                Ok(slot) => return Ok(Place::current(slot)),
                Err(slot) => slot,
            };
            if let Some(slot) = old.find(hash, is_same) {
                return Ok(Place::old(slot));
            }
            Place::current(slot)
        } else {
            match old.generation.find_or_vacant(hash, is_same) {
                Ok(slot) => return Ok(Place::old(slot)),
                Err(slot) => Place::old(slot),
            }
        };
        if self.can_fill_split(old, vacant) {
            return Err(vacant);
        }
        Err(self.vacant_place(hash, &hasher))
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn place_after_growth(&mut self, hash: u64, hasher: impl Fn(&T) -> u64) -> Place {
        if self.current.generation.slots() == 0 && self.extra.is_none() {
            // The first entry of most maps. No table so small shrinks by itself.
            const { assert!(pacing::shrink_below(pacing::FIRST_SLOTS, 0) == 0) };
            let first = Generation::new(pacing::FIRST_SLOTS).unwrap_or_else(|error| error.raise());
            self.current = Current::new(first, 0);
            self.brief.begin(pacing::FIRST_SLOTS);
            if self.current.generation.is_large() {
                self.update_shrink_at();
            }
        } else {
            self.grow(&hasher);
        }
        self.vacant_place(hash, &hasher)
    }

    /// Starts the change that a table at its load limit needs.
    fn grow(&mut self, hasher: &impl Fn(&T) -> u64) {
        let change = pacing::at_limit(self.items, self.current.generation.slots());
        let (kind, slots) = change.unwrap_or_else(|| TryReserveError::CapacityOverflow.raise());
        self.resize(kind, slots, hasher).unwrap_or_else(|error| error.raise());
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
            let slot = self.current.generation.find_vacant(hash);
            if self.current.can_fill(slot, 0) {
                return Place::current(slot);
            }
            self.grow(hasher);
        }
    }

    /// A place during a change. None if the bounds of a generation are reached, so that the change must end first.
    fn vacant_place_split(&self, hash: u64) -> Option<Place> {
        let old = self.old()?;
        let place = if old.is_passed(hash) {
            Place::current(self.current.generation.find_vacant(hash))
        } else {
            Place::old(old.generation.find_vacant(hash))
        };
        self.can_fill_split(old, place).then_some(place)
    }

    /// Whether a vacant place may be filled during a change: that leaves `current` room for each entry of `old`.
    #[inline]
    fn can_fill_split(&self, old: &Old<T>, place: Place) -> bool {
        if place.in_old {
            self.current.growth_left() > old.items && old.can_fill(place.slot)
        } else {
            self.current.can_fill(place.slot, old.items)
        }
    }
}
