//! The workloads on ebbtide, with the policy that the environment names (default: percent:10).

use std::process::ExitCode;

use ebbtide_benches::program::{self, Subject};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

fn release() -> Option<u64> {
    Some(ebbtide::free_os_memory().released_bytes)
}

fn main() -> ExitCode {
    assert!(ebbtide::is_active(), "another allocator serves this program");
    let version = format!("ebbtide {}, policy {:?}", env!("CARGO_PKG_VERSION"), ebbtide::policy());
    program::main(&Subject { version, release })
}
