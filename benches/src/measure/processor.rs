//! What the kernel counts of a thread's and a process's work.
#![allow(unsafe_code, reason = "clock_gettime and getrusage are libc functions")]

use std::time::Duration;

/// The processor time of the calling thread so far.
#[must_use]
pub fn thread_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid. Every thread has this clock, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn usage(whose: libc::c_int) -> libc::rusage {
    // SAFETY: zero is a valid value of every field.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid place.
    unsafe { libc::getrusage(whose, &raw mut usage) };
    usage
}

/// What the process used so far: minor faults, and nanoseconds of processor time.
#[must_use]
pub fn process_usage() -> (i64, i64) {
    let usage = usage(libc::RUSAGE_SELF);
    let ns = |time: libc::timeval| time.tv_sec * 1_000_000_000 + time.tv_usec * 1000;
    (usage.ru_minflt, ns(usage.ru_utime) + ns(usage.ru_stime))
}

/// How often the scheduler took the processor from the calling thread.
#[must_use]
pub fn interruptions() -> i64 {
    usage(libc::RUSAGE_THREAD).ru_nivcsw
}
