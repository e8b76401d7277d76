//! A release: gives idle memory back to the OS, and reports exactly.
//!
//! Order: the caches of other threads; then every span, large block and region, of which wholly free spans become free
//! runs; then the free runs; then the tables that describe them. A release with bounds looks at the free runs before
//! all else, too, and walks on from where the last such release stopped. Memory is taken out of everybody's reach first
//! (bits taken, runs `Leaving` or pinned), given back without any lock that an allocation needs, marked as released,
//! and put back. One release runs at a time.

mod batch;
mod job;
mod runs;
mod spans;
mod tables;

use core::ops::Range;
use core::time::Duration;

use crate::cache::Caches;
use crate::inspect::report::{BlockReason, BlockedList, ReleaseOptions, ReleaseReport};
use crate::os::{Lock, Os};
use crate::space::misuse::Misused;
use job::{Desk, Job};

/// All releases of a heap: one at a time.
pub(crate) struct Releases {
    /// Held for a whole release: a second one waits, so that its report is true. The first lock in the order.
    desk: Lock<Desk>,
}

impl Releases {
    pub(crate) const fn new() -> Self {
        Self { desk: Lock::new(Desk::new()) }
    }

    pub(crate) const fn lock(&self) -> &Lock<Desk> {
        &self.desk
    }

    /// See [`crate::release()`]. The caller's cache is flushed already.
    pub(crate) fn run<O: Os>(
        &self,
        caches: &Caches<O>,
        options: ReleaseOptions,
    ) -> Result<ReleaseReport, Misused> {
        let os = caches.os();
        let start = os.now();
        let mut desk = self.desk.lock(os);
        let rss = || if options.without_rss { 0 } else { os.rss() };
        let rss_before = rss();
        let mut job = Job::new(caches, &mut desk, options, start);
        job.release_all();
        if let Some(misused) = job.misused {
            return Err(misused);
        }
        caches.counters().events.releases_total.add(1);
        let mut report = job.report(start);
        (report.rss_before, report.rss_after) = (rss_before, rss());
        Ok(report)
    }

    /// See [`crate::release_tables`].
    pub(crate) fn tables_alone<O: Os>(&self, caches: &Caches<O>) -> u64 {
        let mut desk = self.desk.lock(caches.os());
        let mut job = Job::new(caches, &mut desk, ReleaseOptions::new(), caches.os().now());
        job.release_tables(job.zones());
        debug_assert_eq!(job.misused, None, "no span is touched");
        job.tables
    }

    /// Models release a part of the heap: what a whole release does besides would only cost them steps.
    #[cfg(all(test, loom))]
    pub(crate) fn run_in_units<O: Os>(&self, caches: &Caches<O>, units: Range<u32>) {
        let mut desk = self.desk.lock(caches.os());
        let mut job = Job::new(caches, &mut desk, ReleaseOptions::new(), 0);
        job.release_in_runs(units);
        assert_eq!(job.misused, None);
    }
}

impl<O: Os> Job<'_, O> {
    fn zones(&self) -> usize {
        self.pages().zones()
    }

    /// What came of it. No second walk: a release with a deadline has no time for one.
    fn report(&self, start: u64) -> ReleaseReport {
        let (batch, counters, tally) = (&self.desk.batch, self.caches.counters(), &self.tally);
        let (mut cached, mut caches) = (0, 0);
        for held in self.caches.registry.all().map(|cache| cache.held_bytes()).filter(|held| *held > 0) {
            (cached, caches) = (cached + held, caches + 1);
        }
        let cached = cached.min(tally.objects);
        let free_resident = counters.runs.free_resident.get();
        let never_used =
            counters.runs.committed.get().saturating_sub(counters.runs.run_bytes.get() + free_resident);
        let mut report = ReleaseReport {
            released_bytes: batch.released,
            metadata_released_bytes: self.tables,
            already_released_bytes: (never_used + tally.released).saturating_sub(batch.released),
            in_use_bytes: tally.objects - cached,
            blocked: batch.blocked,
            rss_before: 0,
            rss_after: 0,
            looked_at_bytes: tally.inuse + tally.free + tally.released,
            syscalls: batch.syscalls,
            elapsed: Duration::from_nanos(self.os().now().saturating_sub(start)),
            stopped_early: self.stopped(),
        };
        let refused = report.blocked_bytes();
        if !report.stopped_early {
            let busy = (tally.free + free_resident).saturating_sub(refused);
            // In a larger page of the kernel free pages lie beside live objects.
            let reason =
                if self.os().pages().len() > 1 { BlockReason::LiveObjects } else { BlockReason::Busy };
            report.blocked.add(reason, busy, 1);
        }
        report.blocked.add(BlockReason::LiveObjects, tally.inuse - tally.objects, self.spans_with_holes);
        report.blocked.add(BlockReason::ThreadCache, cached, caches);
        report
    }

    fn release_all(&mut self) {
        let zones = self.zones();
        let mut from = 0;
        if self.is_bounded() {
            // Free runs are the cheapest to give back, and may be enough.
            (0..zones).for_each(|zone| self.release_free_runs(zone));
            if self.stopped() {
                return;
            }
            // What was refused so far is asked for again below.
            self.desk.batch.blocked = BlockedList::new();
            from = self.desk.resume;
        }
        // Without a barrier threads would be sent to their slow paths for nothing.
        if !self.spares_caches && self.os().has_barrier() {
            let stolen = self.caches.steal_from_others();
            self.note_misuse(stolen);
        }
        if self.misused.is_some() {
            return;
        }
        self.release_in_zones(zones, from..u32::MAX);
        if !self.stopped() {
            self.release_in_zones(zones, 0..from);
        }
        (0..zones).for_each(|zone| self.release_free_runs(zone));
        self.release_tables(zones);
    }

    /// Gives back what the used runs in a range of units no longer need. Notes where a bound stopped it.
    fn release_in_zones(&mut self, zones: usize, units: Range<u32>) {
        for zone in 0..zones {
            let used = self.pages().zone(zone).map_or(0..0, |zone| zone.used());
            let range = used.start.max(units.start)..used.end.min(units.end);
            if self.stopped() || range.is_empty() {
                continue;
            }
            let end = range.end;
            let at = self.release_in_runs(range);
            self.desk.resume = if at < end { at } else { 0 };
        }
    }
}
