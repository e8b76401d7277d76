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
    source: &'a Generation<T>,
    copy: &'a Generation<T>,
    /// Full slots below this one are cloned.
    end: usize,
}

impl<T> Drop for Cloned<'_, T> {
    fn drop(&mut self) {
        for slot in (0..self.end).filter(|&slot| self.source.tag(slot).is_full()) {
            // SAFETY: full slots of the source below `end` are initialized in the copy, whose tags say empty, so that
            // nobody else drops them.
            unsafe { self.copy.entry(slot).drop_in_place() };
        }
    }
}

fn clone_generation<T: Clone>(source: &Generation<T>) -> Result<Generation<T>, TryReserveError> {
    let mut copy = Generation::new_whole(source.slots())?;
    let mut cloned = Cloned { source, copy: &copy, end: 0 };
    for position in (0..source.slots()).step_by(WIDTH) {
        for offset in source.window(position).full() {
            let slot = position + offset;
            // SAFETY: the slot is full in the source, so its entry is initialized. The copy has the same slots, and
            // its memory is its own.
            unsafe { copy.entry(slot).write(source.entry(slot).as_ref().clone()) };
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
        copy.set_auto_shrink(self.auto_shrink());
        copy.main = clone_generation(&self.main)?;
        copy.items = self.items - self.old_items();
        copy.growth_left = self.growth_left;
        copy.raise_floor(self.floor())?;
        if let Some(old) = self.old().filter(|old| !old.is_drained_of_entries()) {
            copy.need_extra()?;
            copy.set_old(old.like(clone_generation(&old.generation)?));
            copy.items = self.items;
            copy.update_shrink_at();
        }
        Ok(copy)
    }
}
