//! The background thread: started when there is first something to do, and never needed for correctness.
//!
//! Invariant: at most one runs in a process. [`BELL`] is rung by whoever finds something to do, on a thread that may be
//! amid a free; the thread sleeps on it. No lock, and no call of std's that allocates.

use crate::governor::{self, Turn};
use crate::line::Line;
use crate::os;
use crate::pace::Pace;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

// All orderings are SeqCst: rare, and several variables are reasoned about at once.
static STATE: AtomicU32 = AtomicU32::new(ABSENT);
static BELL: AtomicU32 = AtomicU32::new(QUIET);
/// Whether it has been told of something that it has not finished.
static BUSY: AtomicBool = AtomicBool::new(false);

std::thread_local! {
    /// Whether this thread is the one. Without a destructor.
    static IS_IT: Cell<bool> = const { Cell::new(false) };
}

const ABSENT: u32 = 0;
const RUNNING: u32 = 1;
/// The system grants no thread.
const REFUSED: u32 = 2;

const QUIET: u32 = 0;
const RUNG: u32 = 1;

/// How often to look what the kernel says of its memory, and of the control group's limit.
const WATCH: Duration = Duration::from_secs(10);

/// Has the thread look at the heap; starts it if there is none. False if there can be none.
pub(crate) fn ring() -> bool {
    if STATE.load(Ordering::SeqCst) == REFUSED {
        return false;
    }
    BUSY.store(true, Ordering::SeqCst);
    let asleep = BELL.swap(RUNG, Ordering::SeqCst) == QUIET;
    match STATE.compare_exchange(ABSENT, RUNNING, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => start(),
        Err(_) => {
            if asleep {
                os::wake(&BELL);
            }
            true
        }
    }
}

fn start() -> bool {
    match os::spawn(run) {
        Ok(()) => true,
        Err(errno) => {
            STATE.store(REFUSED, Ordering::SeqCst);
            BUSY.store(false, Ordering::SeqCst);
            Line::new(format_args!(
                "ebbtide: no background thread (errno {errno}); policy {} works as percent",
                governor::current()
            ))
            .emit();
            false
        }
    }
}

/// Whether there is none that watches over idle memory, though there could be.
pub(crate) fn is_absent() -> bool {
    STATE.load(Ordering::SeqCst) == ABSENT
}

/// Whether it is at work, so that nobody need tell it of more.
pub(crate) fn is_busy() -> bool {
    BUSY.load(Ordering::SeqCst)
}

/// The policy has changed: one that is not wanted any more ends, one that was refused may be tried again.
pub(crate) fn policy_changed() {
    let _ = STATE.compare_exchange(REFUSED, ABSENT, Ordering::SeqCst, Ordering::SeqCst);
    if BELL.swap(RUNG, Ordering::SeqCst) == QUIET {
        os::wake(&BELL);
    }
}

/// A forked child has no such thread, unless a callback forked on it: then it is the child's one thread, and goes on as
/// what it was when the callback returns.
pub(crate) fn begin_in_child() {
    let is_it = IS_IT.get();
    STATE.store(if is_it { RUNNING } else { ABSENT }, Ordering::SeqCst);
    BELL.store(if is_it { RUNG } else { QUIET }, Ordering::SeqCst);
    BUSY.store(is_it, Ordering::SeqCst);
}

/// What the thread does.
fn run() {
    IS_IT.set(true);
    work();
    IS_IT.set(false);
}

fn work() {
    let mut pace = Pace::new(os::monotonic_ns());
    let mut campaign = governor::Campaign::default();
    loop {
        BELL.store(QUIET, Ordering::SeqCst);
        if !governor::wants_background() && leaves() {
            return;
        }
        let wait_ns = pace.wait_ns(os::monotonic_ns());
        if wait_ns > 0 {
            os::wait(&BELL, QUIET, Some(Duration::from_nanos(wait_ns)));
            continue;
        }
        let before = os::thread_cpu_ns();
        let turn = governor::turn(&mut campaign);
        pace.spend(os::thread_cpu_ns().saturating_sub(before));
        match turn {
            Turn::More => {}
            Turn::After(wait_ns) => os::wait(&BELL, QUIET, Some(Duration::from_nanos(wait_ns))),
            Turn::Done { watch } => {
                BUSY.store(false, Ordering::SeqCst);
                governor::settle();
                os::wait(&BELL, QUIET, watch.then_some(WATCH));
            }
        }
    }
}

/// The thread ends, unless it is wanted again since. Who rings after this finds none and starts another.
fn leaves() -> bool {
    BUSY.store(false, Ordering::SeqCst);
    STATE.store(ABSENT, Ordering::SeqCst);
    governor::settle();
    let again = governor::wants_background() && BELL.load(Ordering::SeqCst) == RUNG;
    !(again && STATE.compare_exchange(ABSENT, RUNNING, Ordering::SeqCst, Ordering::SeqCst).is_ok())
}
