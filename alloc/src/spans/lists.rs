//! The spans of one class that have room, by address: the lowest is used first, so that the high ones empty.

use crate::base::sync::AtomicU32;
use crate::base::units::UnitIndex;
use crate::pages::treap::{Nodes, Treap};
use crate::space::segment::Segments;
use crate::space::size_class::SizeClass;
use crate::space::span::SpanState;

/// The spans of one class that have room and no owner.
pub(crate) struct SpanList {
    listed: Treap,
    pub(super) count: u32,
}

struct ByAddress<'a>(&'a Segments);

impl Nodes for ByAddress<'_> {
    fn links(&self, node: UnitIndex) -> (&AtomicU32, &AtomicU32) {
        let record = self.0.span(node);
        (&record.left, &record.right)
    }

    fn before(&self, a: UnitIndex, b: UnitIndex) -> bool {
        a < b
    }
}

impl SpanList {
    pub(crate) const fn new() -> Self {
        Self { listed: Treap::new(), count: 0 }
    }

    pub(super) fn list(&mut self, segments: &Segments, class: SizeClass, span: UnitIndex) {
        segments.span(span).set_state(class, SpanState::Listed);
        self.listed.insert(&ByAddress(segments), span);
        self.count += 1;
    }

    pub(super) fn unlist(
        &mut self,
        segments: &Segments,
        class: SizeClass,
        span: UnitIndex,
        state: SpanState,
    ) {
        self.listed.remove(&ByAddress(segments), span);
        self.count -= 1;
        segments.span(span).set_state(class, state);
    }

    /// For `verify`.
    pub(crate) fn is_listed(&self, segments: &Segments, span: UnitIndex) -> bool {
        self.listed.first_that(&ByAddress(segments), |at| at >= span) == Some(span)
    }

    /// The lowest.
    pub(super) fn first(&self, segments: &Segments) -> Option<UnitIndex> {
        self.listed.first(&ByAddress(segments))
    }
}
