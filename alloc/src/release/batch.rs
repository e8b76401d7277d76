//! Batches: ranges of pages gathered from many runs, so that one call gives them all to the OS.
//!
//! A call costs about as much as four pages, and on each other processor that runs the program it costs an interrupt.
//! So ranges are gathered until a call takes [`BATCH_PAGES`], and no more than that: while the kernel works, it keeps
//! a thread that needs fresh address space waiting.

#![allow(unsafe_code, reason = "gives pages to the OS")]

use core::ops::Range;
use core::ptr::NonNull;

use crate::base::units::{PAGE, PAGES_PER_UNIT, PageMask, UnitIndex, page_mask};
use crate::inspect::report::{BlockReason, BlockedList};
use crate::os::{Errno, Os, PageRange};
use crate::pages::Pages;

/// Ranges of one call, at most.
const RANGES: usize = 256;
/// Pages of one call, at most: a fraction of a millisecond of the kernel's time.
pub(super) const BATCH_PAGES: usize = 1024;

/// Pages in a row, of one segment.
#[derive(Clone, Copy, Debug)]
struct PageRun {
    /// The unit in which the first lies.
    unit: UnitIndex,
    /// Its number in that unit.
    first: u32,
    count: u32,
}

impl PageRun {
    const NONE: Self = Self { unit: UnitIndex::NIL, first: 0, count: 0 };

    /// `count` pages from the page `from` on, counted from the start of `unit`.
    fn new(unit: UnitIndex, from: usize, count: usize) -> Self {
        let unit = unit.plus((from / PAGES_PER_UNIT) as u32);
        Self { unit, first: (from % PAGES_PER_UNIT) as u32, count: count as u32 }
    }

    /// The pages as counted from the start of the unit.
    fn range(&self) -> Range<usize> {
        self.first as usize..(self.first + self.count) as usize
    }

    /// The pages, if they are of one unit.
    fn mask(&self) -> PageMask {
        page_mask(self.first as usize, (self.first + self.count) as usize)
    }

    fn os_range<O: Os>(&self, heap: &Pages<O>) -> PageRange {
        // SAFETY: the pages lie in one segment.
        let addr = unsafe { heap.segments().address(self.unit).add(self.first as usize * PAGE) };
        PageRange { addr: addr.as_ptr(), bytes: self.count as usize * PAGE }
    }

    /// Whether `next` begins where these end.
    fn meets(&self, next: &Self) -> bool {
        let end = u64::from(self.unit.0) * PAGES_PER_UNIT as u64 + u64::from(self.first + self.count);
        end == u64::from(next.unit.0) * PAGES_PER_UNIT as u64 + u64::from(next.first)
    }
}

/// Ranges gathered, and what became of those asked for.
pub(super) struct Batch {
    ranges: [PageRun; RANGES],
    /// The same for the OS, and how many bytes of each are resident.
    asked: [PageRange; RANGES],
    resident: [u32; RANGES],
    len: usize,
    pages: usize,
    /// Bytes that left, and were resident before.
    pub(super) released: u64,
    pub(super) syscalls: u64,
    pub(super) blocked: BlockedList,
    seen: Seen,
}

impl Batch {
    pub(super) const fn new() -> Self {
        Self {
            ranges: [PageRun::NONE; RANGES],
            asked: [PageRange::EMPTY; RANGES],
            resident: [0; RANGES],
            len: 0,
            pages: 0,
            released: 0,
            syscalls: 0,
            blocked: BlockedList::new(),
            seen: Seen::new(),
        }
    }

    /// Makes it ready for another release.
    pub(super) fn clear(&mut self) {
        (self.len, self.pages, self.released, self.syscalls) = (0, 0, 0, 0);
        self.blocked = BlockedList::new();
    }

    /// Bytes gathered and not asked for yet.
    pub(super) fn gathered(&self) -> u64 {
        (self.pages * PAGE) as u64
    }

    /// Adds pages, counted from the start of `unit`. Asks when a call is full.
    ///
    /// # Safety
    /// Nobody reads or writes these pages until [`ask`](Self::ask) has returned.
    pub(super) unsafe fn add<O: Os>(&mut self, heap: &Pages<O>, unit: UnitIndex, mut pages: Range<usize>) {
        while !pages.is_empty() {
            if self.pages == BATCH_PAGES || self.len == RANGES {
                // SAFETY: as the caller vouches.
                unsafe { self.ask(heap) };
            }
            let count = pages.len().min(BATCH_PAGES - self.pages);
            self.put(PageRun::new(unit, pages.start, count));
            pages.start += count;
        }
    }

    fn put(&mut self, pages: PageRun) {
        self.pages += pages.count as usize;
        match self.ranges[..self.len].last_mut() {
            Some(last) if last.meets(&pages) => last.count += pages.count,
            _ => {
                self.ranges[self.len] = pages;
                self.len += 1;
            }
        }
    }

    /// Has the OS take all that was gathered, and marks what left.
    ///
    /// # Safety
    /// Nobody reads or writes the pages gathered until this returns.
    pub(super) unsafe fn ask<O: Os>(&mut self, heap: &Pages<O>) {
        let len = self.len;
        (self.len, self.pages) = (0, 0);
        self.seen.forget();
        for at in 0..len {
            let pages = self.ranges[at];
            self.asked[at] = pages.os_range(heap);
            self.resident[at] = self.seen.bytes(heap, &pages);
        }
        let mut together = false;
        if len > 1 {
            self.syscalls += 1;
            // SAFETY: as the caller vouches.
            together = unsafe { heap.os().release_many(&self.asked[..len]) }.is_ok();
        }
        for at in 0..len {
            let (pages, resident) = (self.ranges[at], self.resident[at]);
            // One range, an OS that takes one at a time, or a range that is refused: each for itself.
            // SAFETY: as the caller vouches; likewise below.
            if together || unsafe { self.ask_one(heap, &pages) }.is_ok() {
                self.left(heap, &pages, resident);
            } else {
                // SAFETY: as above.
                unsafe { self.ask_each_page(heap, &pages) };
            }
        }
    }

    /// # Safety
    /// As for [`ask`](Self::ask).
    unsafe fn ask_one<O: Os>(&mut self, heap: &Pages<O>, pages: &PageRun) -> Result<(), Errno> {
        self.syscalls += 1;
        let range = pages.os_range(heap);
        let Some(addr) = NonNull::new(range.addr) else { return Ok(()) };
        // SAFETY: whole pages of one segment, which the caller gives up.
        unsafe { heap.os().release(addr, range.bytes) }
    }

    /// Some page of the kernel is locked, or the kernel is short of something: finds out which can go.
    ///
    /// # Safety
    /// As for [`ask`](Self::ask).
    unsafe fn ask_each_page<O: Os>(&mut self, heap: &Pages<O>, pages: &PageRun) {
        let start = pages.range().start;
        let group = heap.os().pages().len();
        for page in pages.range().step_by(group) {
            let one = PageRun::new(pages.unit, page, group);
            let stay = one.mask() & !heap.segments().meta(one.unit).released();
            if stay == 0 {
                continue;
            }
            let resident = self.seen.bytes(heap, &one);
            // SAFETY: as the caller vouches.
            match unsafe { self.ask_one(heap, &one) } {
                Ok(()) => self.left(heap, &one, resident),
                Err(errno) => {
                    let reason = match errno {
                        Errno::EINVAL => BlockReason::Locked,
                        Errno(other) => BlockReason::Refused(other),
                    };
                    let bytes = u64::from(stay.count_ones()) * PAGE as u64;
                    self.blocked.add(reason, bytes, u64::from(page == start));
                }
            }
        }
    }

    fn left<O: Os>(&mut self, heap: &Pages<O>, pages: &PageRun, resident: u32) {
        let marked = heap.mark_released(pages.unit, &pages.range());
        // Pages that were never touched are not resident, though they are not marked as released.
        self.released += u64::from(resident).min(marked as u64);
    }
}

/// What is known of the residency of some pages in a row: one call of the OS serves many ranges.
struct Seen {
    addr: usize,
    pages: usize,
    resident: [u8; 1024],
}

impl Seen {
    const fn new() -> Self {
        Self { addr: 0, pages: 0, resident: [0; 1024] }
    }

    /// Forgets: what was seen may have changed.
    fn forget(&mut self) {
        self.pages = 0;
    }

    /// Bytes of these pages that are resident. All of them, if the OS cannot be asked.
    fn bytes<O: Os>(&mut self, heap: &Pages<O>, pages: &PageRun) -> u32 {
        let range = pages.os_range(heap);
        let end = range.addr as usize + range.bytes;
        let (mut at, mut count) = (range.addr as usize, 0);
        while at < end {
            let known = self.addr..self.addr + self.pages * PAGE;
            if !known.contains(&at) {
                self.look(heap, at);
                continue;
            }
            let to = end.min(known.end);
            let seen = &self.resident[(at - known.start) / PAGE..(to - known.start) / PAGE];
            count += seen.iter().filter(|page| **page & 1 == 1).count();
            at = to;
        }
        (count * PAGE) as u32
    }

    fn look<O: Os>(&mut self, heap: &Pages<O>, addr: usize) {
        let left = heap.segments().bytes_behind(addr) / PAGE;
        self.addr = addr;
        self.pages = left.clamp(1, self.resident.len());
        let Some(start) = NonNull::new(addr as *mut u8) else { return };
        if heap.os().residency(start, &mut self.resident[..self.pages]).is_err() {
            self.resident.fill(1);
        }
    }
}
