//! Large blocks that change size: in place where what lies behind is free, else by moving.
//!
//! A block of whole huge pages moves without a copy: the kernel hangs its pages in at the new place.

#![allow(unsafe_code, reason = "copies blocks and moves their pages")]

use crate::heap::Heap;
use crate::large::{Plan, UNPINNED, for_each_unit, purpose_of};
use crate::misuse::Act;
use crate::os::Os;
use crate::sync::Ordering;
use crate::unit_table::RunKind;
use crate::units::{PAGE, UnitIndex};
use crate::zone::Purpose;

/// Each move without a copy may split a mapping in three, and the kernel grants 65,530 of them.
const MOST_MOVES: u64 = 8192;

impl<O: Os> Heap<O> {
    /// Changes the size of a block without moving it, if that can be.
    pub(crate) fn resize_large(&self, block: *mut u8, size: usize, align: usize) -> bool {
        let Some(run) = self.run_at(block) else { self.judge(Act::Realloc, block as usize, None) };
        let meta = self.space.meta(run);
        let mut page_heap = self.page_heap();
        if !self.is_in_use(run, RunKind::Large) {
            drop(page_heap);
            self.judge(Act::Realloc, block as usize, None);
        }
        let Some(plan) = Plan::at(purpose_of(&page_heap, run), size, align) else { return false };
        let here = page_heap.serves(run, plan.purpose);
        if !here || meta.pinned.load(Ordering::Relaxed) != UNPINNED {
            return false;
        }
        let len = meta.len();
        if plan.units.0 > len && !page_heap.grow_in_place(&self.context(), run, plan.units) {
            return false;
        }
        if plan.units.0 < len {
            page_heap.shrink(&self.context(), run, plan.units);
        }
        let owned = meta.owned_pages();
        if plan.owned_pages > owned {
            self.own_pages(run, owned, plan.owned_pages, false);
        }
        meta.set_owned_pages(plan.owned_pages);
        self.counters.count_handed((plan.owned_pages * PAGE) as isize - (owned * PAGE) as isize);
        true
    }

    /// Moves a block to where `size` bytes have room, with its first `keep` bytes, and frees the old one. Null without
    /// memory: then the old one is as it was.
    pub(crate) fn move_large(&self, block: *mut u8, keep: usize, size: usize, align: usize) -> *mut u8 {
        let Some(new) = self.allocate_growing(size, align) else { return core::ptr::null_mut() };
        let to = self.space.address(new).as_ptr();
        let moved = match self.space.unit_of(block as usize) {
            Some(old) => self.move_pages(old, new),
            None => false,
        };
        if !moved {
            // SAFETY: both blocks hold `keep` bytes, and the new one is another.
            unsafe { core::ptr::copy_nonoverlapping(block, to, keep) };
        }
        self.free_large(block);
        to
    }

    /// Moves the pages of one block of huge pages to another that is longer. False, with nothing changed, if they must
    /// be copied.
    fn move_pages(&self, old: UnitIndex, new: UnitIndex) -> bool {
        let (from, to) = (self.space.meta(old), self.space.meta(new));
        {
            let page_heap = self.page_heap();
            let huge = |run| page_heap.serves(run, Purpose::Huge) && !page_heap.serves(run, Purpose::Spans);
            // A release that has pinned the old block works on its idle pages.
            let free = from.pinned.load(Ordering::Relaxed) == UNPINNED;
            if !huge(old) || !huge(new) || !free || to.len() < from.len() {
                return false;
            }
        }
        let pages = from.owned_pages();
        if self.counters.moves.get() >= MOST_MOVES {
            return false;
        }
        // SAFETY: both ranges are whole runs: the old one belongs to the caller, the new one is not yet handed out.
        let asked =
            unsafe { self.os.move_pages(self.space.address(old), self.space.address(new), pages * PAGE) };
        if asked.is_err() {
            return false;
        }
        self.counters.moves.add(1);
        // What is left behind is not resident and reads as zero.
        let mut left = 0;
        for_each_unit(0, pages, |unit, mask| {
            left += self.space.meta(old.plus(unit as u32)).add_released(mask).count_ones() as usize;
        });
        self.counters.moved_away.add(left * PAGE);
        true
    }
}
