//! Runs of units: the page heap, and what takes whole pages from it (large blocks, arenas).
//!
//! [`Pages`] owns the address space and the page heap, and is all that the layers above see.

pub(crate) mod arena;
pub(crate) mod kept;
pub(crate) mod large;
pub(crate) mod page_heap;
mod resize;
pub(crate) mod treap;
pub(crate) mod zone;

use core::ops::Range;

use crate::base::counters::Counters;
use crate::base::units::UnitIndex;
use crate::os::{Guard, Os};
use crate::space::Space;
use crate::space::segment::Segments;
use page_heap::{PageHeap, Request};
use zone::{Purpose, Zone};

/// The address space, and which runs of it are free.
pub(crate) struct Pages<O> {
    space: Space<O>,
    heap: PageHeap,
}

impl<O: Os> Pages<O> {
    pub(crate) const fn new(space: Space<O>) -> Self {
        Self { space, heap: PageHeap::new() }
    }

    #[inline(always)]
    pub(crate) const fn space(&self) -> &Space<O> {
        &self.space
    }

    #[inline(always)]
    pub(crate) const fn os(&self) -> &O {
        &self.space.os
    }

    #[inline(always)]
    pub(crate) const fn segments(&self) -> &Segments {
        &self.space.segments
    }

    #[inline(always)]
    pub(crate) const fn counters(&self) -> &Counters {
        &self.space.counters
    }

    /// The number of zones.
    pub(crate) fn zones(&self) -> usize {
        self.heap.zones()
    }

    /// See [`PageHeap::zone`]. The lock of a zone is the last in the order, and nobody takes two.
    pub(crate) fn zone(&self, number: usize) -> Option<Guard<'_, Zone, O>> {
        self.heap.zone(&self.space.os, number)
    }

    /// The zone of a unit.
    pub(crate) fn zone_of(&self, unit: UnitIndex) -> Option<Guard<'_, Zone, O>> {
        self.heap.zone_of(&self.space.os, unit)
    }

    /// See [`PageHeap::serves`].
    pub(crate) fn serves(&self, run: UnitIndex, purpose: Purpose) -> bool {
        self.heap.serves(run, purpose)
    }

    /// See [`PageHeap::allocate`].
    pub(crate) fn allocate(&self, request: Request) -> Option<(Guard<'_, Zone, O>, UnitIndex)> {
        self.heap.allocate(&self.space, request)
    }

    /// Gives back a run of any kind.
    pub(crate) fn free(&self, run: UnitIndex) {
        if let Some(mut zone) = self.zone_of(run) {
            zone.give_back(&self.space, run);
        }
    }

    /// All runs, zone by zone, each with the number of units to the end of its zone. No lock is held between two, so of
    /// runs that are cut or joined meanwhile a part may be seen twice or not at all.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (UnitIndex, u32)> + '_ {
        let used = |zone| self.zone(zone).map_or(0..0, |zone| zone.used());
        (0..self.zones()).flat_map(move |zone| self.runs_in(used(zone)))
    }

    /// The runs that begin in a range of used units of one zone. Each is left behind before it is returned.
    pub(crate) fn runs_in(&self, units: Range<u32>) -> impl Iterator<Item = (UnitIndex, u32)> + '_ {
        let mut at = UnitIndex(units.start);
        core::iter::from_fn(move || {
            let left = units.end.checked_sub(at.0).filter(|left| *left > 0)?;
            let run = at;
            at = zone::next_head(self.segments(), run);
            Some((run, left))
        })
    }

    pub(crate) const fn page_heap(&self) -> &PageHeap {
        &self.heap
    }
}
