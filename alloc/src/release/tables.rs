//! Gives back the allocator's own tables where they describe only idle memory: the span records and the rows of free
//! runs, and the stacks of caches that no thread has.
//!
//! A free run is taken out of the tree meanwhile, so nobody begins a span there. A page of a table that leaves reads as
//! zero: a record without a span, a row of an idle unit, an empty stack. That is what they held.

#![allow(unsafe_code, reason = "gives pages of tables to the OS")]

use core::ops::Range;
use core::ptr::NonNull;

use super::job::Job;
use crate::heap::Heap;
use crate::os::{Os, resident_bytes};
use crate::units::UnitIndex;
use crate::zone::Idle;

impl<O: Os> Heap<O> {
    pub(super) fn release_tables(&self, job: &mut Job<'_, O>, zones: usize) {
        for zone in 0..zones {
            job.cursor = UnitIndex(0);
            while let Some(run) = self.next_leaving(job, zone, Idle::Tables) {
                self.release_records(job, run);
                self.release_rows(job, run);
                self.put_back(run, job.cursor);
                job.check_time();
            }
            self.end_walk(job, zone);
        }
        for cache in self.registry.all() {
            if let Some(stacks) = self.registry.idle_stacks(cache) {
                self.release_table(job, self.os.pages().inside(&stacks));
                self.registry.put(cache);
            }
        }
    }

    /// Gives back the pages under the span records of a run that is leaving.
    fn release_records(&self, job: &mut Job<'_, O>, run: UnitIndex) {
        let units = self.space.meta(run).len();
        let group = self.os.pages();
        let page_of = |address: usize| address & !(group.bytes() - 1);
        let inner = group.inside(&self.space.records(run, units));
        let mut pages = inner.start..inner.start;
        for unit in 0..units {
            let unit = run.plus(unit);
            let meta = self.space.meta(unit);
            let record = self.space.records(unit, 1);
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
                        self.release_table(job, core::mem::replace(&mut pages, *page..*page));
                    }
                    pages.end = *page + group.bytes();
                }
            }
            meta.set_record_pages(stay);
        }
        self.release_table(job, pages);
    }

    /// Gives back the pages under the rows of a run that is leaving, but for its first and its last.
    fn release_rows(&self, job: &mut Job<'_, O>, run: UnitIndex) {
        let units = self.space.meta(run).len();
        if units < 3 {
            return;
        }
        let pages = self.os.pages().inside(&self.space.rows(run.plus(1), units - 2));
        let idle = |unit| self.space.meta(run.plus(unit)).is_idle();
        if !pages.is_empty() && (1..units - 1).all(idle) {
            self.release_table(job, pages);
        }
    }

    /// Gives back pages of a table, if any of them is resident.
    fn release_table(&self, job: &mut Job<'_, O>, pages: Range<usize>) {
        let Some(addr) = NonNull::new(pages.start as *mut u8).filter(|_| !pages.is_empty()) else { return };
        let resident = resident_bytes(&self.os, addr, pages.len()).unwrap_or(0);
        if resident == 0 {
            return;
        }
        job.desk.batch.syscalls += 1;
        // SAFETY: whole pages of a table, all of whose rows are idle or not in use; they mean the same when they are
        // zero, and nobody writes them meanwhile.
        if unsafe { self.os.release(addr, pages.len()) }.is_ok() {
            job.tables += resident as u64;
        }
    }
}
