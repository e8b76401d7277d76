//! Releases whole runs: free ones, and what large blocks and regions no longer need.

#![allow(unsafe_code, reason = "gives pages to the OS")]

use core::ops::Range;

use super::job::{Hold, Job};
use crate::base::sync::Ordering;
use crate::base::units::{PageMask, UnitIndex};
use crate::os::Os;
use crate::pages::large::{DOOMED, PINNED, UNPINNED};
use crate::pages::zone::Idle;
use crate::space::unit_table::RunKind;

/// Runs to look at while their zone is locked.
const LOOK: u32 = 256;
/// Units whose tables leave at once, at most: as long as that takes, nobody gets the run.
const TABLES_OF: u32 = 2048;
/// Runs to work on between two looks at the clock.
const TIME_EVERY: u32 = 16;

impl<O: Os> Job<'_, O> {
    /// Gives back the resident pages of the free runs of a zone in a range of units. Returns where it stopped.
    pub(super) fn release_free_runs(&mut self, zone: usize, range: &Range<u32>) -> u32 {
        self.cursor = UnitIndex(range.start);
        self.check_time();
        while let Some(run) = self.next_leaving(zone, Idle::Pages, range.end) {
            let units = self.segments().meta(run).len();
            // SAFETY: a run that is leaving is in nobody's reach.
            unsafe {
                self.gather(run, units, true, |_| PageMask::MAX);
            }
            self.hold(Hold::Leaving(run));
        }
        let at = self.cursor.0;
        self.settle();
        self.end_walk(zone);
        at
    }

    /// Takes out the next free run of a zone of which something can leave, from the job's cursor on to `end` or a little
    /// further.
    pub(super) fn next_leaving(&mut self, zone: usize, idle: Idle, end: u32) -> Option<UnitIndex> {
        while !self.stopped() && self.cursor.0 < end {
            let mut zone = self.pages().zone(zone)?;
            let most = match idle {
                Idle::Pages => self.units().next_multiple_of(zone.granule()),
                Idle::Tables => TABLES_OF,
            };
            let (run, next) =
                zone.take_leaving(self.pages().space(), idle, (self.cursor, self.head), LOOK, most);
            self.cursor = next;
            if run.is_some() || next.0 >= zone.used().end {
                return run;
            }
        }
        None
    }

    /// Ends a walk over free runs: coalesces the two runs that it kept apart to mark its place.
    pub(super) fn end_walk(&mut self, zone: usize) {
        if let Some(mut zone) = self.pages().zone(zone) {
            self.head = zone.join_before(self.segments(), self.cursor);
        }
        self.cursor = UnitIndex::NIL;
    }

    /// Puts a `Leaving` run back into the tree. It does not coalesce with a run that begins at `cursor`.
    pub(super) fn put_back(&self, run: UnitIndex, cursor: UnitIndex) {
        let join_next = run.plus(self.segments().meta(run).len()) != cursor;
        if let Some(mut zone) = self.pages().zone_of(run) {
            zone.free(self.pages().space(), run, join_next);
        }
    }

    /// Gives back what the used runs in a range of units no longer need. Returns where it stopped.
    pub(super) fn release_in_runs(&mut self, range: Range<u32>) -> u32 {
        let mut seen = 0;
        let mut at = range.end;
        self.end = range.end;
        for (run, _) in self.pages().runs_in(range) {
            seen += 1;
            if seen % TIME_EVERY == 0 {
                self.check_time();
            }
            if self.stopped() {
                at = run.0;
                break;
            }
            match self.segments().meta(run).kind() {
                RunKind::Small => self.release_in_span(run),
                RunKind::Large | RunKind::Region => self.release_in_large(run),
                RunKind::Body | RunKind::Free | RunKind::Leaving | RunKind::Lost => {}
            }
        }
        self.settle();
        at
    }

    /// Gives back the tail of a large block, or the retired pages of a region.
    fn release_in_large(&mut self, run: UnitIndex) {
        let meta = self.segments().meta(run);
        let (pages, group) = (self.pages(), self.os().pages());
        let idle = |unit| pages.idle_mask(run, unit);
        let leaving = |unit| group.leaving(idle(unit), pages.segments().meta(run.plus(unit)).released());
        let units = {
            let Some(zone) = self.pages().zone_of(run) else { return };
            // Only what is still such a run under the lock may be pinned. Relaxed: the lock orders it.
            let pinnable = matches!(meta.kind(), RunKind::Large | RunKind::Region)
                && meta.pinned.load(Ordering::Relaxed) == UNPINNED;
            if !pinnable || (0..meta.len()).all(|unit| leaving(unit) == 0) {
                drop(zone);
                return self.count(run);
            }
            meta.pinned.store(PINNED, Ordering::Relaxed);
            meta.len()
        };
        // SAFETY: idle pages are those that the owner never touches again, and the pin keeps the run from being freed
        // and from growing into them.
        unsafe { self.gather(run, units, false, idle) };
        self.hold(Hold::Pinned(run));
    }

    /// Ends the pin of a release. A run that was freed meanwhile is freed now.
    pub(super) fn unpin(&self, run: UnitIndex) {
        let Some(mut zone) = self.pages().zone_of(run) else { return };
        if self.segments().meta(run).pinned.swap(UNPINNED, Ordering::Relaxed) == DOOMED {
            zone.give_back(self.pages().space(), run);
        }
    }
}
