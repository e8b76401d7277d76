//! Trials of plugins that have ebbtide as their allocator, in a host that has libc's.
//!
//! The plugins are examples of this package: `cargo test` builds them; where only this target is built,
//! `cargo build -p ebbtide-tests --examples` does, in the same profile.

mod host;
mod reload;
mod threads;

use std::process::ExitCode;

use ebbtide_tests::trial;

fn main() -> ExitCode {
    trial::main(&[reload::CASES, threads::CASES].concat())
}
