//! Workloads, release scenarios and map operations, and what the bench targets share to run and print them.
//!
//! A workload runs in a process of its own whose `#[global_allocator]` is the allocator measured (`examples/`), so
//! that each allocator serves the whole program, as it would in use. The bench targets build those programs, run
//! them in turns, and take medians.

pub mod args;
pub mod beside;
pub mod block;
pub mod burst;
pub mod channel;
pub mod chart;
pub mod child;
pub mod effort;
pub mod experiment;
pub mod maps;
pub mod memory;
pub mod page;
pub mod peer;
pub mod program;
pub mod sampler;
pub mod scenarios;
pub mod summary;
pub mod table;
pub mod workloads;
