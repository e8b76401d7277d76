//! Lack of memory, on demand: which allocation of a test's thread fails. No locks.

use core::cell::Cell;

thread_local! {
    /// Allocations of this thread until one fails; 0 for never.
    static FUSE: Cell<u32> = const { Cell::new(0) };
    /// Whether those after it fail as well.
    static LASTS: Cell<bool> = const { Cell::new(false) };
    /// Whether one failed.
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// From now on allocation number `fuse` fails, alone or with those after it.
pub(crate) fn arm(fuse: u32, lasts: bool) {
    LASTS.set(lasts);
    FUSE.set(fuse);
}

/// No allocation fails any more. Returns whether one did.
pub(crate) fn disarm() -> bool {
    FUSE.set(0);
    FAILED.replace(false)
}

/// Whether this allocation has to fail.
pub(crate) fn is_due() -> bool {
    let left = FUSE.get();
    if left > 1 || (left == 1 && !LASTS.get()) {
        FUSE.set(left - 1);
    }
    FAILED.set(FAILED.get() || left == 1);
    left == 1
}

/// Whether an allocation failed since it was disarmed.
pub(crate) fn has_failed() -> bool {
    FAILED.get()
}
