//! All that this layer asks of the operating system. No call allocates, panics or takes a lock of Rust's.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | the environment, stderr, clocks, futexes, threads, `errno` |
//! | `files.rs` | files that are read by lines, or held open |
//! | `cgroup/`, `group_limit.rs` | the control group's limit and memory pressure |
//! | `line.rs` | a line on stderr, without heap memory |
//! | `sandbox.rs` | whether the process has locked itself in |
//!
//! # What each slow path may call
//! A program may lock itself in, so calls that run inside an allocation or a free are few, and all plain ones:
//!
//! | where | calls |
//! |---|---|
//! | any allocation or free that meets a bound (`on_pressure` of the governor) | `clock_gettime` (in the vDSO), those of the allocator's release (`prctl(PR_GET_SECCOMP)` before any but the basic ones), `futex` to wake the background thread |
//! | the same, while a control group's limit is followed, at most each 20 ms | `prctl(PR_GET_SECCOMP)`; `fstat` and `pread64` of files that are open already |
//! | the same, with `EBBTIDE_TRACE` | `write` to stderr; with `release`: the calls of the line above for `/proc/self/statm` |
//! | the first idle memory under `Policy::Background` | what `pthread_create` calls (`mmap`, `mprotect`, `clone3`, `rt_sigprocmask`), then `prctl(PR_SET_NAME)` on the thread |
//! | start, and calls of this crate that the program makes | all of the above, and opening: `openat`, `read`, `fcntl`, `prlimit64`, `close` |
//! | the background thread | the same, but opening only in a process that was not started under a filter |
//!
//! Once a process has locked itself in since its start ([`sandbox`]), nothing of `openat`, `fstat`, `pread64` is called
//! any more, on no path, but for `follow_cgroup_limit` and `limit_from_cgroup`, which ask for files by name.
#![allow(unsafe_code, reason = "libc calls")]

use core::ffi::{CStr, c_void};
use core::sync::atomic::AtomicU32;
use core::time::Duration;

pub(crate) mod cgroup;
pub(crate) mod files;
pub(crate) mod group_limit;
pub(crate) mod line;
pub(crate) mod sandbox;

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
    let result = unsafe { libc::mincore(start as *mut c_void, states.len() * PAGE, states.as_mut_ptr()) };
    if result == 0 { Ok(()) } else { Err(errno()) }
}

/// Processor time of the calling thread, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as in `monotonic_ns`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    now.tv_sec.unsigned_abs().saturating_mul(1_000_000_000).saturating_add(now.tv_nsec.unsigned_abs())
}

/// Sleeps while `word` is `expected`, for `time` at most, or wakes for no reason.
pub(crate) fn wait(word: &AtomicU32, expected: u32, time: Option<Duration>) {
    let time = time.map(|time| libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    });
    let timeout = time.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: `word` and the timeout, if there is one, live for the call. An error only means a wake without reason.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, expected, timeout) };
}

/// Wakes one sleeper of `word`.
pub(crate) fn wake(word: &AtomicU32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the kernel uses `word` only as an address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 1) };
}

/// Bytes of the stack of a thread: a release puts a few KiB there, what hears of it some more.
const STACK: usize = 1 << 20;

/// Starts a thread that nobody joins, named `ebbtide`, with all signals blocked: the program's handlers must not run
/// there. Not by std, whose way allocates and takes locks that the caller's callers may hold. The error is errno's.
pub(crate) fn spawn(work: fn()) -> Result<(), i32> {
    extern "C" fn start(work: *mut c_void) -> *mut c_void {
        // SAFETY: the name ends with a 0 and is short enough. A refusal leaves the thread the name of its process.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"ebbtide".as_ptr()) };
        // SAFETY: `spawn` made the pointer of a `fn()`.
        let work = unsafe { core::mem::transmute::<*mut c_void, fn()>(work) };
        work();
        core::ptr::null_mut()
    }
    // SAFETY: sets of signals and attributes are plain data, which the calls below make valid before they are used; each
    // pointer is that of a live local. A thread may block its own signals.
    unsafe {
        let (mut all, mut before) = (core::mem::zeroed(), core::mem::zeroed());
        let mut attributes = core::mem::zeroed();
        libc::sigfillset(&raw mut all);
        let refused = libc::pthread_attr_init(&raw mut attributes);
        if refused != 0 {
            return Err(refused);
        }
        libc::pthread_attr_setdetachstate(&raw mut attributes, libc::PTHREAD_CREATE_DETACHED);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let mut thread = core::mem::zeroed();
        let argument = work as *mut c_void;
        libc::pthread_attr_setstacksize(&raw mut attributes, STACK);
        let mut refused = libc::pthread_create(&raw mut thread, &raw const attributes, start, argument);
        if refused == libc::EINVAL {
            // The program's thread locals alone need more.
            libc::pthread_attr_setstacksize(&raw mut attributes, 16 * STACK);
            refused = libc::pthread_create(&raw mut thread, &raw const attributes, start, argument);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, core::ptr::null_mut());
        libc::pthread_attr_destroy(&raw mut attributes);
        if refused == 0 { Ok(()) } else { Err(refused) }
    }
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
    use core::sync::atomic::Ordering;

    #[test]
    fn variables_are_read_as_std_reads_them() {
        let path = std::env::var_os("PATH").expect("cargo sets it");
        with_variable(c"PATH", |value| assert_eq!(value, Some(path.as_encoded_bytes())));
        with_variable(c"EBBTIDE_NO_SUCH_VARIABLE", |value| assert_eq!(value, None));
    }

    #[test]
    fn a_thread_starts_without_signals_and_can_be_woken() {
        static WORD: AtomicU32 = AtomicU32::new(0);
        spawn(|| {
            WORD.store(1, Ordering::SeqCst);
            wake(&WORD);
        })
        .expect("a thread");
        while WORD.load(Ordering::SeqCst) == 0 {
            wait(&WORD, 0, Some(Duration::from_secs(5)));
        }
        wait(&WORD, 0, None);
        wait(&WORD, 1, Some(Duration::ZERO));
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
