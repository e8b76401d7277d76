//! The workloads on tcmalloc (Google's, not gperftools').
#![allow(unsafe_code, reason = "calls tcmalloc's C interface")]

use std::process::ExitCode;

use ebbtide_benches::program::{self, Subject};

#[global_allocator]
static GLOBAL: tcmalloc_better::TCMalloc = tcmalloc_better::TCMalloc;

// What `MallocExtension::ReleaseCpuMemory` and `ReleaseMemoryToSystem` call; the crate has no binding for them.
unsafe extern "C" {
    fn MallocExtension_Internal_ReleaseCpuMemory(cpu: i32) -> usize;
    fn MallocExtension_Internal_ReleaseMemoryToSystem(bytes: usize) -> usize;
}

fn release() -> Option<u64> {
    // SAFETY: sysconf has no precondition.
    let cpus = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) }.clamp(1, 4096) as i32;
    for cpu in 0..cpus {
        // SAFETY: `cpu` is one of the configured processors.
        unsafe { MallocExtension_Internal_ReleaseCpuMemory(cpu) };
    }
    // SAFETY: any number of bytes may be asked for.
    Some(unsafe { MallocExtension_Internal_ReleaseMemoryToSystem(usize::MAX) } as u64)
}

fn main() -> ExitCode {
    program::main(&Subject { version: "tcmalloc-better 0.1.19".to_owned(), release })
}
