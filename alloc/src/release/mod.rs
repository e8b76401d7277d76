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
        let rss = || if options.without_rss { 0 } else { self.os.rss() };
        let rss_before = rss();
        let mut job = Job::new(self, &mut desk, options, start);
        self.release_all(&mut job);
        self.counters.releases_total.add(1);
        let mut report = self.report(&job, start);
        (report.rss_before, report.rss_after) = (rss_before, rss());
        report
    }

    /// See [`crate::release_tables`].
    pub(crate) fn release_tables_alone(&self) -> u64 {
        let mut desk = self.releasing.lock(&self.os);
        let mut job = Job::new(self, &mut desk, ReleaseOptions::new(), self.os.now());
        let zones = self.page_heap().zones().len();
        self.release_tables(&mut job, zones);
        job.tables
    }

    /// What came of it. No second walk: a release with a deadline has no time for one.
    fn report(&self, job: &Job<'_, O>, start: u64) -> ReleaseReport {
        let (batch, counters, tally) = (&job.desk.batch, &self.counters, &job.tally);
        let (mut cached, mut caches) = (0, 0);
        for held in self.registry.all().map(|cache| cache.held_bytes()).filter(|held| *held > 0) {
            (cached, caches) = (cached + held, caches + 1);
        }
        let cached = cached.min(tally.objects);
        let free_resident = counters.free_resident.get();
        let never_used = counters.committed.get().saturating_sub(counters.run_bytes.get() + free_resident);
        let mut report = ReleaseReport {
            released_bytes: batch.released,
            metadata_released_bytes: job.tables,
            already_released_bytes: (never_used + tally.released).saturating_sub(batch.released),
            in_use_bytes: tally.objects - cached,
            blocked: batch.blocked,
            rss_before: 0,
            rss_after: 0,
            looked_at_bytes: tally.inuse + tally.free + tally.released,
            syscalls: batch.syscalls,
            elapsed: Duration::from_nanos(self.os.now().saturating_sub(start)),
            stopped_early: job.stopped(),
        };
        let refused = report.blocked_bytes();
        if !report.stopped_early {
            let busy = (tally.free + free_resident).saturating_sub(refused);
            // In a larger page of the kernel free pages lie beside live objects.
            let reason = if self.os.pages().len() > 1 { BlockReason::LiveObjects } else { BlockReason::Busy };
            report.blocked.add(reason, busy, 1);
        }
        report.blocked.add(BlockReason::LiveObjects, tally.inuse - tally.objects, job.spans_with_holes);
        report.blocked.add(BlockReason::ThreadCache, cached, caches);
        report
    }

    /// Models release a part of the heap: what a whole release does besides would only cost them steps.
    #[cfg(all(test, loom))]
    pub(crate) fn release_in_units(&self, units: core::ops::Range<u32>) {
        let mut desk = self.releasing.lock(&self.os);
        let mut job = Job::new(self, &mut desk, ReleaseOptions::new(), 0);
        self.release_in_runs(&mut job, units);
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
        // Without a barrier threads would be sent to their slow paths for nothing.
        if !job.spares_caches && self.os.has_barrier() {
            self.gather_from_caches();
        }
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
