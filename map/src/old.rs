//! [`Old`]: the generation that a change evacuates, and how far it came.
//!
//! Invariants:
//! - entries whose home is below `nevacuate` are gone, the others are here;
//! - `headroom` more empty slots may be used, and one more is always left;
//! - bytes between `retire_from` and `retired` below the tags are dead: slots that touch them take no entry any more;
//! - once all homes are evacuated and no entry is left, nothing reads the tags any more, and they may be retired.
#![allow(unsafe_code, reason = "entries in raw memory, told initialized by their tags")]

use core::ptr::NonNull;
use std::alloc::Layout;
use std::time::Instant;

use crate::boxed::try_box;
use crate::error::TryReserveError;
use crate::generation::{EntryLayout, Generation};
use crate::life::nanos;
use crate::pacing::{self, ChangeKind};
use crate::tag::Tag;
use crate::window::{Matches, WIDTH, Window};

/// An entry that a step is about to move.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) slot: usize,
    pub(crate) hash: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Old {
    pub(crate) generation: Generation,
    pub(crate) kind: ChangeKind,
    /// Entries still here.
    pub(crate) items: usize,
    /// Homes evacuated, in order from 0.
    pub(crate) nevacuate: usize,
    /// Empty slots that inserts may still use.
    pub(crate) headroom: usize,
    /// What the step under way moves, in a buffer that all steps share.
    pub(crate) pending: Vec<Pending>,
    /// Hashes of the entries from the frontier up to `reach`, by slot modulo the length. Probes near the load limit are
    /// long, and steps would hash most entries several times.
    hashes: Vec<u64>,
    /// The numbers of the steps that move these entries, modulo 256, so that a step finds its own a window at a time.
    steps: Vec<u8>,
    /// Full slots from the frontier up to this one have their hashes kept.
    reach: usize,
    /// Size of an entry.
    entry_bytes: usize,
    /// Bytes below the tags that never retire early, for chains that wrap around.
    retire_from: usize,
    /// Bytes below the tags up to which entries are dead, retired or skipped.
    retired: usize,
    /// Bytes of the tags that are retired.
    drained: usize,
    /// Writes until the next step.
    pub(crate) until_step: u32,
    /// Writes since the change began.
    pub(crate) writes: u64,
    /// Time spent on the change, and its longest piece, in nanoseconds.
    pub(crate) spent_ns: u64,
    pub(crate) longest_ns: u64,
}

impl Old {
    /// The state of a change that evacuates a generation, which the caller puts in.
    pub(crate) fn new(
        kind: ChangeKind,
        slots: usize,
        items: usize,
        entry: EntryLayout,
    ) -> Result<Box<Self>, TryReserveError> {
        let homes = pacing::step_homes(entry.size);
        let failed = |_| TryReserveError::AllocError {
            layout: Layout::array::<Pending>(2 * homes).unwrap_or(Layout::new::<Pending>()),
        };
        let mut pending = Vec::new();
        pending.try_reserve_exact(2 * homes).map_err(failed)?;
        let mut hashes = Vec::new();
        hashes.try_reserve_exact(pacing::KEPT_HASHES).map_err(failed)?;
        hashes.resize(pacing::KEPT_HASHES, 0);
        let mut steps = Vec::new();
        steps.try_reserve_exact(pacing::KEPT_HASHES).map_err(failed)?;
        steps.resize(pacing::KEPT_HASHES, 0);
        let wrap = pacing::RETIRE_BYTES.max(pacing::WRAP_SLOTS.saturating_mul(entry.size));
        let wrap = wrap.div_ceil(pacing::RETIRE_BYTES).saturating_mul(pacing::RETIRE_BYTES);
        try_box(Self {
            generation: Generation::without_slots(),
            kind,
            items,
            nevacuate: 0,
            headroom: pacing::headroom(slots),
            pending,
            hashes,
            steps,
            reach: 0,
            entry_bytes: entry.size,
            retire_from: wrap,
            retired: wrap,
            drained: 0,
            until_step: pacing::step_writes(entry.size),
            writes: 0,
            spent_ns: 0,
            longest_ns: 0,
        })
    }

    /// A copy of the state around `generation`, for a clone of the map.
    pub(crate) fn like(&self, generation: Generation) -> Box<Self> {
        let (hashes, steps) = (vec![0; pacing::KEPT_HASHES], vec![0; pacing::KEPT_HASHES]);
        let pending = Vec::new();
        Box::new(Self { generation, pending, hashes, steps, reach: self.nevacuate, ..*self })
    }

    /// Whether an entry with this hash would be here.
    #[inline]
    pub(crate) const fn owns(&self, hash: u64) -> bool {
        self.generation.home(hash) >= self.nevacuate
    }

    /// Accounts for work on the change that began at `started`.
    pub(crate) fn spent(&mut self, started: Instant) {
        let ns = nanos(started.elapsed());
        self.spent_ns = self.spent_ns.saturating_add(ns);
        self.longest_ns = self.longest_ns.max(ns);
    }

    /// Whether nothing is left but memory.
    pub(crate) const fn is_drained_of_entries(&self) -> bool {
        self.items == 0 && self.nevacuate == self.generation.slots()
    }

    /// A slot for an entry with this hash. None if that would use up the last empty slots, or lie in dead memory.
    pub(crate) fn vacant_slot(&self, hash: u64) -> Option<usize> {
        let slot = self.generation.find_vacant(hash);
        let fits = self.headroom > 0 || !self.generation.tag(slot).is_empty();
        (fits && !self.is_dead(slot)).then_some(slot)
    }

    /// Whether bytes of slot `slot` may be retired.
    const fn is_dead(&self, slot: usize) -> bool {
        let begin = slot * self.entry_bytes;
        let any = self.retire_from < self.retired;
        any && begin < self.retired && begin + self.entry_bytes > self.retire_from
    }

    /// Keeps the hash of the entry in `slot`, which is in reach.
    #[inline]
    pub(crate) fn keep_hash<T>(&mut self, slot: usize, hash: u64) {
        self.hashes[slot % pacing::KEPT_HASHES] = hash;
        self.steps[slot % pacing::KEPT_HASHES] = Self::step_of::<T>(self.generation.home(hash));
    }

    /// The kept hash of the entry in `slot`, which is in reach.
    #[inline]
    pub(crate) fn kept_hash(&self, slot: usize) -> u64 {
        self.hashes[slot % pacing::KEPT_HASHES]
    }

    /// Number of the step that evacuates `home`, modulo 256.
    #[inline]
    const fn step_of<T>(home: usize) -> u8 {
        (home / const { pacing::step_homes(size_of::<T>()) }) as u8
    }

    /// The full slots of the window at `position`, which is in reach, whose entries the step from `first` on moves. A
    /// few others may be among them.
    #[inline]
    pub(crate) fn of_step<T>(&self, position: usize, first: usize) -> Matches {
        let kept = position % pacing::KEPT_HASHES;
        debug_assert!(kept.is_multiple_of(WIDTH));
        // SAFETY: both are multiples of sixteen, so sixteen bytes follow.
        let steps = unsafe { Window::load(self.steps[kept..kept + WIDTH].as_ptr()) };
        let same = steps.equal(Tag(Self::step_of::<T>(first)));
        Matches(same.0 & self.generation.window(position).full().0)
    }

    /// Positions up to this one, from the frontier on, are in reach: the hashes of their entries are kept.
    #[inline]
    pub(crate) const fn reach(&self) -> usize {
        self.reach
    }

    /// Where the reach of the next step ends. It leaves out what wraps around.
    pub(crate) fn next_reach(&self) -> usize {
        (self.nevacuate + pacing::KEPT_HASHES).min(self.generation.slots())
    }

    /// The hashes of all entries from the frontier to `reach` are kept.
    pub(crate) fn set_reach(&mut self, reach: usize) {
        self.reach = reach;
    }

    /// Moves the frontier on by `count` homes.
    pub(crate) fn pass(&mut self, count: usize) {
        self.nevacuate += count;
        self.retire_passed();
    }

    /// Puts `value` into a vacant slot.
    ///
    /// # Safety
    /// The slot came from [`vacant_slot`](Self::vacant_slot), and nothing changed since.
    pub(crate) unsafe fn fill<T>(&mut self, slot: usize, hash: u64, value: T) -> NonNull<T> {
        debug_assert!(!self.is_dead(slot) && !self.generation.tag(slot).is_full());
        self.headroom -= usize::from(self.generation.tag(slot).is_empty());
        if self.nevacuate <= slot && slot < self.reach {
            self.keep_hash::<T>(slot, hash);
        }
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
    fn retire_passed(&mut self) {
        if self.entry_bytes == 0 || !self.generation.is_arena() {
            return;
        }
        let passed = self.nevacuate * self.entry_bytes / pacing::RETIRE_BYTES * pacing::RETIRE_BYTES;
        if passed <= self.retired {
            return;
        }
        let (first, end) = (self.retired / self.entry_bytes, passed.div_ceil(self.entry_bytes));
        if !self.any_full(first, end) {
            // SAFETY: no slot that touches the bytes is full, and `vacant_slot` gives none of them out.
            unsafe { self.generation.retire_entries(self.retired, passed) };
        }
        self.retired = passed;
    }

    fn any_full(&self, first: usize, end: usize) -> bool {
        (first..end).step_by(WIDTH).any(|position| {
            let beyond = WIDTH.saturating_sub(end - position);
            self.generation.window(position).full().0 << beyond != 0
        })
    }

    /// Checks that dead memory holds no entry.
    pub(crate) fn verify_dead(&self) {
        for slot in (0..self.generation.slots()).filter(|&slot| self.is_dead(slot)) {
            assert!(slot < self.nevacuate, "slot {slot} is dead before its time");
        }
    }

    /// Retires the next batch of tags, once no entry is left. Returns whether all are.
    pub(crate) fn retire_tags(&mut self) -> bool {
        debug_assert!(self.is_drained_of_entries());
        if !self.generation.is_arena() {
            return true;
        }
        let end = self.generation.tags_len().min(self.drained + pacing::RETIRE_BYTES);
        // SAFETY: all homes are evacuated, so that no lookup comes here, and a scan passes over a generation without
        // entries.
        unsafe { self.generation.retire_tags(self.drained, end) };
        self.drained = end;
        end == self.generation.tags_len()
    }
}
