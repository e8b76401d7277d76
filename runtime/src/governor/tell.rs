//! What the governor tells of: releases, and crossings of the limit. The caller has left and settled, since who hears of it may
//! do anything. No lock.

use super::books;
use super::soft_limit::Kept;
use crate::events::{self, ReleaseCause};
use ebbtide_alloc::ReleaseReport;

/// Tells of a release.
pub(super) fn release(report: &ReleaseReport, cause: ReleaseCause) {
    events::released(books::next_number(), report, cause);
}

/// Tells what the limit did.
pub(super) fn kept(kept: &Kept) {
    if let Some(report) = &kept.report {
        release(report, ReleaseCause::Limit);
    }
    if let Some((crossing, at)) = kept.crossing {
        events::limit_crossed(crossing, at);
    }
}
