//! Evacuation: the steps of a [`Change`], which move the entries of the old generation in order.
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

use super::Change;
use super::old::Old;
use super::pacing;
use crate::generation::tag::Tag;
use crate::generation::window::{Matches, WIDTH};
use crate::table::current::Current;

impl<T> Change<T> {
    /// One step: evacuates the next slots, or, once no entry is left, gives back a batch of memory. Returns whether the
    /// change is done.
    #[inline]
    pub(crate) fn step(&mut self, current: &mut Current<T>, hasher: &impl Fn(&T) -> u64) -> bool {
        if self.old.is_drained_of_entries() {
            return self.old.retire_rest();
        }
        self.evacuate(current, hasher);
        self.old.is_done()
    }

    /// Evacuates all entries that are left.
    pub(crate) fn evacuate_all(&mut self, current: &mut Current<T>, hasher: &impl Fn(&T) -> u64) {
        while self.old.items > 0 {
            self.evacuate(current, hasher);
        }
    }

    /// Evacuates the next slots.
    fn evacuate(&mut self, current: &mut Current<T>, hasher: &impl Fn(&T) -> u64) {
        for _ in 0..pacing::step_homes(size_of::<T>()) / WIDTH {
            evacuate_window(&mut self.old, current, hasher);
        }
        self.old.retire_passed(&current.generation);
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
        // SAFETY: the entries were moved out.
        unsafe { self.old.bury(self.position, self.moved) };
        *self.growth_left -= self.used;
    }
}

/// Moves the entries of the next window into `current`, which has a vacant slot for each entry of the old generation.
///
/// Not inlined: its loop leaves no register for what a loop over windows keeps.
#[inline(never)]
fn evacuate_window<T>(old: &mut Old<T>, current: &mut Current<T>, hasher: &impl Fn(&T) -> u64) {
    debug_assert!(current.growth_left() >= old.items);
    let Some(position) = old.begin_window() else { return };
    let passed = old.homes_begun();
    let mut left = old.generation.window(position).full();
    let Current { generation: into, growth_left } = current;
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
        let to = into.find_vacant_large(hash);
        moving.used += usize::from(into.tag(to).is_empty());
        // SAFETY: the slot is full and `to` vacant; the generations are different memory. The entry is forgotten where
        // it was when the window is done or left, so that it exists once. Nothing panics between.
        unsafe {
            from.copy_to_nonoverlapping(into.entry(to), 1);
            into.set_tag(to, Tag::full(hash));
        }
        moving.moved.0 |= bit ^ left.0;
    }
    drop(moving);
    old.end_window();
}
