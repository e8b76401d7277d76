//! One release at work: its bounds, what it has given back so far, and what was refused.
//!
//! Given-back pages are marked as released here and nowhere else in a release.

#![allow(unsafe_code, reason = "gives pages to the OS")]

use core::ops::Range;

use crate::heap::Heap;
use crate::os::{Errno, Os};
use crate::report::{BlockReason, BlockedList, ReleaseOptions};
use crate::units::{PAGE, PAGES_PER_UNIT, PageMask, UNIT, UnitIndex};

/// Units given back between two looks at the bounds, at most.
const BATCH_UNITS: u32 = 1024;

pub(crate) struct Job<'a, O> {
    heap: &'a Heap<O>,
    /// Bytes that may still go.
    budget: u64,
    /// When to stop, on the clock of the OS.
    deadline: u64,
    late: bool,
    pub(super) released: u64,
    pub(super) syscalls: u64,
    pub(super) blocked: BlockedList,
    pub(super) spans_with_holes: u64,
    seen: Seen,
}

impl<'a, O: Os> Job<'a, O> {
    pub(super) fn new(heap: &'a Heap<O>, options: ReleaseOptions, start: u64) -> Self {
        let time = options.deadline.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        Self {
            heap,
            budget: options.max_bytes.unwrap_or(u64::MAX),
            deadline: time.map_or(u64::MAX, |time| start.saturating_add(time)),
            late: false,
            released: 0,
            syscalls: 0,
            blocked: BlockedList::new(),
            spans_with_holes: 0,
            seen: Seen::new(),
        }
    }

    /// Whether a bound has been reached.
    pub(super) fn stopped(&self) -> bool {
        self.late || self.released >= self.budget
    }

    pub(super) fn is_bounded(&self) -> bool {
        self.budget != u64::MAX || self.deadline != u64::MAX
    }

    /// Looks at the clock, if there is a deadline.
    pub(super) fn check_time(&mut self) {
        self.late = self.late || (self.deadline != u64::MAX && self.heap.os.now() >= self.deadline);
    }

    /// How many units the next batch may have.
    pub(super) fn batch(&self) -> u32 {
        let left = self.budget.saturating_sub(self.released).div_ceil(UNIT as u64);
        u32::try_from(left).unwrap_or(u32::MAX).clamp(1, BATCH_UNITS)
    }

    /// Gives back the pages of a run that `mask` names for each of its units. With `bridge`, pages between them go
    /// along, which saves calls: the caller must hold all of the run.
    ///
    /// # Safety
    /// Nobody reads or writes these pages, with `bridge` any page of the run, until this returns.
    pub(super) unsafe fn give_back(
        &mut self,
        run: UnitIndex,
        units: u32,
        bridge: bool,
        mask: impl Fn(u32) -> PageMask,
    ) {
        self.seen.forget();
        let mut pages = 0..0;
        for unit in 0..units {
            if pages.len() >= self.batch() as usize * PAGES_PER_UNIT {
                // SAFETY: the pages gathered are such as the caller vouches for.
                unsafe { self.give_back_range(run, &pages) };
                pages = 0..0;
            }
            if self.stopped() {
                break;
            }
            let wanted = mask(unit);
            let first = unit as usize * PAGES_PER_UNIT;
            for page in (0..PAGES_PER_UNIT).filter(|page| wanted & (1 << page) != 0) {
                let page = first + page;
                if page != pages.end && !bridge || pages.is_empty() {
                    // SAFETY: as above.
                    unsafe { self.give_back_range(run, &pages) };
                    pages = page..page;
                }
                pages.end = page + 1;
            }
        }
        // SAFETY: as above.
        unsafe { self.give_back_range(run, &pages) };
    }

    /// # Safety
    /// Nobody reads or writes these pages until this returns.
    unsafe fn give_back_range(&mut self, run: UnitIndex, pages: &Range<usize>) {
        if pages.is_empty() {
            return;
        }
        // SAFETY: as the caller vouches; likewise below.
        if unsafe { self.ask(run, pages) }.is_ok() {
            return;
        }
        // Some page is locked, or the kernel is short of something: find out which pages can go.
        for page in pages.clone() {
            let released = self.heap.space.meta(run.plus((page / PAGES_PER_UNIT) as u32)).released();
            if released & (1 << (page % PAGES_PER_UNIT)) != 0 {
                continue;
            }
            // SAFETY: as the caller vouches.
            if let Err(errno) = unsafe { self.ask(run, &(page..page + 1)) } {
                let reason = match errno {
                    Errno::EINVAL => BlockReason::Locked,
                    Errno(other) => BlockReason::Refused(other),
                };
                self.blocked.add(reason, PAGE as u64, u64::from(page == pages.start));
            }
        }
    }

    /// # Safety
    /// Nobody reads or writes these pages until this returns.
    unsafe fn ask(&mut self, run: UnitIndex, pages: &Range<usize>) -> Result<(), Errno> {
        self.syscalls += 1;
        let bytes = pages.len() * PAGE;
        // SAFETY: the pages lie in one run.
        let addr = unsafe { self.heap.space.address(run).add(pages.start * PAGE) };
        let resident = self.seen.bytes(self.heap, run, pages);
        // SAFETY: whole pages of one run, which the caller holds.
        unsafe { self.heap.os.release(addr, bytes)? };
        let marked = self.heap.mark_released(run, pages);
        // Pages that were never touched do not leave, though nobody knew that they were not there.
        self.released += resident.min(marked) as u64;
        Ok(())
    }
}

/// What is known of the residency of some pages in a row: one call of the OS serves many holes.
struct Seen {
    run: UnitIndex,
    pages: Range<usize>,
    resident: [u8; 1024],
}

impl Seen {
    const fn new() -> Self {
        Self { run: UnitIndex::NIL, pages: 0..0, resident: [0; 1024] }
    }

    /// Forgets: what was seen may have changed.
    fn forget(&mut self) {
        self.run = UnitIndex::NIL;
    }

    /// Bytes of pages of a run that are resident. All of them, if the OS cannot be asked.
    fn bytes<O: Os>(&mut self, heap: &Heap<O>, run: UnitIndex, pages: &Range<usize>) -> usize {
        let mut count = 0;
        let mut at = pages.start;
        while at < pages.end {
            if self.run != run || !self.pages.contains(&at) {
                self.look(heap, run, at);
            }
            let end = pages.end.min(self.pages.end);
            let seen = &self.resident[at - self.pages.start..end - self.pages.start];
            count += seen.iter().filter(|page| **page & 1 == 1).count();
            at = end;
        }
        count * PAGE
    }

    fn look<O: Os>(&mut self, heap: &Heap<O>, run: UnitIndex, from: usize) {
        let end = heap.space.meta(run).len() as usize * PAGES_PER_UNIT;
        let count = end.saturating_sub(from).clamp(1, self.resident.len());
        self.run = run;
        self.pages = from..from + count;
        // SAFETY: the page lies in the run.
        let addr = unsafe { heap.space.address(run).add(from * PAGE) };
        if heap.os.residency(addr, &mut self.resident[..count]).is_err() {
            self.resident.fill(1);
        }
    }
}
