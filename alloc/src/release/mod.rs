//! A release: gives idle memory back to the OS, and reports exactly.
//!
//! Order: the caches of other threads; then every span, large block and region, of which wholly free spans become free
//! runs; then the free runs. A release with bounds looks at the free runs before all else, too. Memory is taken out of
//! everybody's reach first (bits taken, runs `Leaving` or pinned), given back without any lock that an allocation
//! needs, marked as released, and put back. One release runs at a time.

mod caches;
mod job;
mod runs;
mod spans;

use core::time::Duration;

use crate::heap::Heap;
use crate::os::Os;
use crate::report::{BlockReason, BlockedList, ReleaseOptions, ReleaseReport};
use job::Job;

impl<O: Os> Heap<O> {
    /// See [`crate::release`]. The caller's cache is flushed already.
    pub(crate) fn release(&self, options: ReleaseOptions) -> ReleaseReport {
        let start = self.os.now();
        let _alone = self.releasing.lock(&self.os);
        let rss_before = self.os.rss();
        let mut job = Job::new(self, options, start);
        self.release_all(&mut job);
        self.counters.releases_total.add(1);
        let after = self.snapshot();
        let mut report = ReleaseReport {
            released_bytes: job.released,
            already_released_bytes: after.heap_released.saturating_sub(job.released),
            in_use_bytes: after.heap_alloc,
            blocked: job.blocked,
            rss_before,
            rss_after: after.rss,
            syscalls: job.syscalls,
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
        if job.is_bounded() {
            // Free runs are the cheapest to give back, and may be enough.
            (0..zones).for_each(|zone| self.release_free_runs(job, zone));
            if job.stopped() {
                return;
            }
            // What was refused so far is asked for again below.
            job.blocked = BlockedList::new();
        }
        self.gather_from_caches();
        for zone in 0..zones {
            let range = self.page_heap().zones()[zone].used();
            self.release_in_runs(job, range);
        }
        (0..zones).for_each(|zone| self.release_free_runs(job, zone));
    }
}
