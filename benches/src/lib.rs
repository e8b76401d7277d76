//! Workloads, release scenarios and map operations, and what the bench targets share to run and print them.
//!
//! A workload runs in a process of its own whose `#[global_allocator]` is the allocator measured (`examples/`), so
//! that each allocator serves the whole program, as it would in use. The bench targets build those programs, run
//! them in turns, and take medians.

pub mod measure;
pub mod parent;
pub mod program;
pub mod scenarios;
pub mod show;
pub mod workloads;
