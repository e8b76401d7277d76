//! The heap: all parts together, over any OS.
//!
//! One static heap over Linux serves the process; tests make others over a fake.

use crate::central::Central;
use crate::counters::Counters;
use crate::lock::{Guard, Lock};
use crate::os::Os;
use crate::page_heap::PageHeap;
use crate::pressure::Pressure;
use crate::registry::Registry;
use crate::release::Desk;
use crate::segment::Space;
use crate::sharing::Sharing;
use crate::size_class::{CLASSES, SizeClass};
use crate::zone::Context;

/// Address space to ask for at first. Costs nothing until used.
#[cfg(not(all(test, loom)))]
const RESERVATION: usize = 1 << 40;

/// The heap of this process.
#[cfg(not(all(test, loom)))]
pub(crate) static HEAP: Heap<crate::os::Linux> = Heap::new(crate::os::Linux::new(), RESERVATION);
#[cfg(all(test, loom))]
pub(crate) static HEAP: crate::models::HeapOfRun = crate::models::HeapOfRun;

pub(crate) struct Heap<O> {
    pub(crate) os: O,
    /// Bytes of the first reservation to try.
    pub(crate) reservation: usize,
    pub(crate) space: Space,
    pub(crate) registry: Registry,
    centrals: [Lock<Central>; CLASSES],
    page_heap: Lock<PageHeap>,
    pub(crate) counters: Counters,
    pub(crate) pressure: Pressure,
    pub(crate) sharing: Sharing,
    /// Held for a whole release: a second one waits, so that its report is true.
    pub(crate) releasing: Lock<Desk>,
}

impl<O: Os> Heap<O> {
    pub(crate) const fn new(os: O, reservation: usize) -> Self {
        Self {
            os,
            reservation,
            space: Space::new(),
            registry: Registry::new(),
            centrals: [const { Lock::new(Central::new()) }; CLASSES],
            page_heap: Lock::new(PageHeap::new()),
            counters: Counters::new(),
            pressure: Pressure::new(),
            sharing: Sharing::new(),
            releasing: Lock::new(Desk::new()),
        }
    }

    pub(crate) fn context(&self) -> Context<'_, O> {
        Context { os: &self.os, space: &self.space, counters: &self.counters }
    }

    pub(crate) fn central_lock(&self, class: SizeClass) -> &Lock<Central> {
        &self.centrals[class.index()]
    }

    pub(crate) fn page_heap_lock(&self) -> &Lock<PageHeap> {
        &self.page_heap
    }

    /// The lists of a class. Taken before the page heap, never after it.
    pub(crate) fn central(&self, class: SizeClass) -> Guard<'_, Central, O> {
        self.centrals[class.index()].lock(&self.os)
    }

    pub(crate) fn page_heap(&self) -> Guard<'_, PageHeap, O> {
        self.page_heap.lock(&self.os)
    }
}
