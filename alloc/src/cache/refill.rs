//! Between a thread's cache and the spans: fills an empty magazine, flushes a full one, empties all of them.

use super::Caches;
use super::magazine::{Locked, ThreadCache};
use crate::base::units::UnitIndex;
use crate::os::Os;
use crate::space::misuse::Misused;
use crate::space::size_class::SizeClass;
use crate::space::span::Access;

/// Most slots and bytes of one refill: bounds what a thread fetches and never uses.
const MAX_REFILL: usize = 256;
const MAX_REFILL_BYTES: usize = 16 * 1024;

impl<O: Os> Caches<O> {
    /// Fills an empty magazine; false when no memory is to be had.
    pub(crate) fn refill(&self, cache: Locked<'_>, class: SizeClass) -> bool {
        let magazine = cache.magazine(class);
        cache.widen(class);
        let most = (MAX_REFILL_BYTES / class.size()).clamp(2, MAX_REFILL);
        let want = (magazine.capacity() / 2).clamp(1, most);
        let access = self.sharing.access();
        loop {
            let current = cache.current(class);
            if !current.is_nil() {
                let got = magazine.fill(want, |out| self.spans.take_slots(current, class, out, access));
                if got > 0 {
                    ThreadCache::count(&cache.mallocs, got);
                    self.count_handed(cache, (got * class.size()) as isize);
                    return true;
                }
            }
            let next = self.spans.next_span(class, current);
            cache.set_current(class, next.unwrap_or(UnitIndex::NIL));
            if next.is_none() {
                return false;
            }
        }
    }

    /// Puts a slot into a magazine that is full: widens it, or flushes its older half. True if the heap's totals have
    /// changed by that.
    pub(crate) fn make_room(
        &self,
        cache: Locked<'_>,
        class: SizeClass,
        slot: *mut u8,
    ) -> Result<bool, Misused> {
        let magazine = cache.magazine(class);
        let access = self.sharing.access();
        if !magazine.is_open() && cache.current(class).is_nil() {
            // A thread that frees before it allocates has the slot from another thread, which may use its neighbours.
            // To hand it out here would be false sharing.
            cache.open(class);
            self.spans.flush(class, &[slot], access)?;
            ThreadCache::count(&cache.frees, 1);
            return Ok(self.count_handed(cache, -(class.size() as isize)));
        }
        // A thread that only frees needs no deep stack.
        let deep =
            cache.current(class).is_nil() && magazine.capacity() * 8 >= class.geometry().magazine as usize;
        let mut counted = false;
        if magazine.len() == magazine.capacity() && (deep || !cache.widen(class)) {
            let count = (magazine.len() / 2).max(1);
            self.spans.flush(class, &magazine.held()[..count], access)?;
            magazine.forget_oldest(count);
            ThreadCache::count(&cache.frees, count);
            counted = self.count_handed(cache, -((count * class.size()) as isize));
        }
        let pushed = magazine.push(slot);
        debug_assert!(pushed);
        Ok(counted)
    }

    /// Counts bytes that a cache handed out, or took back. True if the heap's total was due.
    fn count_handed(&self, cache: Locked<'_>, bytes: isize) -> bool {
        let due = cache.count_handed(bytes);
        if due != 0 {
            self.counters().count_handed(due);
        }
        due != 0
    }

    /// One slot for a thread without a cache.
    pub(crate) fn take_one(&self, class: SizeClass) -> Option<*mut u8> {
        self.share();
        loop {
            let span = self.spans.next_span(class, UnitIndex::NIL)?;
            let mut slot = [core::ptr::null_mut()];
            let got = self.spans.take_slots(span, class, &mut slot, Access::Shared);
            self.spans.let_go(class, span);
            if got > 0 {
                self.counters().events.small_mallocs.add(1);
                self.counters().count_handed(class.size() as isize);
                return Some(slot[0]);
            }
        }
    }

    /// Takes one slot back from a thread without a cache.
    pub(crate) fn give_one(&self, class: SizeClass, slot: *mut u8) -> Result<(), Misused> {
        self.share();
        self.spans.flush(class, &[slot], Access::Shared)?;
        self.counters().events.small_frees.add(1);
        self.counters().count_handed(-(class.size() as isize));
        Ok(())
    }

    /// Gives back all that a cache holds, and the spans that it owns. For its owner alone.
    pub(crate) fn empty(&self, cache: Locked<'_>) -> Result<(), Misused> {
        let mut given = 0;
        for class in SizeClass::all() {
            let magazine = cache.magazine(class);
            let count = magazine.len();
            self.spans.flush(class, magazine.held(), self.sharing.access())?;
            magazine.forget_oldest(count);
            ThreadCache::count(&cache.frees, count);
            given += (count * class.size()) as isize;
            let current = cache.current(class);
            if !current.is_nil() {
                cache.set_current(class, UnitIndex::NIL);
                self.spans.let_go(class, current);
            }
        }
        self.counters().count_handed(cache.settle_drift() - given);
        Ok(())
    }
}
