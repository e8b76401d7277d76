//! [`Table`]: the raw table behind the map. One generation in the steady state, two during a change.
//!
//! Where a key lives: during a change, in `old` if its home there is not evacuated yet, else in `main`. So each lookup
//! probes one generation. The steady state pays one predicted branch for that; the rest is out of line.
//!
//! Invariants, checked by `verify`:
//! - `items` counts the entries of both generations, `old.items` those of the old one;
//! - `growth_left` more empty slots of `main` may be used; during a change it is never less than `old.items`, so that
//!   all entries fit, whatever the hasher answers;
//! - each generation has an empty slot, so each probe ends.
//!
//! A shared reference never moves anything. No locks, except where statistics are published.
#![allow(unsafe_code, reason = "entries in raw memory, told initialized by their tags")]

use core::marker::PhantomData;
use core::ptr::NonNull;
use std::sync::Arc;

use crate::error::TryReserveError;
use crate::generation::{EntryLayout, Generation};
use crate::life::{Counts, Life};
use crate::old::Old;
use crate::pacing::{self, ChangeKind};
use crate::registry::Shared;
use crate::scan::Scan;
use crate::tag::Tag;
use crate::window::WIDTH;

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
}

/// See the module.
pub(crate) struct Table<T> {
    pub(crate) main: Generation,
    /// Empty slots of `main` that may still be used. Each entry of `old` has one of them reserved.
    pub(crate) growth_left: usize,
    /// Entries in both generations.
    pub(crate) items: usize,
    /// The generation that is being evacuated. Boxed, so that the map stays small.
    pub(crate) old: Option<Box<Old>>,
    /// A removal that leaves fewer entries than this starts a shrink. 0 while there is a change.
    pub(crate) shrink_at: usize,
    /// The capacity that the user asked for: no automatic shrink goes below it.
    pub(crate) floor: usize,
    pub(crate) counts: Counts,
    pub(crate) auto_shrink: bool,
    /// Times of the changes of larger tables. None for a table that was always small.
    pub(crate) life: Option<Box<Life>>,
    /// What a named map shows to the registry.
    pub(crate) shared: Option<Arc<Shared>>,
    /// The table owns its entries.
    pub(crate) marker: PhantomData<T>,
}

// SAFETY: the table owns its entries and its memory. The bump allocator inside is `Send`, and so are regions; both are
// reached only through `&mut Table` (their sizes through `&Table`: see `Sync`).
unsafe impl<T: Send> Send for Table<T> {}
// SAFETY: through `&Table` entries are only read, and of the bump allocator only `allocated_bytes`, which reads cells
// that nobody writes without `&mut Table`.
unsafe impl<T: Sync> Sync for Table<T> {}

impl<T> Table<T> {
    pub(crate) const ENTRY: EntryLayout = EntryLayout::of::<T>();

    #[inline]
    pub(crate) const fn new() -> Self {
        Self {
            main: Generation::without_slots(),
            growth_left: 0,
            items: 0,
            old: None,
            shrink_at: 0,
            floor: 0,
            counts: Counts::new(),
            auto_shrink: true,
            life: None,
            shared: None,
            marker: PhantomData,
        }
    }

    pub(crate) fn with_capacity(capacity: usize) -> Result<Self, TryReserveError> {
        let slots = pacing::slots_for(capacity).ok_or(TryReserveError::CapacityOverflow)?;
        let mut table = Self::new();
        table.main = Generation::new(slots, Self::ENTRY)?;
        table.growth_left = pacing::load_limit(slots);
        table.floor = capacity;
        table.update_shrink_at();
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
        self.old.is_some()
    }

    /// Whether a vacant slot of `main` may be filled, in the steady state: empty ones only up to the load limit.
    #[inline]
    pub(crate) const fn can_fill_main(&self, slot: usize) -> bool {
        self.growth_left > 0 || !self.main.tag(slot).is_empty()
    }

    /// Entries of the old generation.
    #[inline]
    pub(crate) fn old_items(&self) -> usize {
        self.old.as_ref().map_or(0, |old| old.items)
    }

    #[inline]
    fn generation(&self, in_old: bool) -> &Generation {
        match &self.old {
            Some(old) if in_old => &old.generation,
            _ => &self.main,
        }
    }

    /// The entry at `place`.
    #[inline]
    pub(crate) fn entry(&self, place: Place) -> NonNull<T> {
        self.generation(place.in_old).entry(place.slot)
    }

    /// The entry with this hash that `is_same`.
    #[inline]
    pub(crate) fn get(&self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<NonNull<T>> {
        if self.old.is_some() {
            return self.get_split(hash, is_same);
        }
        self.main.find(hash, is_same).map(|slot| self.main.entry(slot))
    }

    #[cold]
    #[inline(never)]
    fn get_split(&self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<NonNull<T>> {
        let generation = self.owner(hash).0;
        generation.find(hash, is_same).map(|slot| generation.entry(slot))
    }

    /// The generation where an entry with this hash is, and whether it is the old one.
    fn owner(&self, hash: u64) -> (&Generation, bool) {
        match &self.old {
            Some(old) if old.owns(hash) => (&old.generation, true),
            _ => (&self.main, false),
        }
    }

    fn find_split(&self, hash: u64, is_same: impl FnMut(&T) -> bool) -> Option<Place> {
        let (generation, in_old) = self.owner(hash);
        generation.find(hash, is_same).map(|slot| Place { slot, in_old })
    }

    /// As [`get`](Self::get), for an entry that is about to be removed: does its share of a change.
    #[inline]
    pub(crate) fn find_to_remove(
        &mut self,
        hash: u64,
        is_same: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Option<Place> {
        if self.old.is_some() {
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
        if self.old.is_some() {
            return self.find_or_place_split(hash, is_same, hasher);
        }
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
        is_same: impl FnMut(&T) -> bool,
        hasher: impl Fn(&T) -> u64,
    ) -> Result<Place, Place> {
        self.grow_work(&hasher);
        match self.find_split(hash, is_same) {
            Some(place) => Ok(place),
            None => Err(self.vacant_place(hash, &hasher)),
        }
    }

    #[cold]
    #[inline(never)]
    fn place_after_growth(&mut self, hash: u64, hasher: impl Fn(&T) -> u64) -> Place {
        self.vacant_place(hash, &hasher)
    }

    /// A place for an entry with this hash, which is not in the table.
    fn vacant_place(&mut self, hash: u64, hasher: &impl Fn(&T) -> u64) -> Place {
        loop {
            if self.old.is_some() {
                if let Some(place) = self.vacant_place_split(hash) {
                    return place;
                }
                // The pacing keeps this from happening, unless a reservation was smaller than the writes of a change,
                // or the hasher clusters or lies.
                self.finish(hasher).unwrap_or_else(|error| error.raise());
            }
            let slot = self.main.find_vacant(hash);
            if self.can_fill_main(slot) {
                return Place::main(slot);
            }
            let change = pacing::at_limit(self.items, self.main.slots());
            let (kind, slots) = change.unwrap_or_else(|| TryReserveError::CapacityOverflow.raise());
            self.change(kind, slots, hasher).unwrap_or_else(|error| error.raise());
        }
    }

    /// A place during a change. None if the bounds of a generation are reached, so that the change must end first.
    fn vacant_place_split(&self, hash: u64) -> Option<Place> {
        let old = self.old.as_ref()?;
        let room = self.growth_left > old.items;
        if old.owns(hash) {
            let slot = old.vacant_slot(hash)?;
            return room.then_some(Place { slot, in_old: true });
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
        match &mut self.old {
            Some(old) if place.in_old => {
                // SAFETY: the place is vacant, and it is in `old`, where it was found.
                let entry = unsafe { old.fill(place.slot, hash, value) };
                self.items += 1;
                self.publish_len();
                entry
            }
            // SAFETY: the place is a vacant slot of `main`, where it was found.
            _ => unsafe { self.fill_main(place.slot, hash, value) },
        }
    }

    /// Puts `value` into a vacant slot of `main`, which was found for this hash.
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
        self.publish_len();
        entry
    }

    /// Takes the entry at `place` out.
    ///
    /// # Safety
    /// The place is full.
    #[inline]
    pub(crate) unsafe fn take(&mut self, place: Place) -> T {
        let entry = self.entry(place);
        // SAFETY: the place is full; reading the entry and vacating the slot passes it to the caller.
        unsafe {
            match &mut self.old {
                Some(old) if place.in_old => old.vacate(place.slot),
                _ => self.growth_left += usize::from(self.main.vacate(place.slot)),
            }
            self.items -= 1;
            self.publish_len();
            entry.read()
        }
    }

    /// Starts a shrink if few entries are left. Called after a removal.
    #[inline]
    pub(crate) fn shrink_if_sparse(&mut self) {
        if self.items < self.shrink_at {
            self.start_shrink();
        }
    }

    #[cold]
    #[inline(never)]
    fn start_shrink(&mut self) {
        let slots = self.main.slots() / 2;
        let started = if self.items == 0 {
            self.replace_main(ChangeKind::Shrink, slots)
        } else {
            self.begin(ChangeKind::Shrink, slots)
        };
        // Without memory for the smaller table the larger one still works. The next removal tries again.
        drop(started);
    }

    /// Recomputes when removals start a shrink.
    pub(crate) fn update_shrink_at(&mut self) {
        let may = self.auto_shrink && self.old.is_none();
        self.shrink_at = if may { pacing::shrink_below(self.main.slots(), self.floor) } else { 0 };
    }

    /// Makes room for `additional` more entries. During a change that it does not fit in, ends that first.
    pub(crate) fn reserve(
        &mut self,
        additional: usize,
        hasher: &impl Fn(&T) -> u64,
    ) -> Result<(), TryReserveError> {
        if additional <= self.growth_left - self.old_items() {
            return Ok(());
        }
        let wanted = self.items.checked_add(additional).ok_or(TryReserveError::CapacityOverflow)?;
        let mut slots = pacing::slots_for(wanted).ok_or(TryReserveError::CapacityOverflow)?;
        self.finish(hasher)?;
        if additional <= self.growth_left {
            return Ok(());
        }
        // Tombstones can leave less room than the size promises. Sheds them if they are many, else doubles.
        let now = self.main.slots();
        if slots <= now {
            let half_empty = wanted <= pacing::load_limit(now) / 2;
            slots =
                if half_empty { now } else { now.checked_mul(2).ok_or(TryReserveError::CapacityOverflow)? };
        }
        let kind = if slots == now { ChangeKind::SameSize } else { ChangeKind::Grow };
        self.change(kind, slots, hasher)
    }

    /// Ends a change, then shrinks to the fewest slots for the entries and `capacity`, at once.
    pub(crate) fn shrink_to(
        &mut self,
        capacity: usize,
        hasher: &impl Fn(&T) -> u64,
    ) -> Result<(), TryReserveError> {
        self.floor = self.floor.min(capacity);
        self.finish(hasher)?;
        let slots = pacing::slots_for(self.items.max(capacity)).ok_or(TryReserveError::CapacityOverflow)?;
        if slots < self.main.slots() {
            self.change(ChangeKind::Shrink, slots, hasher)?;
            self.finish(hasher)?;
        }
        self.update_shrink_at();
        Ok(())
    }

    /// Drops all entries and keeps the capacity.
    pub(crate) fn clear(&mut self) {
        /// Forgets the entries even if dropping one panics.
        struct Forget<'a, T>(&'a mut Table<T>);
        impl<T> Drop for Forget<'_, T> {
            fn drop(&mut self) {
                self.0.forget_entries();
            }
        }
        let guard = Forget(self);
        guard.0.drop_entries();
    }

    /// Drops all entries in place. They must be forgotten after it.
    #[inline]
    fn drop_entries(&mut self) {
        if core::mem::needs_drop::<T>() && self.items > 0 {
            for entry in Scan::new(self) {
                // SAFETY: the scan yields each full slot once, and the caller forgets them all.
                unsafe { entry.drop_in_place() };
            }
        }
    }

    /// Counts no entries any more: they are the caller's, and the table can only be forgotten or dropped.
    pub(crate) fn disown(&mut self) {
        self.items = 0;
        if let Some(old) = &mut self.old {
            old.items = 0;
        }
    }

    /// Marks all slots empty, without dropping what is there. O(1) if none was used.
    pub(crate) fn forget_entries(&mut self) {
        let changing = self.old.take().is_some();
        if self.growth_left < pacing::load_limit(self.main.slots()) {
            self.main.clear_tags();
        }
        self.items = 0;
        self.growth_left = pacing::load_limit(self.main.slots());
        self.update_shrink_at();
        if changing {
            self.publish();
        }
        self.publish_len();
    }

    /// Keeps the entries for which `keep` says so. Drops the others one by one.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        for in_old in [false, true] {
            let entries = if in_old { self.old_items() } else { self.items - self.old_items() };
            let slots = if entries == 0 { 0 } else { self.generation(in_old).slots() };
            for position in (0..slots).step_by(WIDTH) {
                for offset in self.generation(in_old).window(position).full() {
                    let place = Place { slot: position + offset, in_old };
                    // SAFETY: the slot was full when the window was loaded, and only this loop vacates slots, each
                    // after its one visit. The copies of a small table lie beyond the window at 0.
                    unsafe {
                        if !keep(self.entry(place).as_mut()) {
                            drop(self.take(place));
                        }
                    }
                }
            }
        }
        self.shrink_if_sparse();
    }
}

impl<T> Drop for Table<T> {
    #[inline]
    fn drop(&mut self) {
        if self.shared.is_some() || self.life.is_some() {
            self.withdraw();
        }
        self.drop_entries();
    }
}
