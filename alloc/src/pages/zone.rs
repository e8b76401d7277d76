//! A zone: the part of a segment that serves one purpose, as runs of units that tile it.
//!
//! Invariants, under the zone's lock: from `first` to `frontier` every unit belongs to exactly one run; no two
//! neighbouring runs are both `Free`, but at the cursor of a release; the tree holds exactly the `Free` runs. Units behind the
//! frontier were never used.

use crate::base::sync::AtomicU32;
use crate::base::units::{HUGE, PAGE, PAGES_PER_UNIT, PageMask, UNIT, UNIT_SHIFT, UnitCount, UnitIndex};
use crate::os::Os;
use crate::pages::treap::{Nodes, Treap};
use crate::space::Space;
use crate::space::segment::Segments;
use crate::space::span::SpanRecord;
use crate::space::unit_table::{RunKind, UnitMeta};

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

/// The order of free runs: the shortest first, then the lowest.
struct ByLength<'a>(&'a Segments);

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
    /// The first unit of a free run, not before `from`, from which on there is something.
    fn first_in(
        self,
        segments: &Segments,
        run: UnitIndex,
        from: UnitIndex,
        end: UnitIndex,
    ) -> Option<UnitIndex> {
        let find = |wanted: fn(&UnitMeta) -> bool| {
            (from.0..end.0).map(UnitIndex).find(|unit| wanted(segments.meta(*unit)))
        };
        match self {
            Self::Pages if segments.meta(run).resident_pages() == 0 => None,
            Self::Pages => find(|meta| meta.released() != PageMask::MAX),
            Self::Tables if end.0 - from.0 >= ROWS_FILL_PAGES => Some(from),
            // Records before it share its page.
            Self::Tables => find(|meta| meta.record_pages() != 0)
                .map(|unit| UnitIndex(unit.0.saturating_sub(RECORDS_OF_PAGE).max(from.0))),
        }
    }
}

/// Units committed at a time, at least and at most: few calls, yet no more than is soon used.
const COMMIT_STEP: (u32, u32) = (64, 1024);

/// Units to look back for a head, at most: the zone is locked meanwhile. Fewer under test, so that tests need little memory.
const MOST_BACK: u32 = if cfg!(test) { 1 << 5 } else { 1 << 14 };

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
    pub(crate) fn find<O: Os>(&self, space: &Space<O>, units: u32, align: u32) -> Option<UnitIndex> {
        let segments = &space.segments;
        let nodes = ByLength(segments);
        let fitting = self.free.first_that(&nodes, |run| segments.meta(run).len() >= units)?;
        if has_room(segments, fitting, units, align) {
            return Some(fitting);
        }
        let safe = units.checked_add(align - 1)?;
        self.free.first_that(&nodes, |run| segments.meta(run).len() >= safe)
    }

    /// Takes `units` at a multiple of `align` out of the free run `run`; what is left of it stays free.
    pub(crate) fn carve<O: Os>(
        &mut self,
        space: &Space<O>,
        run: UnitIndex,
        units: u32,
        align: u32,
        kind: RunKind,
    ) -> UnitIndex {
        let start = aligned(&space.segments, run, align);
        self.cut_out(space, run, start, units, kind);
        start
    }

    /// Takes `units` at a multiple of `align` from behind the frontier, and from a free run that ends there. With
    /// `fresh`, from behind the frontier only: `align` must be 1 then.
    pub(crate) fn extend<O: Os>(
        &mut self,
        space: &Space<O>,
        units: u32,
        align: u32,
        kind: RunKind,
        fresh: bool,
    ) -> Result<UnitIndex, Refusal> {
        debug_assert!(!fresh || align == 1);
        let segments = &space.segments;
        let old = self.frontier;
        let last = if fresh { None } else { self.free_run_before(segments, old) };
        let run = last.unwrap_or(old);
        let end = self.aligned_end(space, run, units, align).ok_or(Refusal::NoRoom)?.max(old);
        self.commit_to(space, end).ok_or(Refusal::NoMemory)?;
        // What is resident already counts from now on, be it needed or not.
        let end = if self.populated { self.committed } else { end };
        let mut resident = if self.populated { resident_pages(segments, old, end.0 - old.0) } else { 0 };
        space.counters.runs.free_resident.add(resident as usize * PAGE);
        self.frontier = end;
        if let Some(run) = last {
            self.free.remove(&ByLength(segments), run);
            resident += segments.meta(run).resident_pages();
        }
        // The new units join the free run before them, so that every cut is made in one place.
        self.insert(segments, run, end.0 - run.0, resident);
        Ok(self.carve(space, run, units, align, kind))
    }

    /// The end of `units` at a multiple of `align` from `run` on, if it lies inside the zone. The first unit behind
    /// the frontier must have an address, so a zone that is full answers early.
    fn aligned_end<O: Os>(
        &self,
        space: &Space<O>,
        run: UnitIndex,
        units: u32,
        align: u32,
    ) -> Option<UnitIndex> {
        if run >= self.limit {
            return None;
        }
        let start = aligned(&space.segments, run, align);
        let end = start.0.checked_add(units)?;
        (end <= self.limit.0).then_some(UnitIndex(end))
    }

    /// Frees a run and coalesces it with free neighbours, with the one behind only if `join_next`.
    pub(crate) fn free<O: Os>(&mut self, space: &Space<O>, run: UnitIndex, join_next: bool) {
        let segments = &space.segments;
        let len = segments.meta(run).len();
        let resident = resident_pages(segments, run, len);
        space.counters.runs.free_resident.add(resident as usize * PAGE);
        self.insert(segments, run, len, resident);
        let next = run.plus(len);
        if join_next && next < self.frontier && segments.meta(next).kind() == RunKind::Free {
            self.join(segments, run, next);
        }
        if let Some(previous) = self.free_run_before(segments, run) {
            self.join(segments, previous, run);
        }
    }

    /// Gives back a run of any kind that was allocated.
    pub(crate) fn give_back<O: Os>(&mut self, space: &Space<O>, run: UnitIndex) {
        space.counters.runs.run_bytes.sub(UnitCount(space.segments.meta(run).len()).bytes());
        self.free(space, run, true);
    }

    /// Shortens a run and frees its end.
    pub(crate) fn shrink<O: Os>(&mut self, space: &Space<O>, run: UnitIndex, units: UnitCount) {
        let len = space.segments.meta(run).len();
        debug_assert!(0 < units.0 && units.0 < len);
        let kind = space.segments.meta(run).kind();
        let tail = run.plus(units.0);
        space.segments.meta(run).set_len(units.0);
        space.segments.meta(tail).set_len(len - units.0);
        space.segments.meta(tail).set_kind(kind);
        self.give_back(space, tail);
    }

    /// Makes one free run of two neighbours.
    fn join(&mut self, segments: &Segments, first: UnitIndex, second: UnitIndex) {
        let (a, b) = (segments.meta(first), segments.meta(second));
        debug_assert_eq!(first.plus(a.len()), second);
        self.free.remove(&ByLength(segments), first);
        self.free.remove(&ByLength(segments), second);
        let resident = a.resident_pages() + b.resident_pages();
        b.set_kind(RunKind::Body);
        self.insert(segments, first, a.len() + b.len(), resident);
    }

    /// Lengthens a run to `units` if what lies behind it is free or beyond the frontier.
    pub(crate) fn grow_in_place<O: Os>(&mut self, space: &Space<O>, run: UnitIndex, units: u32) -> bool {
        let segments = &space.segments;
        let len = segments.meta(run).len();
        let more = units - len;
        let next = run.plus(len);
        let room = next < self.frontier
            && segments.meta(next).kind() == RunKind::Free
            && segments.meta(next).len() >= more;
        let added = if room {
            self.carve(space, next, more, 1, RunKind::Body)
        } else {
            let open = next == self.frontier
                || (segments.meta(next).kind() == RunKind::Free
                    && next.plus(segments.meta(next).len()) == self.frontier);
            if !open {
                return false;
            }
            match self.extend(space, more, 1, RunKind::Body, false) {
                Ok(added) => added,
                Err(_) => return false,
            }
        };
        debug_assert_eq!(added, next);
        segments.meta(run).set_len(units);
        space.counters.runs.run_bytes.add(UnitCount(more).bytes());
        true
    }

    /// Takes a free run of which something can leave out of the tree, as [`RunKind::Leaving`], at most `most` units of
    /// it. Looks at no more than `look` runs from the unit `from` on; the second value is the unit to look on from. It is a head,
    /// unless free runs have coalesced since: then what lies behind it in its run is looked at, whose head is `hint`, or
    /// near.
    pub(crate) fn take_leaving<O: Os>(
        &mut self,
        space: &Space<O>,
        idle: Idle,
        (from, hint): (UnitIndex, UnitIndex),
        look: u32,
        most: u32,
    ) -> (Option<UnitIndex>, UnitIndex) {
        let segments = &space.segments;
        let from = from.max(self.first);
        let mut at = self.head_of(segments, from, hint);
        for _ in 0..look {
            if at >= self.frontier {
                break;
            }
            if segments.meta(at).kind() != RunKind::Free {
                at = next_head(segments, at);
                continue;
            }
            // A release that put the neighbour before this run back left the two apart, to find its place again.
            let previous = self.free_run_before(segments, at);
            let end = at.plus(segments.meta(at).len());
            if let Some(start) = idle.first_in(segments, at, at.max(from), end) {
                let units = (end.0 - start.0).min(most);
                self.cut_out(space, at, start, units, RunKind::Leaving);
                if let Some(previous) = previous.filter(|_| start > at) {
                    self.join(segments, previous, at);
                }
                return (Some(start), start.plus(units));
            }
            if let Some(previous) = previous {
                self.join(segments, previous, at);
            }
            at = end;
        }
        (None, at)
    }

    /// The head of the run that a unit of the zone belongs to: `hint`, if that is one of a free run; the unit itself if it is far
    /// away, or behind the frontier.
    fn head_of(&self, segments: &Segments, unit: UnitIndex, hint: UnitIndex) -> UnitIndex {
        if unit >= self.frontier || segments.meta(unit).kind() != RunKind::Body {
            return unit;
        }
        let is_below = self.first <= hint && hint < unit && segments.meta(hint).kind() == RunKind::Free;
        if is_below && unit.0 - hint.0 < segments.meta(hint).len() {
            return hint;
        }
        let first = self.first.0.max(unit.0.saturating_sub(MOST_BACK));
        let is_head = |unit: &UnitIndex| segments.meta(*unit).kind() != RunKind::Body;
        (first..unit.0).rev().map(UnitIndex).find(is_head).unwrap_or(unit)
    }

    /// Joins the free run that begins at `at`, if one does, with one before it: a walk that ends at `at` left them apart. Returns
    /// the head of the run that has `at` then.
    pub(crate) fn join_before(&mut self, segments: &Segments, at: UnitIndex) -> UnitIndex {
        if at < self.first || at >= self.frontier || segments.meta(at).kind() != RunKind::Free {
            return at;
        }
        let Some(previous) = self.free_run_before(segments, at) else { return at };
        self.join(segments, previous, at);
        previous
    }

    /// Cuts `units` from `start` on out of the free run `run`. What lies before and behind stays free.
    fn cut_out<O: Os>(
        &mut self,
        space: &Space<O>,
        run: UnitIndex,
        start: UnitIndex,
        units: u32,
        kind: RunKind,
    ) {
        let segments = &space.segments;
        let (len, resident) = (segments.meta(run).len(), segments.meta(run).resident_pages());
        let before = start.0 - run.0;
        debug_assert!(before + units <= len);
        self.free.remove(&ByLength(segments), run);
        let count = |from: UnitIndex, units: u32| match resident {
            0 => 0,
            all if all == len * PAGES_PER_UNIT as u32 => units * PAGES_PER_UNIT as u32,
            _ => resident_pages(segments, from, units),
        };
        let front = count(run, before);
        let middle = count(start, units);
        debug_assert!(front + middle <= resident);
        if before > 0 {
            self.insert(segments, run, before, front);
        }
        if before + units < len {
            self.insert(segments, start.plus(units), len - before - units, resident - front - middle);
        }
        segments.meta(start).set_len(units);
        segments.meta(start).set_kind(kind);
        space.counters.runs.free_resident.sub(middle as usize * PAGE);
    }

    fn insert(&mut self, segments: &Segments, run: UnitIndex, len: u32, resident: u32) {
        debug_assert!(len > 0);
        segments.meta(run).set_len(len);
        segments.meta(run.plus(len - 1)).set_len(len);
        segments.meta(run).set_resident_pages(resident);
        segments.meta(run).set_kind(RunKind::Free);
        self.free.insert(&ByLength(segments), run);
    }

    /// The free run that ends where `unit` begins.
    fn free_run_before(&self, segments: &Segments, unit: UnitIndex) -> Option<UnitIndex> {
        if unit == self.first {
            return None;
        }
        // The row of a unit inside a used run may hold a stale length. A free head with exactly this length, though,
        // covers the unit, and runs do not overlap.
        let len = segments.meta(UnitIndex(unit.0 - 1)).len();
        let head = UnitIndex(unit.0.checked_sub(len)?);
        let free = len > 0
            && head >= self.first
            && segments.meta(head).kind() == RunKind::Free
            && segments.meta(head).len() == len;
        free.then_some(head)
    }

    fn commit_to<O: Os>(&mut self, space: &Space<O>, end: UnitIndex) -> Option<()> {
        if end <= self.committed {
            return Some(());
        }
        let needed = end.0 - self.committed.0;
        let so_far = self.committed.0 - self.first.0;
        let step = (so_far / 4).clamp(COMMIT_STEP.0, COMMIT_STEP.1).max(needed);
        let step = step.min(self.limit.0 - self.committed.0);
        let spans = self.purposes & Purpose::Spans as u8 != 0;
        let mut units = step;
        let mut tables = space.commit(self.committed, units, spans);
        if tables.is_err() && needed < step {
            units = needed;
            tables = space.commit(self.committed, units, spans);
        }
        space.counters.pages.metadata.add(tables.ok()?);
        space.counters.runs.committed.add(units as usize * UNIT);
        if space.os.populates(space.segments.address(self.committed)) {
            self.populated = true;
            let came = (self.committed.0..self.committed.0 + units)
                .map(|unit| {
                    space.segments.meta(UnitIndex(unit)).reacquire(PageMask::MAX).count_ones() as usize
                })
                .sum::<usize>();
            space.counters.pages.populated.add(came * PAGE);
        }
        self.committed = self.committed.plus(units);
        Some(())
    }

    /// Whether the tree holds a run: for `verify`.
    pub(crate) fn in_tree(&self, segments: &Segments, run: UnitIndex) -> bool {
        let key = (segments.meta(run).len(), run);
        self.free.first_that(&ByLength(segments), |at| (segments.meta(at).len(), at) >= key) == Some(run)
    }
}

/// The head of the run behind the one at `head`, or the next unit if no run begins at `head`.
pub(crate) fn next_head(segments: &Segments, head: UnitIndex) -> UnitIndex {
    let meta = segments.meta(head);
    if meta.kind() == RunKind::Body { head.plus(1) } else { head.plus(meta.len().max(1)) }
}

/// Pages of a run that may be resident.
pub(crate) fn resident_pages(segments: &Segments, run: UnitIndex, units: u32) -> u32 {
    (run.0..run.0 + units).map(|unit| segments.meta(UnitIndex(unit)).released().count_zeros()).sum()
}

/// The first unit from `unit` on whose address is a multiple of `align` units.
fn aligned(segments: &Segments, unit: UnitIndex, align: u32) -> UnitIndex {
    debug_assert!(align.is_power_of_two());
    let number = segments.address(unit).as_ptr() as usize >> UNIT_SHIFT;
    unit.plus((number.next_multiple_of(align as usize) - number) as u32)
}

fn has_room(segments: &Segments, run: UnitIndex, units: u32, align: u32) -> bool {
    aligned(segments, run, align).0 - run.0 + units <= segments.meta(run).len()
}
