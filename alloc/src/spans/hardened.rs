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

use super::Spans;
use crate::os::Os;
use crate::space::misuse::{Act, Misused};
use crate::space::size_class::{SizeClass, padded};
use crate::space::span::SpanRecord;
use crate::space::unit_table::RunKind;

/// A slot, by its place in the bitmaps of its span.
struct SlotBit<'a> {
    record: &'a SpanRecord,
    word: usize,
    bit: u64,
}

impl<O: Os> Spans<O> {
    /// Sets the live bit of a slot that is handed to the program. Does nothing for null.
    pub(crate) fn hand_out(&self, class: SizeClass, slot: *mut u8) {
        if slot.is_null() {
            return;
        }
        let fresh =
            self.slot_bit(class, slot as usize).is_some_and(|slot| slot.record.live.set(slot.word, slot.bit));
        debug_assert!(fresh, "{slot:p} was handed out twice, or is no slot");
    }

    /// Checks a free, and clears the live bit.
    pub(crate) fn take_back(&self, block: *mut u8, layout: Layout) -> Result<(), Misused> {
        match self.is_live(block, layout, |slot| slot.record.live.clear(slot.word, slot.bit)) {
            true => Ok(()),
            false => Err(misused(Act::Free, block, layout)),
        }
    }

    /// Checks a block before its size changes.
    pub(crate) fn check_live(&self, block: *mut u8, layout: Layout) -> Result<(), Misused> {
        match self.is_live(block, layout, |slot| slot.record.live.look(slot.word) & slot.bit != 0) {
            true => Ok(()),
            false => Err(misused(Act::Realloc, block, layout)),
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
            None => SizeClass::of_size(size).is_none() && self.pages().is_live_large(block, layout),
        }
    }

    /// The bit of the slot of `class` that begins at `addr`; `None` if there is no such slot.
    fn slot_bit(&self, class: SizeClass, addr: usize) -> Option<SlotBit<'_>> {
        let place = self.segments().slot_at(class, addr)?;
        let is_span = self.segments().is_committed(place.span)
            && self.segments().meta(place.span).kind() == RunKind::Small;
        if !is_span || !place.is_start {
            return None;
        }
        let record = self.segments().span(place.span);
        let (word, bit) = place.bit();
        (record.class() == class).then_some(SlotBit { record, word, bit })
    }
}

#[cold]
fn misused(act: Act, block: *mut u8, layout: Layout) -> Misused {
    Misused::of(act, block as usize, SizeClass::of(layout.size(), layout.align()))
}
