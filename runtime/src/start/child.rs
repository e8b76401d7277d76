//! The child of a fork: every room's books are put in order before the child does anything. No lock.
#![allow(unsafe_code, reason = "vouches for what is so in the child of a fork")]

use crate::{events, governor, testing};

/// Called by the allocator's own handler, while it holds all locks of the heap: a thread that a handler of the program
/// starts in the child waits for these before it can have caused an event or a release. It stores to atomics alone.
pub(super) fn begin() {
    governor::begin_in_child();
    testing::begin_in_child();
    // SAFETY: the child of a fork begins with one thread, the one that called `fork`; what others are started before this
    // ends wait in their first allocation. Of maps and events the one can only have been in callbacks and allocations:
    // nothing else of them calls what could fork.
    unsafe {
        events::after_fork();
        ebbtide_map::internal::after_fork();
    }
}
