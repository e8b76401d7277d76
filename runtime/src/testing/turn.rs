//! [`Turn`]: one assertion at a time.
//!
//! A lock of its own, on a futex, since std's would stay locked in a child that is forked while another thread has it. What
//! an assertion measures runs under it, so the thread that has it may take it again. In the child of a fork it is free,
//! unless the forking thread has it.

use crate::kernel;
use core::cell::Cell;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody may wait.
const AWAITED: u32 = 2;

static TURN: AtomicU32 = AtomicU32::new(FREE);

std::thread_local! {
    /// How often this thread has taken it.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Has the turn until it is dropped, on the thread that took it.
pub(super) struct Turn(PhantomData<*const ()>);

impl Turn {
    /// Waits for other threads' turns.
    pub(super) fn take() -> Self {
        let depth = DEPTH.get();
        if depth == 0 {
            lock();
        }
        DEPTH.set(depth + 1);
        Self(PhantomData)
    }
}

fn lock() {
    // Acquire, here and below: pairs with the end of the turn before.
    if TURN.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() {
        return;
    }
    while TURN.swap(AWAITED, Ordering::Acquire) != FREE {
        kernel::wait(&TURN, AWAITED, None);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let depth = DEPTH.get() - 1;
        DEPTH.set(depth);
        // Release: what was measured is over before the next turn begins.
        if depth == 0 && TURN.swap(FREE, Ordering::Release) == AWAITED {
            kernel::wake(&TURN);
        }
    }
}

/// In the child of a fork: nobody else has the turn.
pub(super) fn begin_in_child() {
    // Relaxed: there is one thread.
    TURN.store(if DEPTH.get() == 0 { FREE } else { TAKEN }, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;

    #[test]
    fn one_thread_at_a_time_which_may_nest() {
        static AT_WORK: AtomicU64 = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let _turn = Turn::take();
                        assert_eq!(AT_WORK.fetch_add(1, Ordering::Relaxed), 0);
                        drop(Turn::take());
                        assert_eq!(AT_WORK.fetch_sub(1, Ordering::Relaxed), 1);
                    }
                });
            }
        });
        assert_eq!((TURN.load(Ordering::Relaxed), DEPTH.get()), (FREE, 0));
    }
}
