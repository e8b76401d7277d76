//! Forks: the child of a threaded program finds the heap whole and every lock free.
//!
//! Before a fork the forking thread takes all locks but those of thread caches, in their order, so no other thread
//! is in the midst of a change. What the caches of threads that the child lacks hold stays with them: such a thread
//! may have been stopped anywhere in its fast path. Their thread locals are gone, so a release must not reach for them.

use crate::heap::{HEAP, Heap};
use crate::magazine::ThreadCache;
use crate::os::Os;
use crate::size_class::SizeClass;
use crate::sync::Ordering;
use crate::thread;

/// The calling thread is about to fork.
pub(crate) fn before() {
    HEAP.lock_all();
}

/// The fork is done; this is the parent.
pub(crate) fn in_parent() {
    HEAP.unlock_all();
}

/// The fork is done; this is the child, with one thread.
pub(crate) fn in_child() {
    HEAP.unlock_all();
    HEAP.sharing.end();
    HEAP.forget_other_threads(thread::own_cache());
}

impl<O: Os> Heap<O> {
    /// Takes all locks that do not belong to one thread.
    pub(crate) fn lock_all(&self) {
        self.releasing.lock_for_fork(&self.os);
        self.registry.lock_for_fork(&self.os);
        SizeClass::all().for_each(|class| self.central_lock(class).lock_for_fork(&self.os));
        self.page_heap_lock().lock_for_fork(&self.os);
    }

    /// Frees what [`lock_all`](Self::lock_all) took.
    pub(crate) fn unlock_all(&self) {
        self.page_heap_lock().unlock_after_fork(&self.os);
        SizeClass::all().for_each(|class| self.central_lock(class).unlock_after_fork(&self.os));
        self.registry.unlock_after_fork(&self.os);
        self.releasing.unlock_after_fork(&self.os);
    }

    /// Cuts the caches of all threads but the caller's off from their thread locals, and frees the lock of its own,
    /// which a release of another thread may have held.
    pub(crate) fn forget_other_threads(&self, own: Option<&ThreadCache>) {
        for cache in self.registry.all() {
            if own.is_some_and(|own| core::ptr::eq(own, cache)) {
                cache.lock.unlock_after_fork(&self.os);
            } else {
                // Relaxed: there is one thread.
                cache.pointer.store(core::ptr::null_mut(), Ordering::Relaxed);
                self.counters.count_handed(cache.settle_drift());
            }
        }
    }
}
