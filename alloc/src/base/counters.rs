//! Totals of the heap as plain counters, for snapshots and for policies that must not walk it.
//!
//! All loads and stores are relaxed: each counter stands for itself and orders nothing.

use crate::base::own_line::OwnLine;
use crate::base::sync::{AtomicU64, Ordering};

/// A number of bytes or events that many threads add to.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, less: usize) {
        self.0.fetch_sub(less as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The totals, in groups of those that change at the same occasions: a group has cache lines of its own.
#[derive(Debug)]
pub(crate) struct Counters {
    /// Bytes handed out: slots that are live or in a magazine, pages that large blocks and regions own. Thread caches
    /// add up what little comes and goes by themselves, so it may be below zero for a moment.
    pub(crate) handed: OwnLine<Counter>,
    /// Changed where pages come and go; read, as `handed` is, by each slow path that frees.
    pub(crate) pages: OwnLine<PageCounters>,
    /// Changed under the lock of a zone, mostly.
    pub(crate) runs: OwnLine<RunCounters>,
    pub(crate) events: OwnLine<EventCounters>,
}

#[derive(Debug)]
pub(crate) struct PageCounters {
    pub(crate) released_total: Counter,
    pub(crate) reacquired_total: Counter,
    /// Bytes that came resident with their commit, and that left a run without a release.
    pub(crate) populated: Counter,
    pub(crate) moved_away: Counter,
    /// Bytes of tables and thread caches that are committed.
    pub(crate) metadata: Counter,
}

#[derive(Debug)]
pub(crate) struct RunCounters {
    /// Bytes of units that are committed.
    pub(crate) committed: Counter,
    /// Bytes of units that some run uses.
    pub(crate) run_bytes: Counter,
    /// Bytes of pages in free runs that may be resident.
    pub(crate) free_resident: Counter,
}

#[derive(Debug)]
pub(crate) struct EventCounters {
    pub(crate) releases_total: Counter,
    /// Blocks that moved without a copy.
    pub(crate) moves: Counter,
    /// Regions that began to hand pages on.
    pub(crate) handed_on: Counter,
    /// Large blocks and regions; small objects are counted by the thread caches.
    pub(crate) large_mallocs: Counter,
    pub(crate) large_frees: Counter,
    /// What threads that are gone had counted.
    pub(crate) small_mallocs: Counter,
    pub(crate) small_frees: Counter,
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            handed: OwnLine(Counter::new()),
            pages: OwnLine(PageCounters {
                released_total: Counter::new(),
                reacquired_total: Counter::new(),
                populated: Counter::new(),
                moved_away: Counter::new(),
                metadata: Counter::new(),
            }),
            runs: OwnLine(RunCounters {
                committed: Counter::new(),
                run_bytes: Counter::new(),
                free_resident: Counter::new(),
            }),
            events: OwnLine(EventCounters {
                releases_total: Counter::new(),
                moves: Counter::new(),
                handed_on: Counter::new(),
                large_mallocs: Counter::new(),
                large_frees: Counter::new(),
                small_mallocs: Counter::new(),
                small_frees: Counter::new(),
            }),
        }
    }

    /// Counts bytes that were handed out, or less than none that were taken back.
    pub(crate) fn count_handed(&self, bytes: isize) {
        // A number below zero is added as its two's complement.
        self.handed.add(bytes as usize);
    }

    /// Bytes handed out.
    pub(crate) fn handed(&self) -> u64 {
        u64::try_from(self.handed.get() as i64).unwrap_or(0)
    }

    /// Bytes of all pages that may be resident. What is resident and not [`handed`](Self::handed) out is idle, or lies
    /// beside something live in its page.
    pub(crate) fn resident(&self) -> u64 {
        // What is given back meanwhile may be missing in the first sum and be there in the second: never below zero.
        let pages = &self.pages;
        let gone = pages.released_total.get() + pages.moved_away.get();
        (pages.reacquired_total.get() + pages.populated.get()).saturating_sub(gone)
    }
}
