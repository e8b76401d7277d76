//! The feature `serde`: each [`Event`] as one flat record, with the names that the feature `tracing` uses. No locks.

use super::event::{Event, LimitCrossing, ReleaseCause};
use ebbtide_alloc::{BlockReason, ReleaseReport};
use ebbtide_map::{ChangeKind, MapEvent};
use serde_core::ser::{Serialize, SerializeStruct as _, Serializer};

impl Serialize for ReleaseCause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Serialize for LimitCrossing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Above => "above",
            Self::Below => "below",
        })
    }
}

/// A record that says in its field `event` what it is.
///
/// # Examples
/// ```
/// let subscription = ebbtide::on_event(|event| println!("{}", serde_json::to_string(event).unwrap()));
/// ebbtide::free_os_memory(); // {"event":"release","number":1,"cause":"forced","released_bytes":...
/// # drop(subscription);
/// ```
impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Release { number, cause, report } => release(*number, *cause, report, serializer),
            Self::Limit { crossing, limit, total, idle } => {
                let mut record = serializer.serialize_struct("Limit", 5)?;
                record.serialize_field("event", "limit")?;
                record.serialize_field("crossing", crossing)?;
                record.serialize_field("limit", limit)?;
                record.serialize_field("total", total)?;
                record.serialize_field("idle", idle)?;
                record.end()
            }
            Self::Map(change) => map(change, serializer),
        }
    }
}

fn release<S: Serializer>(
    number: u64,
    cause: ReleaseCause,
    report: &ReleaseReport,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut record = serializer.serialize_struct("Release", 12)?;
    record.serialize_field("event", "release")?;
    record.serialize_field("number", &number)?;
    record.serialize_field("cause", &cause)?;
    record.serialize_field("released_bytes", &report.released_bytes)?;
    record.serialize_field("blocked_bytes", &report.blocked_bytes())?;
    record.serialize_field("blocked_live_bytes", &report.blocked.bytes(BlockReason::LiveObjects))?;
    record.serialize_field("blocked_cached_bytes", &report.blocked.bytes(BlockReason::ThreadCache))?;
    record.serialize_field("in_use_bytes", &report.in_use_bytes)?;
    record.serialize_field("rss_before", &report.rss_before)?;
    record.serialize_field("rss_after", &report.rss_after)?;
    record.serialize_field("syscalls", &report.syscalls)?;
    let elapsed_ns = u64::try_from(report.elapsed.as_nanos()).unwrap_or(u64::MAX);
    record.serialize_field("elapsed_ns", &elapsed_ns)?;
    record.end()
}

fn map<S: Serializer>(change: &MapEvent<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut record = serializer.serialize_struct("Map", 11)?;
    record.serialize_field("event", "map")?;
    record.serialize_field("map", change.name)?;
    let kind = match change.kind {
        ChangeKind::Grow => "grow",
        ChangeKind::Shrink => "shrink",
        ChangeKind::SameSize => "same-size",
    };
    record.serialize_field("kind", kind)?;
    record.serialize_field("old_buckets", &change.old_buckets)?;
    record.serialize_field("new_buckets", &change.new_buckets)?;
    record.serialize_field("evacuated_buckets", &change.evacuated_buckets)?;
    record.serialize_field("evacuated_entries", &change.evacuated_entries)?;
    record.serialize_field("elapsed_ns", &change.elapsed_ns)?;
    record.serialize_field("writes", &change.writes)?;
    record.serialize_field("longest_ns", &change.longest_ns)?;
    record.serialize_field("retired_bytes", &change.retired_bytes)?;
    record.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_flat_records() {
        let event = Event::Limit { crossing: LimitCrossing::Above, limit: 100, total: 130, idle: 7 };
        let expected = json!({"event": "limit", "crossing": "above", "limit": 100, "total": 130, "idle": 7});
        assert_eq!(serde_json::to_value(event).expect("a record"), expected);
        let mut report = ReleaseReport::default();
        report.released_bytes = 5 << 20;
        report.blocked.add(BlockReason::LiveObjects, 300, 2);
        let event = Event::Release { number: 7, cause: ReleaseCause::MemoryPressure, report: &report };
        let record = serde_json::to_value(event).expect("a record");
        assert_eq!((&record["event"], &record["number"]), (&json!("release"), &json!(7)));
        assert_eq!(
            (&record["cause"], &record["released_bytes"]),
            (&json!("memory pressure"), &json!(5 << 20))
        );
        assert_eq!(record["blocked_live_bytes"], json!(300));
    }
}
