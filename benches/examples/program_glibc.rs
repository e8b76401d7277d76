//! The workloads on glibc malloc, which is Rust's default allocator on Linux.
#![allow(unsafe_code, reason = "asks glibc for its version and for its release")]

use std::alloc::System;
use std::ffi::CStr;
use std::process::ExitCode;

use ebbtide_benches::program::{self, Subject};

#[global_allocator]
static GLOBAL: System = System;

fn release() -> Option<u64> {
    // SAFETY: malloc_trim has no precondition.
    unsafe { libc::malloc_trim(0) };
    None
}

fn main() -> ExitCode {
    // SAFETY: the function returns a pointer to a constant C string.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    program::main(&Subject { version: format!("glibc {}", version.to_string_lossy()), release })
}
