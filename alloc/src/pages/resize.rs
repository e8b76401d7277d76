//! Large blocks that change size: in place where what lies behind is free, else by moving.
//!
//! A block of whole huge pages moves without a copy: mremap(2) moves its pages to the new place, one mapping at a
//! time. What cannot move is copied. Where the kernel loses the new place on the way, that run is abandoned, and the
//! block goes to another.

#![allow(unsafe_code, reason = "copies blocks and moves their pages")]

use super::Pages;
use crate::base::sync::Ordering;
use crate::base::units::{PAGE, PAGES_PER_UNIT, UnitCount, UnitIndex, for_each_unit};
use crate::os::{Moved, Os};
use crate::pages::large::{Plan, UNPINNED};
use crate::pages::zone::Purpose;
use crate::space::misuse::{Act, Misused};
use crate::space::unit_table::RunKind;

/// Each move without a copy may split a mapping in three, and the kernel grants 65,530 of them.
const MOST_MOVES: u64 = 8192;

impl<O: Os> Pages<O> {
    /// Changes the size of a block without moving it, if that can be.
    pub(crate) fn resize_large(&self, block: *mut u8, size: usize, align: usize) -> Result<bool, Misused> {
        let misused = || Misused::of(Act::Realloc, block as usize, None);
        let run = self.run_at(block).ok_or_else(misused)?;
        let meta = self.segments().meta(run);
        let mut zone = self.zone_of(run).ok_or_else(misused)?;
        if !self.is_in_use(&zone, run, RunKind::Large) {
            return Err(misused());
        }
        let Some(plan) = Plan::at(self.purpose_of(run), size, align) else { return Ok(false) };
        let here = self.serves(run, plan.purpose);
        if !here || meta.pinned.load(Ordering::Relaxed) != UNPINNED {
            return Ok(false);
        }
        let len = meta.len();
        if plan.units.0 > len && !zone.grow_in_place(self.space(), run, plan.units.0) {
            return Ok(false);
        }
        if plan.units.0 < len {
            zone.shrink(self.space(), run, plan.units);
        }
        let owned = meta.owned_pages();
        if plan.owned_pages > owned {
            self.own_pages(run, owned, plan.owned_pages, false);
        }
        meta.set_owned_pages(plan.owned_pages);
        self.counters().count_handed((plan.owned_pages * PAGE) as isize - (owned * PAGE) as isize);
        Ok(true)
    }

    /// Moves a block to where `size` bytes have room, with its first `keep` bytes, and frees the old one. Null without
    /// memory: then the old one is as it was.
    pub(crate) fn move_large(
        &self,
        block: *mut u8,
        keep: usize,
        size: usize,
        align: usize,
    ) -> Result<*mut u8, Misused> {
        let Some(mut new) = self.allocate_growing(size, align) else { return Ok(core::ptr::null_mut()) };
        let old = self.segments().unit_of(block as usize).filter(|old| self.may_move(*old, new));
        let mut done = 0;
        if let Some(old) = old {
            match self.move_in_pieces(old, new, keep) {
                Some(bytes) => done = bytes,
                None => match self.allocate_growing(size, align) {
                    Some(other) => new = other,
                    None => return Ok(core::ptr::null_mut()),
                },
            }
        }
        let to = self.segments().address(new).as_ptr();
        if done < keep {
            // SAFETY: both blocks hold `keep` bytes, and the new one is another.
            unsafe { core::ptr::copy_nonoverlapping(block.add(done), to.add(done), keep - done) };
        }
        self.free_large(block)?;
        Ok(to)
    }

    /// Whether the pages of one block may go to another: both are of huge pages, and the other is as long.
    fn may_move(&self, old: UnitIndex, new: UnitIndex) -> bool {
        let (from, to) = (self.segments().meta(old), self.segments().meta(new));
        // A release that has pinned the old block works on its idle pages. Relaxed: the lock orders it.
        let zone = self.zone_of(old);
        let free = from.pinned.load(Ordering::Relaxed) == UNPINNED;
        drop(zone);
        let fits = self.is_huge(old) && self.is_huge(new) && to.len() >= from.len();
        fits && free && self.counters().events.moves.get() < MOST_MOVES
    }

    /// Whether a run lies in a zone of huge pages alone.
    pub(crate) fn is_huge(&self, run: UnitIndex) -> bool {
        self.serves(run, Purpose::Huge) && !self.serves(run, Purpose::Spans)
    }

    /// Moves the pages of one block to another that is longer; those that cannot move, of its first `keep` bytes, are
    /// copied. Returns how many bytes are there. `None` if the new block is lost: then the old one is whole.
    fn move_in_pieces(&self, old: UnitIndex, new: UnitIndex, keep: usize) -> Option<usize> {
        let bytes = self.segments().meta(old).owned_pages() * PAGE;
        let (from, to) = (self.segments().address(old), self.segments().address(new));
        let mut moved = 0;
        let mut at = 0;
        while at < bytes {
            // SAFETY: both ranges lie in their runs: the old one belongs to the caller, the new one is not yet handed out.
            let asked = unsafe { self.os().move_pages(from.add(at), to.add(at), bytes - at) };
            let piece = match asked {
                Moved::There(piece) => {
                    moved += piece;
                    self.leave(old, at / PAGE..(at + piece) / PAGE);
                    piece
                }
                Moved::Refused(piece) | Moved::Refilled(piece) => {
                    let end = keep.min(at + piece);
                    if at < end {
                        // SAFETY: both runs hold so many bytes and are not the same.
                        unsafe { from.add(at).copy_to_nonoverlapping(to.add(at), end - at) };
                    }
                    if matches!(asked, Moved::Refilled(_)) {
                        self.advise_again(new, at, piece);
                    }
                    piece
                }
                Moved::Lost => {
                    self.undo_move(old, new, at);
                    return None;
                }
            };
            at += piece;
        }
        self.counters().events.moves.add(usize::from(moved > 0));
        Some(bytes)
    }

    /// Marks pages of a run as moved away: what is left behind is not resident and reads as zero.
    pub(crate) fn leave(&self, run: UnitIndex, pages: core::ops::Range<usize>) {
        let mut left = 0;
        for_each_unit(pages.start, pages.end, |unit, mask| {
            left += self.segments().meta(run.plus(unit as u32)).add_released(mask).count_ones() as usize;
        });
        self.counters().pages.moved_away.add(left * PAGE);
    }

    /// Gives the advice about huge pages again for a part of a run that is a fresh mapping.
    pub(crate) fn advise_again(&self, run: UnitIndex, from: usize, bytes: usize) {
        let wanted = self.is_huge(run);
        // SAFETY: a part of a run, in whole pages.
        unsafe { self.os().advise_huge(self.segments().address(run).add(from), bytes, wanted) };
    }

    /// Copies the first `bytes` of a move back to the old block, and abandons the new one, which was lost behind them.
    fn undo_move(&self, old: UnitIndex, new: UnitIndex, bytes: usize) {
        let (from, to) = (self.segments().address(old), self.segments().address(new));
        // SAFETY: so much of the new run is there, and the old one is committed throughout; they are not the same.
        unsafe { from.copy_from_nonoverlapping(to, bytes) };
        let mut back = 0;
        for_each_unit(0, bytes / PAGE, |unit, mask| {
            back += self.segments().meta(old.plus(unit as u32)).reacquire(mask).count_ones() as usize;
        });
        self.counters().pages.reacquired_total.add(back * PAGE);
        if bytes > 0 {
            // SAFETY: as above; nobody needs what the pages hold. If they stay, they are lost with the run.
            let _ = unsafe { self.os().release(to, bytes) };
        }
        self.abandon(new);
    }

    /// Takes a block out of the heap for good. Its address space is not the heap's any more.
    fn abandon(&self, run: UnitIndex) {
        let zone = self.zone_of(run);
        let meta = self.segments().meta(run);
        let (units, owned) = (meta.len(), meta.owned_pages());
        meta.set_kind(RunKind::Lost);
        drop(zone);
        self.leave(run, 0..units as usize * PAGES_PER_UNIT);
        self.counters().runs.run_bytes.sub(UnitCount(units).bytes());
        self.counters().events.large_frees.add(1);
        self.counters().count_handed(-((owned * PAGE) as isize));
    }
}
