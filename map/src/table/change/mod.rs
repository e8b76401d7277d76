//! [`Change`]: a change of generation under way. It owns the old generation and the books of its evacuation. No locks.

mod evacuate;
pub(crate) mod old;
pub(crate) mod pacing;
mod retiring;

use std::time::Instant;

use crate::generation::Generation;
use crate::stats::life::nanos;
use crate::stats::observer::ChangeKind;
use crate::table::change::old::Old;

/// See the module.
#[derive(Debug)]
pub(crate) struct Change<T> {
    pub(crate) old: Old<T>,
    pub(crate) kind: ChangeKind,
    /// Writes until the next step.
    until_step: u32,
    /// Writes since the change began.
    pub(crate) writes: u64,
    /// Time spent on the change, and its longest piece, in nanoseconds.
    pub(crate) spent_ns: u64,
    pub(crate) longest_ns: u64,
}

impl<T> Change<T> {
    /// A change from `generation` with so many entries to `next`.
    pub(crate) fn new(
        kind: ChangeKind,
        generation: Generation<T>,
        next: &Generation<T>,
        items: usize,
    ) -> Self {
        let old = Old::new(generation, next, items);
        let until_step = pacing::step_writes(size_of::<T>());
        Self { old, kind, until_step, writes: 0, spent_ns: 0, longest_ns: 0 }
    }

    /// The same change from `generation`, for a clone of the map.
    pub(crate) fn like(&self, generation: Generation<T>) -> Self {
        Self { old: self.old.like(generation), writes: 0, spent_ns: 0, longest_ns: 0, ..*self }
    }

    /// Counts a write. Returns whether it is to do a step.
    #[inline]
    pub(crate) const fn count_write(&mut self) -> bool {
        self.writes += 1;
        if self.until_step > 1 {
            self.until_step -= 1;
            return false;
        }
        true
    }

    /// Puts the next step off by as many writes as there are for each. One that panics is due again at the next write.
    pub(crate) const fn stepped(&mut self) {
        self.until_step = pacing::step_writes(size_of::<T>());
    }

    /// Accounts for work on the change that began at `started`.
    pub(crate) fn spent(&mut self, started: Instant) {
        let ns = nanos(started.elapsed());
        self.spent_ns = self.spent_ns.saturating_add(ns);
        self.longest_ns = self.longest_ns.max(ns);
    }
}
