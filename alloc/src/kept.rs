//! Whose the idle pages are that regions left resident.
//!
//! Invariant: a free unit with an owner was last used by a region of this owner. No locks: a walk sees a run that changes
//! meanwhile as it was or as it is, as a snapshot does.

use crate::heap::{HEAP, Heap};
use crate::os::Os;
use crate::unit_table::RunKind;
use crate::units::{PAGE, PageMask, UnitIndex};
use crate::zone::next_head;

/// Idle pages in a row that a region of some owner left resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// What [`Region::set_owner`](crate::Region::set_owner) said.
    pub owner: u32,
    /// How many bytes of them may be resident: never 0.
    pub bytes: u64,
    /// Whether the region lives and retired them. Otherwise it is gone and they are free memory, for anybody to use.
    pub lives: bool,
}

/// Calls `visit` for the resident pages that regions with an owner retired or left, if nobody has used them since: what
/// a release could give back of each owner's past. The same owner comes up many times.
///
/// O(heap / 64 KiB), without stopping anybody.
///
/// ```
/// let region = ebbtide_alloc::Region::new(1 << 20).expect("out of memory");
/// region.set_owner(77);
/// drop(region);
/// // Nobody wrote to it, so no page needs to be resident; but as far as the heap knows they are.
/// let mut bytes = 0;
/// ebbtide_alloc::each_kept(|kept| bytes += if kept.owner == 77 { kept.bytes } else { 0 });
/// assert!(bytes <= 1 << 20);
/// ```
pub fn each_kept(mut visit: impl FnMut(Kept)) {
    HEAP.each_kept(&mut visit);
}

impl<O: Os> Heap<O> {
    /// Has each unit of a region remember the owner, before the region is freed.
    pub(crate) fn leave_owner(&self, run: UnitIndex) {
        let head = self.space.meta(run);
        let owner = head.owner();
        if owner != 0 {
            (1..head.len()).for_each(|unit| self.space.meta(run.plus(unit)).set_owner(owner));
        }
    }

    fn each_kept(&self, visit: &mut impl FnMut(Kept)) {
        let zones = self.page_heap().zones().len();
        for zone in 0..zones {
            let range = self.page_heap().zones()[zone].used();
            let mut at = UnitIndex(range.start);
            while at.0 < range.end {
                self.kept_in_run(at, range.end - at.0, visit);
                at = next_head(&self.space, at);
            }
        }
    }

    fn kept_in_run(&self, run: UnitIndex, most: u32, visit: &mut impl FnMut(Kept)) {
        let head = self.space.meta(run);
        let kind = head.kind();
        let lives = kind == RunKind::Region;
        if !lives && !matches!(kind, RunKind::Free | RunKind::Leaving) {
            return;
        }
        let mut row = Kept { owner: 0, bytes: 0, lives };
        for unit in 0..head.len().min(most) {
            let meta = self.space.meta(run.plus(unit));
            let idle = if lives { self.idle_mask(run, unit) } else { PageMask::MAX };
            let pages = idle & !meta.released();
            let owner = if lives { head.owner() } else { meta.owner() };
            if owner != row.owner {
                pass_on(&mut row, visit);
                row.owner = owner;
            }
            row.bytes += u64::from(pages.count_ones()) * PAGE as u64;
        }
        pass_on(&mut row, visit);
    }
}

fn pass_on(row: &mut Kept, visit: &mut impl FnMut(Kept)) {
    if row.owner != 0 && row.bytes > 0 {
        visit(*row);
    }
    row.bytes = 0;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use core::ptr::NonNull;

    use super::*;
    use crate::os::fake::Fake;
    use crate::region::Retire;
    use crate::report::ReleaseOptions;
    use crate::units::UNIT;

    /// Bytes kept by regions that live and by those that are gone.
    fn kept(heap: &Heap<Fake>, owner: u32) -> (u64, u64) {
        let mut sums = (0, 0);
        heap.each_kept(&mut |kept| {
            assert!(kept.owner != 0 && kept.bytes > 0);
            let sum = if kept.lives { &mut sums.0 } else { &mut sums.1 };
            *sum += if kept.owner == owner { kept.bytes } else { 0 };
        });
        sums
    }

    fn region(heap: &Heap<Fake>, units: usize, owner: u32) -> NonNull<u8> {
        let region = heap.new_region(units * UNIT).expect("memory");
        let base = region.base();
        // Its destructor would ask the heap of the process.
        core::mem::forget(region);
        heap.space.meta(heap.space.unit_of(base.as_ptr() as usize).expect("a unit")).set_owner(owner);
        base
    }

    #[test]
    #[allow(unsafe_code, reason = "retires pages of a region")]
    fn what_regions_retire_and_leave_is_theirs_until_it_is_used_or_released() {
        let heap = Heap::new(Fake::new(1 << 28), 1 << 26);
        let [first, second, nobody] =
            [(5, 1), (7, 2), (3, 0)].map(|(units, owner)| region(&heap, units, owner));
        assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(0, 0); 2]);
        // SAFETY: the pages lie in the region, and nobody touches them.
        unsafe { heap.retire_pages(first, 3..20, Retire::Keep) };
        assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(17 * PAGE as u64, 0), (0, 0)]);
        heap.free_region(second);
        heap.free_region(nobody);
        assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(17 * PAGE as u64, 0), (0, 7 * UNIT as u64)]);
        heap.free_region(first);
        assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(0, 5 * UNIT as u64), (0, 7 * UNIT as u64)]);
        // All lie in one free run now, from whose start this takes six.
        let block = heap.allocate_large(6 * UNIT, 1, false);
        assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(0, 0), (0, 6 * UNIT as u64)]);
        heap.free_large(block);
        assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(0, 0), (0, 6 * UNIT as u64)]);
        heap.release(ReleaseOptions::default());
        assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(0, 0); 2]);
        assert_eq!(heap.verify(None), Ok(()));
    }
}
