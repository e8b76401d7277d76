//! Large blocks: what no size class holds, straight from the page heap.
//!
//! A block owns whole pages from the start of its run. Pages behind them in the last unit are idle. Blocks that fill
//! huge pages well lie in a zone of their own, in multiples of these, and own all of their run. A block's run is
//! pinned while a release works on its idle tail; freeing it then is left to that release.

#![allow(unsafe_code, reason = "clears and copies blocks")]

use core::alloc::Layout;

use super::Pages;
use crate::base::sync::Ordering;
use crate::base::units::{HUGE, PAGE, PAGES_PER_UNIT, UNIT, UnitCount, UnitIndex, for_each_unit};
use crate::os::Os;
use crate::pages::page_heap::Request;
use crate::pages::zone::{Purpose, Zone};
use crate::space::misuse::{Act, Misused};
use crate::space::unit_table::RunKind;

/// The run may be freed at once.
pub(crate) const UNPINNED: u8 = 0;
/// A release works on its pages.
pub(crate) const PINNED: u8 = 1;
/// As `PINNED`, and the owner has freed it meanwhile.
pub(crate) const DOOMED: u8 = 2;

/// Free units to look for behind a block that grows, as long as it is no longer than that.
const ROOM: u32 = 64;

/// Where and how a block of some size lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) units: UnitCount,
    align: u32,
    pub(crate) purpose: Purpose,
    pub(crate) owned_pages: usize,
}

impl Plan {
    /// `None` for what is too large: see [`UnitCount`]. `align` is a power of two.
    fn of(size: usize, align: usize) -> Option<Self> {
        let pages = size.max(1).div_ceil(PAGE);
        let huge = size.checked_next_multiple_of(HUGE)?;
        if size >= HUGE && huge - size <= size / 16 {
            return Self::huge(size, align);
        }
        let units = UnitCount::covering(size.max(1))?;
        let align = UnitCount::of_align(align)?;
        Some(Self { units, align, purpose: Purpose::Spans, owned_pages: pages })
    }
}

impl Plan {
    /// As many huge pages as hold `size`.
    fn huge(size: usize, align: usize) -> Option<Self> {
        let bytes = size.checked_next_multiple_of(HUGE)?;
        let units = UnitCount::covering(bytes)?;
        let align = UnitCount::of_align(align.max(HUGE))?;
        Some(Self { units, align, purpose: Purpose::Huge, owned_pages: bytes / PAGE })
    }

    /// For a block that lies where runs for `purpose` lie already: one of huge pages stays with these while it has
    /// any, rather than move to and fro as it grows.
    pub(crate) fn at(purpose: Purpose, size: usize, align: usize) -> Option<Self> {
        if purpose == Purpose::Huge && size >= HUGE { Self::huge(size, align) } else { Self::of(size, align) }
    }
}

impl<O: Os> Pages<O> {
    /// A block of its own pages; null without memory. With `zeroed` it reads as zero, and only pages that may hold
    /// anything else are cleared.
    pub(crate) fn allocate_large(&self, size: usize, align: usize, zeroed: bool) -> *mut u8 {
        let block = Plan::of(size, align).and_then(|plan| self.take_run(plan, UnitCount(0), zeroed));
        match block {
            Some(run) => self.segments().address(run).as_ptr(),
            None => core::ptr::null_mut(),
        }
    }

    /// As [`allocate_large`](Self::allocate_large), for a block that has grown before and may again: where there is
    /// free room behind it, if that can be.
    pub(crate) fn allocate_growing(&self, size: usize, align: usize) -> Option<UnitIndex> {
        let plan = Plan::of(size, align)?;
        let room = if plan.units.0 <= ROOM { ROOM } else { 0 };
        self.take_run(plan, UnitCount(room), false)
    }

    fn take_run(&self, plan: Plan, room: UnitCount, zeroed: bool) -> Option<UnitIndex> {
        let request = Request {
            units: plan.units,
            room,
            align: plan.align,
            purpose: plan.purpose,
            kind: RunKind::Large,
            prefer_zero: false,
        };
        let run = {
            let (_zone, run) = self.allocate(request)?;
            // Under the lock: a release that finds the run must not take the pages of its past for idle ones.
            self.segments().meta(run).set_owned_pages(plan.owned_pages);
            self.segments().meta(run).set_class(None);
            run
        };
        self.own_pages(run, 0, plan.owned_pages, zeroed);
        self.counters().events.large_mallocs.add(1);
        self.counters().count_handed((plan.owned_pages * PAGE) as isize);
        Some(run)
    }

    /// Frees a block.
    pub(crate) fn free_large(&self, block: *mut u8) -> Result<(), Misused> {
        if !self.run_at(block).is_some_and(|run| self.free_run(run, RunKind::Large)) {
            return Err(Misused::of(Act::Free, block as usize, None));
        }
        self.counters().events.large_frees.add(1);
        Ok(())
    }

    /// Frees a large block or region, or leaves that to the release that works on it. False if there is none.
    pub(crate) fn free_run(&self, run: UnitIndex, kind: RunKind) -> bool {
        let Some(mut zone) = self.zone_of(run) else { return false };
        if !self.is_in_use(&zone, run, kind) {
            return false;
        }
        let meta = self.segments().meta(run);
        let retired: u32 = match kind {
            RunKind::Region => {
                (0..meta.len()).map(|unit| self.segments().meta(run.plus(unit)).retired().count_ones()).sum()
            }
            _ => 0,
        };
        self.counters()
            .count_handed((retired as usize * PAGE) as isize - (meta.owned_pages() * PAGE) as isize);
        // Relaxed: the lock orders all use of the pin.
        if meta.pinned.load(Ordering::Relaxed) == UNPINNED {
            zone.give_back(self.space(), run);
        } else {
            meta.pinned.store(DOOMED, Ordering::Relaxed);
        }
        true
    }

    /// The unit that begins at an address, if it was ever used.
    pub(crate) fn run_at(&self, block: *mut u8) -> Option<UnitIndex> {
        let unit = self.segments().unit_of(block as usize)?;
        ((block as usize).is_multiple_of(UNIT) && self.segments().is_committed(unit)).then_some(unit)
    }

    /// Whether a run of `kind` begins at a unit and was not freed. Its zone proves that the lock is held.
    pub(crate) fn is_in_use(&self, zone: &Zone, run: UnitIndex, kind: RunKind) -> bool {
        debug_assert!(zone.holds(run));
        let meta = self.segments().meta(run);
        // Relaxed: as above.
        meta.kind() == kind && meta.pinned.load(Ordering::Relaxed) != DOOMED
    }

    /// Whether a block in use begins here that is as large as `layout` asks.
    pub(crate) fn is_live_large(&self, block: *mut u8, layout: Layout) -> bool {
        self.run_at(block).is_some_and(|run| {
            let Some(zone) = self.zone_of(run) else { return false };
            let plan = Plan::at(self.purpose_of(run), layout.size(), layout.align());
            let owned = self.segments().meta(run).owned_pages();
            self.is_in_use(&zone, run, RunKind::Large) && plan.is_some_and(|plan| plan.owned_pages == owned)
        })
    }

    /// What the run of a large block was allocated for.
    pub(crate) fn purpose_of(&self, run: UnitIndex) -> Purpose {
        if self.serves(run, Purpose::Spans) { Purpose::Spans } else { Purpose::Huge }
    }

    /// Marks pages of a run as in use, and clears them with `zeroed`.
    pub(crate) fn own_pages(&self, run: UnitIndex, from: usize, to: usize, zeroed: bool) {
        let base = self.segments().address(run).as_ptr();
        let mut reacquired = 0;
        let mut dirty = from..from;
        for_each_unit(from, to, |unit, mask| {
            let meta = self.segments().meta(run.plus(unit as u32));
            let released = meta.reacquire(mask);
            meta.set_owner(0);
            reacquired += released.count_ones() as usize;
            if !zeroed || mask & !released == 0 {
                return;
            }
            for page in (0..PAGES_PER_UNIT).filter(|page| mask & !released & (1 << page) != 0) {
                let page = unit * PAGES_PER_UNIT + page;
                if page != dirty.end {
                    clear(base, &dirty);
                    dirty = page..page;
                }
                dirty.end = page + 1;
            }
        });
        clear(base, &dirty);
        self.counters().pages.reacquired_total.add(reacquired * PAGE);
    }
}

fn clear(base: *mut u8, pages: &core::ops::Range<usize>) {
    if !pages.is_empty() {
        // SAFETY: the pages lie in a run that the caller has just taken and handed to nobody.
        unsafe { base.add(pages.start * PAGE).write_bytes(0, pages.len() * PAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_fill_huge_pages_well_get_them() {
        let plan = |size| Plan::of(size, 8).unwrap();
        assert_eq!(plan(HUGE - 1).purpose, Purpose::Spans);
        assert_eq!(plan(HUGE).purpose, Purpose::Huge);
        assert_eq!(plan(HUGE).align, 32);
        assert_eq!(plan(HUGE + 1).purpose, Purpose::Spans);
        assert_eq!(plan(64 * HUGE + 1).purpose, Purpose::Huge);
        assert_eq!(plan(64 * HUGE + 1).owned_pages, 65 * 512);
        assert_eq!(plan(PAGE * 9 + 1).owned_pages, 10);
        assert_eq!(Plan::of(PAGE, 1 << 30).unwrap().align, 1 << 14);
        assert_eq!(Plan::of(isize::MAX as usize, 1), None);
    }
}
