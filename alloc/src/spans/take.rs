//! Takes free slots out of spans: the lowest first, those on resident pages before others.

use super::Spans;
use crate::base::units::{PAGE, PAGES_PER_UNIT, PageMask, UnitCount, UnitIndex};
use crate::os::Os;
use crate::pages::page_heap::Request;
use crate::pages::zone::Purpose;
use crate::space::size_class::{Geometry, SizeClass};
use crate::space::span::{Access, SpanState, masks, slots_of_page};
use crate::space::unit_table::RunKind;

impl<O: Os> Spans<O> {
    /// Lets go of `current` and takes over the lowest span with room, or a new one.
    pub(crate) fn next_span(&self, class: SizeClass, current: UnitIndex) -> Option<UnitIndex> {
        {
            let mut list = self.list_of(class);
            if !current.is_nil() {
                let record = self.segments().span(current);
                record.set_state(class, SpanState::Full);
                if record.has_room(class.geometry()) {
                    list.list(self.segments(), class, current);
                }
            }
            if let Some(span) = list.first(self.segments()) {
                list.unlist(self.segments(), class, span, SpanState::Owned);
                return Some(span);
            }
        }
        self.new_span(class)
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
        let (_, span) = self.pages.allocate(request)?;
        for unit in 0..geometry.units {
            let meta = self.segments().meta(span.plus(unit));
            meta.set_class(Some(class));
            meta.set_owner(0);
        }
        // Both pages that the record may lie on.
        self.segments().meta(span).set_record_pages(0b11);
        self.segments().span(span).begin(class);
        Some(span)
    }

    /// Takes free slots, the lowest first, into `out` from its end downwards. Slots on resident pages go first.
    pub(crate) fn take_slots(
        &self,
        span: UnitIndex,
        class: SizeClass,
        out: &mut [*mut u8],
        access: Access,
    ) -> usize {
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
        let record = self.segments().span(span);
        let base = self.segments().address(span).as_ptr();
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

    /// Marks the pages of slots that were taken as in use.
    fn reacquire(&self, span: UnitIndex, geometry: &Geometry, slots: &[*mut u8]) {
        let base = self.segments().address(span).as_ptr() as usize;
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
                count += self.segments().meta(span.plus(unit)).reacquire(mask).count_ones() as usize;
            }
        }
        // Mostly there is none, and the line is one that all threads write.
        if count > 0 {
            self.counters().pages.reacquired_total.add(count * PAGE);
        }
    }
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
