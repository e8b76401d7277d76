//! All that this layer asks of the operating system: one page. No call allocates, panics or takes a lock of Rust's.
#![allow(unsafe_code, reason = "libc calls")]

use core::ffi::CStr;

/// Bytes of a page, as everywhere in ebbtide.
pub(crate) const PAGE: usize = 4096;

/// Hands the bytes of an environment variable to `look`, `None` if it is not set.
///
/// The bytes are lent for the call only: a later `set_var` may move them.
pub(crate) fn with_variable<T>(name: &CStr, look: impl FnOnce(Option<&[u8]>) -> T) -> T {
    // SAFETY: `name` ends with a 0. Nobody may change the environment during the call: that is the promise which
    // `std::env::set_var` asks of its callers in a program with threads, and this one runs before `main`, or on a
    // thread of a program to which that promise applies.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return look(None);
    }
    // SAFETY: getenv returned a string that ends with a 0 and, as above, stays as it is during this call; the
    // lifetime cannot leave `look`.
    look(Some(unsafe { CStr::from_ptr(value) }.to_bytes()))
}

/// Writes `bytes` to stderr with one `write`. Failure is not reported: there is nowhere to report it.
pub(crate) fn write_stderr(bytes: &[u8]) {
    // SAFETY: the pointer and the length are those of a live slice.
    let _ = unsafe { libc::write(libc::STDERR_FILENO, bytes.as_ptr().cast(), bytes.len()) };
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live timespec that the call may write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.unsigned_abs())
}

/// Asks which of the pages from `start` on, one for each of `states`, are resident: then its lowest bit is 1.
///
/// # Errors
/// The errno, `ENOMEM` if one of the pages is not mapped.
pub(crate) fn resident_pages(start: usize, states: &mut [u8]) -> Result<(), i32> {
    // SAFETY: mincore writes one byte a page, and `states` has room for each; of the range itself it reads nothing, and a
    // range that is not mapped is an error.
    let result =
        unsafe { libc::mincore(start as *mut libc::c_void, states.len() * PAGE, states.as_mut_ptr()) };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// Has every forked child call `work` before its one thread goes on. `work` may only store to atomics.
pub(crate) fn in_forked_child(work: extern "C" fn()) {
    // SAFETY: `work` is a function for the life of the program, and only stores to atomics, which is allowed in the
    // child of a process with threads. Failure (no memory) leaves the child without the call, which is no unsoundness.
    let _ = unsafe { libc::pthread_atfork(None, None, Some(as_libc_wants(work))) };
}

/// libc declares the handler as unsafe to call.
fn as_libc_wants(work: extern "C" fn()) -> unsafe extern "C" fn() {
    work
}

/// The calling thread's errno.
fn errno() -> i32 {
    // SAFETY: the address of this thread's errno, valid while the thread lives.
    unsafe { libc::__errno_location().read() }
}

/// Runs `work` and leaves `errno` as it was before: `work` may run inside a free, which must not change it.
pub(crate) fn keeping_errno(work: impl FnOnce()) {
    // SAFETY: the address of this thread's errno, valid while the thread lives.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: `errno` is valid and only this thread uses it.
    let before = unsafe { errno.read() };
    work();
    // SAFETY: as above.
    unsafe { errno.write(before) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_std_reads_them() {
        let path = std::env::var_os("PATH").expect("cargo sets it");
        with_variable(c"PATH", |value| assert_eq!(value, Some(path.as_encoded_bytes())));
        with_variable(c"EBBTIDE_NO_SUCH_VARIABLE", |value| assert_eq!(value, None));
    }

    #[test]
    fn errno_survives() {
        keeping_errno(|| {
            let _ = std::fs::File::open("/no such file");
        });
        let before = std::io::Error::last_os_error().raw_os_error();
        keeping_errno(|| {
            // ENOTDIR, where the call above left ENOENT at most.
            let _ = std::fs::File::open("/dev/null/below");
        });
        assert_eq!(std::io::Error::last_os_error().raw_os_error(), before);
    }
}
