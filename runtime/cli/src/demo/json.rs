//! The JSON form of a run: schema 1. Sizes are bytes, times are nanoseconds.

use super::phases::{Outcome, Phase};
use serde::Serialize;
use std::time::Duration;

#[derive(Serialize)]
struct Document {
    schema: u32,
    policy: String,
    phases: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    phase: &'static str,
    len: usize,
    capacity: usize,
    logical_bytes: u64,
    heap_inuse_bytes: u64,
    heap_free_bytes: u64,
    heap_released_bytes: u64,
    rss_bytes: u64,
    elapsed_ns: u64,
    max_pause_ns: u64,
}

impl From<&Phase> for Row {
    fn from(phase: &Phase) -> Self {
        Self {
            phase: phase.name.as_str(),
            len: phase.len,
            capacity: phase.capacity,
            logical_bytes: phase.logical_bytes,
            heap_inuse_bytes: phase.stats.heap_inuse,
            heap_free_bytes: phase.stats.heap_free,
            heap_released_bytes: phase.stats.heap_released,
            rss_bytes: phase.stats.rss,
            elapsed_ns: nanoseconds(phase.elapsed),
            max_pause_ns: nanoseconds(phase.longest),
        }
    }
}

/// Saturates after 584 years.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The document, with a newline at its end.
pub(crate) fn text(outcome: &Outcome) -> String {
    let phases = outcome.phases.iter().map(Row::from).collect();
    let document = Document { schema: 1, policy: outcome.policy.to_string(), phases };
    // Text, numbers and lists: nothing here has no JSON form.
    serde_json::to_string(&document).unwrap_or_default() + "\n"
}
