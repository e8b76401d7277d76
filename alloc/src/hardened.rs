//! Checks of every free, with the feature `hardened`.
//!
//! A free slot in a magazine looks in its span's bitmap as one in use does, so the bitmap alone cannot tell that it is
//! freed again. Here each span has a second bitmap: a bit is set from when a slot is handed out until it is freed.
//! Whoever frees clears the bit with one atomic operation and must find it set, so of two frees of one slot exactly one
//! passes, on whatever threads they are. Neither a flush nor a release nor the end of a thread touches these bits: slots
//! move between magazines and spans with theirs clear. A fork copies them with the heap.
//!
//! Invariant: the bit of a slot is set only while neither a magazine nor its span has the slot as free.

use core::alloc::Layout;

use crate::heap::Heap;
use crate::misuse::{Act, assert_unlocked};
use crate::os::Os;
use crate::size_class::{MAX_WORDS, SizeClass, padded};
use crate::span::SpanRecord;
use crate::sync::{AtomicU64, Ordering};
use crate::unit_table::RunKind;
use crate::units::UNIT;

/// Whether every free is checked. Where it is not, all of this file is removed as dead code.
pub(crate) const HARDENED: bool = cfg!(feature = "hardened");

/// Words of [`LiveBits`].
pub(crate) const LIVE_WORDS: usize = if HARDENED { MAX_WORDS } else { 0 };

/// A bit for each slot of a span that an owner outside the allocator has. Without the feature it takes no room, and
/// says that all of them are.
#[derive(Debug)]
pub(crate) struct LiveBits([AtomicU64; LIVE_WORDS]);

// Relaxed throughout: a bit orders nothing, and changes of one bit are ordered by what hands the slot on. From a free to
// the next allocation that is the magazine of one thread, or the span's bitmap; from an allocation to the free, the
// program, which would otherwise free what it cannot know of. Each change is a read-modify-write, so of two threads that
// clear a bit at once only one sees it set.
impl LiveBits {
    #[cfg(test)]
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; LIVE_WORDS])
    }

    /// The live slots of a word.
    pub(crate) fn look(&self, word: usize) -> u64 {
        if HARDENED { self.0[word].load(Ordering::Relaxed) } else { u64::MAX }
    }

    /// Sets a bit. False if it was set already.
    fn set(&self, word: usize, bit: u64) -> bool {
        !HARDENED || self.0[word].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Clears a bit. False if it was clear already.
    fn clear(&self, word: usize, bit: u64) -> bool {
        !HARDENED || self.0[word].fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }
}

/// A slot, by its place in the bitmaps of its span.
struct SlotBit<'a> {
    record: &'a SpanRecord,
    word: usize,
    bit: u64,
}

impl<O: Os> Heap<O> {
    /// Notes that a slot of a magazine or span goes to an owner outside. Null is no slot.
    pub(crate) fn hand_out(&self, class: SizeClass, slot: *mut u8) {
        if slot.is_null() {
            return;
        }
        let fresh =
            self.slot_bit(class, slot as usize).is_some_and(|slot| slot.record.live.set(slot.word, slot.bit));
        debug_assert!(fresh, "{slot:p} was handed out twice, or is no slot");
    }

    /// Checks a free that is about to happen, and notes it.
    pub(crate) fn take_back(&self, block: *mut u8, layout: Layout) {
        if SizeClass::of(layout.size(), layout.align()).is_none() {
            assert_unlocked("a free");
        }
        if !self.is_live(block, layout, |slot| slot.record.live.clear(slot.word, slot.bit)) {
            self.judge(Act::Free, block as usize, SizeClass::of(layout.size(), layout.align()));
        }
    }

    /// Checks a block whose size is about to change.
    pub(crate) fn check_live(&self, block: *mut u8, layout: Layout) {
        if SizeClass::of(layout.size(), layout.align()).is_none() {
            assert_unlocked("a change of size");
        }
        if !self.is_live(block, layout, |slot| slot.record.live.look(slot.word) & slot.bit != 0) {
            self.judge(Act::Realloc, block as usize, SizeClass::of(layout.size(), layout.align()));
        }
    }

    /// Whether a block in use begins here that may have this layout, and, for a slot, `live` says so too.
    fn is_live(&self, block: *mut u8, layout: Layout, live: impl FnOnce(&SlotBit<'_>) -> bool) -> bool {
        let size = padded(layout.size(), layout.align());
        let exact = SizeClass::exact(size);
        match exact.or_else(|| self.class_of(block)) {
            // A block whose layout does not tell its class lies in a slot of less than twice its size.
            Some(class) if exact.is_none() && !class.may_hold(size) => false,
            Some(class) => self.slot_bit(class, block as usize).is_some_and(|slot| live(&slot)),
            None => SizeClass::of_size(size).is_none() && self.is_live_large(block, layout),
        }
    }

    /// The bit of the slot of `class` that begins at `addr`; `None` if there is no such slot.
    fn slot_bit(&self, class: SizeClass, addr: usize) -> Option<SlotBit<'_>> {
        let geometry = class.geometry();
        // Spans are aligned to their size.
        let within = geometry.units as usize * UNIT - 1;
        let span = self.space.unit_of(addr & !within)?;
        if !self.space.is_committed(span) || self.space.meta(span).kind() != RunKind::Small {
            return None;
        }
        let record = self.space.span(span);
        let number = geometry.slot_at(addr & within);
        let whole = number < geometry.slots as usize && number * geometry.size as usize == addr & within;
        (record.class() == class && whole).then_some(SlotBit {
            record,
            word: number / 64,
            bit: 1 << (number % 64),
        })
    }
}

#[cfg(all(test, feature = "hardened"))]
mod tests {
    use super::*;

    #[test]
    fn bits_of_one_word_change_apart() {
        let (bits, start) = (LiveBits::new(), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            for bit in [1, 2] {
                let (bits, start) = (&bits, &start);
                scope.spawn(move || {
                    start.wait();
                    // Long enough that the two overlap on a busy machine.
                    for _ in 0..2_000_000 {
                        assert!(bits.set(7, bit), "nobody else sets or clears this bit");
                        assert!(bits.clear(7, bit), "nobody else sets or clears this bit");
                    }
                });
            }
        });
        assert_eq!(bits.look(7), 0);
        assert!(!bits.clear(7, 1) && bits.set(7, 1) && !bits.set(7, 1));
    }
}
