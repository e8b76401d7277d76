//! The governor's events: releases, and crossings of the limit. The caller has left and settled, since a callback may do
//! anything. No lock.

use super::books;
use super::soft_limit::Kept;
use crate::events::{self, ReleaseCause};
use ebbtide_alloc::ReleaseReport;

/// Emits the event of a release.
pub(super) fn release(report: &ReleaseReport, cause: ReleaseCause) {
    events::released(books::next_number(), report, cause);
}

/// Emits the events of the limit: its release, and the crossing.
pub(super) fn kept(kept: &Kept) {
    if let Some(report) = &kept.report {
        release(report, ReleaseCause::Limit);
    }
    if let Some((crossing, at)) = kept.crossing {
        events::limit_crossed(crossing, at);
    }
}
