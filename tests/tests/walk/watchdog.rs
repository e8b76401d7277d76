//! The watchdog of a process: ends it with a report when an operation does not come to its end.
//!
//! It is a timer whose signal handler looks at the board, and no thread: so it works from the first moment of a forked child,
//! needs nothing of the heap, and leaves a child that has one thread with one. The handler only loads atomics and writes
//! lines. A parent sends [`REPORT`] to a child that does not even come to its timer.
#![allow(unsafe_code, reason = "signals, timers and _exit are libc functions")]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use ebbtide_tests::patience::patient;
use ebbtide_tests::signal::{handle, now};

use crate::board::{self, Row, board};
use crate::say::say;
use crate::{fault, worker};

/// Has a process write its report and end.
pub(crate) const REPORT: i32 = libc::SIGUSR2;

/// What processes tell by their exit status.
pub(crate) const HUNG: i32 = 20;
pub(crate) const WRONG: i32 = 21;
pub(crate) const CHILD_FAILED: i32 = 22;

/// An operation takes milliseconds, or a second on a busy machine. A child has less time than its parent, so that
/// the process that hangs is the one that says so.
const LONGEST: Duration = Duration::from_secs(30);
/// A child has less by this part for each fork.
const LESS: u64 = 6;

static LONGEST_NS: AtomicU64 = AtomicU64::new(0);
static SEEN_BEATS: AtomicU64 = AtomicU64::new(0);
static SEEN_AT: AtomicU64 = AtomicU64::new(0);

/// In the root, once: reads the environment, and installs what children inherit.
pub(crate) fn set_up() {
    let longest = if fault::is_hang() { fault::SHORT } else { LONGEST };
    LONGEST_NS.store(patient(longest).as_nanos() as u64, Relaxed);
    handle(libc::SIGALRM, on_alarm);
    handle(REPORT, on_report);
    start();
}

/// Starts the timer of this process: a child has none.
pub(crate) fn start() {
    SEEN_AT.store(now(), Relaxed);
    SEEN_BEATS.store(board::own().beats.load(Relaxed), Relaxed);
    let second = libc::timeval { tv_sec: 1, tv_usec: 0 };
    let timer = libc::itimerval { it_interval: second, it_value: second };
    // SAFETY: the sets and the timer are valid; the calls change nothing else. A child that was forked by the
    // background thread has all signals blocked.
    unsafe {
        let mut set = MaybeUninit::uninit();
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGALRM);
        libc::sigaddset(set.as_mut_ptr(), REPORT);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}

/// How long an operation of this process may take.
pub(crate) fn longest_ns(depth: u32) -> u64 {
    let longest = LONGEST_NS.load(Relaxed);
    longest - longest / LESS * u64::from(depth)
}

extern "C" fn on_alarm(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    let errno = ebbtide_tests::memory::errno();
    let (row, time) = (board::own(), now());
    let longest = longest_ns(row.depth.load(Relaxed));
    let beats = row.beats.load(Relaxed);
    if SEEN_BEATS.swap(beats, Relaxed) != beats {
        SEEN_AT.store(time, Relaxed);
    }
    let late = |since: u64| since != 0 && time.saturating_sub(since) > longest;
    if late(SEEN_AT.load(Relaxed)) {
        end_hung("no operation was finished");
    }
    if row.slots.iter().any(|slot| late(slot.since.load(Relaxed))) {
        end_hung("an operation does not end");
    }
    ebbtide_tests::memory::set_errno(errno);
}

extern "C" fn on_report(_: i32, _: *mut libc::siginfo_t, _: *mut c_void) {
    end_hung("the parent saw no sign of life");
}

fn end_hung(why: &str) -> ! {
    say(format_args!("HANGS: {why}"));
    report(own_row());
    let mut held = 0;
    ebbtide_alloc::held_locks(|lock| {
        held += 1;
        say(format_args!("  held: {lock}"));
    });
    if held == 0 {
        say(format_args!("  no lock of the heap is held"));
    }
    end(HUNG)
}

/// The row of this process, be it that a child hangs before it knows it.
fn own_row() -> &'static Row {
    let pid = std::process::id() as i32;
    board().rows.iter().find(|row| row.pid.load(Relaxed) == pid).unwrap_or_else(|| board::own())
}

/// Says what the threads of a process are doing.
pub(crate) fn report(row: &Row) {
    let (depth, seed) = (row.depth.load(Relaxed), row.seed.load(Relaxed));
    say(format_args!("  process {} after {depth} forks, seed {seed:#x}:", row.pid.load(Relaxed)));
    for (index, slot) in row.slots.iter().enumerate() {
        let (doing, number, since) =
            (slot.doing.load(Relaxed), slot.number.load(Relaxed), slot.since.load(Relaxed));
        let name = worker::name_of(doing);
        if since != 0 {
            let ms = now().saturating_sub(since) / 1_000_000;
            say(format_args!("  thread {index}: {name} (operation {number}) for {ms} ms"));
        } else if doing != board::RESTING {
            say(format_args!("  thread {index}: {name} (operation {number}), which waits for others"));
        }
    }
}

/// Ends the process with a status that tells the parent. The other processes of the tree end soon.
pub(crate) fn end(status: i32) -> ! {
    if status != 0 {
        board().failed.store(true, Relaxed);
    }
    // SAFETY: _exit ends the process without running anything of its threads'.
    unsafe { libc::_exit(status) }
}
