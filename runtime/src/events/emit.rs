//! The feature `tracing`: each [`Event`] as an event of the `tracing` crate, target `ebbtide`. No locks of its own.

use super::event::{Event, LimitCrossing};
use ebbtide_alloc::BlockReason;
use ebbtide_map::ChangeKind;

/// Hands `event` to the tracing subscriber in force. The caller has made sure that it is not in one of its own calls.
pub(super) fn emit(event: &Event<'_>) {
    match event {
        Event::Release { number, cause, report } => tracing::info!(
            target: "ebbtide",
            number,
            cause = cause.as_str(),
            released_bytes = report.released_bytes,
            blocked_bytes = report.blocked_bytes(),
            blocked_live_bytes = report.blocked.bytes(BlockReason::LiveObjects),
            blocked_cached_bytes = report.blocked.bytes(BlockReason::ThreadCache),
            in_use_bytes = report.in_use_bytes,
            rss_before = report.rss_before,
            rss_after = report.rss_after,
            elapsed_ns = u64::try_from(report.elapsed.as_nanos()).unwrap_or(u64::MAX),
            "release"
        ),
        Event::Limit { crossing: LimitCrossing::Above, limit, total, idle } => {
            tracing::warn!(target: "ebbtide", limit, total, idle, "memory is above its limit");
        }
        Event::Limit { crossing: LimitCrossing::Below, limit, total, idle } => {
            tracing::info!(target: "ebbtide", limit, total, idle, "memory is below its limit again");
        }
        Event::Map(change) => tracing::debug!(
            target: "ebbtide",
            map = change.name,
            kind = match change.kind {
                ChangeKind::Grow => "grow",
                ChangeKind::Shrink => "shrink",
                ChangeKind::SameSize => "same-size",
            },
            old_buckets = change.old_buckets,
            new_buckets = change.new_buckets,
            evacuated_buckets = change.evacuated_buckets,
            elapsed_ns = change.elapsed_ns,
            writes = change.writes,
            longest_ns = change.longest_ns,
            retired_bytes = change.retired_bytes,
            "map changed"
        ),
    }
}
