//! Clones of a table: slot by slot, in both generations, since cloning a map has no hasher to place entries anew.
//!
//! Invariant: tags are copied last, so that a clone that panics half-way drops what it cloned, and nothing twice.
//! No locks.
#![allow(unsafe_code, reason = "copies entries in raw memory")]

use crate::generation::Generation;
use crate::generation::error::TryReserveError;
use crate::generation::window::WIDTH;
use crate::stats::observer::ChangeKind;
use crate::table::Table;

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
    // SAFETY: the copy is new, with the slots of the source.
    unsafe { clone_entries(source, &mut copy) };
    Ok(copy)
}

/// Clones all entries of `source` into the same slots of `copy`. If one panics, `copy` stays empty.
///
/// # Safety
/// `copy` has as many slots as `source`, all of them empty.
unsafe fn clone_entries<T: Clone>(source: &Generation<T>, copy: &mut Generation<T>) {
    debug_assert_eq!(source.slots(), copy.slots());
    let mut cloned = Cloned { source, copy, end: 0 };
    for position in (0..source.slots()).step_by(WIDTH) {
        for offset in source.window(position).full() {
            let slot = position + offset;
            // SAFETY: the slot is full in the source, so its entry is initialized. The copy has the same slots, and
            // its memory is its own.
            unsafe { cloned.copy.entry(slot).write(source.entry(slot).as_ref().clone()) };
            cloned.end = slot + 1;
        }
    }
    core::mem::forget(cloned);
    // SAFETY: the copy has as many slots, and all entries that are full in the source are cloned.
    unsafe { copy.copy_tags(source) };
}

impl<T: Clone> Table<T> {
    /// A table with clones of all entries, and the same capacity. It has no name, and counts from zero.
    pub(crate) fn try_clone(&self) -> Result<Self, TryReserveError> {
        let mut copy = Self::new();
        copy.try_clone_from(self)?;
        Ok(copy)
    }

    /// Replaces all entries by clones of those of `source`, and takes its capacity over. The memory is used again if it
    /// has the right size. The name and what was counted stay.
    ///
    /// If a clone panics, or there is no memory, the table has either none of the new entries or those of one generation.
    pub(crate) fn try_clone_from(&mut self, source: &Self) -> Result<(), TryReserveError> {
        self.clear();
        self.set_auto_shrink(source.auto_shrink());
        self.set_floor(source.floor())?;
        let mut left = None;
        let (own, of) = (&mut self.current.generation, &source.current.generation);
        if own.slots() == of.slots() {
            // SAFETY: the table was cleared, so all slots are empty, and there are as many as in the source.
            unsafe { clone_entries(of, own) };
        } else {
            // Empty and consistent while entries are cloned.
            left = Some(core::mem::replace(own, clone_generation(of)?));
        }
        // Before anything else: from here on the table has the entries of one generation.
        self.items = source.items - source.old_items();
        self.current.take_room_of(&source.current);
        self.brief.begin(self.current.generation.slots());
        self.update_shrink_at();
        if let Some(left) = left.filter(|left| left.slots() > 0) {
            let kind = ChangeKind::to(left.slots(), source.current.generation.slots());
            let (slots, bytes) = (left.slots(), left.bytes());
            drop(left);
            // None of the entries moved.
            self.record_whole(kind, slots, bytes, 0, None);
        }
        if let Some(change) = source.change().filter(|change| !change.old.is_drained_of_entries()) {
            self.need_extra()?;
            self.set_change(change.like(clone_generation(&change.old.generation)?));
            self.items = source.items;
        }
        self.update_shrink_at();
        self.publish_all();
        Ok(())
    }
}
