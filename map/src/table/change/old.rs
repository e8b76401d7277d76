//! [`Old`]: the generation that a change evacuates, and how far it came.
//!
//! Invariants:
//! - slots below `passed` hold no entry, but for those whose probe wrapped around the end;
//! - entries whose home is `begun` or above are all here. One whose home is below can be in either generation: its
//!   home is passed, the slot where it lies perhaps not;
//! - `passed` is a multiple of sixteen, and `begun` is the same or sixteen more;
//! - `headroom` more empty slots may be used, and one more is always left;
//! - bytes between `retire_from` and `retired` below the tags are dead: slots that touch them take no entry any more;
//! - once a tag is retired all slots are passed and no entry is left, so that nothing reads tags.
#![allow(unsafe_code, reason = "entries in raw memory, told initialized by their tags")]

use core::ptr::NonNull;
use std::time::Instant;

use crate::generation::Generation;
use crate::generation::tag::Tag;
use crate::generation::window::WIDTH;
use crate::stats::life::nanos;
use crate::table::change::pacing::{self, ChangeKind};

/// Whether dead pages go to the other generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandsOn {
    No,
    May,
    Does,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Old<T> {
    pub(crate) generation: Generation<T>,
    pub(crate) kind: ChangeKind,
    /// Entries still here.
    pub(crate) items: usize,
    /// Positions passed, in order from 0. Beyond the number of slots it counts a second round, for what wrapped.
    passed: usize,
    /// Homes whose entries may have moved.
    begun: usize,
    /// Empty slots that inserts may still use.
    headroom: usize,
    /// Bytes below the tags that never retire early, for chains that wrap around.
    retire_from: usize,
    /// Bytes below the tags up to which entries are dead, retired or skipped.
    retired: usize,
    /// Bytes of the tags that are retired.
    drained: usize,
    /// Bytes that were retired or handed on, in all.
    pub(crate) dead_bytes: usize,
    /// Whether dead pages go to the other generation, where its entries will be, instead of to the OS.
    hands_on: HandsOn,
    /// Writes until the next step.
    pub(crate) until_step: u32,
    /// Writes since the change began.
    pub(crate) writes: u64,
    /// Entries that went to the other generation.
    pub(crate) moved: u64,
    /// Time spent on the change, and its longest piece, in nanoseconds.
    pub(crate) spent_ns: u64,
    pub(crate) longest_ns: u64,
}

impl<T> Old<T> {
    /// The state of a change that evacuates a generation of so many entries.
    pub(crate) fn new(
        kind: ChangeKind,
        generation: Generation<T>,
        main: &Generation<T>,
        items: usize,
    ) -> Self {
        let slots = generation.slots();
        let hands_on = if generation.may_hand_on(main) { HandsOn::May } else { HandsOn::No };
        let wrap = pacing::RETIRE_BYTES.max(pacing::WRAP_SLOTS.saturating_mul(size_of::<T>()));
        let wrap = wrap.div_ceil(pacing::RETIRE_BYTES).saturating_mul(pacing::RETIRE_BYTES);
        Self {
            generation,
            kind,
            items,
            passed: 0,
            begun: 0,
            headroom: pacing::headroom(slots),
            retire_from: wrap,
            retired: wrap,
            drained: 0,
            dead_bytes: 0,
            hands_on,
            until_step: pacing::step_writes(size_of::<T>()),
            writes: 0,
            moved: 0,
            spent_ns: 0,
            longest_ns: 0,
        }
    }

    /// A copy of the state around `generation`, for a clone of the map.
    pub(crate) fn like(&self, generation: Generation<T>) -> Self {
        Self { generation, ..*self }
    }

    /// Gives the memory back. Returns how many slots and bytes there were.
    pub(crate) fn give_up(&mut self) -> (usize, usize) {
        let generation = core::mem::replace(&mut self.generation, Generation::without_slots());
        (generation.slots(), generation.bytes())
    }

    /// Homes passed.
    pub(crate) fn nevacuate(&self) -> usize {
        self.passed.min(self.generation.slots())
    }

    /// Whether the frontier has passed the home of this hash: its entries are in the other generation, but for those whose
    /// probes ran past the frontier. If not, they are all here.
    #[inline]
    pub(crate) const fn is_passed(&self, hash: u64) -> bool {
        self.generation.home(hash) < self.begun
    }

    /// Accounts for work on the change that began at `started`.
    pub(crate) fn spent(&mut self, started: Instant) {
        let ns = nanos(started.elapsed());
        self.spent_ns = self.spent_ns.saturating_add(ns);
        self.longest_ns = self.longest_ns.max(ns);
    }

    /// Whether parts of the memory are given back before it goes as a whole.
    pub(crate) const fn retires(&self) -> bool {
        self.generation.can_retire() || matches!(self.hands_on, HandsOn::Does)
    }

    /// Whether nothing is left but memory.
    pub(crate) const fn is_drained_of_entries(&self) -> bool {
        self.items == 0 && self.passed >= self.generation.slots()
    }

    /// Whether a vacant slot may be filled: that neither uses up the last empty slots nor touches dead memory.
    pub(crate) const fn can_fill(&self, slot: usize) -> bool {
        (self.headroom > 0 || !self.generation.tag(slot).is_empty()) && !self.is_dead(slot)
    }

    /// Whether bytes of slot `slot` may be retired.
    const fn is_dead(&self, slot: usize) -> bool {
        let begin = slot * size_of::<T>();
        let any = self.retire_from < self.retired;
        any && begin < self.retired && begin + size_of::<T>() > self.retire_from
    }

    /// Begins to move the entries of the next window. `None` if all were moved.
    #[inline]
    pub(crate) const fn begin_window(&mut self) -> Option<usize> {
        let slots = self.generation.slots();
        if self.passed >= 2 * slots {
            return None;
        }
        self.begun = self.passed + WIDTH;
        Some(self.passed & (slots - 1))
    }

    /// Homes whose entries may move, those of the window under way included.
    #[inline]
    pub(crate) const fn homes_begun(&self) -> usize {
        self.begun
    }

    /// All entries of the window are moved.
    #[inline]
    pub(crate) const fn end_window(&mut self) {
        self.passed = self.begun;
    }

    /// Puts `value` into a vacant slot.
    ///
    /// # Safety
    /// The slot [can be filled](Self::can_fill), and was found for this hash, whose home is not passed.
    pub(crate) unsafe fn fill(&mut self, slot: usize, hash: u64, value: T) -> NonNull<T> {
        debug_assert!(self.can_fill(slot) && !self.is_passed(hash));
        self.headroom -= usize::from(self.generation.tag(slot).is_empty());
        self.items += 1;
        let entry = self.generation.entry(slot);
        // SAFETY: the slot is vacant and its memory alive. The entry is written before the tag says so.
        unsafe {
            entry.write(value);
            self.generation.set_tag(slot, Tag::full(hash));
        }
        entry
    }

    /// Marks a full slot vacant.
    ///
    /// # Safety
    /// The slot is full, and its entry is the caller's from here on.
    pub(crate) unsafe fn vacate(&mut self, slot: usize) {
        // SAFETY: passed on to the caller.
        self.headroom += usize::from(unsafe { self.generation.vacate(slot) });
        self.items -= 1;
    }

    /// Retires whole batches of entry bytes behind the frontier. A batch with an entry in it, whose probe wrapped
    /// around, is skipped: its bytes leave with the generation.
    pub(crate) fn retire_passed(&mut self, main: &Generation<T>) {
        if self.hands_on == HandsOn::No && (size_of::<T>() == 0 || !self.generation.can_retire()) {
            return;
        }
        let passed = self.nevacuate() * size_of::<T>() / pacing::RETIRE_BYTES * pacing::RETIRE_BYTES;
        if passed <= self.retired {
            return;
        }
        let (first, end) = (self.retired / size_of::<T>(), passed.div_ceil(size_of::<T>()));
        if !self.generation.any_full(first, end) {
            self.dead_bytes += if self.hand_on(passed, main) {
                passed - self.retired
            } else if self.generation.can_retire() {
                // SAFETY: no slot that touches the bytes is full, and `can_fill` lets none of them be filled.
                unsafe { self.generation.retire_entries(self.retired, passed) }
            } else {
                0
            };
        }
        self.retired = passed;
    }

    /// Moves the pages of the bytes from `retired` to `passed`, which are dead, to where `main` will need pages next: the
    /// same way ahead of the frontier each time, so that the mappings of all batches merge into one. Returns whether
    /// they moved.
    fn hand_on(&mut self, passed: usize, main: &Generation<T>) -> bool {
        let ahead = pacing::HAND_ON_AHEAD;
        let (at, upto) = (self.retired + ahead, passed + ahead);
        let slots = at / size_of::<T>()..upto.div_ceil(size_of::<T>());
        if self.hands_on == HandsOn::No || slots.end > main.slots() || main.any_full(slots.start, slots.end) {
            return false;
        }
        // SAFETY: no slot that touches the bytes is full, and `can_fill` lets none of them be filled. Nor is one of
        // those in `main` full.
        let moved = unsafe { self.generation.hand_entries_on(self.retired, passed, main, at) };
        if moved && self.hands_on == HandsOn::May {
            self.generation.begin_handing_on();
            self.hands_on = HandsOn::Does;
        }
        moved
    }

    /// Checks that dead memory holds no entry, and that bounds are in order.
    pub(crate) fn verify(&self, empty: usize) {
        let slots = self.generation.slots();
        assert!(self.passed <= 2 * slots);
        assert!(self.headroom < empty, "headroom {}, empty {empty}", self.headroom);
        for slot in (0..slots).filter(|&slot| self.is_dead(slot)) {
            assert!(slot < self.passed, "slot {slot} is dead before its time");
        }
    }

    /// Retires what was kept for chains that wrap around, then the tags, in batches, once no entry is left. Returns
    /// whether all are.
    pub(crate) fn retire_tags(&mut self) -> bool {
        debug_assert!(self.is_drained_of_entries());
        if !self.retires() {
            return true;
        }
        if self.retire_from > 0 {
            let end = self.retire_from.min(self.generation.slots() * size_of::<T>());
            self.retire_from = 0;
            // SAFETY: no entry is left, and none comes here any more, as all homes are passed.
            self.dead_bytes += unsafe { self.generation.retire_entries(0, end) };
            return false;
        }
        let end = self.generation.tags_len().min(self.drained + pacing::RETIRE_BYTES);
        // SAFETY: all homes are passed and no entry is left, so that no lookup comes here, and a scan passes over a
        // generation without entries.
        self.dead_bytes += unsafe { self.generation.retire_tags(self.drained, end) };
        self.drained = end;
        end == self.generation.tags_len()
    }
}
