//! Regions: arenas of whole units for data that goes as a whole, or page by page as it is no longer needed.
//!
//! Invariant: pages that were retired are never touched again by the owner, so they are idle memory even while the
//! region lives. Whether they leave at once or when a release is asked for is a mode of the process.

#![allow(unsafe_code, reason = "regions are raw memory")]

use core::ops::Range;
use core::ptr::NonNull;

use crate::heap::{HEAP, Heap};
use crate::large::for_each_unit;
use crate::os::{Moved, Os, resident_bytes};
use crate::page_heap::Request;
use crate::sync::{AtomicU8, Ordering};
use crate::unit_table::RunKind;
use crate::units::{HUGE, PAGE, PAGES_PER_UNIT, UNIT, UnitCount, UnitIndex, page_mask};
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
const CLEAR_BY_OS: usize = 1024 * 1024;
/// From this many bytes on a region takes fresh address space rather than pages that may need clearing.
const PREFER_ZERO: usize = 10 * 1024 * 1024;
/// Pages are handed on only between regions of at least this many bytes, so that the mappings which that splits stay few.
const HAND_ON_FROM: usize = 1024 * 1024;
/// So many times in the life of a process a region begins to hand its pages on. Each may split mappings, of which the
/// kernel grants 65,530.
const MOST_HANDED_ON: u64 = 8192;

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
    /// It has huge pages, which clearing by the OS would split.
    huge: bool,
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

    /// As [`new`](Self::new), for data that is soon written as a whole: it lies in huge pages if it fills them well. The
    /// first touch of one takes as long as that of about a hundred small ones.
    #[must_use]
    pub fn new_whole(bytes: usize) -> Option<Self> {
        let region = HEAP.new_whole_region(bytes);
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
        // A region begins at a multiple of any page.
        let Range { start: first, end: last } = HEAP.os.pages().inside(&range);
        let by_os = last - first >= CLEAR_BY_OS && !self.huge;
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

    /// Names who has this region, by a number of the caller's choice that is not 0. [`each_kept`](crate::each_kept) then
    /// tells whose the pages are that the region retires, and those that it leaves, until they are used again. O(1).
    pub fn set_owner(&self, owner: u32) {
        if let Some(run) = HEAP.space.unit_of(self.base.as_ptr() as usize) {
            HEAP.space.meta(run).set_owner(owner);
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

    /// Whether this region may [hand its pages on](Self::hand_on) to `to`: both are large, retired pages are not to stay,
    /// and there are mappings left for it.
    #[must_use]
    pub fn may_hand_on(&self, to: &Self) -> bool {
        HEAP.may_hand_on(self.len.min(to.len))
    }

    /// Counts this region as one that [hands its pages on](Self::hand_on). Each may split mappings, of which a process has
    /// only so many.
    pub fn begin_handing_on(&self) {
        HEAP.counters.handed_on.add(1);
    }

    /// As [`retire`](Self::retire), but the pages go to `to`, at offset `at`, if none are resident there: bringing new ones
    /// in costs five times as much as moving these. What the pages hold there is unspecified, as for a new region.
    /// Returns whether they left; if not, nothing was done. Pages among them that cannot move go to the OS.
    ///
    /// The range and the offset are whole pages of the kernel. A few system calls; O(units of the range).
    ///
    /// # Safety
    /// Nothing in the range is read or written again as long as this region lives, and nothing that was written to the
    /// same number of bytes at `at` is needed.
    ///
    /// # Panics
    /// If a range reaches beyond its region.
    pub unsafe fn hand_on(&self, range: Range<usize>, to: &Self, at: usize) -> bool {
        assert!(range.start <= range.end && range.end <= self.len, "range outside the region");
        assert!(at <= to.len && range.len() <= to.len - at, "range outside the other region");
        let pages = range.start / PAGE..range.end / PAGE;
        let whole = [range.start, range.end, at].iter().all(|bound| bound.is_multiple_of(PAGE));
        if pages.is_empty() || !whole {
            return false;
        }
        // SAFETY: both places are pages of living regions, and the caller gives up what they hold.
        unsafe { HEAP.hand_pages_on(self.base, pages, to.base.add(at)) }
    }

    /// Takes the region apart: its base, which with [`len`](Self::len) is all that [`from_raw`](Self::from_raw) needs.
    /// Until then it lives on.
    #[must_use]
    pub const fn into_raw(self) -> NonNull<u8> {
        let base = self.base;
        core::mem::forget(self);
        base
    }

    /// Puts a region together again. What it holds counts as written by its owner, so [`zero`](Self::zero) clears all.
    ///
    /// # Safety
    /// `base` came from [`into_raw`](Self::into_raw) of a region of `len` bytes, and of all values that this function
    /// returns for it only one is ever dropped, as the last one that is used.
    #[must_use]
    pub const unsafe fn from_raw(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len, dirty: 0..len, huge: false }
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
        self.region_in(units, units, Purpose::Arena)
    }

    pub(crate) fn new_whole_region(&self, bytes: usize) -> Option<Region> {
        let units = UnitCount::covering(bytes)?;
        let whole = UnitCount::covering(bytes.checked_next_multiple_of(HUGE)?)?;
        if bytes >= HUGE && whole.bytes() - units.bytes() <= bytes / 16 {
            return self.region_in(units, whole, Purpose::Huge);
        }
        self.region_in(units, units, Purpose::Arena)
    }

    /// A region of `units`, in a run of `room`.
    fn region_in(&self, units: UnitCount, room: UnitCount, purpose: Purpose) -> Option<Region> {
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
            let mut page_heap = self.page_heap();
            let run = page_heap.allocate(&self.context(), self.reservation, request)?;
            // Under the lock, as for a large block, and all at once: most of the time goes to the rows of units that were
            // never used.
            for unit in 0..room.0 {
                let meta = self.space.meta(run.plus(unit));
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
            self.space.meta(run).set_owned_pages(units.bytes() / PAGE);
            run
        };
        self.counters.reacquired_total.add(reacquired * PAGE);
        self.counters.large_mallocs.add(1);
        self.counters.count_handed(units.bytes() as isize);
        Some(Region {
            base: self.space.address(run),
            len: units.bytes(),
            dirty,
            huge: purpose == Purpose::Huge,
        })
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
            let pages = self.whole_groups(run, pages);
            if pages.is_empty() {
                return;
            }
            // SAFETY: the caller vouches for the pages, and pages beside them were retired before; the region lies in one
            // segment.
            let left = unsafe { self.os.release(base.add(pages.start * PAGE), pages.len() * PAGE) };
            if left.is_ok() {
                self.mark_released(run, &pages);
            }
        }
    }

    /// The pages of the kernel that are wholly retired and touch these pages of a region, which were retired just now.
    fn whole_groups(&self, run: UnitIndex, pages: Range<usize>) -> Range<usize> {
        let group = self.os.pages();
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

    fn may_hand_on(&self, bytes: usize) -> bool {
        bytes >= HAND_ON_FROM
            && retire_mode() == Retire::Release
            && self.counters.handed_on.get() < MOST_HANDED_ON
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
        let Some(run) = self.space.unit_of(base.as_ptr() as usize) else { return false };
        let bytes = pages.len() * PAGE;
        let group = self.os.pages();
        let whole = group.divides(pages.start * PAGE, bytes) && group.divides(to.as_ptr() as usize, 0);
        let Some(place) = self.space.unit_of(to.as_ptr() as usize) else { return false };
        // The advice about huge pages travels with the pages, and would stay behind in a zone that is without.
        let same_advice = {
            let page_heap = self.page_heap();
            let huge =
                |unit| page_heap.serves(unit, Purpose::Huge) && !page_heap.serves(unit, Purpose::Spans);
            huge(run) == huge(place)
        };
        if !whole || !same_advice || resident_bytes(&self.os, to, bytes) != Ok(0) {
            return false;
        }
        let mut at = 0;
        while at < bytes {
            let first = pages.start + at / PAGE;
            // SAFETY: the caller gives both up.
            let moved = unsafe { self.os.move_pages(base.add(first * PAGE), to.add(at), bytes - at) };
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
                    self.os.fatal(b"ebbtide: the kernel lost pages of a map while it moved them\n")
                }
            };
        }
        true
    }

    /// Gives the advice for a part of a region again that is a fresh mapping.
    fn advise_place(&self, place: NonNull<u8>, from: usize, bytes: usize) {
        let Some(unit) = self.space.unit_of(place.as_ptr() as usize) else { return };
        let inside = place.as_ptr() as usize - self.space.address(unit).as_ptr() as usize;
        self.advise_again(unit, inside + from, bytes);
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
            self.leave_owner(run);
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
    fn a_whole_region_fills_huge_pages_or_has_none() {
        for (bytes, huge) in [(HUGE - 1, false), (HUGE, true), (HUGE + 1, false), (20 * HUGE - PAGE, true)] {
            let mut region = Region::new_whole(bytes).unwrap();
            assert_eq!(region.len(), bytes.next_multiple_of(UNIT));
            assert!(!huge || (region.base().as_ptr() as usize).is_multiple_of(HUGE));
            region.zero(0..bytes);
            // SAFETY: inside the region, which this test owns.
            unsafe {
                assert!((0..bytes).step_by(PAGE).all(|at| region.base().add(at).read() == 0));
                region.base().write_bytes(7, bytes);
            }
        }
    }

    #[test]
    fn pages_are_handed_on_where_none_are() {
        let [from, to] = [Region::new(PREFER_ZERO).unwrap(), Region::new(PREFER_ZERO).unwrap()];
        assert!(from.may_hand_on(&to));
        // SAFETY: inside the regions, which this test owns; what is handed on is not used again.
        unsafe {
            from.base().write_bytes(7, 4 * UNIT);
            let before = to.resident_bytes();
            assert_eq!(before, 0);
            assert!(from.hand_on(UNIT..3 * UNIT, &to, 5 * UNIT));
            assert_eq!((from.resident_bytes(), to.resident_bytes()), (2 * UNIT, 2 * UNIT));
            assert_eq!(to.base().add(7 * UNIT - 1).read(), 7);
            assert_eq!(from.base().add(3 * UNIT).read(), 7, "what is not handed on stays");
            assert!(!from.hand_on(0..UNIT, &to, 6 * UNIT), "there are pages already");
            assert!(!from.hand_on(0..5, &to, 0), "no whole page");
            assert_eq!((from.resident_bytes(), to.resident_bytes()), (2 * UNIT, 2 * UNIT));
        }
        let small = Region::new(UNIT).unwrap();
        assert!(!from.may_hand_on(&small) && !small.may_hand_on(&from));
    }

    #[test]
    fn no_region_of_nothing_or_too_much() {
        assert!(Region::new(0).is_none());
        assert!(Region::new(usize::MAX).is_none());
        assert!(Region::new(isize::MAX as usize).is_none());
    }
}
