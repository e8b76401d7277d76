//! [`Holders`]: what holds memory now, in words, for the messages of assertions.
//!
//! No locks of its own.

use crate::governor;
use core::fmt;
use ebbtide_alloc::{BlockReason, MemStats, ReleaseReport};
use ebbtide_map::MapStats;

/// At most so many maps are listed, the largest first.
const MAPS: usize = 8;

/// Bytes as MiB. Small numbers matter here, so two decimals.
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 20))
}

/// Where the memory is, by who holds it.
pub(super) struct Holders {
    stats: MemStats,
    blocked: Vec<(&'static str, u64, u64)>,
    untouched: u64,
    maps: Vec<MapStats>,
}

impl Holders {
    /// As things are, with what the release that just ended says.
    pub(super) fn now(report: Option<&ReleaseReport>) -> Self {
        let mut maps = ebbtide_map::map_stats();
        maps.sort_by_key(|map| core::cmp::Reverse(map.arena_bytes));
        maps.retain(|map| map.arena_bytes > 0);
        let rows = report.map_or(&[][..], |report| &report.blocked);
        let blocked = rows.iter().map(|row| (reason(row.reason), row.bytes, row.spans)).collect();
        let untouched = report.map_or(0, |report| report.already_released_bytes);
        Self { stats: governor::mem_stats(), blocked, untouched, maps }
    }
}

fn reason(reason: BlockReason) -> &'static str {
    match reason {
        BlockReason::LiveObjects => "free bytes on pages that live objects share",
        BlockReason::ThreadCache => "free objects in the caches of other threads",
        BlockReason::Locked => "pages locked in memory",
        BlockReason::Busy => "pages that another thread took meanwhile",
        BlockReason::Refused(_) => "pages that the kernel refused to take",
        _ => "another reason",
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  held by live objects: {} MiB", mib(self.stats.heap_alloc))?;
        for (reason, bytes, places) in &self.blocked {
            writeln!(f, "  blocked: {} MiB, {reason} ({places} places)", mib(*bytes))?;
        }
        if self.untouched > 0 {
            writeln!(
                f,
                "  idle and not resident before (left earlier, or never touched): {} MiB",
                mib(self.untouched)
            )?;
        }
        for map in self.maps.iter().take(MAPS) {
            match map.name.as_str() {
                "" => write!(f, "  maps without a name:")?,
                name => write!(f, "  map {name:?}:")?,
            }
            write!(
                f,
                " {} MiB for {} entries of {} MiB",
                mib(map.arena_bytes),
                map.len,
                mib(map.logical_bytes)
            )?;
            if map.old_buckets > 0 {
                write!(f, ", {} of {} old buckets evacuated", map.nevacuate, map.old_buckets)?;
            }
            writeln!(f)?;
        }
        if let Some(more) = self.maps.len().checked_sub(MAPS + 1) {
            writeln!(f, "  and {} more maps", more + 1)?;
        }
        write!(f, "  policy {}, rss {} MiB", governor::current(), mib(self.stats.rss))
    }
}
