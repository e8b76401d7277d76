//! A zone: the part of a segment that serves one purpose, as runs of units that tile it.
//!
//! Invariants, under the page heap's lock: from `first` to `frontier` every unit belongs to exactly one run; no two
//! neighbouring runs are both `Free`; the tree holds exactly the `Free` runs. Units behind the frontier were never used.

use crate::counters::Counters;
use crate::os::Os;
use crate::segment::Space;
use crate::span::SpanRecord;
use crate::sync::AtomicU32;
use crate::treap::{Nodes, Treap};
use crate::unit_table::{RunKind, UnitMeta};
use crate::units::{HUGE, PAGE, PAGES_PER_UNIT, PageMask, UNIT, UNIT_SHIFT, UnitIndex};

/// What a zone may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Spans of small objects, and large blocks that 4 KiB pages suit.
    Spans = 1,
    /// Blocks of whole huge pages.
    Huge = 2,
    /// Regions.
    Arena = 4,
}

/// What the page heap works with.
pub(crate) struct Context<'a, O> {
    pub(crate) os: &'a O,
    pub(crate) space: &'a Space,
    pub(crate) counters: &'a Counters,
}

impl<O: Os> Context<'_, O> {
    /// Says whether huge pages may back the units from one to another.
    #[allow(unsafe_code, reason = "calls the OS")]
    pub(crate) fn advise_huge(&self, from: UnitIndex, to: UnitIndex, wanted: bool) {
        let bytes = (to.0 - from.0) as usize * UNIT;
        // SAFETY: whole units of one segment.
        unsafe { self.os.advise_huge(self.space.address(from), bytes, wanted) };
    }
}

/// The order of free runs: the shortest first, then the lowest.
struct ByLength<'a>(&'a Space);

impl Nodes for ByLength<'_> {
    fn links(&self, node: UnitIndex) -> (&AtomicU32, &AtomicU32) {
        let meta = self.0.meta(node);
        (&meta.left, &meta.right)
    }

    fn before(&self, a: UnitIndex, b: UnitIndex) -> bool {
        (self.0.meta(a).len(), a) < (self.0.meta(b).len(), b)
    }
}

/// What can leave of a free run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    /// Its resident pages.
    Pages,
    /// The tables that describe it.
    Tables,
}

/// From this many units on the rows of a run fill pages of their table.
const ROWS_FILL_PAGES: u32 = 2 * (PAGE / size_of::<UnitMeta>()) as u32;

/// Span records that may touch one page.
const RECORDS_OF_PAGE: u32 = (PAGE / size_of::<SpanRecord>()) as u32 + 2;

impl Idle {
    /// The first unit of a free run from which on there is something.
    fn first_in(self, space: &Space, run: UnitIndex, end: UnitIndex) -> Option<UnitIndex> {
        let find = |wanted: fn(&UnitMeta) -> bool| {
            (run.0..end.0).map(UnitIndex).find(|unit| wanted(space.meta(*unit)))
        };
        match self {
            Self::Pages if space.meta(run).resident_pages() == 0 => None,
            Self::Pages => find(|meta| meta.released() != PageMask::MAX),
            Self::Tables if end.0 - run.0 >= ROWS_FILL_PAGES => Some(run),
            // Records before it share its page.
            Self::Tables => find(|meta| meta.record_pages() != 0)
                .map(|unit| UnitIndex(unit.0.saturating_sub(RECORDS_OF_PAGE).max(run.0))),
        }
    }
}

/// Units committed at a time, at least and at most: few calls, yet no more than is soon used.
const COMMIT_STEP: (u32, u32) = (64, 1024);

/// Why a zone cannot be extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its address space is used up.
    NoRoom,
    /// The OS grants no more memory.
    NoMemory,
}

#[derive(Debug)]
pub(crate) struct Zone {
    purposes: u8,
    first: UnitIndex,
    frontier: UnitIndex,
    committed: UnitIndex,
    /// Whether the OS has ever made pages resident before they were touched, as it does under `mlockall`.
    populated: bool,
    limit: UnitIndex,
    free: Treap,
}

impl Zone {
    pub(crate) const fn new(purposes: u8, first: UnitIndex, limit: UnitIndex) -> Self {
        Self {
            purposes,
            first,
            frontier: first,
            committed: first,
            populated: false,
            limit,
            free: Treap::new(),
        }
    }

    pub(crate) const fn serves(&self, purpose: Purpose) -> bool {
        self.purposes & purpose as u8 != 0
    }

    /// Units in which it is best given back: whole huge pages, where it is made of these.
    pub(crate) const fn granule(&self) -> u32 {
        if self.purposes == Purpose::Huge as u8 { (HUGE / UNIT) as u32 } else { 1 }
    }

    pub(crate) fn holds(&self, unit: UnitIndex) -> bool {
        self.first <= unit && unit < self.limit
    }

    pub(crate) fn used(&self) -> core::ops::Range<u32> {
        self.first.0..self.frontier.0
    }

    /// The best free run for `units` at a multiple of `align`: the shortest that surely has room.
    pub(crate) fn find<O: Os>(&self, cx: &Context<'_, O>, units: u32, align: u32) -> Option<UnitIndex> {
        let space = cx.space;
        let nodes = ByLength(space);
        let fitting = self.free.first_that(&nodes, |run| space.meta(run).len() >= units)?;
        if has_room(space, fitting, units, align) {
            return Some(fitting);
        }
        let safe = units.checked_add(align - 1)?;
        self.free.first_that(&nodes, |run| space.meta(run).len() >= safe)
    }

    /// Takes `units` at a multiple of `align` out of the free run `run`; what is left of it stays free.
    pub(crate) fn carve<O: Os>(
        &mut self,
        cx: &Context<'_, O>,
        run: UnitIndex,
        units: u32,
        align: u32,
        kind: RunKind,
    ) -> UnitIndex {
        let start = aligned(cx.space, run, align);
        self.cut_out(cx, run, start, units, kind);
        start
    }

    /// Takes `units` at a multiple of `align` from behind the frontier, and from a free run that ends there. With
    /// `fresh`, from behind the frontier only: `align` must be 1 then.
    pub(crate) fn extend<O: Os>(
        &mut self,
        cx: &Context<'_, O>,
        units: u32,
        align: u32,
        kind: RunKind,
        fresh: bool,
    ) -> Result<UnitIndex, Refusal> {
        debug_assert!(!fresh || align == 1);
        let space = cx.space;
        let old = self.frontier;
        let last = if fresh { None } else { self.free_run_before(space, old) };
        let run = last.unwrap_or(old);
        let end = self.aligned_end(cx, run, units, align).ok_or(Refusal::NoRoom)?.max(old);
        self.commit_to(cx, end).ok_or(Refusal::NoMemory)?;
        // What is resident already counts from now on, be it needed or not.
        let end = if self.populated { self.committed } else { end };
        let mut resident = if self.populated { resident_pages(space, old, end.0 - old.0) } else { 0 };
        cx.counters.free_resident.add(resident as usize * PAGE);
        self.frontier = end;
        if let Some(run) = last {
            self.free.remove(&ByLength(space), run);
            resident += space.meta(run).resident_pages();
        }
        // The new units join the free run before them, so that every cut is made in one place.
        self.insert(space, run, end.0 - run.0, resident);
        Ok(self.carve(cx, run, units, align, kind))
    }

    /// The end of `units` at a multiple of `align` from `run` on, if it lies inside the zone. The first unit behind
    /// the frontier must have an address, so a zone that is full answers early.
    fn aligned_end<O: Os>(
        &self,
        cx: &Context<'_, O>,
        run: UnitIndex,
        units: u32,
        align: u32,
    ) -> Option<UnitIndex> {
        if run >= self.limit {
            return None;
        }
        let start = aligned(cx.space, run, align);
        let end = start.0.checked_add(units)?;
        (end <= self.limit.0).then_some(UnitIndex(end))
    }

    /// Gives a run back and joins it with free neighbours, with the one behind only if `join_next`.
    pub(crate) fn free<O: Os>(&mut self, cx: &Context<'_, O>, run: UnitIndex, join_next: bool) {
        let space = cx.space;
        let len = space.meta(run).len();
        let resident = resident_pages(space, run, len);
        cx.counters.free_resident.add(resident as usize * PAGE);
        self.insert(space, run, len, resident);
        let next = run.plus(len);
        if join_next && next < self.frontier && space.meta(next).kind() == RunKind::Free {
            self.join(space, run, next);
        }
        if let Some(previous) = self.free_run_before(space, run) {
            self.join(space, previous, run);
        }
    }

    /// Makes one free run of two neighbours.
    fn join(&mut self, space: &Space, first: UnitIndex, second: UnitIndex) {
        let (a, b) = (space.meta(first), space.meta(second));
        debug_assert_eq!(first.plus(a.len()), second);
        self.free.remove(&ByLength(space), first);
        self.free.remove(&ByLength(space), second);
        let resident = a.resident_pages() + b.resident_pages();
        b.set_kind(RunKind::Body);
        self.insert(space, first, a.len() + b.len(), resident);
    }

    /// Lengthens a run to `units` if what lies behind it is free or beyond the frontier.
    pub(crate) fn grow_in_place<O: Os>(&mut self, cx: &Context<'_, O>, run: UnitIndex, units: u32) -> bool {
        let space = cx.space;
        let len = space.meta(run).len();
        let more = units - len;
        let next = run.plus(len);
        let room = next < self.frontier
            && space.meta(next).kind() == RunKind::Free
            && space.meta(next).len() >= more;
        let added = if room {
            self.carve(cx, next, more, 1, RunKind::Body)
        } else {
            let open = next == self.frontier
                || (space.meta(next).kind() == RunKind::Free
                    && next.plus(space.meta(next).len()) == self.frontier);
            if !open {
                return false;
            }
            match self.extend(cx, more, 1, RunKind::Body, false) {
                Ok(added) => added,
                Err(_) => return false,
            }
        };
        debug_assert_eq!(added, next);
        space.meta(run).set_len(units);
        true
    }

    /// Takes a free run of which something can leave out of the tree, as [`RunKind::Leaving`], at most `most` units of
    /// it. Looks at no more than `look` runs from the head `from` on; the second value is the head to look on from.
    pub(crate) fn take_leaving<O: Os>(
        &mut self,
        cx: &Context<'_, O>,
        idle: Idle,
        from: UnitIndex,
        look: u32,
        most: u32,
    ) -> (Option<UnitIndex>, UnitIndex) {
        let space = cx.space;
        let mut at = from.max(self.first);
        for _ in 0..look {
            if at >= self.frontier {
                break;
            }
            if space.meta(at).kind() != RunKind::Free {
                at = next_head(space, at);
                continue;
            }
            // A release that put the neighbour before this run back left the two apart, to find its place again.
            let previous = self.free_run_before(space, at);
            let end = at.plus(space.meta(at).len());
            if let Some(start) = idle.first_in(space, at, end) {
                let units = (end.0 - start.0).min(most);
                self.cut_out(cx, at, start, units, RunKind::Leaving);
                if let Some(previous) = previous.filter(|_| start > at) {
                    self.join(space, previous, at);
                }
                return (Some(start), start.plus(units));
            }
            if let Some(previous) = previous {
                self.join(space, previous, at);
            }
            at = end;
        }
        (None, at)
    }

    /// Joins the free run that begins at `at`, if one does, with one before it: a walk that ends at `at` left them apart.
    pub(crate) fn join_before(&mut self, space: &Space, at: UnitIndex) {
        if at < self.first || at >= self.frontier || space.meta(at).kind() != RunKind::Free {
            return;
        }
        if let Some(previous) = self.free_run_before(space, at) {
            self.join(space, previous, at);
        }
    }

    /// Cuts `units` from `start` on out of the free run `run`. What lies before and behind stays free.
    fn cut_out<O: Os>(
        &mut self,
        cx: &Context<'_, O>,
        run: UnitIndex,
        start: UnitIndex,
        units: u32,
        kind: RunKind,
    ) {
        let space = cx.space;
        let (len, resident) = (space.meta(run).len(), space.meta(run).resident_pages());
        let before = start.0 - run.0;
        debug_assert!(before + units <= len);
        self.free.remove(&ByLength(space), run);
        let count = |from: UnitIndex, units: u32| match resident {
            0 => 0,
            all if all == len * PAGES_PER_UNIT as u32 => units * PAGES_PER_UNIT as u32,
            _ => resident_pages(space, from, units),
        };
        let front = count(run, before);
        let middle = count(start, units);
        debug_assert!(front + middle <= resident);
        if before > 0 {
            self.insert(space, run, before, front);
        }
        if before + units < len {
            self.insert(space, start.plus(units), len - before - units, resident - front - middle);
        }
        space.meta(start).set_len(units);
        space.meta(start).set_kind(kind);
        cx.counters.free_resident.sub(middle as usize * PAGE);
    }

    fn insert(&mut self, space: &Space, run: UnitIndex, len: u32, resident: u32) {
        debug_assert!(len > 0);
        space.meta(run).set_len(len);
        space.meta(run.plus(len - 1)).set_len(len);
        space.meta(run).set_resident_pages(resident);
        space.meta(run).set_kind(RunKind::Free);
        self.free.insert(&ByLength(space), run);
    }

    /// The free run that ends where `unit` begins.
    fn free_run_before(&self, space: &Space, unit: UnitIndex) -> Option<UnitIndex> {
        if unit == self.first {
            return None;
        }
        // The row of a unit inside a used run may hold a stale length. A free head with exactly this length, though,
        // covers the unit, and runs do not overlap.
        let len = space.meta(UnitIndex(unit.0 - 1)).len();
        let head = UnitIndex(unit.0.checked_sub(len)?);
        let free = len > 0
            && head >= self.first
            && space.meta(head).kind() == RunKind::Free
            && space.meta(head).len() == len;
        free.then_some(head)
    }

    fn commit_to<O: Os>(&mut self, cx: &Context<'_, O>, end: UnitIndex) -> Option<()> {
        if end <= self.committed {
            return Some(());
        }
        let needed = end.0 - self.committed.0;
        let so_far = self.committed.0 - self.first.0;
        let step = (so_far / 4).clamp(COMMIT_STEP.0, COMMIT_STEP.1).max(needed);
        let step = step.min(self.limit.0 - self.committed.0);
        let spans = self.serves(Purpose::Spans);
        let mut units = step;
        let mut tables = cx.space.commit(cx.os, self.committed, units, spans);
        if tables.is_err() && needed < step {
            units = needed;
            tables = cx.space.commit(cx.os, self.committed, units, spans);
        }
        cx.counters.metadata.add(tables.ok()?);
        cx.counters.committed.add(units as usize * UNIT);
        if cx.os.populates(cx.space.address(self.committed)) {
            self.populated = true;
            let came = (self.committed.0..self.committed.0 + units)
                .map(|unit| cx.space.meta(UnitIndex(unit)).reacquire(PageMask::MAX).count_ones() as usize)
                .sum::<usize>();
            cx.counters.populated.add(came * PAGE);
        }
        self.committed = self.committed.plus(units);
        Some(())
    }

    /// The tree's idea of its first run at least this long: for `verify`.
    pub(crate) fn in_tree(&self, space: &Space, run: UnitIndex) -> bool {
        let key = (space.meta(run).len(), run);
        self.free.first_that(&ByLength(space), |at| (space.meta(at).len(), at) >= key) == Some(run)
    }
}

/// The head of the run behind the one at `head`, or the next unit if `head` is none.
pub(crate) fn next_head(space: &Space, head: UnitIndex) -> UnitIndex {
    let meta = space.meta(head);
    if meta.kind() == RunKind::Body { head.plus(1) } else { head.plus(meta.len().max(1)) }
}

/// Pages of a run that may be resident.
pub(crate) fn resident_pages(space: &Space, run: UnitIndex, units: u32) -> u32 {
    (run.0..run.0 + units).map(|unit| space.meta(UnitIndex(unit)).released().count_zeros()).sum()
}

/// The first unit from `unit` on whose address is a multiple of `align` units.
fn aligned(space: &Space, unit: UnitIndex, align: u32) -> UnitIndex {
    debug_assert!(align.is_power_of_two());
    let number = space.address(unit).as_ptr() as usize >> UNIT_SHIFT;
    unit.plus((number.next_multiple_of(align as usize) - number) as u32)
}

fn has_room(space: &Space, run: UnitIndex, units: u32, align: u32) -> bool {
    aligned(space, run, align).0 - run.0 + units <= space.meta(run).len()
}
