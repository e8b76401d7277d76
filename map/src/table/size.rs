//! The size of a [`Table`]: room made and given up, by request and by itself; and what reaches all entries at once.
//!
//! Invariant: whoever changes the number of slots calls `update_shrink_at`. No locks.
#![allow(unsafe_code, reason = "drops entries in raw memory")]

use crate::generation::error::TryReserveError;
use crate::generation::window::WIDTH;
use crate::stats::observer::ChangeKind;
use crate::table::change::pacing;
use crate::table::scan::Scan;
use crate::table::{Place, Table};

impl<T> Table<T> {
    /// Whether the table shrinks by itself.
    #[inline]
    pub(crate) const fn auto_shrink(&self) -> bool {
        self.flags & Self::GROW_ONLY == 0
    }

    pub(crate) fn set_auto_shrink(&mut self, on: bool) {
        self.flags &= !Self::GROW_ONLY;
        self.flags |= if on { 0 } else { Self::GROW_ONLY };
        self.update_shrink_at();
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
        let slots = self.current.generation.slots() / 2;
        let started = if self.items == 0 {
            self.replace(ChangeKind::Shrink, slots)
        } else {
            self.begin(ChangeKind::Shrink, slots)
        };
        // Without memory for the smaller table the larger one still works. The next removal tries again.
        drop(started);
    }

    /// Recomputes what follows from the size of `current`: whether it is large, and when removals start a shrink.
    pub(crate) fn update_shrink_at(&mut self) {
        self.flags &= !Self::LARGE;
        self.flags |= if self.current.generation.is_large() { Self::LARGE } else { 0 };
        if self.is_named() {
            self.claim_arenas();
        }
        let may = self.auto_shrink() && !self.is_changing();
        self.shrink_at =
            if may { pacing::shrink_below(self.current.generation.slots(), self.floor()) } else { 0 };
    }

    /// Makes room for `additional` more entries. During a change that it does not fit in, ends that first.
    pub(crate) fn reserve(
        &mut self,
        additional: usize,
        hasher: &impl Fn(&T) -> u64,
    ) -> Result<(), TryReserveError> {
        if additional <= self.current.growth_left() - self.old_items() {
            return Ok(());
        }
        let wanted = self.items.checked_add(additional).ok_or(TryReserveError::CapacityOverflow)?;
        let mut slots = pacing::slots_for(wanted).ok_or(TryReserveError::CapacityOverflow)?;
        self.finish(hasher);
        if additional <= self.current.growth_left() {
            return Ok(());
        }
        // Tombstones can leave less room than the size promises. Sheds them if they are many, else doubles.
        let now = self.current.generation.slots();
        if slots <= now {
            let half_empty = wanted <= pacing::load_limit(now) / 2;
            slots =
                if half_empty { now } else { now.checked_mul(2).ok_or(TryReserveError::CapacityOverflow)? };
        }
        let kind = if slots == now { ChangeKind::SameSize } else { ChangeKind::Grow };
        let begun = self.brief.has_begun();
        self.resize(kind, slots, hasher)?;
        if !begun {
            self.brief.ask();
        }
        Ok(())
    }

    /// Ends a change, then shrinks to the fewest slots for the entries and `capacity`, at once.
    pub(crate) fn shrink_to(
        &mut self,
        capacity: usize,
        hasher: &impl Fn(&T) -> u64,
    ) -> Result<(), TryReserveError> {
        if let Some(extra) = &mut self.extra {
            extra.floor = extra.floor.min(capacity);
        }
        self.finish(hasher);
        let slots = pacing::slots_for(self.items.max(capacity)).ok_or(TryReserveError::CapacityOverflow)?;
        if slots < self.current.generation.slots() {
            self.resize(ChangeKind::Shrink, slots, hasher)?;
            self.finish(hasher);
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
    pub(crate) fn drop_entries(&mut self) {
        if core::mem::needs_drop::<T>() && self.items > 0 {
            // SAFETY: the scan yields each full slot once, and the caller forgets them all.
            Scan::new(self).for_each(|entry| unsafe { entry.drop_in_place() });
        }
    }

    /// Counts no entries any more: they are the caller's, and the table can only be forgotten or dropped.
    pub(crate) fn disown(&mut self) {
        self.items = 0;
        if let Some(change) = self.change_mut() {
            change.old.items = 0;
        }
    }

    /// Marks all slots empty, without dropping what is there. O(1) if none was used. A change under way is over.
    pub(crate) fn forget_entries(&mut self) {
        let left = self.take_change();
        self.current.forget();
        self.items = 0;
        self.update_shrink_at();
        if let Some(left) = left {
            self.retire_whole(left, None);
        }
        if self.is_named() {
            self.publish_len();
        }
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
