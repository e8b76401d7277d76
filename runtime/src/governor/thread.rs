//! Whether there is a background thread, and the bell that it sleeps on.
//!
//! Invariant: at most one runs in a process. [`BELL`] is rung by whoever finds something to do, on a thread that may be
//! inside a free; the thread sleeps on it. No lock, and no call of std's that allocates.

use super::in_force;
use crate::kernel;
use crate::kernel::line::Line;
use core::cell::Cell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::time::Duration;

// All orderings are SeqCst: rare, and several variables are reasoned about at once.
static STATE: AtomicU32 = AtomicU32::new(ABSENT);
static BELL: AtomicU32 = AtomicU32::new(QUIET);
/// Whether it was rung for work that it has not finished.
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

/// Has the thread look at the heap; starts one that does `work` if there is none. False if there can be none.
pub(super) fn ring(work: fn()) -> bool {
    if STATE.load(Ordering::SeqCst) == REFUSED {
        return false;
    }
    BUSY.store(true, Ordering::SeqCst);
    let asleep = BELL.swap(RUNG, Ordering::SeqCst) == QUIET;
    match STATE.compare_exchange(ABSENT, RUNNING, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => start(work),
        Err(_) => {
            if asleep {
                kernel::wake(&BELL);
            }
            true
        }
    }
}

fn start(work: fn()) -> bool {
    match kernel::spawn(work) {
        Ok(()) => true,
        Err(errno) => {
            STATE.store(REFUSED, Ordering::SeqCst);
            BUSY.store(false, Ordering::SeqCst);
            Line::new(format_args!(
                "ebbtide: no background thread (errno {errno}); policy {} works as percent",
                in_force::current()
            ))
            .emit();
            false
        }
    }
}

/// Whether no thread watches over idle memory, though one could be started.
pub(super) fn is_absent() -> bool {
    STATE.load(Ordering::SeqCst) == ABSENT
}

/// Whether it is at work, so that nobody need tell it of more.
pub(super) fn is_busy() -> bool {
    BUSY.load(Ordering::SeqCst)
}

/// The policy has changed: one that is not wanted any more ends, one that was refused may be tried again.
pub(super) fn policy_changed() {
    let _ = STATE.compare_exchange(REFUSED, ABSENT, Ordering::SeqCst, Ordering::SeqCst);
    if BELL.swap(RUNG, Ordering::SeqCst) == QUIET {
        kernel::wake(&BELL);
    }
}

/// A forked child has no such thread, unless a callback forked on it: then it is the child's one thread, and goes on as
/// what it was when the callback returns.
pub(super) fn begin_in_child() {
    let is_it = IS_IT.get();
    STATE.store(if is_it { RUNNING } else { ABSENT }, Ordering::SeqCst);
    BELL.store(if is_it { RUNG } else { QUIET }, Ordering::SeqCst);
    BUSY.store(is_it, Ordering::SeqCst);
}

/// Runs `work` as the one thread.
pub(super) fn as_the_one(work: impl FnOnce()) {
    IS_IT.set(true);
    work();
    IS_IT.set(false);
}

/// The thread begins to look: what rings from now on is new.
pub(super) fn answer() {
    BELL.store(QUIET, Ordering::SeqCst);
}

/// Sleeps until the bell rings, for `time` at most, or wakes for no reason. For the thread itself.
pub(super) fn sleep(time: Option<Duration>) {
    kernel::wait(&BELL, QUIET, time);
}

/// All work that it was rung for is done.
pub(super) fn is_done() {
    BUSY.store(false, Ordering::SeqCst);
}

/// The thread is about to end. Who rings after this finds none and starts another.
pub(super) fn depart() {
    BUSY.store(false, Ordering::SeqCst);
    STATE.store(ABSENT, Ordering::SeqCst);
}

/// Whether the thread that was about to end goes on, as it was rung for since and no other was started.
pub(super) fn comes_back() -> bool {
    BELL.load(Ordering::SeqCst) == RUNG
        && STATE.compare_exchange(ABSENT, RUNNING, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}
