//! Changes of generation: beginning one, evacuating homes in order, ending it.
//!
//! # One step
//! A step evacuates the homes `first..first + count` of the old generation. The entries of a home are in its windows,
//! up to the first with an empty tag. The step follows the probes of all its homes together, a *round* for each probe
//! distance: the first windows of all homes are the positions `first..first + count + 15`; the second round looks at
//! the second windows of those homes whose first window has no empty tag, and so on. A bit set tells which homes go on.
//! Near the load limit a home has two windows on average, and the furthest of a hundred homes has six or more.
//!
//! Rounds look at tags only. Which entries belong to the homes of the step is known beforehand: entries are hashed when
//! they come into reach, some hundreds of positions ahead of the frontier, in one stream and each about once; the
//! number of the step that will move it is kept for each. So a step compares sixteen of these at once, up to where its
//! furthest probe ends. Probes that go beyond reach are rare, and their entries are hashed then and there.
//!
//! All hashes of a step are computed and kept before anything moves. So a hasher that panics leaves the map as it was.
//!
//! # The bound on a step
//! Each round looks at most at `count + 15` positions, and there are as many rounds as windows in the longest probe
//! for a missing key with one of these homes. With at least 1/16 of the slots empty that is a few dozen for any
//! hasher that spreads keys; the rounds beyond the second look at a few windows only. A hasher that gives many keys
//! one home makes that step, like every lookup of such a key, take time in their number.
//!
//! # Order
//! Growing to 2n, home h goes to h or h + n: two streams. Shrinking, homes h and h + n/2 go to h. So the new
//! generation is touched in the order of addresses, and pages of the old one are dead once passed. Except near the
//! start: probes from the last homes wrap around to the first positions. So the first positions are never retired
//! early, a batch that still holds an entry is left out, and an insert that would wrap into a dead batch ends the
//! change instead.
//!
//! Ideas: Go's classic map (`evacuate`, `nevacuate`), linear hashing (Litwin 1980) for the split pointer, hashbrown
//! for the table. No locks.
#![allow(unsafe_code, reason = "moves entries between generations")]

use std::time::Instant;

use crate::error::TryReserveError;
use crate::generation::Generation;
use crate::old::{Old, Pending};
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
        debug_assert!(self.old.is_none());
        if self.items == 0 {
            self.replace_main(kind, slots)
        } else if pacing::moves_whole(self.main.slots(), Self::ENTRY.size) {
            self.move_whole(kind, slots, hasher)
        } else {
            self.begin(kind, slots)
        }
    }

    /// Changes an empty table.
    pub(crate) fn replace_main(&mut self, kind: ChangeKind, slots: usize) -> Result<(), TryReserveError> {
        debug_assert!(self.old.is_none() && self.items == 0);
        let started = (self.main.slots() >= pacing::TIMED_SLOTS).then(Instant::now);
        let previous = core::mem::replace(&mut self.main, Generation::new(slots, Self::ENTRY)?);
        self.growth_left = pacing::load_limit(slots);
        self.update_shrink_at();
        if previous.slots() == 0 {
            self.publish();
        } else {
            self.finish_whole(kind, previous, started);
        }
        Ok(())
    }

    /// One step that covers all homes. Entries are copied, and the old generation is forgotten only once all are: so
    /// a hasher that panics leaves the map as it was.
    fn move_whole(
        &mut self,
        kind: ChangeKind,
        slots: usize,
        hasher: &impl Fn(&T) -> u64,
    ) -> Result<(), TryReserveError> {
        let started = (self.main.slots() >= pacing::TIMED_SLOTS).then(Instant::now);
        let mut new = Generation::new(slots, Self::ENTRY)?;
        debug_assert!(pacing::load_limit(slots) >= self.items);
        for position in (0..self.main.slots()).step_by(WIDTH) {
            for offset in self.main.window(position).full() {
                let from = self.main.entry::<T>(position + offset);
                // SAFETY: the slot is full, so the entry is initialized.
                let hash = hasher(unsafe { from.as_ref() });
                // SAFETY: both generations have the entry's layout and are different memory. The new one has a vacant
                // slot for each entry of the old one.
                unsafe { copy_in(&mut new, hash, from) };
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
        debug_assert!(self.old.is_none() && pacing::load_limit(slots) >= self.items);
        let started = Instant::now();
        let mut old = Old::new(kind, self.main.slots(), self.items, Self::ENTRY)?;
        let new = Generation::new(slots, Self::ENTRY)?;
        old.generation = core::mem::replace(&mut self.main, new);
        old.spent(started);
        self.old = Some(old);
        self.growth_left = pacing::load_limit(slots);
        self.update_shrink_at();
        self.publish();
        Ok(())
    }

    /// A write's share of a change.
    #[inline(never)]
    pub(crate) fn grow_work(&mut self, hasher: &impl Fn(&T) -> u64) {
        let Some(old) = &mut self.old else { return };
        old.writes += 1;
        if old.until_step > 1 {
            old.until_step -= 1;
            return;
        }
        // A step that panics is due again at the next write.
        self.step(hasher).unwrap_or_else(|error| error.raise());
        if let Some(old) = &mut self.old {
            old.until_step = pacing::step_writes(Self::ENTRY.size);
        }
    }

    /// Evacuates `buckets` buckets of sixteen homes, rounded up to whole steps. Returns how many are left.
    pub(crate) fn rehash_step(
        &mut self,
        buckets: usize,
        hasher: &impl Fn(&T) -> u64,
    ) -> Result<usize, TryReserveError> {
        let steps = buckets.div_ceil(pacing::step_homes(Self::ENTRY.size) / WIDTH);
        for _ in 0..steps {
            if self.old.is_none() {
                break;
            }
            self.step(hasher)?;
        }
        Ok(self.old.as_ref().map_or(0, |old| {
            let homes = old.generation.slots() - old.nevacuate;
            // What is left may be memory only.
            pacing::buckets(homes).max(1)
        }))
    }

    /// Ends a change now. On an error, and if the hasher panics, the change is still under way.
    pub(crate) fn finish(&mut self, hasher: &impl Fn(&T) -> u64) -> Result<(), TryReserveError> {
        let started = Instant::now();
        while let Some(old) = &self.old {
            if old.is_drained_of_entries() {
                self.end(started);
                break;
            }
            self.advance(hasher)?;
        }
        Ok(())
    }

    /// One step, timed.
    fn step(&mut self, hasher: &impl Fn(&T) -> u64) -> Result<(), TryReserveError> {
        let started = Instant::now();
        if self.advance(hasher)? {
            self.end(started);
            return Ok(());
        }
        if let Some(old) = &mut self.old {
            old.spent(started);
        }
        if self.shared.is_some() {
            self.publish();
        }
        Ok(())
    }

    /// One step. Returns whether the change can end.
    fn advance(&mut self, hasher: &impl Fn(&T) -> u64) -> Result<bool, TryReserveError> {
        let Some(old) = &mut self.old else { return Ok(true) };
        if old.is_drained_of_entries() {
            return Ok(old.retire_tags());
        }
        let left = old.generation.slots() - old.nevacuate;
        let count = left.min(pacing::step_homes(Self::ENTRY.size));
        if count > 0 {
            gather::<T>(old, count, hasher)?;
        } else {
            gather_strays::<T>(old, hasher)?;
        }
        debug_assert!(self.growth_left >= old.items);
        for index in 0..old.pending.len() {
            let Pending { slot, hash } = old.pending[index];
            // A slot beyond reach can be listed twice: in two rounds, or by a hasher that lies.
            if !old.generation.tag(slot).is_full() {
                continue;
            }
            // SAFETY: the slot is full. The generations are different memory, and `growth_left` is at least the
            // number of entries in the old one, so the new one has an empty slot for it and one beyond. The entry is
            // forgotten where it was, so that it exists once.
            unsafe {
                let was = copy_in(&mut self.main, hash, old.generation.entry::<T>(slot));
                self.growth_left -= usize::from(was.is_empty());
                old.generation.set_tag(slot, Tag::TOMBSTONE);
            }
            old.items -= 1;
        }
        old.pending.clear();
        old.pass(count);
        Ok(old.is_drained_of_entries() && !old.generation.is_arena())
    }

    /// Ends a change whose old generation is empty. `started` is when the work for it began.
    fn end(&mut self, started: Instant) {
        let Some(mut old) = self.old.take() else { return };
        debug_assert_eq!(old.items, 0);
        self.update_shrink_at();
        let generation = core::mem::replace(&mut old.generation, Generation::without_slots());
        let (slots, bytes) = (generation.slots(), generation.bytes());
        drop(generation);
        old.spent(started);
        self.record(&old, slots, bytes);
    }

    /// Ends a change that took place in one write.
    fn finish_whole(&mut self, kind: ChangeKind, previous: Generation, started: Option<Instant>) {
        let (slots, bytes) = (previous.slots(), previous.bytes());
        drop(previous);
        self.record_whole(kind, slots, bytes, started);
    }
}

/// Copies an entry into a vacant slot. Returns what the slot was.
///
/// # Safety
/// `from` is initialized and not in `new`, which is a generation of entries like it and has a vacant slot.
#[inline]
unsafe fn copy_in<T>(new: &mut Generation, hash: u64, from: core::ptr::NonNull<T>) -> Tag {
    let slot = new.find_vacant(hash);
    let was = new.tag(slot);
    debug_assert!(!was.is_full());
    // SAFETY: the slot exists and is vacant, and the entry is written before the tag says so. The memories are
    // different, as the caller says.
    unsafe {
        from.copy_to_nonoverlapping(new.entry(slot), 1);
        new.set_tag(slot, Tag::full(hash));
    }
    was
}

/// Lists the entries of the next `count` homes, with their hashes.
fn gather<T>(old: &mut Old, count: usize, hasher: &impl Fn(&T) -> u64) -> Result<(), TryReserveError> {
    old.pending.clear();
    hash_ahead::<T>(old, hasher);
    let first = old.nevacuate;
    let end = probe_homes::<T>(old, count, hasher)?;
    let mask = old.generation.mask();
    for position in (first..end).step_by(WIDTH) {
        reserve_window(&mut old.pending)?;
        for offset in old.of_step::<T>(position, first) {
            let slot = position + offset;
            let hash = old.kept_hash(slot);
            // Step numbers are modulo 256, and the last step can be short.
            if old.generation.home(hash).wrapping_sub(first) & mask < count {
                old.pending.push(Pending { slot, hash });
            }
        }
    }
    Ok(())
}

/// Follows the probes of the next `count` homes, in rounds. Returns the position where the furthest of them ends, as far
/// as hashes are kept. Entries beyond are listed.
fn probe_homes<T>(
    old: &mut Old,
    count: usize,
    hasher: &impl Fn(&T) -> u64,
) -> Result<usize, TryReserveError> {
    let (first, mask) = (old.nevacuate, old.generation.mask());
    debug_assert!(count + WIDTH <= 128 && count + WIDTH <= mask + 1);
    let mut active = (1_u128 << count) - 1;
    let (mut distance, mut stride, mut furthest) = (0, 0, first);
    while active != 0 {
        // Bit i of `cover`: position i of this round is in a window of an active home.
        let mut cover = active | active << 1;
        cover |= cover << 2;
        cover |= cover << 4;
        cover |= cover << 8;
        let mut empty = 0_u128;
        for chunk in (0..count + WIDTH - 1).step_by(WIDTH) {
            let wanted = (cover >> chunk) as u16;
            if wanted == 0 {
                continue;
            }
            let position = first + distance + chunk;
            empty |= u128::from(old.generation.window(position & mask).empty().0) << chunk;
            furthest = furthest.max(position + WIDTH);
            if position + WIDTH > old.reach() {
                list_beyond::<T>(old, position, wanted, count, hasher)?;
            }
        }
        // Bit i of `ended`: one of the positions i..i + 16 is empty.
        let mut ended = empty | empty >> 1;
        ended |= ended >> 2;
        ended |= ended >> 4;
        ended |= ended >> 8;
        active &= !ended;
        stride += WIDTH;
        distance += stride;
        debug_assert!(stride <= 2 * (mask + 1), "no empty slot");
    }
    Ok(furthest.min(old.reach()))
}

/// Lists those entries of the window at `position` that the step of `count` homes moves and whose hashes are not kept:
/// the window lies far ahead, or wrapped around. An entry can be listed twice.
#[cold]
fn list_beyond<T>(
    old: &mut Old,
    position: usize,
    wanted: u16,
    count: usize,
    hasher: &impl Fn(&T) -> u64,
) -> Result<(), TryReserveError> {
    let mask = old.generation.mask();
    reserve_window(&mut old.pending)?;
    let full = Matches(old.generation.window(position & mask).full().0 & wanted);
    for offset in full {
        let slot = (position + offset) & mask;
        // SAFETY: the slot is full, so the entry is initialized.
        let hash = hasher(unsafe { old.generation.entry::<T>(slot).as_ref() });
        if position + offset >= old.reach()
            && old.generation.home(hash).wrapping_sub(old.nevacuate) & mask < count
        {
            old.pending.push(Pending { slot, hash });
        }
    }
    Ok(())
}

/// Lists entries that are left though all homes are evacuated: their hashes changed. Where they belong now, they go.
#[cold]
fn gather_strays<T>(old: &mut Old, hasher: &impl Fn(&T) -> u64) -> Result<(), TryReserveError> {
    old.pending.clear();
    for position in (0..old.generation.slots()).step_by(WIDTH) {
        reserve_window(&mut old.pending)?;
        for offset in old.generation.window(position).full() {
            let slot = position + offset;
            // SAFETY: the slot is full, so the entry is initialized.
            let hash = hasher(unsafe { old.generation.entry::<T>(slot).as_ref() });
            old.pending.push(Pending { slot, hash });
        }
    }
    Ok(())
}

/// Hashes the entries that come into reach of the step: one after the other, so that entries are read in one stream,
/// and each about once.
fn hash_ahead<T>(old: &mut Old, hasher: &impl Fn(&T) -> u64) {
    let reach = old.next_reach();
    for position in (old.reach()..reach).step_by(WIDTH) {
        for offset in old.generation.window(position).full() {
            let slot = position + offset;
            // SAFETY: the slot is full, so the entry is initialized.
            let hash = hasher(unsafe { old.generation.entry::<T>(slot).as_ref() });
            old.keep_hash::<T>(slot, hash);
        }
    }
    old.set_reach(reach);
}

/// Makes room for all entries of a window.
#[inline]
fn reserve_window(pending: &mut Vec<Pending>) -> Result<(), TryReserveError> {
    if pending.capacity() - pending.len() < WIDTH {
        let layout = core::alloc::Layout::new::<Pending>();
        pending.try_reserve(WIDTH).map_err(|_| TryReserveError::AllocError { layout })?;
    }
    Ok(())
}
