//! Gives back the allocator's own tables where they describe only idle memory: the span records and the rows of free
//! runs, and the stacks of caches that no thread has.
//!
//! A free run is taken out of the tree meanwhile, so nobody begins a span there. A page of a table that leaves reads as
//! zero: a record without a span, a row of an idle unit, an empty stack. That is what they held.

#![allow(unsafe_code, reason = "gives pages of tables to the OS")]

use core::ops::Range;
use core::ptr::NonNull;

use super::job::Job;
use crate::base::units::UnitIndex;
use crate::os::{Os, resident_bytes};
use crate::pages::zone::Idle;

impl<O: Os> Job<'_, O> {
    /// Gives back the tables of the free runs of a zone in a range of units. Returns where it stopped.
    pub(super) fn release_tables(&mut self, zone: usize, range: &Range<u32>) -> u32 {
        self.cursor = UnitIndex(range.start);
        while let Some(run) = self.next_leaving(zone, Idle::Tables, range.end) {
            self.release_records(run);
            self.release_rows(run);
            self.put_back(run, self.cursor);
            self.check_time();
        }
        let at = self.cursor.0;
        self.end_walk(zone);
        at
    }

    /// Gives back the stacks of caches that no thread has.
    pub(super) fn release_stacks(&mut self) {
        let registry = &self.caches.registry;
        for cache in registry.all() {
            if self.stopped() {
                return;
            }
            if let Some(stacks) = registry.idle_stacks(cache) {
                self.release_table(self.os().pages().inside(&stacks));
                registry.put(cache);
                self.check_time();
            }
        }
    }

    /// Gives back the pages under the span records of a run that is leaving.
    fn release_records(&mut self, run: UnitIndex) {
        let units = self.segments().meta(run).len();
        let group = self.os().pages();
        let page_of = |address: usize| address & !(group.bytes() - 1);
        let inner = group.inside(&self.segments().records(run, units));
        let mut pages = inner.start..inner.start;
        for unit in 0..units {
            let unit = run.plus(unit);
            let meta = self.segments().meta(unit);
            let record = self.segments().records(unit, 1);
            let mut stay = 0;
            for (bit, page) in [page_of(record.start), page_of(record.end - 1)].iter().enumerate() {
                if meta.record_pages() & (1 << bit) == 0 {
                    continue;
                }
                if !inner.contains(page) {
                    // The neighbours' records lie there too.
                    stay |= 1 << bit;
                } else if *page >= pages.end {
                    if *page > pages.end {
                        self.release_table(core::mem::replace(&mut pages, *page..*page));
                    }
                    pages.end = *page + group.bytes();
                }
            }
            meta.set_record_pages(stay);
        }
        self.release_table(pages);
    }

    /// Gives back the pages under the rows of a run that is leaving, but for its first and its last.
    fn release_rows(&mut self, run: UnitIndex) {
        let units = self.segments().meta(run).len();
        if units < 3 {
            return;
        }
        let pages = self.os().pages().inside(&self.segments().rows(run.plus(1), units - 2));
        let segments = self.segments();
        let idle = |unit| segments.meta(run.plus(unit)).is_idle();
        if !pages.is_empty() && (1..units - 1).all(idle) {
            self.release_table(pages);
        }
    }

    /// Gives back pages of a table, if any of them is resident.
    fn release_table(&mut self, pages: Range<usize>) {
        let Some(addr) = NonNull::new(pages.start as *mut u8).filter(|_| !pages.is_empty()) else { return };
        let resident = resident_bytes(self.os(), addr, pages.len()).unwrap_or(0);
        if resident == 0 {
            return;
        }
        self.desk.batch.syscalls += 1;
        // SAFETY: whole pages of a table, all of whose rows are idle or not in use; they mean the same when they are
        // zero, and nobody writes them meanwhile.
        if unsafe { self.os().release(addr, pages.len()) }.is_ok() {
            self.tables += resident as u64;
        }
    }
}
