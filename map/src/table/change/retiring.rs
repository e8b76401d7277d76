//! [`Retiring`]: what an old generation gave back of its memory, in batches behind the frontier of evacuation.
//!
//! Invariants:
//! - bytes between `from` and `retired` below the tags are dead: slots that touch them take no entry any more;
//! - once a tag is retired all slots are passed and no entry is left, so that nothing reads tags.
#![allow(unsafe_code, reason = "declares raw memory dead")]

use crate::generation::Generation;
use crate::table::change::pacing;

/// Whether dead pages go to the other generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HandsOn {
    No,
    May,
    Does,
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retiring {
    /// Bytes below the tags that never retire early, for chains that wrap around.
    from: usize,
    /// Bytes below the tags up to which entries are dead, retired or skipped.
    retired: usize,
    /// Bytes of the tags that are retired.
    drained: usize,
    /// Bytes that were retired or handed on, in all.
    dead_bytes: usize,
    /// Whether dead pages go to the other generation, where its entries will be, instead of to the OS.
    hands_on: HandsOn,
}

impl Retiring {
    /// The same bounds for a clone of the generation, of which nothing was given back yet.
    pub(crate) const fn like(&self) -> Self {
        let hands_on = match self.hands_on {
            HandsOn::No => HandsOn::No,
            HandsOn::May | HandsOn::Does => HandsOn::May,
        };
        Self { from: self.from, retired: self.retired, drained: self.drained, dead_bytes: 0, hands_on }
    }

    /// For a generation whose entries go to `next`.
    pub(crate) fn new<T>(generation: &Generation<T>, next: &Generation<T>) -> Self {
        let hands_on = if generation.may_hand_on(next) { HandsOn::May } else { HandsOn::No };
        let wrap = pacing::RETIRE_BYTES.max(pacing::WRAP_SLOTS.saturating_mul(size_of::<T>()));
        let wrap = wrap.div_ceil(pacing::RETIRE_BYTES).saturating_mul(pacing::RETIRE_BYTES);
        Self { from: wrap, retired: wrap, drained: 0, dead_bytes: 0, hands_on }
    }

    pub(crate) const fn dead_bytes(&self) -> usize {
        self.dead_bytes
    }

    /// Whether one of the bytes `begin..end` below the tags may be retired.
    pub(crate) const fn is_dead(&self, begin: usize, end: usize) -> bool {
        self.from < self.retired && begin < self.retired && end > self.from
    }

    /// Whether parts of the memory are given back before it goes as a whole.
    pub(crate) const fn is_due<T>(&self, generation: &Generation<T>) -> bool {
        generation.can_retire() || matches!(self.hands_on, HandsOn::Does)
    }

    /// Retires whole batches of entry bytes of the first `passed` slots. A batch with an entry in it, whose probe wrapped
    /// around, is skipped: its bytes leave with the generation.
    ///
    /// # Safety
    /// Of these slots none is filled whose bytes [are dead](Self::is_dead) after this.
    pub(crate) unsafe fn retire_passed<T>(
        &mut self,
        generation: &Generation<T>,
        passed: usize,
        next: &Generation<T>,
    ) {
        if self.hands_on == HandsOn::No && (size_of::<T>() == 0 || !generation.can_retire()) {
            return;
        }
        let passed = passed * size_of::<T>() / pacing::RETIRE_BYTES * pacing::RETIRE_BYTES;
        if passed <= self.retired {
            return;
        }
        let (first, end) = (self.retired / size_of::<T>(), passed.div_ceil(size_of::<T>()));
        if !generation.any_full(first, end) {
            // SAFETY: no slot that touches the bytes is full, and the caller lets none of them be filled.
            self.dead_bytes += if unsafe { self.hand_on(generation, passed, next) } {
                passed - self.retired
            } else if generation.can_retire() {
                // SAFETY: as above.
                unsafe { generation.retire_entries(self.retired, passed) }
            } else {
                0
            };
        }
        self.retired = passed;
    }

    /// Moves the pages of the bytes from `retired` to `passed` to where `next` will need pages soon: the same way ahead of
    /// the frontier each time, so that the mappings of all batches merge into one. Returns whether they moved.
    ///
    /// # Safety
    /// No slot that touches the bytes is full, or will be filled.
    unsafe fn hand_on<T>(&mut self, generation: &Generation<T>, passed: usize, next: &Generation<T>) -> bool {
        let ahead = pacing::HAND_ON_AHEAD;
        let (at, upto) = (self.retired + ahead, passed + ahead);
        let slots = at / size_of::<T>()..upto.div_ceil(size_of::<T>());
        if self.hands_on == HandsOn::No || slots.end > next.slots() || next.any_full(slots.start, slots.end) {
            return false;
        }
        // SAFETY: the caller vouches for these bytes. None of the slots of `next` is full.
        let moved = unsafe { generation.hand_entries_on(self.retired, passed, next, at) };
        if moved && self.hands_on == HandsOn::May {
            generation.begin_handing_on();
            self.hands_on = HandsOn::Does;
        }
        moved
    }

    /// Retires what was kept for chains that wrap around, then the tags, a batch with each call. Returns whether all are.
    ///
    /// # Safety
    /// No entry is left, and no entry or tag is read or written any more.
    pub(crate) unsafe fn retire_rest<T>(&mut self, generation: &Generation<T>) -> bool {
        if !self.is_due(generation) {
            return true;
        }
        if self.from > 0 {
            let end = self.from.min(generation.slots() * size_of::<T>());
            self.from = 0;
            // SAFETY: passed on to the caller.
            self.dead_bytes += unsafe { generation.retire_entries(0, end) };
            return false;
        }
        let end = generation.tags_len().min(self.drained + pacing::RETIRE_BYTES);
        // SAFETY: passed on to the caller.
        self.dead_bytes += unsafe { generation.retire_tags(self.drained, end) };
        self.drained = end;
        end == generation.tags_len()
    }
}
