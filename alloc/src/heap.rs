//! The heap: all layers together, over any OS.
//!
//! One static heap over Linux serves the process; tests make others over a fake. What the layers below return as
//! [`Misused`] ends the process here.

use crate::base::counters::Counters;
use crate::base::own_line::OwnLine;
use crate::cache::Caches;
use crate::cache::magazine::ThreadCache;
use crate::inspect::misuse;
use crate::inspect::pressure::Pressure;
use crate::inspect::report::{ReleaseOptions, ReleaseReport};
use crate::inspect::snapshot::{snapshot, usage};
use crate::inspect::stats::{MemStats, Usage};
use crate::inspect::verify::{HeapError, verify};
use crate::os::Os;
use crate::pages::Pages;
use crate::release::Releases;
use crate::space::Space;
use crate::space::misuse::Misused;
use crate::space::segment::Segments;
use crate::spans::Spans;

/// Address space to ask for at first. Costs nothing until used.
#[cfg(not(all(test, loom)))]
const RESERVATION: usize = 1 << 40;

/// The heap of this process.
#[cfg(not(all(test, loom)))]
pub(crate) static HEAP: Heap<crate::os::Linux> = Heap::new(crate::os::Linux::new(), RESERVATION);
#[cfg(all(test, loom))]
pub(crate) static HEAP: crate::models::HeapOfRun = crate::models::HeapOfRun;

pub(crate) struct Heap<O> {
    pub(crate) caches: Caches<O>,
    pub(crate) releases: OwnLine<Releases>,
    /// Read by each slow path.
    pub(crate) pressure: OwnLine<Pressure>,
}

impl<O: Os> Heap<O> {
    pub(crate) const fn new(os: O, reservation: usize) -> Self {
        let space = Space::new(os, reservation);
        Self {
            caches: Caches::new(Spans::new(Pages::new(space))),
            releases: OwnLine(Releases::new()),
            pressure: OwnLine(Pressure::new()),
        }
    }

    #[inline(always)]
    pub(crate) const fn spans(&self) -> &Spans<O> {
        self.caches.spans()
    }

    #[inline(always)]
    pub(crate) const fn pages(&self) -> &Pages<O> {
        self.spans().pages()
    }

    #[inline(always)]
    pub(crate) const fn segments(&self) -> &Segments {
        self.caches.segments()
    }

    #[inline(always)]
    pub(crate) const fn counters(&self) -> &Counters {
        self.caches.counters()
    }

    #[inline(always)]
    pub(crate) const fn os(&self) -> &O {
        self.caches.os()
    }

    /// The value, or the end of the process.
    #[inline]
    pub(crate) fn sound<T>(&self, result: Result<T, Misused>) -> T {
        match result {
            Ok(value) => value,
            Err(misused) => misuse::end(self.spans(), misused),
        }
    }

    /// After memory was freed: see [`Pressure::check_idle`].
    #[inline]
    pub(crate) fn check_idle(&self) {
        self.pressure.check_idle(self.counters());
    }

    /// After pages were taken: see [`Pressure::check_total`].
    #[inline]
    pub(crate) fn check_total(&self) {
        self.pressure.check_total(self.counters());
    }

    /// See [`crate::release()`]. The caller's cache is flushed already.
    pub(crate) fn release(&self, options: ReleaseOptions) -> ReleaseReport {
        self.sound(self.releases.run(&self.caches, options))
    }

    /// See [`crate::release_tables`].
    pub(crate) fn release_tables(&self) -> u64 {
        self.releases.tables_alone(&self.caches)
    }

    /// See [`crate::mem_stats`].
    pub(crate) fn snapshot(&self) -> MemStats {
        snapshot(&self.caches)
    }

    /// See [`crate::usage`].
    pub(crate) fn usage(&self) -> Usage {
        usage(self.counters())
    }

    /// See [`crate::verify`].
    pub(crate) fn verify(&self, own: Option<&ThreadCache>) -> Result<(), HeapError> {
        verify(&self.caches, own)
    }
}
