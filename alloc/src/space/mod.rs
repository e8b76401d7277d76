//! Address space: reservations of the OS, which of their units are committed, and the tables that describe these.
//!
//! [`Space`] owns the OS. Everything above reaches it through here.

#![allow(unsafe_code, reason = "calls the OS")]

pub(crate) mod live_bits;
pub(crate) mod misuse;
pub(crate) mod segment;
pub(crate) mod size_class;
pub(crate) mod span;
pub(crate) mod unit_table;

use crate::base::counters::Counters;
use crate::base::units::{UNIT, UnitIndex};
use crate::os::{Errno, Os};
use segment::{Segment, Segments};

/// The OS, what it reserved for the heap, and the heap's totals.
#[derive(Debug)]
pub(crate) struct Space<O> {
    pub(crate) os: O,
    /// Bytes of the first reservation to try.
    reservation: usize,
    pub(crate) segments: Segments,
    pub(crate) counters: Counters,
}

impl<O: Os> Space<O> {
    pub(crate) const fn new(os: O, reservation: usize) -> Self {
        Self { os, reservation, segments: Segments::new(), counters: Counters::new() }
    }

    /// Adds a segment of at least `needed` units. Callers keep others from doing the same.
    pub(crate) fn reserve(&self, needed: u32) -> Option<&Segment> {
        self.segments.reserve(&self.os, self.reservation, needed)
    }

    /// See [`Segments::commit`].
    pub(crate) fn commit(&self, from: UnitIndex, units: u32, spans: bool) -> Result<usize, Errno> {
        self.segments.commit(&self.os, from, units, spans)
    }

    /// Says whether huge pages may back the units from one to another.
    pub(crate) fn advise_huge(&self, from: UnitIndex, to: UnitIndex, wanted: bool) {
        let bytes = (to.0 - from.0) as usize * UNIT;
        // SAFETY: whole units of one segment.
        unsafe { self.os.advise_huge(self.segments.address(from), bytes, wanted) };
    }
}
