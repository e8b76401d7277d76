//! Changes of generation of a [`Table`]: beginning one, each write's share of it, ending it.
//!
//! Invariant: whoever changes the number of slots calls `update_shrink_at`. No locks.
#![allow(unsafe_code, reason = "copies entries between generations")]

use std::time::Instant;

use crate::generation::Generation;
use crate::generation::error::TryReserveError;
use crate::generation::tag::Tag;
use crate::generation::window::WIDTH;
use crate::stats::observer::ChangeKind;
use crate::table::Table;
use crate::table::change::{Change, pacing};
use crate::table::current::Current;

impl<T> Table<T> {
    /// Changes to `slots`, which hold all entries. Small tables move at once, others begin to. There must be no
    /// change under way.
    pub(super) fn resize(
        &mut self,
        kind: ChangeKind,
        slots: usize,
        hasher: &impl Fn(&T) -> u64,
    ) -> Result<(), TryReserveError> {
        debug_assert!(!self.is_changing());
        if self.items == 0 {
            self.replace(kind, slots)
        } else if pacing::moves_whole(self.current.generation.slots(), size_of::<T>()) || slots < WIDTH {
            // A table of less than a window is the end of `shrink_to`, which takes time in the capacity anyway.
            self.move_whole(kind, slots, hasher)
        } else {
            self.begin(kind, slots)
        }
    }

    /// When a change in one write began. Those of small tables are not timed.
    fn starts_whole(&self) -> Option<Instant> {
        (self.current.generation.slots() >= pacing::TIMED_SLOTS).then(Instant::now)
    }

    /// Changes an empty table.
    pub(super) fn replace(&mut self, kind: ChangeKind, slots: usize) -> Result<(), TryReserveError> {
        debug_assert!(!self.is_changing() && self.items == 0);
        let started = self.starts_whole();
        let new =
            if kind == ChangeKind::Grow { Generation::new_whole(slots) } else { Generation::new(slots) };
        let previous = core::mem::replace(&mut self.current, Current::new(new?, 0)).generation;
        self.update_shrink_at();
        if previous.slots() == 0 {
            self.brief.begin(slots);
            self.publish_all();
        } else {
            self.finish_whole(kind, previous, started);
        }
        Ok(())
    }

    /// One step that covers all slots. Entries are copied, and the old generation is forgotten only once all are: so
    /// a hasher that panics leaves the map as it was.
    fn move_whole(
        &mut self,
        kind: ChangeKind,
        slots: usize,
        hasher: &impl Fn(&T) -> u64,
    ) -> Result<(), TryReserveError> {
        let started = self.starts_whole();
        let mut new = Generation::<T>::new(slots)?;
        debug_assert!(pacing::load_limit(slots) >= self.items);
        let previous = &self.current.generation;
        for position in (0..previous.slots()).step_by(WIDTH) {
            for offset in previous.window(position).full() {
                let from = previous.entry(position + offset);
                // SAFETY: the slot is full, so the entry is initialized.
                let hash = hasher(unsafe { from.as_ref() });
                let slot = new.find_vacant(hash);
                // SAFETY: the slot exists and is vacant, as the new generation has one for each entry of the old one.
                // The memories are different. The entry is written before the tag says so.
                unsafe {
                    from.copy_to_nonoverlapping(new.entry(slot), 1);
                    new.set_tag(slot, Tag::full(hash));
                }
            }
        }
        let previous = core::mem::replace(&mut self.current, Current::new(new, self.items)).generation;
        self.update_shrink_at();
        self.finish_whole(kind, previous, started);
        Ok(())
    }

    /// Begins a change in steps. O(1), apart from clearing tags in memory that is not known to be zero.
    pub(super) fn begin(&mut self, kind: ChangeKind, slots: usize) -> Result<(), TryReserveError> {
        debug_assert!(!self.is_changing() && pacing::load_limit(slots) >= self.items && slots >= WIDTH);
        let started = Instant::now();
        self.need_extra()?;
        let new = Current::new(Generation::new(slots)?, 0);
        let previous = core::mem::replace(&mut self.current, new).generation;
        let mut change = Change::new(kind, previous, &self.current.generation, self.items);
        change.spent(started);
        self.set_change(change);
        self.update_shrink_at();
        self.publish_all();
        Ok(())
    }

    /// A write's share of a change.
    #[inline]
    pub(super) fn grow_work(&mut self, hasher: &impl Fn(&T) -> u64) {
        if !self.change_mut().is_some_and(Change::count_write) {
            return;
        }
        self.step(hasher);
        if let Some(change) = self.change_mut() {
            change.stepped();
        }
    }

    /// Evacuates `buckets` buckets of sixteen homes, rounded up to whole steps. Returns how many are left.
    pub(crate) fn rehash_step(&mut self, buckets: usize, hasher: &impl Fn(&T) -> u64) -> usize {
        let steps = buckets.div_ceil(pacing::step_homes(size_of::<T>()) / WIDTH);
        for _ in 0..steps {
            if !self.is_changing() {
                break;
            }
            self.step(hasher);
        }
        self.old().map_or(0, |old| {
            let homes = old.generation.slots() - old.nevacuate();
            // What is left may be memory only, or what wrapped around the end.
            pacing::buckets(homes).max(1)
        })
    }

    /// Ends a change now. If the hasher panics, the change is still under way.
    pub(super) fn finish(&mut self, hasher: &impl Fn(&T) -> u64) {
        let Some(change) = self.extra.as_mut().and_then(|extra| extra.change.as_mut()) else { return };
        let started = Instant::now();
        change.evacuate_all(&mut self.current, hasher);
        self.end(started);
    }

    /// One step, timed.
    #[inline(never)]
    fn step(&mut self, hasher: &impl Fn(&T) -> u64) {
        let started = Instant::now();
        let Some(change) = self.extra.as_mut().and_then(|extra| extra.change.as_mut()) else { return };
        if change.step(&mut self.current, hasher) {
            self.end(started);
            return;
        }
        change.spent(started);
        if self.is_named() {
            self.publish();
        }
    }

    /// Ends a change whose old generation is empty. `started` is when the work for it began.
    fn end(&mut self, started: Instant) {
        let Some(change) = self.take_change() else { return };
        debug_assert_eq!(change.old.items, 0);
        self.update_shrink_at();
        self.retire_whole(change, Some(started));
    }

    /// Gives the memory of a change back that is over, and counts it.
    pub(super) fn retire_whole(&mut self, mut change: Change<T>, started: Option<Instant>) {
        let generation = core::mem::replace(&mut change.old.generation, Generation::without_slots());
        let (slots, bytes) = (generation.slots(), generation.bytes());
        drop(generation);
        if let Some(started) = started {
            change.spent(started);
        }
        self.record(&change, slots, bytes);
    }

    /// Ends a change that took place in one write.
    fn finish_whole(&mut self, kind: ChangeKind, previous: Generation<T>, started: Option<Instant>) {
        let (slots, bytes) = (previous.slots(), previous.bytes());
        drop(previous);
        self.record_whole(kind, slots, bytes, self.items, started);
    }
}
