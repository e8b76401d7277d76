//! Resident-memory trials, each in a process of its own with ebbtide as the global allocator.
//!
//! Without `EBBTIDE_TRIAL` in the environment this is a test harness with libtest's options; with it, the process runs
//! the trial of that name on its main thread and nothing else, so that no other test's memory is in its numbers.
//! The policy is set explicitly in every trial.

mod edges;
mod harness;
mod holes;
mod idle;
mod large;
mod maps;
mod policy;
mod report;
mod stats;
mod threads;

use std::process::ExitCode;

use harness::Case;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

fn main() -> ExitCode {
    let groups: [&[Case]; 9] = [
        idle::CASES,
        holes::CASES,
        policy::CASES,
        large::CASES,
        maps::CASES,
        stats::CASES,
        report::CASES,
        threads::CASES,
        edges::CASES,
    ];
    harness::main(&groups.concat())
}
