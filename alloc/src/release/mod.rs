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
use job::{Desk, Job, Pass, Turn};

/// All units.
const ALL: Range<u32> = 0..u32::MAX;

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
        if options.in_steps {
            job.release_in_turn();
        } else {
            job.release_all();
        }
        if let Some(misused) = job.misused {
            return Err(misused);
        }
        let is_further_step = options.in_steps && options.spare_caches;
        caches.counters().events.releases_total.add(usize::from(!is_further_step));
        let mut report = job.report(start);
        (report.rss_before, report.rss_after) = (rss_before, rss());
        Ok(report)
    }

    /// See [`crate::release_tables`].
    pub(crate) fn tables_alone<O: Os>(&self, caches: &Caches<O>) -> u64 {
        let mut desk = self.desk.lock(caches.os());
        let mut job = Job::new(caches, &mut desk, ReleaseOptions::new(), caches.os().now());
        job.in_zones(Pass::Tables, &ALL);
        job.release_stacks();
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
        let mut from = 0;
        if self.is_bounded() {
            // Free runs are the cheapest to give back, and may be enough.
            self.in_zones(Pass::FreeRuns, &ALL);
            if self.stopped() {
                return;
            }
            // What was refused so far is asked for again below.
            self.desk.batch.blocked = BlockedList::new();
            from = self.desk.resume;
        }
        self.steal();
        if self.misused.is_some() {
            return;
        }
        let mut at = self.in_zones(Pass::UsedRuns, &(from..u32::MAX));
        if !self.stopped() {
            at = self.in_zones(Pass::UsedRuns, &(0..from));
        }
        self.desk.resume = if self.stopped() && at != u32::MAX { at } else { 0 };
        self.in_zones(Pass::FreeRuns, &ALL);
        self.in_zones(Pass::Tables, &ALL);
        self.release_stacks();
    }

    /// One step of a release in steps: its passes from where the last step stopped, until a bound of this one.
    fn release_in_turn(&mut self) {
        if !self.spares_caches {
            self.desk.turn = Turn::FIRST;
            self.steal();
        }
        let mut turn = Some(self.desk.turn);
        while let Some(at) = turn.filter(|_| self.misused.is_none()) {
            self.head = at.head;
            let unit = self.in_zones(at.pass, &(at.unit..u32::MAX));
            if at.pass == Pass::Tables {
                self.release_stacks();
            }
            if self.stopped() {
                self.desk.turn = Turn { unit, head: self.head, ..at };
                return;
            }
            turn = at.next();
        }
        self.desk.turn = Turn::FIRST;
    }

    /// Takes the free slots of other threads. Without a barrier threads would be sent to their slow paths for nothing.
    fn steal(&mut self) {
        if !self.spares_caches && self.os().has_barrier() {
            let stolen = self.caches.steal_from_others();
            self.note_misuse(stolen);
        }
    }

    /// One pass over the runs in a range of units. Returns where a bound stopped it, or the end of the range.
    fn in_zones(&mut self, pass: Pass, units: &Range<u32>) -> u32 {
        for zone in 0..self.zones() {
            let used = self.pages().zone(zone).map_or(0..0, |zone| zone.used());
            let range = used.start.max(units.start)..used.end.min(units.end);
            if range.is_empty() {
                continue;
            }
            let at = match pass {
                Pass::FreeRuns => self.release_free_runs(zone, &range),
                Pass::UsedRuns => self.release_in_runs(range),
                Pass::Tables => self.release_tables(zone, &range),
            };
            if self.stopped() {
                return at;
            }
        }
        units.end
    }
}
