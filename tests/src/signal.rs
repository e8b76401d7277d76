//! Signals to threads of this process. What a handler may use is here too: a clock and a pause.
#![allow(unsafe_code, reason = "sigaction, pthread_kill and clocks are libc functions")]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::time::Duration;

/// A handler: the signal's number, what the kernel says of it, and the state of the interrupted thread.
pub type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut c_void);

/// Has `handler` called for a signal. Calls that it interrupts fail with `EINTR`: they are not restarted.
///
/// # Panics
/// If the kernel refuses.
pub fn handle(signal: i32, handler: Handler) {
    // SAFETY: all zeros is a valid sigaction: no flags, no handler.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: `action` is valid and names a handler with the signature that SA_SIGINFO asks for.
    let result = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    assert_eq!(result, 0, "sigaction: {}", std::io::Error::last_os_error());
}

/// A thread that can be sent signals, as long as it lives.
#[derive(Clone, Copy, Debug)]
pub struct Target(libc::pthread_t);

impl Target {
    /// The calling thread.
    #[must_use]
    pub fn this_thread() -> Self {
        // SAFETY: the call has no precondition.
        Self(unsafe { libc::pthread_self() })
    }

    /// Sends a signal.
    ///
    /// # Safety
    /// The thread was not joined, and is not detached and over.
    ///
    /// # Panics
    /// If there is no such signal.
    pub unsafe fn send(self, signal: i32) {
        // SAFETY: the caller vouches that the thread can still be named.
        let result = unsafe { libc::pthread_kill(self.0, signal) };
        assert!(result == 0 || result == libc::ESRCH, "pthread_kill: {result}");
    }
}

/// Nanoseconds of the monotonic clock. A handler may call it.
#[must_use]
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writes; the clock exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Sleeps, or until a signal comes. A handler may call it; it may change errno.
pub fn pause(time: Duration) {
    let time = libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    // SAFETY: `time` is valid; what is left of it is not asked for.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) };
}
