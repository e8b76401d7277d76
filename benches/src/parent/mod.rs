//! The process that the user starts: its options, the programs that it builds and runs, and what it reports.

pub mod args;
pub mod child;
pub mod experiment;
pub mod peer;
