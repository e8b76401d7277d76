//! Changes of generation: beginning one, evacuating slots in order, ending it.
//!
//! # One step
//! A step evacuates the next slots of the old generation, a window of sixteen at a time: it hashes the entries of the
//! window, each once, then moves them. So a hasher that panics leaves the map as it was before the window.
//!
//! An entry lies in its home's first window or, near the load limit, some windows further. So when the frontier passes
//! a home, a few entries of it may still lie ahead; a lookup looks into both generations then. That is so for the some
//! hundred homes behind the frontier: `old` follows the probes from passed homes over their tags, and counts a home as
//! *settled* once they all end behind the frontier.
//!
//! # The bound on a step
//! A step visits at most [`STEP_HOMES`](pacing::STEP_HOMES) slots and moves as many entries, and settles homes in
//! rounds: as many as windows in the longest probe for a missing key with one of these homes. With at least 1/16 of the
//! slots empty that is a few dozen for any hasher that spreads keys; the rounds beyond the second look at a few windows
//! only. A hasher that gives many keys one home makes that step, like every lookup of such a key, take time in their
//! number.
//!
//! # Order
//! Growing to 2n, home h goes to h or h + n: two streams. Shrinking, homes h and h + n/2 go to h. So the new
//! generation is touched in the order of addresses, and pages of the old one are dead once passed. Except near the
//! start: probes from the last homes wrap around to the first positions. Entries there whose home is not passed stay,
//! and after the last slot the frontier goes on into a second round until all homes are settled. The first positions
//! are never retired early, a batch that still holds an entry is left out, and an insert that would wrap into a dead
//! batch ends the change instead.
//!
//! Ideas: Go's classic map (`evacuate`, `nevacuate`), linear hashing (Litwin 1980) for the split pointer, hashbrown
//! for the table. No locks.
#![allow(unsafe_code, reason = "moves entries between generations")]

use core::mem::MaybeUninit;
use std::time::Instant;

use crate::error::TryReserveError;
use crate::generation::Generation;
use crate::old::Old;
use crate::pacing::{self, ChangeKind};
use crate::table::Table;
use crate::tag::Tag;
use crate::window::{Matches, WIDTH};

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
        } else if pacing::moves_whole(self.main.slots(), size_of::<T>()) {
            self.move_whole(kind, slots, hasher)
        } else {
            self.begin(kind, slots)
        }
    }

    /// Changes an empty table.
    pub(crate) fn replace_main(&mut self, kind: ChangeKind, slots: usize) -> Result<(), TryReserveError> {
        debug_assert!(!self.is_changing() && self.items == 0);
        let started = (self.main.slots() >= pacing::TIMED_SLOTS).then(Instant::now);
        let previous = core::mem::replace(&mut self.main, Generation::new(slots)?);
        self.growth_left = pacing::load_limit(slots);
        self.update_shrink_at();
        if previous.slots() == 0 {
            self.publish();
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
        debug_assert!(!self.is_changing() && pacing::load_limit(slots) >= self.items);
        let started = Instant::now();
        self.need_extra()?;
        let new = Generation::new(slots)?;
        let mut old = Old::new(kind, core::mem::replace(&mut self.main, new), self.items);
        old.spent(started);
        self.set_old(old);
        self.growth_left = pacing::load_limit(slots);
        self.update_shrink_at();
        self.publish();
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
            self.old().is_none_or(|old| old.is_drained_of_entries() && !old.generation.can_retire())
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
            debug_assert!(self.growth_left >= old.items);
            if old.frontier < 2 * old.generation.slots() {
                self.growth_left -= evacuate_window(old, &mut self.main, hasher);
            }
        }
        old.pass();
    }

    /// Ends a change whose old generation is empty. `started` is when the work for it began.
    fn end(&mut self, started: Instant) {
        let Some(mut old) = self.take_old() else { return };
        debug_assert_eq!(old.items, 0);
        self.update_shrink_at();
        let generation = core::mem::replace(&mut old.generation, Generation::without_slots());
        let (slots, bytes) = (generation.slots(), generation.bytes());
        drop(generation);
        old.spent(started);
        self.record(&old, slots, bytes);
    }

    /// Ends a change that took place in one write.
    fn finish_whole(&mut self, kind: ChangeKind, previous: Generation<T>, started: Option<Instant>) {
        let (slots, bytes) = (previous.slots(), previous.bytes());
        drop(previous);
        self.record_whole(kind, slots, bytes, started);
    }
}

/// Moves the entries of the window at the frontier into `main`, which has a vacant slot for each entry of `old`, and
/// the frontier beyond it. Returns how many empty slots that took.
#[inline]
fn evacuate_window<T>(old: &mut Old<T>, main: &mut Generation<T>, hasher: &impl Fn(&T) -> u64) -> usize {
    let slots = old.generation.slots();
    let position = old.frontier & (slots - 1);
    let full = old.generation.window(position).full();
    let mut hashes = [const { MaybeUninit::<u64>::uninit() }; WIDTH];
    let mut last_home = 0;
    for offset in full {
        // SAFETY: the slot is full, so the entry is initialized.
        let hash = hasher(unsafe { old.generation.entry(position + offset).as_ref() });
        last_home = old.generation.home(hash).max(last_home);
        hashes[offset].write(hash);
    }
    let mut leaving = full;
    if last_home >= position + WIDTH && old.frontier < slots {
        // Some wrapped around the end: their homes are not passed yet.
        leaving = Matches(0);
        for offset in full {
            // SAFETY: the same slots were full above, so this hash was written.
            let home = old.generation.home(unsafe { hashes[offset].assume_init() });
            leaving.0 |= u16::from(home <= position + offset) << offset;
        }
    }
    let mut used = 0;
    for offset in leaving {
        // SAFETY: the same slots were full above, so this hash was written.
        let hash = unsafe { hashes[offset].assume_init() };
        let to = main.find_vacant_large(hash);
        used += usize::from(main.tag(to).is_empty());
        // SAFETY: the slot is full and `to` vacant; the generations are different memory. The entry is forgotten below
        // where it was, so that it exists once. Nothing panics between.
        unsafe {
            old.generation.entry(position + offset).copy_to_nonoverlapping(main.entry(to), 1);
            main.set_tag(to, Tag::full(hash));
        }
    }
    // SAFETY: the entries of these slots were moved out.
    unsafe { old.generation.bury(position, leaving) };
    old.items -= leaving.count();
    old.pass_window();
    used
}
