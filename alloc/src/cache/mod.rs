//! Thread caches: a stack of free slots for each size class and thread, so that most allocations and frees touch
//! nothing that is shared.
//!
//! [`Caches`] owns all caches of the heap, with or without an owner, and the spans below.

pub(crate) mod magazine;
mod refill;
pub(crate) mod registry;
pub(crate) mod sharing;
mod steal;

use crate::base::counters::Counters;
use crate::base::own_line::OwnLine;
use crate::os::Os;
use crate::space::segment::Segments;
use crate::spans::Spans;
use registry::Registry;
use sharing::Sharing;

/// The spans, and the caches of all threads.
pub(crate) struct Caches<O> {
    spans: Spans<O>,
    pub(crate) registry: OwnLine<Registry>,
    /// Read by each slow path, written twice.
    pub(crate) sharing: OwnLine<Sharing>,
}

impl<O: Os> Caches<O> {
    pub(crate) const fn new(spans: Spans<O>) -> Self {
        Self { spans, registry: OwnLine(Registry::new()), sharing: OwnLine(Sharing::new()) }
    }

    #[inline(always)]
    pub(crate) const fn spans(&self) -> &Spans<O> {
        &self.spans
    }

    #[inline(always)]
    pub(crate) const fn os(&self) -> &O {
        self.spans.os()
    }

    #[inline(always)]
    pub(crate) const fn segments(&self) -> &Segments {
        self.spans.segments()
    }

    #[inline(always)]
    pub(crate) const fn counters(&self) -> &Counters {
        self.spans.counters()
    }

    /// Called when a thread takes its first cache. True for the first thread of all.
    pub(crate) fn enter(&self) -> bool {
        self.sharing.enter(&self.registry, self.os())
    }

    /// To be called before bits are changed by anybody but the first thread in its slow paths.
    pub(crate) fn share(&self) {
        self.sharing.share(&self.registry, self.os());
    }
}
