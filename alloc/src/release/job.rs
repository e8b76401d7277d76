//! One release at work: its bounds, and what it keeps out of everybody's reach meanwhile.
//!
//! A run that gives up pages is held until the batch with its pages has left: the slots taken from a span, a free run
//! that is `Leaving`, a pin. [`Job::settle`] ends all holds.

#![allow(unsafe_code, reason = "gives pages to the OS")]

use core::ops::Range;

use super::batch::{BATCH_PAGES, Batch};
use crate::base::units::{PAGE, PAGES_PER_UNIT, PageMask, UnitIndex};
use crate::cache::Caches;
use crate::inspect::report::ReleaseOptions;
use crate::inspect::snapshot::{Tally, tally_run};
use crate::os::Os;
use crate::pages::Pages;
use crate::space::misuse::Misused;
use crate::space::segment::Segments;
use crate::space::size_class::SizeClass;
use crate::space::unit_table::RunKind;
use crate::spans::Spans;

/// Runs held at a time, at most: what threads may miss for a moment stays within bounds.
const HOLDS: usize = 64;

/// What nobody may touch until its pages have left.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hold {
    /// All slots of these pages of a span are taken.
    Span { span: UnitIndex, class: SizeClass, pages: u128 },
    /// A free run, out of the tree.
    Leaving(UnitIndex),
    /// A large block or region.
    Pinned(UnitIndex),
}

/// The buffers of a release. They live in the heap: a release may run inside a free, on a small stack.
pub(crate) struct Desk {
    pub(super) batch: Batch,
    holds: [Hold; HOLDS],
    held: usize,
    /// The unit from which the next bounded release walks on.
    pub(super) resume: u32,
    /// Where the next step of a release in steps goes on.
    pub(super) turn: Turn,
}

/// One pass of a release over the runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    FreeRuns,
    UsedRuns,
    Tables,
}

/// Where a step of a release in steps has stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) pass: Pass,
    pub(super) unit: u32,
    /// The head of the free run that the unit lay in, when the step ended.
    pub(super) head: UnitIndex,
}

impl Turn {
    /// What a release in steps begins with.
    pub(super) const FIRST: Self = Self { pass: Pass::FreeRuns, unit: 0, head: UnitIndex::NIL };

    /// What follows after this one, if anything.
    pub(super) const fn next(self) -> Option<Self> {
        match self.pass {
            Pass::FreeRuns => Some(Self { pass: Pass::UsedRuns, ..Self::FIRST }),
            Pass::UsedRuns => Some(Self { pass: Pass::Tables, ..Self::FIRST }),
            Pass::Tables => None,
        }
    }
}

impl Desk {
    pub(crate) const fn new() -> Self {
        Self {
            batch: Batch::new(),
            holds: [Hold::Leaving(UnitIndex::NIL); HOLDS],
            held: 0,
            resume: 0,
            turn: Turn::FIRST,
        }
    }
}

pub(super) struct Job<'a, O> {
    pub(super) caches: &'a Caches<O>,
    pub(super) desk: &'a mut Desk,
    /// Bytes that may still go.
    budget: u64,
    /// When to stop, on the clock of the OS.
    deadline: u64,
    late: bool,
    /// Whether other threads' caches are left alone.
    pub(super) spares_caches: bool,
    /// The end of the units whose used runs it walks.
    pub(super) end: u32,
    /// Where a walk over free runs goes on: what is let go must remain apart from a run that begins there.
    pub(super) cursor: UnitIndex,
    /// The head of the free run that the cursor lay in when the last walk ended: see [`Turn::head`].
    pub(super) head: UnitIndex,
    pub(super) spans_with_holes: u64,
    /// Bytes of the allocator's own tables that left.
    pub(super) tables: u64,
    /// Where the bytes of the used runs are that it has looked at, as it left them.
    pub(super) tally: Tally,
    pub(super) misused: Option<Misused>,
}

impl<'a, O: Os> Job<'a, O> {
    pub(super) fn new(
        caches: &'a Caches<O>,
        desk: &'a mut Desk,
        options: ReleaseOptions,
        start: u64,
    ) -> Self {
        debug_assert_eq!(desk.held, 0);
        desk.batch.clear();
        let time = options.deadline.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        Self {
            caches,
            desk,
            budget: options.max_bytes.unwrap_or(u64::MAX),
            deadline: time.map_or(u64::MAX, |time| start.saturating_add(time)),
            late: false,
            spares_caches: options.spare_caches,
            end: 0,
            cursor: UnitIndex::NIL,
            head: UnitIndex::NIL,
            spans_with_holes: 0,
            tables: 0,
            tally: Tally::default(),
            misused: None,
        }
    }

    pub(super) const fn spans(&self) -> &'a Spans<O> {
        self.caches.spans()
    }

    pub(super) const fn pages(&self) -> &'a Pages<O> {
        self.caches.spans().pages()
    }

    pub(super) const fn segments(&self) -> &'a Segments {
        self.caches.segments()
    }

    pub(super) const fn os(&self) -> &'a O {
        self.caches.os()
    }

    /// Keeps the first misuse that was found on the way, and stops: the heap is not sound. What the release holds is put
    /// back all the same.
    pub(super) fn note_misuse(&mut self, result: Result<(), Misused>) {
        if let Err(found) = result {
            self.misused.get_or_insert(found);
            self.late = true;
        }
    }

    /// Whether a bound has been reached.
    pub(super) fn stopped(&self) -> bool {
        self.late || self.desk.batch.released >= self.budget
    }

    pub(super) fn is_bounded(&self) -> bool {
        self.budget != u64::MAX || self.deadline != u64::MAX
    }

    /// Looks at the clock, if there is a deadline.
    pub(super) fn check_time(&mut self) {
        self.late = self.late || (self.deadline != u64::MAX && self.os().now() >= self.deadline);
    }

    /// How many pages may still be gathered: one at least.
    fn room(&self) -> u64 {
        let left =
            self.budget.saturating_sub(self.desk.batch.released).saturating_sub(self.desk.batch.gathered());
        left.div_ceil(PAGE as u64).max(1)
    }

    /// How many units of a run to take out at once.
    pub(super) fn units(&self) -> u32 {
        self.room().div_ceil(PAGES_PER_UNIT as u64).min((BATCH_PAGES / PAGES_PER_UNIT) as u64) as u32
    }

    /// Gathers what can leave of the pages of a run that `idle` names for each of its units, up to the bounds. With
    /// `bridge`, pages between them go along, which saves ranges: the caller must hold all of the run.
    ///
    /// # Safety
    /// Nobody reads or writes the idle pages, with `bridge` any page of the run, before the hold on them, which the caller
    /// adds next, is ended.
    pub(super) unsafe fn gather(
        &mut self,
        run: UnitIndex,
        units: u32,
        bridge: bool,
        idle: impl Fn(u32) -> PageMask,
    ) {
        let group = self.os().pages();
        let mut pages = 0..0;
        for unit in 0..units {
            if self.stopped() {
                return;
            }
            let wanted = group.leaving(idle(unit), self.segments().meta(run.plus(unit)).released());
            let first = unit as usize * PAGES_PER_UNIT;
            for page in (0..PAGES_PER_UNIT).filter(|page| wanted & (1 << page) != 0) {
                let page = first + page;
                if pages.is_empty() || (page != pages.end && !bridge) {
                    // SAFETY: the pages gathered are such as the caller vouches for.
                    unsafe { self.add(run, pages) };
                    pages = page..page;
                }
                pages.end = page + 1;
            }
            if pages.len() as u64 >= self.room().min(BATCH_PAGES as u64) {
                // SAFETY: as above.
                unsafe { self.add(run, pages) };
                pages = 0..0;
            }
        }
        // SAFETY: as above.
        unsafe { self.add(run, pages) };
    }

    /// # Safety
    /// As for [`gather`](Self::gather).
    unsafe fn add(&mut self, run: UnitIndex, pages: Range<usize>) {
        if pages.is_empty() {
            return;
        }
        // SAFETY: as the caller vouches.
        unsafe { self.desk.batch.add(self.caches.spans().pages(), run, pages) };
        if self.desk.batch.released.saturating_add(self.desk.batch.gathered()) >= self.budget {
            // SAFETY: all that was gathered is held, by the caller or in `holds`.
            unsafe { self.desk.batch.ask(self.caches.spans().pages()) };
        }
    }

    /// Adds a hold on a run, until the pages gathered from it have left.
    pub(super) fn hold(&mut self, hold: Hold) {
        let desk = &mut *self.desk;
        desk.holds[desk.held] = hold;
        desk.held += 1;
        if desk.held == HOLDS || desk.batch.gathered() >= (BATCH_PAGES * PAGE) as u64 || self.stopped() {
            self.settle();
        }
    }

    /// Counts the bytes of a run, if it is used.
    pub(super) fn count(&mut self, run: UnitIndex) {
        let meta = self.segments().meta(run);
        if matches!(meta.kind(), RunKind::Small | RunKind::Large | RunKind::Region) {
            // A head that was taken apart meanwhile may carry the length of a run that ended there.
            let left = self.end.saturating_sub(run.0);
            tally_run(self.caches.spans(), run, meta.len().min(left), &mut self.tally);
        }
    }

    /// Gives all gathered pages to the OS, then ends all holds.
    pub(super) fn settle(&mut self) {
        // SAFETY: everything gathered lies in a run that is held, so nobody reads or writes it.
        unsafe { self.desk.batch.ask(self.caches.spans().pages()) };
        self.check_time();
        for at in 0..core::mem::take(&mut self.desk.held) {
            match self.desk.holds[at] {
                Hold::Span { span, class, pages } => {
                    let room = self.give_back_slots(span, class, pages);
                    self.spans_with_holes += u64::from(room);
                    self.count(span);
                }
                Hold::Leaving(run) => self.put_back(run, self.cursor),
                Hold::Pinned(run) => {
                    self.unpin(run);
                    self.count(run);
                }
            }
        }
    }
}
