//! All that this layer asks of the operating system: one page. No call allocates, panics or takes a lock of Rust's.
#![allow(unsafe_code, reason = "libc calls")]

use core::ffi::{CStr, c_void};
use core::sync::atomic::AtomicU32;
use core::time::Duration;

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

/// Longer lines are cut to this many bytes.
const LINE: usize = 1024;

/// Calls `line` with each line of a file, without its end. False if the file cannot be read.
pub(crate) fn each_line(path: &CStr, line: &mut dyn FnMut(&[u8])) -> bool {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: the path ends with a 0.
    let file = unsafe { libc::open(path.as_ptr(), flags) };
    if file < 0 {
        return false;
    }
    let (mut buffer, mut held, mut long) = ([0_u8; LINE], 0, false);
    let mut good = true;
    loop {
        let room = buffer.get_mut(held..).unwrap_or_default();
        // SAFETY: pointer and length are those of a live slice.
        let read = unsafe { libc::read(file, room.as_mut_ptr().cast(), room.len()) };
        let Ok(read) = usize::try_from(read) else {
            good = false;
            break;
        };
        let end = held + read;
        let mut from = 0;
        while let Some(rest) = buffer.get(from..end)
            && let Some(len) = rest.iter().position(|byte| *byte == b'\n')
        {
            // The rest of a line whose beginning was handed on already is no line.
            if !core::mem::take(&mut long) {
                line(rest.get(..len).unwrap_or_default());
            }
            from += len + 1;
        }
        buffer.copy_within(from..end, 0);
        held = end - from;
        let full = held == LINE;
        if (read == 0 || full) && held > 0 && !long {
            line(buffer.get(..held).unwrap_or_default());
        }
        if full {
            (held, long) = (0, true);
        }
        if read == 0 {
            break;
        }
    }
    // SAFETY: this call opened the file.
    unsafe { libc::close(file) };
    good
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
    use core::sync::atomic::Ordering;

    #[test]
    fn variables_are_read_as_std_reads_them() {
        let path = std::env::var_os("PATH").expect("cargo sets it");
        with_variable(c"PATH", |value| assert_eq!(value, Some(path.as_encoded_bytes())));
        with_variable(c"EBBTIDE_NO_SUCH_VARIABLE", |value| assert_eq!(value, None));
    }

    fn lines_of(content: &[u8]) -> Vec<Vec<u8>> {
        let mut file = tempfile::NamedTempFile::new().expect("a place for files");
        std::io::Write::write_all(&mut file, content).expect("room for it");
        let path = std::ffi::CString::new(file.path().as_os_str().as_encoded_bytes()).expect("no zero");
        let mut lines = Vec::new();
        assert!(each_line(&path, &mut |line| lines.push(line.to_vec())));
        lines
    }

    #[test]
    fn files_are_read_by_lines() {
        assert!(lines_of(b"").is_empty());
        assert_eq!(lines_of(b"a\n\nbc"), [b"a".as_slice(), b"", b"bc"]);
        let long = [b"x\n".as_slice(), &[b'y'; 5000], b"\nz\n"].concat();
        assert_eq!(lines_of(&long), [b"x".as_slice(), &[b'y'; LINE], b"z"], "long lines are cut");
        let many = "0123456789\n".repeat(1000);
        assert_eq!(lines_of(many.as_bytes()).len(), 1000);
        assert!(!each_line(c"/no such file", &mut |_| panic!("no line")));
        assert!(!each_line(c"/proc/self", &mut |_| panic!("a folder")));
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
