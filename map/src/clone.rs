//! Clones of a table: slot by slot, in both generations, since cloning a map has no hasher to place entries anew.
//!
//! Invariant: tags are copied last, so that a clone that panics half-way drops what it cloned, and nothing twice.
//! No locks.
#![allow(unsafe_code, reason = "copies entries in raw memory")]

use crate::error::TryReserveError;
use crate::generation::Generation;
use crate::table::Table;
use crate::window::WIDTH;

/// Drops the entries cloned so far if a later one panics.
struct Cloned<'a, T> {
    source: &'a Generation,
    copy: &'a Generation,
    /// Full slots below this one are cloned.
    end: usize,
    marker: core::marker::PhantomData<T>,
}

impl<T> Drop for Cloned<'_, T> {
    fn drop(&mut self) {
        for slot in (0..self.end).filter(|&slot| self.source.tag(slot).is_full()) {
            // SAFETY: full slots of the source below `end` are initialized in the copy, whose tags say empty, so that
            // nobody else drops them.
            unsafe { self.copy.entry::<T>(slot).drop_in_place() };
        }
    }
}

fn clone_generation<T: Clone>(source: &Generation) -> Result<Generation, TryReserveError> {
    let mut copy = Generation::new(source.slots(), Table::<T>::ENTRY)?;
    let mut cloned = Cloned::<T> { source, copy: &copy, end: 0, marker: core::marker::PhantomData };
    for position in (0..source.slots()).step_by(WIDTH) {
        for offset in source.window(position).full() {
            let slot = position + offset;
            // SAFETY: the slot is full in the source, so its entry is initialized. The copy has the same slots, and
            // its memory is its own.
            unsafe { copy.entry::<T>(slot).write(source.entry::<T>(slot).as_ref().clone()) };
            cloned.end = slot + 1;
        }
    }
    core::mem::forget(cloned);
    // SAFETY: the copy has as many slots, and all entries that are full in the source are cloned.
    unsafe { copy.copy_tags(source) };
    Ok(copy)
}

impl<T: Clone> Table<T> {
    /// A table with clones of all entries, and the same capacity. It has no name, and counts from zero.
    pub(crate) fn try_clone(&self) -> Result<Self, TryReserveError> {
        let mut copy = Self::new();
        copy.floor = self.floor;
        copy.auto_shrink = self.auto_shrink;
        copy.main = clone_generation::<T>(&self.main)?;
        copy.items = self.items - self.old_items();
        copy.growth_left = self.growth_left;
        if let Some(old) = self.old.as_ref().filter(|old| !old.is_drained_of_entries()) {
            let generation = clone_generation::<T>(&old.generation)?;
            copy.old = Some(old.like(generation));
            copy.items = self.items;
        }
        copy.update_shrink_at();
        Ok(copy)
    }
}
