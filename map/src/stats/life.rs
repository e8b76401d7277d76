//! [`Life`]: what a table counts about its changes, and tells the registry and the observers.
//!
//! Plain fields, written when a change ends. No locks.

use core::time::Duration;

use crate::stats::MapStats;
use crate::stats::observer::{ChangeKind, MapEvent};
use crate::stats::registry::Listing;

/// Number and times of a table's changes, and its place in the registry.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// All that is counted, and nothing else.
    counted: MapStats,
    pub(crate) listing: Listing,
}

/// Saturates after five centuries.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Life {
    /// What was counted.
    pub(crate) fn counted(&self) -> MapStats {
        self.counted.clone()
    }

    /// Counts a change that ended, but for its time.
    pub(crate) fn count(&mut self, event: &MapEvent<'_>) {
        let counted = &mut self.counted;
        let sizes = [event.old_buckets, event.new_buckets];
        match event.kind {
            ChangeKind::Grow => {
                counted.grows += 1;
                counted.last_grow = sizes;
            }
            ChangeKind::Shrink => {
                counted.shrinks += 1;
                counted.last_shrink = sizes;
                counted.shrunk_total += event.retired_bytes;
            }
            ChangeKind::SameSize => counted.same_size_grows += 1,
        }
        counted.evacuated_buckets += event.evacuated_buckets;
        counted.evacuated_entries += event.evacuated_entries;
        counted.evacuation_writes += event.writes;
        counted.retired_total += event.retired_bytes;
    }

    /// Counts its time.
    pub(crate) fn count_time(&mut self, event: &MapEvent<'_>) {
        let counted = &mut self.counted;
        counted.evacuation_ns = counted.evacuation_ns.saturating_add(event.elapsed_ns);
        counted.max_pause_ns = counted.max_pause_ns.max(event.longest_ns);
    }
}
