//! Gives slots back to their spans, a bitmap word at a time. Finds foreign addresses and double frees.

use super::Spans;
use crate::base::units::{UNIT, UnitIndex};
use crate::os::Os;
use crate::space::misuse::{Misuse, Misused};
use crate::space::size_class::SizeClass;
use crate::space::span::{Access, SpanState};

impl<O: Os> Spans<O> {
    /// Gives slots of one class back to their spans.
    pub(crate) fn flush(&self, class: SizeClass, slots: &[*mut u8], access: Access) -> Result<(), Misused> {
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
                    check_gathered(class, gathered, &slots[start..index])?;
                }
                self.give_word(class, at, gathered, access)?;
                (at, gathered, start) = (word, 0, index);
            }
            gathered |= 1 << (number % 64);
        }
        if slots.len() - start > 1 {
            check_gathered(class, gathered, &slots[start..])?;
        }
        self.give_word(class, at, gathered, access)
    }

    /// Gives back the slots of a word, told as in [`flush`](Self::flush).
    #[inline(never)]
    fn give_word(&self, class: SizeClass, at: usize, mask: u64, access: Access) -> Result<(), Misused> {
        let within = class.geometry().units as usize * UNIT - 1;
        match self.segments().unit_of(at & !within) {
            Some(span) => self.give_bits(class, span, at & within, mask, access),
            None if mask == 0 => Ok(()),
            None => Err(slot_misused(Misuse::Foreign, class, at, mask)),
        }
    }

    /// Gives the bits of one word back. Lists a span that was full, and gives up one that is wholly free.
    #[inline]
    pub(crate) fn give_bits(
        &self,
        class: SizeClass,
        span: UnitIndex,
        word: usize,
        mask: u64,
        access: Access,
    ) -> Result<(), Misused> {
        let geometry = class.geometry();
        let record = self.segments().span(span);
        let given = record.give(word, mask, geometry, access);
        if given.twice != 0 {
            record.mend(word, given.twice);
            let at = self.segments().address(span).as_ptr() as usize | word;
            return Err(slot_misused(Misuse::Twice, class, at, given.twice));
        }
        if given.was_empty && record.state() == SpanState::Full {
            self.list_span(class, span);
        }
        if given.is_full && record.is_wholly_free(geometry, word) {
            self.give_up_span(class, span, 2);
        }
        Ok(())
    }
}

/// An error if two of the slots of a word are the same. A count for each word that several were gathered
/// for, not a look at each slot.
#[inline(never)]
fn check_gathered(class: SizeClass, gathered: u64, slots: &[*mut u8]) -> Result<(), Misused> {
    if gathered.count_ones() as usize == slots.len() {
        return Ok(());
    }
    let mut repeated = slots.iter().enumerate().filter(|(at, slot)| slots[..*at].contains(slot));
    // Without one, two addresses lie in one slot.
    let slot = repeated.next().map_or(slots[0], |(_, slot)| *slot);
    Err(Misused::of_slot(Misuse::Twice, slot as usize, class))
}

/// The misuse of the lowest slot of a word, told as in [`Spans::flush`].
#[cold]
fn slot_misused(misuse: Misuse, class: SizeClass, at: usize, mask: u64) -> Misused {
    let geometry = class.geometry();
    let within = geometry.units as usize * UNIT - 1;
    let number = (at & within) * 64 + mask.trailing_zeros() as usize;
    Misused::of_slot(misuse, (at & !within) + number * geometry.size as usize, class)
}
