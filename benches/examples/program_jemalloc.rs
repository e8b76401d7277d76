//! The workloads on jemalloc.
#![allow(unsafe_code, reason = "calls jemalloc's C interface")]

use std::ffi::{CStr, c_char};
use std::process::ExitCode;
use std::ptr::null_mut;

use ebbtide_benches::program::{self, Subject};
use tikv_jemalloc_sys::mallctl;

#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Runs a control that neither reads nor writes a value.
fn control(name: &CStr) {
    // SAFETY: the name is a C string, and null pointers say that no value is read or written.
    let result = unsafe { mallctl(name.as_ptr(), null_mut(), null_mut(), null_mut(), 0) };
    assert_eq!(result, 0, "jemalloc does not know {name:?}");
}

fn release() -> Option<u64> {
    control(c"thread.tcache.flush");
    // 4096 is MALLCTL_ARENAS_ALL.
    control(c"arena.4096.purge");
    None
}

fn version() -> String {
    let mut text: *const c_char = std::ptr::null();
    let mut len = size_of_val(&text);
    // SAFETY: "version" yields one pointer to a constant C string; `text` has room for it and `len` says so.
    let result = unsafe { mallctl(c"version".as_ptr(), (&raw mut text).cast(), &raw mut len, null_mut(), 0) };
    assert_eq!(result, 0, "jemalloc tells its version");
    // SAFETY: the call succeeded, so `text` is that string.
    let text = unsafe { CStr::from_ptr(text) };
    format!("jemalloc {}", text.to_string_lossy())
}

fn main() -> ExitCode {
    program::main(&Subject { version: version(), release })
}
