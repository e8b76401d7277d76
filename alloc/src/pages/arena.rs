//! Arenas: runs of whole units for data that goes as a whole, or page by page as it is no longer needed.
//!
//! Invariant: pages that were retired are never touched again by the owner, so they are idle memory even while the
//! arena lives. Locks: those of zones.

#![allow(unsafe_code, reason = "arenas are raw memory")]

use core::ops::Range;
use core::ptr::NonNull;

use super::Pages;
use super::page_heap::Request;
use super::zone::Purpose;
use crate::base::units::{HUGE, PAGE, PAGES_PER_UNIT, UNIT, UnitCount, UnitIndex, for_each_unit, page_mask};
use crate::os::{Moved, Os, resident_bytes};
use crate::space::unit_table::RunKind;

/// What happens to pages that are retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retire {
    /// They stay resident, as free memory, until a release is asked for.
    Keep,
    /// They go back to the OS at once.
    Release,
}

/// From this many bytes on it is cheaper to have the OS clear pages than to write them.
const CLEAR_BY_OS: usize = 1024 * 1024;
/// From this many bytes on a region takes fresh address space rather than pages that may need clearing.
pub(crate) const PREFER_ZERO: usize = 10 * 1024 * 1024;
/// Pages are handed on only between regions of at least this many bytes, so that the mappings which that splits stay few.
const HAND_ON_FROM: usize = 1024 * 1024;
/// So many times in the life of a process a region begins to hand its pages on. Each may split mappings, of which the
/// kernel grants 65,530.
const MOST_HANDED_ON: u64 = 8192;

/// An arena that was just taken.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) base: NonNull<u8>,
    pub(crate) len: usize,
    /// The bytes that may hold anything but zero since before it began.
    pub(crate) dirty: Range<usize>,
    /// It has huge pages, which clearing by the OS would split.
    pub(crate) huge: bool,
}

impl<O: Os> Pages<O> {
    pub(crate) fn new_arena(&self, bytes: usize) -> Option<Arena> {
        let units = UnitCount::covering(bytes)?;
        self.arena_in(units, units, Purpose::Arena)
    }

    pub(crate) fn new_whole_arena(&self, bytes: usize) -> Option<Arena> {
        let units = UnitCount::covering(bytes)?;
        let whole = UnitCount::covering(bytes.checked_next_multiple_of(HUGE)?)?;
        if bytes >= HUGE && whole.bytes() - units.bytes() <= bytes / 16 {
            return self.arena_in(units, whole, Purpose::Huge);
        }
        self.arena_in(units, units, Purpose::Arena)
    }

    /// A region of `units`, in a run of `room`.
    fn arena_in(&self, units: UnitCount, room: UnitCount, purpose: Purpose) -> Option<Arena> {
        if units.0 == 0 {
            return None;
        }
        let request = Request {
            units: room,
            room: UnitCount(0),
            align: if purpose == Purpose::Huge { (HUGE / UNIT) as u32 } else { 1 },
            purpose,
            kind: RunKind::Region,
            // Huge pages are worth clearing: they are cleared much faster than small ones are brought in.
            prefer_zero: purpose == Purpose::Arena && units.bytes() >= PREFER_ZERO,
        };
        let (mut dirty, mut reacquired) = (0..0, 0);
        let run = {
            let (_zone, run) = self.allocate(request)?;
            // Under the lock, as for a large block, and all at once: most of the time goes to the rows of units that were
            // never used.
            for unit in 0..room.0 {
                let meta = self.segments().meta(run.plus(unit));
                meta.clear_retired();
                meta.set_owner(0);
                if unit >= units.0 {
                    continue;
                }
                let released = meta.reacquire_whole();
                reacquired += released.count_ones() as usize;
                if released != u16::MAX {
                    let start = unit as usize * UNIT;
                    dirty = if dirty.is_empty() { start..start + UNIT } else { dirty.start..start + UNIT };
                }
            }
            self.segments().meta(run).set_owned_pages(units.bytes() / PAGE);
            run
        };
        self.counters().pages.reacquired_total.add(reacquired * PAGE);
        self.counters().events.large_mallocs.add(1);
        self.counters().count_handed(units.bytes() as isize);
        Some(Arena {
            base: self.segments().address(run),
            len: units.bytes(),
            dirty,
            huge: purpose == Purpose::Huge,
        })
    }

    /// Makes bytes of an arena read as zero, before they are first written.
    ///
    /// # Safety
    /// The arena was not freed, and nobody else uses it.
    pub(crate) unsafe fn zero_arena(&self, arena: &Arena, range: &Range<usize>) {
        let range = range.start.max(arena.dirty.start)..range.end.min(arena.dirty.end);
        if range.is_empty() {
            return;
        }
        // An arena begins at a multiple of any page.
        let Range { start: first, end: last } = self.os().pages().inside(&range);
        let by_os = last - first >= CLEAR_BY_OS && !arena.huge;
        // SAFETY: the range lies inside the arena, which is the caller's alone, and holds nothing that the owner needs.
        unsafe {
            let base = arena.base;
            if by_os && self.os().release(base.add(first), last - first).is_ok() {
                base.add(range.start).write_bytes(0, first - range.start);
                base.add(last).write_bytes(0, range.end - last);
            } else {
                base.add(range.start).write_bytes(0, range.len());
            }
        }
    }

    /// Retires pages of a region, given as numbers from its start.
    ///
    /// # Safety
    /// `base` is that of a living region, the pages lie in it and are never touched again.
    pub(crate) unsafe fn retire_pages(&self, base: NonNull<u8>, pages: Range<usize>, mode: Retire) {
        let Some(run) = self.segments().unit_of(base.as_ptr() as usize) else { return };
        let mut retired = 0;
        for_each_unit(pages.start, pages.end, |unit, mask| {
            retired += self.segments().meta(run.plus(unit as u32)).add_retired(mask).count_ones() as usize;
        });
        self.counters().count_handed(-((retired * PAGE) as isize));
        if mode == Retire::Release {
            let pages = self.whole_groups(run, pages);
            if pages.is_empty() {
                return;
            }
            // SAFETY: the caller vouches for the pages, and pages beside them were retired before; the region lies in one
            // segment.
            let left = unsafe { self.os().release(base.add(pages.start * PAGE), pages.len() * PAGE) };
            if left.is_ok() {
                self.mark_released(run, &pages);
            }
        }
    }

    /// The pages of the kernel that are wholly retired and touch these pages of a region, which were retired just now.
    fn whole_groups(&self, run: UnitIndex, pages: Range<usize>) -> Range<usize> {
        let group = self.os().pages();
        if group.len() == 1 {
            return pages;
        }
        let is_idle = |first: usize| {
            let mask = page_mask(first % PAGES_PER_UNIT, first % PAGES_PER_UNIT + group.len());
            self.idle_mask(run, (first / PAGES_PER_UNIT) as u32) & mask == mask
        };
        let (mut first, mut end) = (pages.start / group.len(), pages.end.div_ceil(group.len()));
        first += usize::from(!is_idle(first * group.len()));
        end -= usize::from(first < end && !is_idle((end - 1) * group.len()));
        first * group.len()..end * group.len()
    }

    pub(crate) fn may_hand_on(&self, bytes: usize) -> bool {
        bytes >= HAND_ON_FROM && self.counters().events.handed_on.get() < MOST_HANDED_ON
    }

    /// Moves pages of a region, given as numbers from its start, to `to`, if nothing is resident there, and retires the
    /// place that they leave. False, with nothing done, if the first of them cannot move, or they are not whole pages of the
    /// kernel; others that cannot are released.
    ///
    /// # Safety
    /// `base` is that of a living region, the pages lie in it and are never touched again. As many at `to` belong to
    /// another living region, and nothing they hold is needed.
    pub(crate) unsafe fn hand_pages_on(
        &self,
        base: NonNull<u8>,
        pages: Range<usize>,
        to: NonNull<u8>,
    ) -> bool {
        let Some(run) = self.segments().unit_of(base.as_ptr() as usize) else { return false };
        let bytes = pages.len() * PAGE;
        let group = self.os().pages();
        let whole = group.divides(pages.start * PAGE, bytes) && group.divides(to.as_ptr() as usize, 0);
        let Some(place) = self.segments().unit_of(to.as_ptr() as usize) else { return false };
        // The advice about huge pages travels with the pages, and would stay behind in a zone that is without.
        let same_advice = self.is_huge(run) == self.is_huge(place);
        if !whole || !same_advice || resident_bytes(self.os(), to, bytes) != Ok(0) {
            return false;
        }
        let mut at = 0;
        while at < bytes {
            let first = pages.start + at / PAGE;
            // SAFETY: the caller gives both up.
            let moved = unsafe { self.os().move_pages(base.add(first * PAGE), to.add(at), bytes - at) };
            at += match moved {
                Moved::There(piece) => {
                    // Not resident before it is retired: so no release asks for them.
                    self.leave(run, first..first + piece / PAGE);
                    // SAFETY: the caller gives the pages up.
                    unsafe { self.retire_pages(base, first..first + piece / PAGE, Retire::Keep) };
                    piece
                }
                Moved::Refused(piece) | Moved::Refilled(piece) => {
                    if matches!(moved, Moved::Refilled(_)) {
                        self.advise_place(to, at, piece);
                    }
                    if at == 0 {
                        return false;
                    }
                    // SAFETY: as above.
                    unsafe { self.retire_pages(base, first..first + piece / PAGE, Retire::Release) };
                    piece
                }
                // The other region lives and will be written there. Its owner cannot be told to do without.
                Moved::Lost => {
                    self.os().fatal(b"ebbtide: the kernel lost pages of a map while it moved them\n")
                }
            };
        }
        true
    }

    /// Gives the advice for a part of a region again that is a fresh mapping.
    fn advise_place(&self, place: NonNull<u8>, from: usize, bytes: usize) {
        let Some(unit) = self.segments().unit_of(place.as_ptr() as usize) else { return };
        let inside = place.as_ptr() as usize - self.segments().address(unit).as_ptr() as usize;
        self.advise_again(unit, inside + from, bytes);
    }

    /// Notes that pages of a run went back to the OS. Returns the bytes that were not released before.
    pub(crate) fn mark_released(&self, run: UnitIndex, pages: &Range<usize>) -> usize {
        let mut bytes = 0;
        for_each_unit(pages.start, pages.end, |unit, mask| {
            bytes +=
                self.segments().meta(run.plus(unit as u32)).add_released(mask).count_ones() as usize * PAGE;
        });
        self.counters().pages.released_total.add(bytes);
        bytes
    }

    pub(crate) fn free_arena(&self, base: NonNull<u8>) {
        if let Some(run) = self.segments().unit_of(base.as_ptr() as usize) {
            self.counters().events.large_frees.add(1);
            self.leave_owner(run);
            let freed = self.free_run(run, RunKind::Region);
            debug_assert!(freed);
        }
    }

    /// The pages of unit `unit` of a region or large block that its owner no longer needs.
    pub(crate) fn idle_mask(&self, run: UnitIndex, unit: u32) -> u16 {
        let owned = self.segments().meta(run).owned_pages();
        let first = unit as usize * (UNIT / PAGE);
        let unowned = page_mask(owned.saturating_sub(first).min(UNIT / PAGE), UNIT / PAGE);
        match self.segments().meta(run).kind() {
            RunKind::Region => unowned | self.segments().meta(run.plus(unit)).retired(),
            _ => unowned,
        }
    }
}
