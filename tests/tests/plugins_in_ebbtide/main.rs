//! The trials of `tests/plugins` in a host that has ebbtide as its allocator, too: two or three copies in one process.

#[path = "../plugins/host.rs"]
mod host;
#[path = "../plugins/reload.rs"]
mod reload;
#[path = "../plugins/threads.rs"]
mod threads;

use std::process::ExitCode;

use ebbtide_tests::trial;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

fn main() -> ExitCode {
    assert!(ebbtide::is_active(), "the host has ebbtide as its allocator");
    trial::main(&[reload::CASES, threads::CASES].concat())
}
