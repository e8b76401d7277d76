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
                let wrong = self.give_word(class, at, gathered, access);
                if wrong != 0 {
                    return Err(self.word_misused(class, at, wrong));
                }
                (at, gathered, start) = (word, 0, index);
            }
            gathered |= 1 << (number % 64);
        }
        if slots.len() - start > 1 {
            check_gathered(class, gathered, &slots[start..])?;
        }
        match self.give_word(class, at, gathered, access) {
            0 => Ok(()),
            wrong => Err(self.word_misused(class, at, wrong)),
        }
    }

    /// Gives back the slots of a word, told as in [`flush`](Self::flush). Returns the bits of foreign addresses and
    /// double frees: a number, since a `Result` of more would cost each word some instructions.
    #[inline(never)]
    fn give_word(&self, class: SizeClass, at: usize, mask: u64, access: Access) -> u64 {
        let within = class.geometry().units as usize * UNIT - 1;
        match self.segments().unit_of_first_segment(at & !within) {
            Some(span) => self.give_bits(class, span, at & within, mask, access),
            None => self.give_word_elsewhere(class, at, mask, access),
        }
    }

    /// As [`give_word`](Self::give_word), for an address outside the first segment. Apart, so that the other needs no
    /// frame.
    #[cold]
    #[inline(never)]
    fn give_word_elsewhere(&self, class: SizeClass, at: usize, mask: u64, access: Access) -> u64 {
        let within = class.geometry().units as usize * UNIT - 1;
        match self.segments().unit_of(at & !within) {
            Some(span) => self.give_bits(class, span, at & within, mask, access),
            None => mask,
        }
    }

    /// Gives the bits of one word back. Lists a span that was full, and gives up one that is wholly free. Returns the bits
    /// that were set already; then it does neither.
    #[must_use]
    #[inline]
    pub(crate) fn give_bits(
        &self,
        class: SizeClass,
        span: UnitIndex,
        word: usize,
        mask: u64,
        access: Access,
    ) -> u64 {
        let geometry = class.geometry();
        let record = self.segments().span(span);
        let given = record.give(word, mask, geometry, access);
        if given.twice != 0 {
            record.mend(word, given.twice);
            return given.twice;
        }
        if given.was_empty && record.state() == SpanState::Full {
            self.list_span(class, span);
        }
        if given.is_full && record.is_wholly_free(geometry, word) {
            self.give_up_span(class, span, 2);
        }
        0
    }

    /// The misuse of the lowest of some slots of a word, told as in [`flush`](Self::flush), that could not be given back.
    #[cold]
    fn word_misused(&self, class: SizeClass, at: usize, wrong: u64) -> Misused {
        let geometry = class.geometry();
        let within = geometry.units as usize * UNIT - 1;
        let misuse = match self.segments().unit_of(at & !within) {
            Some(_) => Misuse::Twice,
            None => Misuse::Foreign,
        };
        let number = (at & within) * 64 + wrong.trailing_zeros() as usize;
        Misused::of_slot(misuse, (at & !within) + number * geometry.size as usize, class)
    }

    /// The misuse of the lowest of some slots that [`give_bits`](Self::give_bits) found free already.
    #[cold]
    pub(crate) fn bits_misused(&self, class: SizeClass, span: UnitIndex, word: usize, twice: u64) -> Misused {
        self.word_misused(class, self.segments().address(span).as_ptr() as usize | word, twice)
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
