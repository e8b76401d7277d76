//! Spans of small objects: takes free slots from them and gives slots back, and moves whole spans between the lists of
//! their classes and the page heap.
//!
//! Bits of the bitmaps move without a lock; the lock of a class guards its list and the states of its spans. A class
//! keeps one wholly free span listed, so that a size that comes and goes does not pass through the page heap each time.

mod give;
mod hardened;
mod lists;
mod take;

use crate::base::counters::Counters;
use crate::base::own_line::OwnLine;
use crate::base::units::{PAGES_PER_UNIT, UnitIndex};
use crate::os::{Guard, Lock, Os};
use crate::pages::Pages;
use crate::space::segment::Segments;
use crate::space::size_class::{CLASSES, Geometry, SizeClass};
use crate::space::span::SpanState;
use lists::SpanList;

/// The pages, and which spans of each class have room.
pub(crate) struct Spans<O> {
    pages: Pages<O>,
    lists: [OwnLine<Lock<SpanList>>; CLASSES],
}

impl<O: Os> Spans<O> {
    pub(crate) const fn new(pages: Pages<O>) -> Self {
        Self { pages, lists: [const { OwnLine(Lock::new(SpanList::new())) }; CLASSES] }
    }

    #[inline(always)]
    pub(crate) const fn pages(&self) -> &Pages<O> {
        &self.pages
    }

    #[inline(always)]
    pub(crate) const fn os(&self) -> &O {
        self.pages.os()
    }

    #[inline(always)]
    pub(crate) const fn segments(&self) -> &Segments {
        self.pages.segments()
    }

    #[inline(always)]
    pub(crate) const fn counters(&self) -> &Counters {
        self.pages.counters()
    }

    /// The list of a class. Its lock is taken before that of a zone, never after it.
    pub(crate) fn list_of(&self, class: SizeClass) -> Guard<'_, SpanList, O> {
        self.lists[class.index()].lock(self.os())
    }

    pub(crate) const fn list_lock(&self, class: SizeClass) -> &Lock<SpanList> {
        &self.lists[class.index()].0
    }

    /// The class of the slot that begins at `block`; `None` for a large block.
    pub(crate) fn class_of(&self, block: *mut u8) -> Option<SizeClass> {
        let unit =
            self.segments().unit_of(block as usize).filter(|unit| self.segments().is_committed(*unit))?;
        self.segments().meta(unit).class()
    }

    /// Gives up ownership of a span.
    pub(crate) fn let_go(&self, class: SizeClass, span: UnitIndex) {
        let record = self.segments().span(span);
        {
            let mut list = self.list_of(class);
            record.set_state(class, SpanState::Full);
            if record.has_room(class.geometry()) {
                list.list(self.segments(), class, span);
            }
        }
        if record.is_wholly_free(class.geometry(), 0) {
            self.give_up_span(class, span, 2);
        }
    }

    #[cold]
    pub(crate) fn list_span(&self, class: SizeClass, span: UnitIndex) {
        let mut list = self.list_of(class);
        let record = self.segments().span(span);
        // Before this thread had the lock, the span may have been listed, given up and begun again for another class. If
        // it is full and of this class now, it stays so under the lock.
        if record.class_and_state() == (class, SpanState::Full) {
            list.list(self.segments(), class, span);
        }
    }

    /// Gives a wholly free span back to the page heap, if `least` or more spans of its class are listed.
    #[cold]
    pub(crate) fn give_up_span(&self, class: SizeClass, span: UnitIndex, least: u32) -> bool {
        {
            let mut list = self.list_of(class);
            let record = self.segments().span(span);
            let listed = record.class_and_state() == (class, SpanState::Listed);
            if !listed || list.count < least || !record.take_all(class.geometry()) {
                return false;
            }
            list.unlist(self.segments(), class, span, SpanState::None);
        }
        self.pages.free(span);
        true
    }

    /// A bit for each page of the span that is released.
    pub(crate) fn released_pages(&self, span: UnitIndex, geometry: &Geometry) -> u128 {
        (0..geometry.units).fold(0, |pages, unit| {
            let released = u128::from(self.segments().meta(span.plus(unit)).released());
            pages | released << (unit as usize * PAGES_PER_UNIT)
        })
    }
}
