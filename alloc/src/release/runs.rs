//! Releases whole runs: free ones, and what large blocks and regions no longer need.

#![allow(unsafe_code, reason = "gives pages to the OS")]

use core::ops::Range;

use super::job::{Hold, Job};
use crate::heap::Heap;
use crate::large::{DOOMED, PINNED, UNPINNED};
use crate::os::Os;
use crate::sync::Ordering;
use crate::unit_table::RunKind;
use crate::units::{PageMask, UnitIndex};
use crate::zone::{Idle, next_head};

/// Runs to look at while the page heap is locked.
const LOOK: u32 = 256;
/// Units whose tables leave at once, at most: as long as that takes, nobody gets the run.
const TABLES_OF: u32 = 2048;
/// Runs to work on between two looks at the clock.
const TIME_EVERY: u32 = 16;

impl<O: Os> Heap<O> {
    /// Gives back the resident pages of all free runs of a zone.
    pub(super) fn release_free_runs(&self, job: &mut Job<'_, O>, zone: usize) {
        job.cursor = UnitIndex(0);
        job.check_time();
        while let Some(run) = self.next_leaving(job, zone, Idle::Pages) {
            let units = self.space.meta(run).len();
            // SAFETY: a run that is leaving is in nobody's reach.
            unsafe {
                job.gather(run, units, true, |_| PageMask::MAX);
            }
            job.hold(Hold::Leaving(run));
        }
        job.settle();
        self.end_walk(job, zone);
    }

    /// Takes out the next free run of a zone of which something can leave, from the job's cursor on.
    pub(super) fn next_leaving(&self, job: &mut Job<'_, O>, zone: usize, idle: Idle) -> Option<UnitIndex> {
        while !job.stopped() {
            let mut page_heap = self.page_heap();
            let zone = page_heap.zone_mut(zone)?;
            let most = match idle {
                Idle::Pages => job.units().next_multiple_of(zone.granule()),
                Idle::Tables => TABLES_OF,
            };
            let (run, next) = zone.take_leaving(&self.context(), idle, job.cursor, LOOK, most);
            job.cursor = next;
            if run.is_some() || next.0 >= zone.used().end {
                return run;
            }
        }
        None
    }

    /// Ends a walk over free runs: what it kept apart to find its place is joined.
    pub(super) fn end_walk(&self, job: &mut Job<'_, O>, zone: usize) {
        if let Some(zone) = self.page_heap().zone_mut(zone) {
            zone.join_before(&self.space, job.cursor);
        }
        job.cursor = UnitIndex::NIL;
    }

    /// Puts a run that has left among the free ones again. One that begins at `cursor` stays a head.
    pub(super) fn put_back(&self, run: UnitIndex, cursor: UnitIndex) {
        let join_next = run.plus(self.space.meta(run).len()) != cursor;
        self.page_heap().put(&self.context(), run, join_next);
    }

    /// Gives back what the used runs in a range of units no longer need. Returns where it stopped.
    pub(super) fn release_in_runs(&self, job: &mut Job<'_, O>, range: Range<u32>) -> u32 {
        let mut at = UnitIndex(range.start);
        let mut seen = 0;
        while at.0 < range.end {
            seen += 1;
            if seen % TIME_EVERY == 0 {
                job.check_time();
            }
            if job.stopped() {
                break;
            }
            let next = next_head(&self.space, at);
            match self.space.meta(at).kind() {
                RunKind::Small => self.release_in_span(job, at),
                RunKind::Large | RunKind::Region => self.release_in_large(job, at),
                RunKind::Body | RunKind::Free | RunKind::Leaving | RunKind::Lost => {}
            }
            at = next;
        }
        job.settle();
        at.0
    }

    /// Gives back the tail of a large block, or the retired pages of a region.
    fn release_in_large(&self, job: &mut Job<'_, O>, run: UnitIndex) {
        let meta = self.space.meta(run);
        let idle = |unit| self.idle_mask(run, unit);
        let leaving = |unit| self.os.pages().leaving(idle(unit), self.space.meta(run.plus(unit)).released());
        let units = {
            let page_heap = self.page_heap();
            // Only what is still such a run under the lock may be pinned. Relaxed: the lock orders it.
            let pinnable = matches!(meta.kind(), RunKind::Large | RunKind::Region)
                && meta.pinned.load(Ordering::Relaxed) == UNPINNED;
            if !pinnable || (0..meta.len()).all(|unit| leaving(unit) == 0) {
                drop(page_heap);
                return job.count(run);
            }
            meta.pinned.store(PINNED, Ordering::Relaxed);
            meta.len()
        };
        // SAFETY: idle pages are those that the owner never touches again, and the pin keeps the run from being freed
        // and from growing into them.
        unsafe { job.gather(run, units, false, idle) };
        job.hold(Hold::Pinned(run));
    }

    /// Ends the pin of a release. A run that was freed meanwhile is freed now.
    pub(super) fn unpin(&self, run: UnitIndex) {
        let mut page_heap = self.page_heap();
        if self.space.meta(run).pinned.swap(UNPINNED, Ordering::Relaxed) == DOOMED {
            page_heap.free(&self.context(), run);
        }
    }
}
