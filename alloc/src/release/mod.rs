//! A release: gives idle memory back to the OS, and reports exactly.
//!
//! Order: the caches of other threads; then every span, large block and region, of which wholly free spans become free
//! runs; then the free runs; then the tables that describe them. A release with bounds looks at the free runs before
//! all else, too, and walks on from where the last such release stopped. Memory is taken out of everybody's reach first
//! (bits taken, runs `Leaving` or pinned), given back without any lock that an allocation needs, marked as released,
//! and put back. One release runs at a time.

mod batch;
mod caches;
mod job;
mod runs;
mod spans;
mod tables;

use core::time::Duration;

use crate::heap::Heap;
use crate::os::Os;
use crate::report::{BlockReason, BlockedList, ReleaseOptions, ReleaseReport};
pub(crate) use job::Desk;
use job::Job;

impl<O: Os> Heap<O> {
    /// See [`crate::release`]. The caller's cache is flushed already.
    pub(crate) fn release(&self, options: ReleaseOptions) -> ReleaseReport {
        let start = self.os.now();
        let mut desk = self.releasing.lock(&self.os);
        let rss_before = self.os.rss();
        let mut job = Job::new(self, &mut desk, options, start);
        self.release_all(&mut job);
        self.counters.releases_total.add(1);
        let after = self.snapshot();
        let batch = &job.desk.batch;
        let mut report = ReleaseReport {
            released_bytes: batch.released,
            metadata_released_bytes: job.tables,
            already_released_bytes: after.heap_released.saturating_sub(batch.released),
            in_use_bytes: after.heap_alloc,
            blocked: batch.blocked,
            rss_before,
            rss_after: after.rss,
            syscalls: batch.syscalls,
            elapsed: Duration::from_nanos(self.os.now().saturating_sub(start)),
            stopped_early: job.stopped(),
        };
        let refused = report.blocked_bytes();
        if !report.stopped_early {
            let busy = after.heap_free.saturating_sub(refused);
            report.blocked.add(BlockReason::Busy, busy, 1);
        }
        report.blocked.add(BlockReason::LiveObjects, after.heap_unused, job.spans_with_holes);
        let caches = self.registry.all().filter(|cache| cache.held_bytes() > 0).count();
        report.blocked.add(BlockReason::ThreadCache, after.heap_cached, caches as u64);
        report
    }

    fn release_all(&self, job: &mut Job<'_, O>) {
        let zones = self.page_heap().zones().len();
        let mut from = 0;
        if job.is_bounded() {
            // Free runs are the cheapest to give back, and may be enough.
            (0..zones).for_each(|zone| self.release_free_runs(job, zone));
            if job.stopped() {
                return;
            }
            // What was refused so far is asked for again below.
            job.desk.batch.blocked = BlockedList::new();
            from = job.desk.resume;
        }
        self.gather_from_caches();
        self.release_in_zones(job, zones, from..u32::MAX);
        if !job.stopped() {
            self.release_in_zones(job, zones, 0..from);
        }
        (0..zones).for_each(|zone| self.release_free_runs(job, zone));
        self.release_tables(job, zones);
    }

    /// Gives back what the used runs in a range of units no longer need. Notes where a bound stopped it.
    fn release_in_zones(&self, job: &mut Job<'_, O>, zones: usize, units: core::ops::Range<u32>) {
        for zone in 0..zones {
            let used = self.page_heap().zones()[zone].used();
            let range = used.start.max(units.start)..used.end.min(units.end);
            if job.stopped() || range.is_empty() {
                continue;
            }
            let end = range.end;
            let at = self.release_in_runs(job, range);
            job.desk.resume = if at < end { at } else { 0 };
        }
    }
}
