//! What the heap tells of itself: figures, reports, the check of its invariants, and what was done wrong with it.

pub(crate) mod misuse;
pub(crate) mod pressure;
pub(crate) mod report;
pub(crate) mod snapshot;
pub(crate) mod stats;
pub(crate) mod verify;
