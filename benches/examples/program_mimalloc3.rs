//! The workloads on mimalloc 3.
#![allow(unsafe_code, reason = "calls mimalloc's C interface")]

use std::process::ExitCode;

use ebbtide_benches::program::{self, Subject};

#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn release() -> Option<u64> {
    // SAFETY: mi_collect has no precondition.
    unsafe { libmimalloc_sys::mi_collect(true) };
    None
}

fn main() -> ExitCode {
    // SAFETY: mi_version has no precondition.
    let version = unsafe { libmimalloc_sys::mi_version() };
    program::main(&Subject { version: format!("mimalloc {version}"), release })
}
