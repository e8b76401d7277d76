//! Resident-memory trials, each in a process of its own with ebbtide as the global allocator.
//!
//! Without `EBBTIDE_TRIAL` in the environment this is a test harness with libtest's options; with it, the process runs
//! the trial of that name on its main thread and nothing else, so that no other test's memory is in its numbers.
//! The policy is set explicitly in every trial.

mod background;
mod busy;
mod edges;
mod ends;
mod fork;
mod fork_children;
mod fork_handlers;
mod harness;
mod holes;
mod idle;
mod large;
mod limits;
mod map_life;
mod map_pages;
mod maps;
mod policy;
mod report;
mod signals;
mod soft_limit;
mod stats;
#[cfg(target_arch = "x86_64")]
mod stepped;
mod thp;
mod threads;

use std::process::ExitCode;

use harness::Case;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

fn main() -> ExitCode {
    let groups: &[&[Case]] = &[
        idle::CASES,
        holes::CASES,
        policy::CASES,
        background::CASES,
        soft_limit::CASES,
        large::CASES,
        maps::CASES,
        map_life::CASES,
        map_pages::CASES,
        stats::CASES,
        report::CASES,
        threads::CASES,
        edges::CASES,
        limits::CASES,
        fork::CASES,
        fork_children::CASES,
        fork_handlers::CASES,
        ends::CASES,
        busy::CASES,
        signals::CASES,
        #[cfg(target_arch = "x86_64")]
        stepped::CASES,
        thp::CASES,
    ];
    harness::main(&groups.concat())
}
