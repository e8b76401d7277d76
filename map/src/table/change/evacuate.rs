//! Changes of generation: beginning one, evacuating slots in order, ending it.
//!
//! # One step
//! A step evacuates the next slots of the old generation, a window of sixteen at a time, and hashes each entry once. The
//! homes of the window are passed before its first entry moves. So when a hasher panics in the middle of a window, the
//! map is whole, and the next step begins with the same window.
//!
//! An entry lies in its home's first window or, near the load limit, some windows further. So when the frontier passes
//! a home, a few entries of it may still lie ahead: a lookup that does not find such a key in the new generation looks
//! into the old one as well. To know which homes have no entry ahead any more, the steps would have to follow the probes
//! from all of them, which takes longer than the second probe of those lookups that find nothing.
//!
//! # The bound on a step
//! A step visits at most [`STEP_HOMES`](pacing::STEP_HOMES) slots and moves as many entries, however long the probes
//! are.
//!
//! # Order
//! Growing to 2n, home h goes to h or h + n: two streams. Shrinking, homes h and h + n/2 go to h. So the new
//! generation is touched in the order of addresses, and pages of the old one are dead once passed. Except near the
//! start: probes from the last homes wrap around to the first positions. Entries there whose home is not passed stay,
//! and after the last slot the frontier goes on into a second round until no entry is left. The first positions
//! are never retired early, a batch that still holds an entry is left out, and an insert that would wrap into a dead
//! batch ends the change instead.
//!
//! Ideas: Go's classic map (`evacuate`, `nevacuate`), linear hashing (Litwin 1980) for the split pointer, hashbrown
//! for the table. No locks.
#![allow(unsafe_code, reason = "moves entries between generations")]

use std::time::Instant;

use crate::generation::Generation;
use crate::generation::error::TryReserveError;
use crate::generation::tag::Tag;
use crate::generation::window::{Matches, WIDTH};
use crate::table::Table;
use crate::table::change::old::Old;
use crate::table::change::pacing::{self, ChangeKind};

impl<T> Table<T> {
    /// Changes to `slots`, which hold all entries. Small tables move at once, others begin to. There must be no
    /// change under way.
    pub(crate) fn change(
        &mut self,
        kind: ChangeKind,
        slots: usize,
        hasher: &impl Fn(&T) -> u64,
    ) -> Result<(), TryReserveError> {
        debug_assert!(!self.is_changing());
        if self.items == 0 {
            self.replace_main(kind, slots)
        } else if pacing::moves_whole(self.main.slots(), size_of::<T>()) || slots < WIDTH {
            // A table of less than a window is the end of `shrink_to`, which takes time in the capacity anyway.
            self.move_whole(kind, slots, hasher)
        } else {
            self.begin(kind, slots)
        }
    }

    /// Changes an empty table.
    pub(crate) fn replace_main(&mut self, kind: ChangeKind, slots: usize) -> Result<(), TryReserveError> {
        debug_assert!(!self.is_changing() && self.items == 0);
        let started = (self.main.slots() >= pacing::TIMED_SLOTS).then(Instant::now);
        let new =
            if kind == ChangeKind::Grow { Generation::new_whole(slots) } else { Generation::new(slots) };
        let previous = core::mem::replace(&mut self.main, new?);
        self.growth_left = pacing::load_limit(slots);
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
        let started = (self.main.slots() >= pacing::TIMED_SLOTS).then(Instant::now);
        let mut new = Generation::<T>::new(slots)?;
        debug_assert!(pacing::load_limit(slots) >= self.items);
        for position in (0..self.main.slots()).step_by(WIDTH) {
            for offset in self.main.window(position).full() {
                let from = self.main.entry(position + offset);
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
        let previous = core::mem::replace(&mut self.main, new);
        self.growth_left = pacing::load_limit(slots) - self.items;
        self.update_shrink_at();
        self.finish_whole(kind, previous, started);
        Ok(())
    }

    /// Begins a change in steps. O(1), apart from clearing tags in memory that is not known to be zero.
    pub(crate) fn begin(&mut self, kind: ChangeKind, slots: usize) -> Result<(), TryReserveError> {
        debug_assert!(!self.is_changing() && pacing::load_limit(slots) >= self.items && slots >= WIDTH);
        let started = Instant::now();
        self.need_extra()?;
        let new = Generation::new(slots)?;
        let generation = core::mem::replace(&mut self.main, new);
        let mut old = Old::new(kind, generation, &self.main, self.items);
        old.spent(started);
        self.set_old(old);
        self.growth_left = pacing::load_limit(slots);
        self.update_shrink_at();
        self.publish_all();
        Ok(())
    }

    /// A write's share of a change.
    #[inline]
    pub(crate) fn grow_work(&mut self, hasher: &impl Fn(&T) -> u64) {
        let Some(old) = self.old_mut() else { return };
        old.writes += 1;
        if old.until_step > 1 {
            old.until_step -= 1;
            return;
        }
        // A step that panics is due again at the next write.
        self.step(hasher);
        if let Some(old) = self.old_mut() {
            old.until_step = pacing::step_writes(size_of::<T>());
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
    pub(crate) fn finish(&mut self, hasher: &impl Fn(&T) -> u64) {
        if !self.is_changing() {
            return;
        }
        let started = Instant::now();
        while self.old_items() > 0 {
            self.evacuate(hasher);
        }
        self.end(started);
    }

    /// One step, timed.
    #[inline(never)]
    fn step(&mut self, hasher: &impl Fn(&T) -> u64) {
        let started = Instant::now();
        let Some(old) = self.old_mut() else { return };
        let ends = if old.is_drained_of_entries() {
            old.retire_tags()
        } else {
            self.evacuate(hasher);
            self.old().is_none_or(|old| old.is_drained_of_entries() && !old.retires())
        };
        if ends {
            self.end(started);
            return;
        }
        if let Some(old) = self.old_mut() {
            old.spent(started);
        }
        if self.is_named() {
            self.publish();
        }
    }

    /// Evacuates the next slots.
    fn evacuate(&mut self, hasher: &impl Fn(&T) -> u64) {
        let Some(old) = self.extra.as_mut().and_then(|extra| extra.old.as_mut()) else { return };
        for _ in 0..pacing::step_homes(size_of::<T>()) / WIDTH {
            evacuate_window(old, &mut self.main, &mut self.growth_left, hasher);
        }
        old.retire_passed(&self.main);
    }

    /// Ends a change whose old generation is empty. `started` is when the work for it began.
    fn end(&mut self, started: Instant) {
        let Some(mut old) = self.take_old() else { return };
        debug_assert_eq!(old.items, 0);
        self.update_shrink_at();
        let (slots, bytes) = old.give_up();
        old.spent(started);
        self.record(&old, slots, bytes);
    }

    /// Ends a change that took place in one write.
    fn finish_whole(&mut self, kind: ChangeKind, previous: Generation<T>, started: Option<Instant>) {
        let (slots, bytes) = (previous.slots(), previous.bytes());
        drop(previous);
        self.record_whole(kind, slots, bytes, self.items, started);
    }
}

/// A window under way. When it goes, even because a hasher panics, what was moved is moved and the rest is not.
struct Moving<'a, T> {
    old: &'a mut Old<T>,
    growth_left: &'a mut usize,
    position: usize,
    /// Slots of the window whose entries were moved out.
    moved: Matches,
    /// Empty slots that they took.
    used: usize,
}

impl<T> Drop for Moving<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: a generation that changes in steps has 32 slots and more. The entries were moved out.
        unsafe { self.old.generation.bury(self.position, self.moved) };
        self.old.items -= self.moved.count();
        self.old.moved += self.moved.count() as u64;
        *self.growth_left -= self.used;
    }
}

/// Moves the entries of the next window of `old` into `main`, which has a vacant slot for each entry of `old`.
#[inline]
fn evacuate_window<T>(
    old: &mut Old<T>,
    main: &mut Generation<T>,
    growth_left: &mut usize,
    hasher: &impl Fn(&T) -> u64,
) {
    debug_assert!(*growth_left >= old.items);
    let Some(position) = old.begin_window() else { return };
    let passed = old.homes_begun();
    let mut left = old.generation.window(position).full();
    let mut moving = Moving { old, growth_left, position, moved: Matches(0), used: 0 };
    while left.any() {
        let offset = left.first();
        let from = moving.old.generation.entry(position + offset);
        // SAFETY: the slot is full, so the entry is initialized.
        let hash = hasher(unsafe { from.as_ref() });
        let bit = left.0;
        left = left.without_first();
        if moving.old.generation.home(hash) >= passed {
            // It wrapped around the end: its home is not passed yet.
            continue;
        }
        let to = main.find_vacant_large(hash);
        moving.used += usize::from(main.tag(to).is_empty());
        // SAFETY: the slot is full and `to` vacant; the generations are different memory. The entry is forgotten where
        // it was when the window is done or left, so that it exists once. Nothing panics between.
        unsafe {
            from.copy_to_nonoverlapping(main.entry(to), 1);
            main.set_tag(to, Tag::full(hash));
        }
        moving.moved.0 |= bit ^ left.0;
    }
    drop(moving);
    old.end_window();
}
