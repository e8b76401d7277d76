//! Releases whole runs: free ones, and what large blocks and regions no longer need.

#![allow(unsafe_code, reason = "gives pages to the OS")]

use core::ops::Range;
use core::sync::atomic::Ordering;

use super::job::Job;
use crate::heap::Heap;
use crate::large::{DOOMED, PINNED, UNPINNED};
use crate::os::Os;
use crate::unit_table::RunKind;
use crate::units::UnitIndex;
use crate::zone::next_head;

/// Runs to look at while the page heap is locked.
const LOOK: u32 = 256;
/// Runs to work on between two looks at the clock.
const TIME_EVERY: u32 = 16;

impl<O: Os> Heap<O> {
    /// Gives back the resident pages of all free runs of a zone.
    pub(super) fn release_free_runs(&self, job: &mut Job<'_, O>, zone: usize) {
        let mut from = UnitIndex(0);
        job.check_time();
        loop {
            if job.stopped() {
                return;
            }
            let cx = self.context();
            let (taken, next) = {
                let mut page_heap = self.page_heap();
                let Some(zone) = page_heap.zone_mut(zone) else { return };
                let most = job.batch().next_multiple_of(zone.granule());
                let found = zone.take_leaving(&cx, from, LOOK, most);
                if found.0.is_none() && found.1.0 >= zone.used().end {
                    return;
                }
                found
            };
            from = next;
            let Some(run) = taken else { continue };
            let units = self.space.meta(run).len();
            // SAFETY: a run that is leaving is in nobody's reach.
            unsafe {
                job.give_back(run, units, true, |unit| !self.space.meta(run.plus(unit)).released());
            }
            // The neighbour behind stays a head, from which the loop goes on, unless it stops now.
            job.check_time();
            self.page_heap().put(&cx, run, job.stopped());
        }
    }

    /// Gives back what the used runs in a range of units no longer need.
    pub(super) fn release_in_runs(&self, job: &mut Job<'_, O>, range: Range<u32>) {
        let mut at = UnitIndex(range.start);
        let mut seen = 0;
        while at.0 < range.end {
            seen += 1;
            if seen % TIME_EVERY == 0 {
                job.check_time();
            }
            if job.stopped() {
                return;
            }
            let next = next_head(&self.space, at);
            match self.space.meta(at).kind() {
                RunKind::Small => self.release_in_span(job, at),
                RunKind::Large | RunKind::Region => self.release_in_large(job, at),
                RunKind::Body | RunKind::Free | RunKind::Leaving => {}
            }
            at = next;
        }
    }

    /// Gives back the tail of a large block, or the retired pages of a region.
    fn release_in_large(&self, job: &mut Job<'_, O>, run: UnitIndex) {
        let meta = self.space.meta(run);
        let idle = |unit| self.idle_mask(run, unit) & !self.space.meta(run.plus(unit)).released();
        let units = {
            let _page_heap = self.page_heap();
            // Only what is still such a run under the lock may be pinned. Relaxed: the lock orders it.
            let pinnable = matches!(meta.kind(), RunKind::Large | RunKind::Region)
                && meta.pinned.load(Ordering::Relaxed) == UNPINNED;
            if !pinnable || (0..meta.len()).all(|unit| idle(unit) == 0) {
                return;
            }
            meta.pinned.store(PINNED, Ordering::Relaxed);
            meta.len()
        };
        // SAFETY: idle pages are those that the owner never touches again, and the pin keeps the run from being freed
        // and from growing into them.
        unsafe { job.give_back(run, units, false, idle) };
        let mut page_heap = self.page_heap();
        let doomed = meta.pinned.swap(UNPINNED, Ordering::Relaxed) == DOOMED;
        if doomed {
            page_heap.free(&self.context(), run);
        }
    }
}
