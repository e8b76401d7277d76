//! Runs of units: the page heap, and what takes whole pages from it (large blocks, arenas).
//!
//! [`Pages`] owns the address space and the lock of the page heap, and is all that the layers above see.

pub(crate) mod arena;
pub(crate) mod kept;
pub(crate) mod large;
pub(crate) mod page_heap;
mod resize;
pub(crate) mod treap;
pub(crate) mod zone;

use core::ops::Range;

use crate::base::counters::Counters;
use crate::base::own_line::OwnLine;
use crate::base::units::UnitIndex;
use crate::os::{Guard, Lock, Os};
use crate::space::Space;
use crate::space::segment::Segments;
use page_heap::PageHeap;

/// The address space, and which runs of it are free.
pub(crate) struct Pages<O> {
    space: Space<O>,
    heap: OwnLine<Lock<PageHeap>>,
}

impl<O: Os> Pages<O> {
    pub(crate) const fn new(space: Space<O>) -> Self {
        Self { space, heap: OwnLine(Lock::new(PageHeap::new())) }
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

    /// The page heap. Its lock is the last in the order.
    pub(crate) fn page_heap(&self) -> Guard<'_, PageHeap, O> {
        self.heap.lock(&self.space.os)
    }

    /// All runs, zone by zone, each with the number of units to the end of its zone. No lock is held between two, so of
    /// runs that are cut or joined meanwhile a part may be seen twice or not at all.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (UnitIndex, u32)> + '_ {
        let zones = self.page_heap().zones().len();
        let used = |zone: usize| self.page_heap().zones()[zone].used();
        (0..zones).flat_map(move |zone| self.runs_in(used(zone)))
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

    pub(crate) const fn page_heap_lock(&self) -> &Lock<PageHeap> {
        &self.heap.0
    }
}
