//! Regions: arenas of whole units for data that goes as a whole, or page by page as it is no longer needed.
//!
//! Invariant: pages that were retired are never touched again by the owner, so they are idle memory even while the
//! region lives. Whether they leave at once or when a release is asked for is a mode of the process.

#![allow(unsafe_code, reason = "regions are raw memory")]

use core::ops::Range;
use core::ptr::NonNull;

use crate::base::sync::{AtomicU8, Ordering};
use crate::base::units::PAGE;
use crate::heap::HEAP;
use crate::os::resident_bytes;
use crate::pages::arena::{Arena, Retire};

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
pub struct Region(Arena);

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
        let arena = HEAP.pages().new_arena(bytes);
        HEAP.check_total();
        arena.map(Self)
    }

    /// As [`new`](Self::new), for data that is soon written as a whole: it lies in huge pages if it fills them well. The
    /// first touch of one takes as long as that of about a hundred small ones.
    #[must_use]
    pub fn new_whole(bytes: usize) -> Option<Self> {
        let arena = HEAP.pages().new_whole_arena(bytes);
        HEAP.check_total();
        arena.map(Self)
    }

    /// The first byte.
    #[must_use]
    pub const fn base(&self) -> NonNull<u8> {
        self.0.base
    }

    /// The length in bytes: never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no region is empty")]
    pub const fn len(&self) -> usize {
        self.0.len
    }

    /// Makes the bytes of `range` read as zero, before they are first written. Costs nothing where pages came fresh.
    ///
    /// It undoes what was there before the region. What the owner has written since may be cleared or not, so it is no
    /// way to clear that.
    ///
    /// # Panics
    /// If the range reaches beyond the region.
    pub fn zero(&mut self, range: Range<usize>) {
        assert!(range.start <= range.end && range.end <= self.0.len, "range outside the region");
        // SAFETY: the region lives, and is borrowed mutably.
        unsafe { HEAP.pages().zero_arena(&self.0, &range) };
    }

    /// Sets the owner of this region, a number of the caller's choice that is not 0. [`each_kept`](crate::each_kept) then
    /// attributes to it the pages that the region retires or leaves behind, until they are used again. O(1).
    pub fn set_owner(&self, owner: u32) {
        if let Some(run) = HEAP.segments().unit_of(self.0.base.as_ptr() as usize) {
            HEAP.segments().meta(run).set_owner(owner);
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
        assert!(range.start <= range.end && range.end <= self.0.len, "range outside the region");
        let pages = range.start.div_ceil(PAGE)..range.end / PAGE;
        if pages.is_empty() {
            return 0;
        }
        // SAFETY: the caller gives the range up, and the region is alive.
        unsafe { HEAP.pages().retire_pages(self.0.base, pages.clone(), retire_mode()) };
        pages.len() * PAGE
    }

    /// Whether this region may [hand its pages on](Self::hand_on) to `to`: both are large, retired pages are not to stay,
    /// and there are mappings left for it.
    #[must_use]
    pub fn may_hand_on(&self, to: &Self) -> bool {
        retire_mode() == Retire::Release && HEAP.pages().may_hand_on(self.0.len.min(to.0.len))
    }

    /// Counts this region as one that [hands its pages on](Self::hand_on). Each may split mappings, of which a process has
    /// only so many.
    pub fn begin_handing_on(&self) {
        HEAP.counters().events.handed_on.add(1);
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
        assert!(range.start <= range.end && range.end <= self.0.len, "range outside the region");
        assert!(at <= to.0.len && range.len() <= to.0.len - at, "range outside the other region");
        let pages = range.start / PAGE..range.end / PAGE;
        let whole = [range.start, range.end, at].iter().all(|bound| bound.is_multiple_of(PAGE));
        if pages.is_empty() || !whole {
            return false;
        }
        // SAFETY: both places are pages of living regions, and the caller gives up what they hold.
        unsafe { HEAP.pages().hand_pages_on(self.0.base, pages, to.0.base.add(at)) }
    }

    /// Takes the region apart: its base, which with [`len`](Self::len) is all that [`from_raw`](Self::from_raw) needs.
    /// Until then it lives on.
    #[must_use]
    pub const fn into_raw(self) -> NonNull<u8> {
        let base = self.0.base;
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
        Self(Arena { base, len, dirty: 0..len, huge: false })
    }

    /// Bytes of the region that are resident, as the kernel sees it; all of them if it cannot be asked.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        resident_bytes(HEAP.os(), self.0.base, self.0.len).unwrap_or(self.0.len)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        HEAP.pages().free_arena(self.0.base);
        HEAP.check_idle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::{HUGE, UNIT};
    use crate::pages::arena::PREFER_ZERO;

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
