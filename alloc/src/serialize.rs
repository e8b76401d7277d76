//! The feature `serde`: reports and stats as records with the names of their fields.

use serde_core::ser::{Serialize, SerializeSeq as _, Serializer};

use crate::inspect::report::{BlockReason, Blocked, BlockedList, ReleaseReport};
use crate::inspect::stats::{MemStats, Usage};
use crate::os::KernelSupport;

/// Implements `Serialize` for a struct, whose fields are all named: one that is added later does not compile here. For this
/// project's crates.
#[doc(hidden)]
#[macro_export]
macro_rules! serialize_record {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl serde_core::ser::Serialize for $type {
            fn serialize<S: serde_core::ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde_core::ser::SerializeStruct as _;

                let Self { $($field),* } = self;
                let count = [$(stringify!($field)),*].len();
                let mut record = serializer.serialize_struct(stringify!($type), count)?;
                $(record.serialize_field(stringify!($field), $field)?;)*
                record.end()
            }
        }
    };
}

serialize_record!(MemStats {
    heap_sys,
    heap_inuse,
    heap_alloc,
    heap_cached,
    heap_unused,
    heap_idle,
    heap_free,
    heap_released,
    metadata_sys,
    limit,
    rss,
    released_total,
    reacquired_total,
    mallocs_total,
    frees_total,
    releases_total,
    kernel,
});
serialize_record!(KernelSupport {
    page_size,
    moves_pages,
    releases_many,
    barrier,
    residency,
    huge_page_advice,
    releases_locked,
    rss,
    sandboxed,
});
serialize_record!(Usage { handed, resident, runs, free_runs, metadata });
serialize_record!(Blocked { reason, bytes, spans });
serialize_record!(ReleaseReport {
    released_bytes,
    metadata_released_bytes,
    already_released_bytes,
    in_use_bytes,
    blocked,
    rss_before,
    rss_after,
    looked_at_bytes,
    syscalls,
    elapsed,
    stopped_early,
});

impl Serialize for BlockReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (index, name) = match self {
            Self::LiveObjects => (0, "LiveObjects"),
            Self::ThreadCache => (1, "ThreadCache"),
            Self::Locked => (2, "Locked"),
            Self::Busy => (3, "Busy"),
            Self::Refused(errno) => {
                return serializer.serialize_newtype_variant("BlockReason", 4, "Refused", errno);
            }
        };
        serializer.serialize_unit_variant("BlockReason", index, name)
    }
}

/// A list of those that have bytes.
impl Serialize for BlockedList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for blocked in self.iter() {
            list.serialize_element(blocked)?;
        }
        list.end()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stats_and_reports_are_records() {
        let stats = MemStats { heap_sys: 5, limit: Some(7), ..MemStats::default() };
        let record = serde_json::to_value(stats).unwrap();
        assert_eq!((&record["heap_sys"], &record["limit"]), (&json!(5), &json!(7)));
        assert_eq!(record["kernel"]["moves_pages"], json!(false));
        let report = crate::release(crate::ReleaseOptions::new().max_bytes(0));
        let record = serde_json::to_value(report).unwrap();
        assert_eq!(record["released_bytes"], json!(report.released_bytes));
        assert_eq!(record["blocked"].as_array().unwrap().len(), report.blocked.iter().count());
        let mut list = BlockedList::new();
        list.add(BlockReason::Locked, 4096, 1);
        list.add(BlockReason::Refused(12), 8192, 2);
        assert_eq!(
            serde_json::to_value(list).unwrap(),
            json!([
                { "reason": "Locked", "bytes": 4096, "spans": 1 },
                { "reason": { "Refused": 12 }, "bytes": 8192, "spans": 2 },
            ])
        );
    }
}
