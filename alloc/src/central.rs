//! The middle layer: moves batches of slots between magazines and spans, and spans between classes and the page heap.
//!
//! Each class lists its spans with room by address; the lowest is used first, so that the high ones empty. Bits move
//! without a lock; the class's lock guards the list and the states. A class keeps one wholly free span listed, so
//! that a size that comes and goes does not pass through the page heap each time.

use crate::heap::Heap;
use crate::magazine::ThreadCache;
use crate::misuse::{Act, Misuse};
use crate::os::Os;
use crate::page_heap::Request;
use crate::segment::Space;
use crate::size_class::{Geometry, SizeClass};
use crate::span::{Access, SpanState, masks, slots_of_page};
use crate::sync::AtomicU32;
use crate::treap::{Nodes, Treap};
use crate::unit_table::RunKind;
use crate::units::{PAGE, PAGES_PER_UNIT, PageMask, UNIT, UnitCount, UnitIndex};
use crate::zone::Purpose;

/// Slots and bytes that one refill fetches at most: what a thread may never use stays within bounds.
const MAX_REFILL: usize = 256;
const MAX_REFILL_BYTES: usize = 16 * 1024;

/// The spans of one class that have room and no owner.
pub(crate) struct Central {
    listed: Treap,
    count: u32,
}

struct ByAddress<'a>(&'a Space);

impl Nodes for ByAddress<'_> {
    fn links(&self, node: UnitIndex) -> (&AtomicU32, &AtomicU32) {
        let record = self.0.span(node);
        (&record.left, &record.right)
    }

    fn before(&self, a: UnitIndex, b: UnitIndex) -> bool {
        a < b
    }
}

impl Central {
    pub(crate) const fn new() -> Self {
        Self { listed: Treap::new(), count: 0 }
    }

    fn list(&mut self, space: &Space, class: SizeClass, span: UnitIndex) {
        space.span(span).set_state(class, SpanState::Listed);
        self.listed.insert(&ByAddress(space), span);
        self.count += 1;
    }

    fn unlist(&mut self, space: &Space, class: SizeClass, span: UnitIndex, state: SpanState) {
        self.listed.remove(&ByAddress(space), span);
        self.count -= 1;
        space.span(span).set_state(class, state);
    }

    /// For `verify`.
    pub(crate) fn is_listed(&self, space: &Space, span: UnitIndex) -> bool {
        self.listed.first_that(&ByAddress(space), |at| at >= span) == Some(span)
    }
}

impl<O: Os> Heap<O> {
    /// Fills an empty magazine; false when no memory is to be had. The caller holds the lock of the cache.
    pub(crate) fn refill(&self, cache: &ThreadCache, class: SizeClass) -> bool {
        let magazine = cache.magazine(class);
        cache.widen(class);
        let most = (MAX_REFILL_BYTES / class.size()).clamp(2, MAX_REFILL);
        let want = (magazine.capacity() / 2).clamp(1, most);
        let access = self.sharing.access();
        loop {
            let current = cache.current(class);
            if !current.is_nil() {
                let got = magazine.fill(want, |out| self.take_slots(current, class, out, access));
                if got > 0 {
                    ThreadCache::count(&cache.mallocs, got);
                    self.count_handed(cache, (got * class.size()) as isize);
                    return true;
                }
            }
            let next = self.next_span(class, current);
            cache.set_current(class, next.unwrap_or(UnitIndex::NIL));
            if next.is_none() {
                return false;
            }
        }
    }

    /// Puts a slot into a magazine that is full: widens it, or flushes its older half. The caller holds the lock of the
    /// cache. True if the heap's totals have changed by that.
    pub(crate) fn make_room(&self, cache: &ThreadCache, class: SizeClass, slot: *mut u8) -> bool {
        let magazine = cache.magazine(class);
        let access = self.sharing.access();
        if !magazine.is_open() && cache.current(class).is_nil() {
            // A thread that frees before it allocates has the slot from another one, which may use its neighbours:
            // to use it again here would have the two share cache lines.
            cache.open(class);
            self.flush(class, &[slot], access);
            ThreadCache::count(&cache.frees, 1);
            return self.count_handed(cache, -(class.size() as isize));
        }
        // A thread that only frees needs no deep stack.
        let deep =
            cache.current(class).is_nil() && magazine.capacity() * 8 >= class.geometry().magazine as usize;
        let mut counted = false;
        if magazine.len() == magazine.capacity() && (deep || !cache.widen(class)) {
            let count = (magazine.len() / 2).max(1);
            self.flush(class, &magazine.held()[..count], access);
            magazine.forget_oldest(count);
            ThreadCache::count(&cache.frees, count);
            counted = self.count_handed(cache, -((count * class.size()) as isize));
        }
        let pushed = magazine.push(slot);
        debug_assert!(pushed);
        counted
    }

    /// Counts bytes that a cache handed out, or took back. True if the heap's total was due.
    fn count_handed(&self, cache: &ThreadCache, bytes: isize) -> bool {
        let due = cache.count_handed(bytes);
        if due != 0 {
            self.counters.count_handed(due);
        }
        due != 0
    }

    /// One slot for a thread without a cache.
    pub(crate) fn take_one(&self, class: SizeClass) -> Option<*mut u8> {
        self.share();
        loop {
            let span = self.next_span(class, UnitIndex::NIL)?;
            let mut slot = [core::ptr::null_mut()];
            let got = self.take_slots(span, class, &mut slot, Access::Shared);
            self.let_go(class, span);
            if got > 0 {
                self.counters.small_mallocs.add(1);
                self.counters.count_handed(class.size() as isize);
                return Some(slot[0]);
            }
        }
    }

    /// Takes one slot back from a thread without a cache.
    pub(crate) fn give_one(&self, class: SizeClass, slot: *mut u8) {
        self.share();
        self.flush(class, &[slot], Access::Shared);
        self.counters.small_frees.add(1);
        self.counters.count_handed(-(class.size() as isize));
    }

    /// Gives up ownership of a span.
    pub(crate) fn let_go(&self, class: SizeClass, span: UnitIndex) {
        let record = self.space.span(span);
        {
            let mut central = self.central(class);
            record.set_state(class, SpanState::Full);
            if record.has_room(class.geometry()) {
                central.list(&self.space, class, span);
            }
        }
        if record.is_wholly_free(class.geometry(), 0) {
            self.give_up_span(class, span, 2);
        }
    }

    /// Lets go of `current` and takes over the lowest span with room, or a new one.
    fn next_span(&self, class: SizeClass, current: UnitIndex) -> Option<UnitIndex> {
        {
            let mut central = self.central(class);
            if !current.is_nil() {
                let record = self.space.span(current);
                record.set_state(class, SpanState::Full);
                if record.has_room(class.geometry()) {
                    central.list(&self.space, class, current);
                }
            }
            if let Some(span) = central.listed.first(&ByAddress(&self.space)) {
                central.unlist(&self.space, class, span, SpanState::Owned);
                return Some(span);
            }
        }
        self.new_span(class)
    }

    /// The class of the slot that begins at `block`; `None` for a large block.
    pub(crate) fn class_of(&self, block: *mut u8) -> Option<SizeClass> {
        let unit = self.space.unit_of(block as usize).filter(|unit| self.space.is_committed(*unit))?;
        self.space.meta(unit).class()
    }

    fn new_span(&self, class: SizeClass) -> Option<UnitIndex> {
        let geometry = class.geometry();
        let request = Request {
            units: UnitCount(geometry.units),
            room: UnitCount(0),
            align: geometry.units,
            purpose: Purpose::Spans,
            kind: RunKind::Small,
            prefer_zero: false,
        };
        let span = self.page_heap().allocate(&self.context(), self.reservation, request)?;
        for unit in 0..geometry.units {
            let meta = self.space.meta(span.plus(unit));
            meta.set_class(Some(class));
            meta.set_owner(0);
        }
        // Both pages that the record may lie on.
        self.space.meta(span).set_record_pages(0b11);
        self.space.span(span).begin(class);
        Some(span)
    }

    /// Takes free slots, the lowest first, into `out` from its end downwards. Slots on resident pages go first.
    fn take_slots(&self, span: UnitIndex, class: SizeClass, out: &mut [*mut u8], access: Access) -> usize {
        let geometry = class.geometry();
        let released = self.released_pages(span, geometry);
        let some_resident = released != 0 && released != all_pages(geometry);
        let mut got = 0;
        if some_resident {
            got = self.take_pass(span, geometry, out, (got, access), |word| {
                resident_slots(geometry, released, word)
            });
        }
        if got < out.len() {
            got = self.take_pass(span, geometry, out, (got, access), |word| geometry.full_word(word));
        }
        // Read again: a release may have given pages back between the first look and the taking of their slots. It
        // marks a page before it gives the slots back, so whoever has a slot sees the mark.
        if got > 0 && self.released_pages(span, geometry) != 0 {
            self.reacquire(span, geometry, &out[out.len() - got..]);
        }
        got
    }

    fn take_pass(
        &self,
        span: UnitIndex,
        geometry: &Geometry,
        out: &mut [*mut u8],
        (mut got, access): (usize, Access),
        allowed: impl Fn(usize) -> u64,
    ) -> usize {
        let record = self.space.span(span);
        let base = self.space.address(span).as_ptr();
        for word in 0..geometry.words() {
            let free = match record.look(word) {
                0 => 0,
                free => free & allowed(word),
            };
            if free == 0 {
                continue;
            }
            let mut taken = record.take(word, lowest_bits(free, out.len() - got), access);
            while taken != 0 {
                let slot = word * 64 + taken.trailing_zeros() as usize;
                taken &= taken - 1;
                got += 1;
                let at = out.len() - got;
                out[at] = base.wrapping_add(slot * geometry.size as usize);
            }
            if got == out.len() {
                break;
            }
        }
        got
    }

    /// Gives slots of one class back to their spans.
    pub(crate) fn flush(&self, class: SizeClass, slots: &[*mut u8], access: Access) {
        let geometry = class.geometry();
        let within = geometry.units as usize * UNIT - 1;
        // Neighbours of one bitmap word are gathered. A word is told by the address of its span, with its number in
        // the low bits: spans are aligned to their size, and have fewer words than bytes.
        let (mut at, mut gathered, mut start) = (0, 0, 0);
        for (index, slot) in slots.iter().enumerate() {
            let addr = *slot as usize;
            let number = geometry.slot_at(addr & within);
            let word = (addr & !within) | (number / 64);
            if word != at {
                if index - start > 1 {
                    self.check_gathered(class, gathered, &slots[start..index]);
                }
                self.give_word(class, at, gathered, access);
                (at, gathered, start) = (word, 0, index);
            }
            gathered |= 1 << (number % 64);
        }
        if slots.len() - start > 1 {
            self.check_gathered(class, gathered, &slots[start..]);
        }
        self.give_word(class, at, gathered, access);
    }

    /// Ends the process if two of the slots of a word are the same. A count for each word that several were gathered
    /// for, not a look at each slot.
    #[inline(never)]
    fn check_gathered(&self, class: SizeClass, gathered: u64, slots: &[*mut u8]) {
        if gathered.count_ones() as usize == slots.len() {
            return;
        }
        let mut repeated = slots.iter().enumerate().filter(|(at, slot)| slots[..*at].contains(slot));
        // Without one, two addresses lie in one slot.
        let slot = repeated.next().map_or(slots[0], |(_, slot)| *slot);
        self.misused(Act::Free, Misuse::Twice, slot as usize, Some(class));
    }

    /// Gives back the slots of a word, told as in [`flush`](Self::flush).
    #[inline(never)]
    fn give_word(&self, class: SizeClass, at: usize, mask: u64, access: Access) {
        let within = class.geometry().units as usize * UNIT - 1;
        match self.space.unit_of(at & !within) {
            Some(span) => self.give_bits(class, span, at & within, mask, access),
            None if mask == 0 => {}
            None => self.slot_misused(Misuse::Foreign, class, at, mask),
        }
    }

    /// Gives the bits of one word back, and lists or gives up the span where that is due.
    #[inline]
    pub(crate) fn give_bits(
        &self,
        class: SizeClass,
        span: UnitIndex,
        word: usize,
        mask: u64,
        access: Access,
    ) {
        let geometry = class.geometry();
        let record = self.space.span(span);
        let given = record.give(word, mask, geometry, access);
        if given.twice != 0 {
            record.mend(word, given.twice);
            let at = self.space.address(span).as_ptr() as usize | word;
            self.slot_misused(Misuse::Twice, class, at, given.twice);
        }
        if given.was_empty && record.state() == SpanState::Full {
            self.list_span(class, span);
        }
        if given.is_full && record.is_wholly_free(geometry, word) {
            self.give_up_span(class, span, 2);
        }
    }

    /// Ends the process for the lowest slot of a word, told as in [`flush`](Self::flush).
    #[cold]
    fn slot_misused(&self, misuse: Misuse, class: SizeClass, at: usize, mask: u64) -> ! {
        let geometry = class.geometry();
        let within = geometry.units as usize * UNIT - 1;
        let number = (at & within) * 64 + mask.trailing_zeros() as usize;
        self.misused(Act::Free, misuse, (at & !within) + number * geometry.size as usize, Some(class))
    }

    #[cold]
    pub(crate) fn list_span(&self, class: SizeClass, span: UnitIndex) {
        let mut central = self.central(class);
        let record = self.space.span(span);
        // While this thread came here the span may have been listed, given up and begun anew. If it is full and of this
        // class now, that stands still under the lock of the class.
        if record.class_and_state() == (class, SpanState::Full) {
            central.list(&self.space, class, span);
        }
    }

    /// Gives a wholly free span back to the page heap, if `least` or more spans of its class are listed.
    #[cold]
    pub(crate) fn give_up_span(&self, class: SizeClass, span: UnitIndex, least: u32) -> bool {
        {
            let mut central = self.central(class);
            let record = self.space.span(span);
            let listed = record.class_and_state() == (class, SpanState::Listed);
            if !listed || central.count < least || !record.take_all(class.geometry()) {
                return false;
            }
            central.unlist(&self.space, class, span, SpanState::None);
        }
        self.page_heap().free(&self.context(), span);
        true
    }

    /// A bit for each page of the span that is released.
    pub(crate) fn released_pages(&self, span: UnitIndex, geometry: &Geometry) -> u128 {
        (0..geometry.units).fold(0, |pages, unit| {
            let released = u128::from(self.space.meta(span.plus(unit)).released());
            pages | released << (unit as usize * PAGES_PER_UNIT)
        })
    }

    /// Marks the pages of slots that were taken as in use.
    fn reacquire(&self, span: UnitIndex, geometry: &Geometry, slots: &[*mut u8]) {
        let base = self.space.address(span).as_ptr() as usize;
        let size = geometry.size as usize;
        let mut pages = 0u128;
        for slot in slots {
            let offset = *slot as usize - base;
            let (first, last) = (offset / PAGE, (offset + size - 1) / PAGE);
            pages |= (u128::MAX >> (127 - (last - first))) << first;
        }
        let mut count = 0;
        for unit in 0..geometry.units {
            let mask = (pages >> (unit as usize * PAGES_PER_UNIT)) as PageMask;
            if mask != 0 {
                count += self.space.meta(span.plus(unit)).reacquire(mask).count_ones() as usize;
            }
        }
        self.counters.reacquired_total.add(count * PAGE);
    }
}

/// Gives back all that a cache holds, and the spans that it owns. Only its owner may call this, with its lock.
pub(crate) fn empty_cache<O: Os>(heap: &Heap<O>, cache: &ThreadCache) {
    let mut given = 0;
    for class in SizeClass::all() {
        let magazine = cache.magazine(class);
        let count = magazine.len();
        heap.flush(class, magazine.held(), heap.sharing.access());
        magazine.forget_oldest(count);
        ThreadCache::count(&cache.frees, count);
        given += (count * class.size()) as isize;
        let current = cache.current(class);
        if !current.is_nil() {
            cache.set_current(class, UnitIndex::NIL);
            heap.let_go(class, current);
        }
    }
    heap.counters.count_handed(cache.settle_drift() - given);
}

/// All pages of a span.
fn all_pages(geometry: &Geometry) -> u128 {
    u128::MAX >> (128 - geometry.units as usize * PAGES_PER_UNIT)
}

/// The slots of a word that touch no released page.
fn resident_slots(geometry: &Geometry, released: u128, word: usize) -> u64 {
    let size = geometry.size as usize;
    let (first, last) = (word * 64 * size / PAGE, (((word + 1) * 64 * size - 1) / PAGE).min(127));
    let mut slots = geometry.full_word(word);
    for page in first..=last {
        if released >> page & 1 == 1 {
            let of_page = masks(slots_of_page(geometry, page)).find(|(at, _)| *at == word);
            slots &= !of_page.map_or(0, |(_, mask)| mask);
        }
    }
    slots
}

/// The lowest `count` set bits.
fn lowest_bits(bits: u64, count: usize) -> u64 {
    if bits.count_ones() as usize <= count {
        return bits;
    }
    let mut rest = bits;
    for _ in 0..count {
        rest &= rest - 1;
    }
    bits ^ rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_bits_are_kept() {
        assert_eq!(lowest_bits(0b1011_0110, 3), 0b0001_0110);
        assert_eq!(lowest_bits(0b101, 5), 0b101);
        assert_eq!(lowest_bits(u64::MAX, 0), 0);
    }

    #[test]
    fn slots_on_released_pages_are_told_apart() {
        let geometry = SizeClass::of(48, 1).unwrap().geometry();
        let all = resident_slots(geometry, 0, 1);
        assert_eq!(all, u64::MAX);
        // Slots 85 to 170 touch page 1: slot 85 begins on page 0 and reaches into it.
        assert_eq!(resident_slots(geometry, 0b10, 1), (1 << (85 - 64)) - 1);
        assert_eq!(resident_slots(geometry, u128::MAX, 1), 0);
    }
}
