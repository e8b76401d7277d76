//! Introspection: statistics, the report of a release, the check of all invariants, the pressure hook, misuse.

pub(crate) mod misuse;
pub(crate) mod pressure;
pub(crate) mod report;
pub(crate) mod snapshot;
pub(crate) mod stats;
pub(crate) mod verify;
