//! Releases inside spans: gives up those that are wholly free, and gives back the free pages of the others.
//!
//! A page can leave when every slot that touches it is free. Its slots are taken like any allocation would take them,
//! so no thread can get them meanwhile; after the page has left they are given back. Holding any slot of a span also
//! keeps the span what it is, so one look at its class after slots are taken tells whether they were measured rightly.

#![allow(unsafe_code, reason = "gives pages to the OS")]

use super::job::{Hold, Job};
use crate::base::units::{PAGES_PER_UNIT, PageGroup, PageMask, UnitIndex};
use crate::inspect::snapshot::{Tally, tally_span};
use crate::os::Os;
use crate::space::size_class::{Geometry, MAX_WORDS, SizeClass};
use crate::space::span::{Access, SpanRecord, SpanState, masks, slots_of_page};

/// The slots that a release has taken in one span.
struct Taken {
    words: [u64; MAX_WORDS],
    /// Pages all of whose slots are taken.
    pages: u128,
}

impl<O: Os> Job<'_, O> {
    pub(super) fn release_in_span(&mut self, span: UnitIndex) {
        let record = self.segments().span(span);
        let (class, state) = record.class_and_state();
        let geometry = class.geometry();
        if state == SpanState::None {
            return;
        }
        if record.is_wholly_free(geometry, 0) && self.spans().give_up_span(class, span, 1) {
            return;
        }
        // One look without taking anything: most spans have nothing to give.
        let mut found = Tally::default();
        tally_span(self.spans(), span, geometry.units, &mut found);
        if found.free == 0 {
            let full = u64::from(geometry.slots) * u64::from(geometry.size);
            self.spans_with_holes += u64::from(found.objects < full);
            self.tally.add(&found);
            return;
        }
        let mut taken = Taken { words: [0; MAX_WORDS], pages: 0 };
        let released = self.spans().released_pages(span, geometry);
        let same = take_free_pages(record, class, self.os().pages(), released, &mut taken);
        if same && taken.pages != 0 {
            let pages = |unit| (taken.pages >> (unit as usize * PAGES_PER_UNIT)) as PageMask;
            // SAFETY: all slots that touch these pages are taken, so nobody has an object there.
            unsafe { self.gather(span, geometry.units, false, pages) };
            self.hold(Hold::Span { span, class, pages: taken.pages });
            return;
        }
        // Slots taken of another class than was measured go back at once, to that class.
        let class = if same { class } else { record.class() };
        let room = self.give_back_words(span, class, &taken.words);
        self.spans_with_holes += u64::from(room);
        self.count(span);
    }

    /// Gives back the slots of pages that were taken. Whether the span has free slots now.
    pub(super) fn give_back_slots(&mut self, span: UnitIndex, class: SizeClass, pages: u128) -> bool {
        let mut words = [0; MAX_WORDS];
        let mut left = pages;
        while left != 0 {
            let page = left.trailing_zeros() as usize;
            left &= left - 1;
            for (word, mask) in masks(slots_of_page(class.geometry(), page)) {
                words[word] |= mask;
            }
        }
        self.give_back_words(span, class, &words)
    }

    fn give_back_words(&mut self, span: UnitIndex, class: SizeClass, words: &[u64; MAX_WORDS]) -> bool {
        let record = self.segments().span(span);
        for (word, mask) in words.iter().enumerate().filter(|(_, mask)| **mask != 0) {
            let twice = self.spans().give_bits(class, span, word, *mask, Access::Shared);
            if twice != 0 {
                let misused = self.spans().bits_misused(class, span, word, twice);
                self.note_misuse(Err(misused));
            }
        }
        let room = record.has_room(class.geometry());
        // Slots that were taken and given back for nothing may have been the last when the owner let go.
        if room && record.state() == SpanState::Full {
            self.spans().list_span(record.class(), span);
        }
        room
    }
}

/// Takes all slots of every page of the kernel that is free and resident. False if the span is not one of `class` any
/// more.
fn take_free_pages(
    record: &SpanRecord,
    class: SizeClass,
    group: PageGroup,
    released: u128,
    taken: &mut Taken,
) -> bool {
    let geometry = class.geometry();
    for first in (0..geometry.units as usize * PAGES_PER_UNIT).step_by(group.len()) {
        let pages = (u128::MAX >> (128 - group.len())) << first;
        let start = slots_of_page(geometry, first).start;
        let slots = start..slots_of_page(geometry, first + group.len() - 1).end.max(start);
        if slots.is_empty() || released & pages == pages {
            continue;
        }
        let free =
            masks(slots.clone()).all(|(word, mask)| (record.look(word) | taken.words[word]) & mask == mask);
        if free && take_page(record, geometry, masks(slots), taken) {
            if record.class() != class {
                return false;
            }
            taken.pages |= pages;
        }
    }
    true
}

/// Takes those slots of a page of the kernel that are not taken yet; all or none of them.
fn take_page(
    record: &SpanRecord,
    geometry: &Geometry,
    masks: impl Iterator<Item = (usize, u64)> + Clone,
    taken: &mut Taken,
) -> bool {
    for (at, (word, mask)) in masks.clone().enumerate() {
        let wanted = mask & !taken.words[word];
        let got = record.take(word, wanted, Access::Shared);
        if got != wanted {
            // Give back what this page took: it is not in `taken` yet.
            record.give(word, got, geometry, Access::Shared);
            for (word, mask) in masks.take(at) {
                record.give(word, mask & !taken.words[word], geometry, Access::Shared);
            }
            return false;
        }
    }
    for (word, mask) in masks {
        taken.words[word] |= mask;
    }
    true
}
