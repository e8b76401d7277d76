//! Regions: arenas of whole units for data that goes as a whole, or page by page as it is no longer needed.
//!
//! Invariant: pages that were retired are never touched again by the owner, so they are idle memory even while the
//! region lives. Whether they leave at once or when a release is asked for is a mode of the process.

#![allow(unsafe_code, reason = "regions are raw memory")]

use core::ops::Range;
use core::ptr::NonNull;

use crate::heap::{HEAP, Heap};
use crate::large::for_each_unit;
use crate::os::{Os, resident_bytes};
use crate::page_heap::Request;
use crate::sync::{AtomicU8, Ordering};
use crate::unit_table::RunKind;
use crate::units::{PAGE, UNIT, UnitCount, UnitIndex, page_mask};
use crate::zone::Purpose;

/// What happens to pages that a region retires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retire {
    /// They stay resident, as free memory, until a release is asked for.
    Keep,
    /// They go back to the OS at once.
    Release,
}

/// 0: release, 1: keep. Relaxed throughout: a mode seen late is seen by the next call.
static MODE: AtomicU8 = AtomicU8::new(0);

/// Sets what all regions of the process do with retired pages. Returns the previous mode; the first is
/// [`Retire::Release`].
pub fn set_retire_mode(mode: Retire) -> Retire {
    match MODE.swap(u8::from(mode == Retire::Keep), Ordering::Relaxed) {
        0 => Retire::Release,
        _ => Retire::Keep,
    }
}

/// What regions do with retired pages now.
#[must_use]
pub fn retire_mode() -> Retire {
    match MODE.load(Ordering::Relaxed) {
        0 => Retire::Release,
        _ => Retire::Keep,
    }
}

/// From this many bytes on it is cheaper to have the OS clear pages than to write them.
const CLEAR_BY_OS: usize = 256 * 1024;
/// From this many bytes on a region takes fresh address space rather than pages that need clearing.
const PREFER_ZERO: usize = 1024 * 1024;

/// An arena: a run of 64 KiB units of its own, outside the size classes.
///
/// Its memory is private to the owner and stays where it is. Dropping it gives the whole run back to the heap in time
/// independent of what it holds.
///
/// ```
/// use ebbtide_alloc::Region;
///
/// let mut region = Region::new(100_000).expect("out of memory");
/// assert_eq!(region.len(), 131_072);
/// region.zero(0..4096);
/// // SAFETY: the byte lies in the region and was just cleared.
/// assert_eq!(unsafe { region.base().read() }, 0);
/// ```
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    /// The bytes that may hold anything but zero since before the region began.
    dirty: Range<usize>,
}

// SAFETY: a region owns its memory like a box of bytes; nothing of it belongs to a thread.
unsafe impl Send for Region {}
// SAFETY: shared access gives out only the address; what is done with the memory is the owner's duty.
unsafe impl Sync for Region {}

impl Region {
    /// A region of at least `bytes`, rounded up to whole units of 64 KiB, to which it is aligned. What it holds is
    /// unspecified but initialised; [`zero`](Self::zero) clears it. Large regions come from memory that is known to be
    /// zero where possible.
    ///
    /// `None` without memory, or for 0 bytes. O(units), without touching the pages.
    #[must_use]
    pub fn new(bytes: usize) -> Option<Self> {
        let region = HEAP.new_region(bytes);
        HEAP.pressure.check_total(&HEAP.counters);
        region
    }

    /// The first byte.
    #[must_use]
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The length in bytes: never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no region is empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Makes the bytes of `range` read as zero, before they are first written. Costs nothing where pages came fresh.
    ///
    /// It undoes what was there before the region. What the owner has written since may be cleared or not, so it is no
    /// way to clear that.
    ///
    /// # Panics
    /// If the range reaches beyond the region.
    pub fn zero(&mut self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.len, "range outside the region");
        let from = range.start.max(self.dirty.start);
        let to = range.end.min(self.dirty.end);
        if from < to {
            self.clear(from..to);
        }
    }

    fn clear(&self, range: Range<usize>) {
        let (first, last) = (range.start.next_multiple_of(PAGE), range.end & !(PAGE - 1));
        let by_os = first < last && last - first >= CLEAR_BY_OS;
        // SAFETY: the range lies inside the region, and whole pages of it hold nothing that the owner needs.
        unsafe {
            let base = self.base;
            if by_os && HEAP.os.release(base.add(first), last - first).is_ok() {
                base.add(range.start).write_bytes(0, first - range.start);
                base.add(last).write_bytes(0, range.end - last);
            } else {
                base.add(range.start).write_bytes(0, range.len());
            }
        }
    }

    /// Says that the bytes of `range` are not needed any more. The whole pages inside become free memory: they stay
    /// or leave as [`retire_mode`] says. Returns the bytes of these pages.
    ///
    /// One system call where they leave; O(units of the range).
    ///
    /// # Safety
    /// Nothing in the range is read or written again as long as the region lives.
    ///
    /// # Panics
    /// If the range reaches beyond the region.
    pub unsafe fn retire(&self, range: Range<usize>) -> usize {
        assert!(range.start <= range.end && range.end <= self.len, "range outside the region");
        let pages = range.start.div_ceil(PAGE)..range.end / PAGE;
        if pages.is_empty() {
            return 0;
        }
        // SAFETY: the caller gives the range up, and the region is alive.
        unsafe { HEAP.retire_pages(self.base, pages.clone(), retire_mode()) };
        pages.len() * PAGE
    }

    /// Bytes of the region that are resident, as the kernel sees it; all of them if it cannot be asked.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        resident_bytes(&HEAP.os, self.base, self.len).unwrap_or(self.len)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        HEAP.free_region(self.base);
        HEAP.pressure.check_idle(&HEAP.counters);
    }
}

impl<O: Os> Heap<O> {
    pub(crate) fn new_region(&self, bytes: usize) -> Option<Region> {
        let units = UnitCount::covering(bytes)?;
        if units.0 == 0 {
            return None;
        }
        let request = Request {
            units,
            room: UnitCount(0),
            align: 1,
            purpose: Purpose::Arena,
            kind: RunKind::Region,
            prefer_zero: bytes >= PREFER_ZERO,
        };
        let run = {
            let mut page_heap = self.page_heap();
            let run = page_heap.allocate(&self.context(), self.reservation, request)?;
            // Under the lock, as for a large block.
            (0..units.0).for_each(|unit| self.space.meta(run.plus(unit)).clear_retired());
            self.space.meta(run).set_owned_pages(units.bytes() / PAGE);
            run
        };
        let mut dirty = 0..0;
        let mut reacquired = 0;
        for unit in 0..units.0 {
            let meta = self.space.meta(run.plus(unit));
            let released = meta.reacquire(u16::MAX);
            reacquired += released.count_ones() as usize;
            if released != u16::MAX {
                let start = unit as usize * UNIT;
                dirty = if dirty.is_empty() { start..start + UNIT } else { dirty.start..start + UNIT };
            }
        }
        self.counters.reacquired_total.add(reacquired * PAGE);
        self.counters.large_mallocs.add(1);
        self.counters.count_handed(units.bytes() as isize);
        Some(Region { base: self.space.address(run), len: units.bytes(), dirty })
    }

    /// Retires pages of a region, given as numbers from its start.
    ///
    /// # Safety
    /// `base` is that of a living region, the pages lie in it and are never touched again.
    pub(crate) unsafe fn retire_pages(&self, base: NonNull<u8>, pages: Range<usize>, mode: Retire) {
        let Some(run) = self.space.unit_of(base.as_ptr() as usize) else { return };
        let mut retired = 0;
        for_each_unit(pages.start, pages.end, |unit, mask| {
            retired += self.space.meta(run.plus(unit as u32)).add_retired(mask).count_ones() as usize;
        });
        self.counters.count_handed(-((retired * PAGE) as isize));
        if mode == Retire::Release {
            // SAFETY: the caller vouches for the pages; the region lies in one segment.
            let left = unsafe { self.os.release(base.add(pages.start * PAGE), pages.len() * PAGE) };
            if left.is_ok() {
                self.mark_released(run, &pages);
            }
        }
    }

    /// Notes that pages of a run went back to the OS. Returns the bytes that were not released before.
    pub(crate) fn mark_released(&self, run: UnitIndex, pages: &Range<usize>) -> usize {
        let mut bytes = 0;
        for_each_unit(pages.start, pages.end, |unit, mask| {
            bytes += self.space.meta(run.plus(unit as u32)).add_released(mask).count_ones() as usize * PAGE;
        });
        self.counters.released_total.add(bytes);
        bytes
    }

    pub(crate) fn free_region(&self, base: NonNull<u8>) {
        if let Some(run) = self.space.unit_of(base.as_ptr() as usize) {
            self.counters.large_frees.add(1);
            let freed = self.free_run(run, RunKind::Region);
            debug_assert!(freed);
        }
    }

    /// The pages of unit `unit` of a region or large block that its owner no longer needs.
    pub(crate) fn idle_mask(&self, run: UnitIndex, unit: u32) -> u16 {
        let owned = self.space.meta(run).owned_pages();
        let first = unit as usize * (UNIT / PAGE);
        let unowned = page_mask(owned.saturating_sub(first).min(UNIT / PAGE), UNIT / PAGE);
        match self.space.meta(run).kind() {
            RunKind::Region => unowned | self.space.meta(run.plus(unit)).retired(),
            _ => unowned,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_zero_where_asked_and_gives_pages_back() {
        let mut region = Region::new(3 * UNIT - 5).unwrap();
        assert_eq!(region.len(), 3 * UNIT);
        region.zero(0..3 * UNIT);
        let base = region.base();
        // SAFETY: inside the region, which this test owns.
        unsafe {
            assert!((0..3 * UNIT).all(|at| base.add(at).read() == 0));
            base.write_bytes(7, 3 * UNIT);
            assert_eq!(region.resident_bytes(), 3 * UNIT);
            assert_eq!(region.retire(1..2 * PAGE + 1), PAGE, "only whole pages");
            assert_eq!(region.retire(PAGE + 1..2 * PAGE), 0);
            assert_eq!(base.add(2 * PAGE).read(), 7, "what is not retired stays");
            assert_eq!(base.add(PAGE - 1).read(), 7);
        }
        assert_eq!(region.resident_bytes(), 3 * UNIT - PAGE);
    }

    #[test]
    fn a_region_of_used_memory_is_cleared() {
        for _ in 0..3 {
            let mut region = Region::new(8 * UNIT).unwrap();
            region.zero(5..8 * UNIT);
            // SAFETY: inside the region, which this test owns.
            unsafe {
                assert!((5..8 * UNIT).all(|at| region.base().add(at).read() == 0));
                region.base().write_bytes(0xff, 8 * UNIT);
            }
        }
    }

    #[test]
    fn no_region_of_nothing_or_too_much() {
        assert!(Region::new(0).is_none());
        assert!(Region::new(usize::MAX).is_none());
        assert!(Region::new(isize::MAX as usize).is_none());
    }
}
