//! Forks: the child of a threaded program finds the heap whole and every lock free.
//!
//! Before a fork the forking thread takes all locks but those of thread caches, in their order, so no other thread
//! is in the middle of a change. Slots in the caches of threads that the child lacks are lost to it: such a thread
//! may have been stopped anywhere in its fast path. Their thread locals are gone, so a release must not reach for them.
//! The caller's own cache gets the thread id that its owner has in the child.
//!
//! # Handlers of others
//! Ours are registered by a constructor that runs before those of a program ([`watch`]). libc calls handlers that
//! were registered later before ours and, when the fork is done, after ours: they find all locks free. Those that were
//! registered even earlier (a constructor of a library that the program is linked with) run while the thread holds
//! all locks. They may allocate, free, release and fork: the thread passes the locks that it holds (`lock`). What they
//! may not do is wait for another thread that allocates.
//!
//! # Ways to make a process that run no handlers
//! - `vfork`, `posix_spawn` and `clone` with `CLONE_VM`: the child works on its parent's memory until it executes another
//!   program, in place of the thread that made it, which sleeps. It may allocate and free. If it is killed inside
//!   such a call, a lock stays taken in the parent.
//! - `_Fork`, and `clone`, `clone3` or `fork` as bare system calls: if the parent has one thread, the child is a whole
//!   program. Its first thread goes on with its cache, which releases of other threads leave alone, since they see that the
//!   cache's owner is of another process. If the parent has more threads, a lock that one of them held stays taken, and
//!   what it was changing stays half changed: the child must not allocate before it executes another program.

#![allow(unsafe_code, reason = "a function pointer kept in an atomic, and a constructor")]

use crate::base::sync::{AtomicPtr, Ordering};
use crate::cache::magazine::ThreadCache;
use crate::heap::{HEAP, Heap};
use crate::local;
use crate::os::{ForkHandlers, Os, begin_fork, end_fork, is_forking};
use crate::space::size_class::SizeClass;

/// Has the functions below called around each fork. The first call counts.
pub(crate) fn watch() {
    // A linker that takes this function out of an archive takes the constructor with it.
    #[cfg(all(target_os = "linux", not(miri), not(loom)))]
    core::hint::black_box(&raw const AT_START);
    HEAP.os().watch_forks(ForkHandlers { before: fork_begins, in_parent: fork_ends, in_child: child_begins });
}

#[cfg(all(target_os = "linux", not(miri), not(loom)))]
extern "C" fn at_start() {
    watch();
}

// A plugin must be pinned before anything can unload it. Handlers that are registered first run last before a fork and
// first after it: those of others then find all locks free. Constructors run in the order of the numbers that their
// sections end in; a program's own begin at 101. Where this does not run, the first thread that takes a cache registers
// them.
#[cfg(all(target_os = "linux", not(miri), not(loom)))]
#[used]
// SAFETY: the loader calls each pointer in this section once, as a C function whose arguments may be ignored, when libc
// is ready. `at_start` is such a function. It needs nothing that other constructors set up, allocates nothing of ours,
// and does not panic.
#[unsafe(link_section = ".init_array.00099")]
static AT_START: extern "C" fn() = at_start;

unsafe extern "C" fn fork_begins() {
    before();
}

unsafe extern "C" fn fork_ends() {
    in_parent();
}

unsafe extern "C" fn child_begins() {
    in_child();
}

/// The calling thread is about to fork.
pub(crate) fn before() {
    if local::own_cache().is_none() {
        // A handler may have it take a cache. That must not wait for the first thread to leave a slow path, in which
        // that one waits for the locks below.
        HEAP.caches.share();
    }
    HEAP.lock_all();
}

/// The fork is done, or was refused; this is the parent.
pub(crate) fn in_parent() {
    HEAP.unlock_all();
}

/// A `fn()`, or null.
static CHILD_HOOK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Has `hook` called in each forked child while all locks of the heap are held for the fork, so that no thread which a
/// handler of the program starts is beside it. It may only store to atomics. There is one hook, for the layer above.
#[doc(hidden)]
pub fn set_child_hook(hook: fn()) {
    // Release: what the hook relies on was set up before.
    CHILD_HOOK.store(hook as *mut (), Ordering::Release);
    watch();
}

fn call_child_hook() {
    // Acquire: pairs with the store above.
    let hook = CHILD_HOOK.load(Ordering::Acquire);
    if !hook.is_null() {
        // SAFETY: what is not null was stored by `set_child_hook` from a `fn()`.
        let hook = unsafe { core::mem::transmute::<*mut (), fn()>(hook) };
        hook();
    }
}

/// The fork is done; this is the child, with one thread.
pub(crate) fn in_child() {
    HEAP.caches.sharing.end();
    HEAP.forget_other_threads(local::own_cache());
    local::renew();
    call_child_hook();
    HEAP.unlock_all();
}

impl<O: Os> Heap<O> {
    /// Takes all locks that do not belong to one thread, unless the caller is inside a fork and has them.
    pub(crate) fn lock_all(&self) {
        if !is_forking() {
            self.releases.lock().lock_for_fork(self.os());
            self.caches.registry.lock_for_fork(self.os());
            SizeClass::all().for_each(|class| self.spans().list_lock(class).lock_for_fork(self.os()));
            let (growing, zones) = self.pages().page_heap().locks();
            growing.lock_for_fork(self.os());
            zones.for_each(|zone| zone.lock_for_fork(self.os()));
        }
        begin_fork();
    }

    /// Frees what [`lock_all`](Self::lock_all) took, if this was the thread's only fork.
    pub(crate) fn unlock_all(&self) {
        end_fork();
        if is_forking() {
            return;
        }
        let (growing, zones) = self.pages().page_heap().locks();
        zones.rev().for_each(|zone| zone.unlock_after_fork(self.os()));
        growing.unlock_after_fork(self.os());
        SizeClass::all().for_each(|class| self.spans().list_lock(class).unlock_after_fork(self.os()));
        self.caches.registry.unlock_after_fork(self.os());
        self.releases.lock().unlock_after_fork(self.os());
    }

    /// Cuts the caches of all threads but the caller's off from their thread locals, and frees the lock of its own,
    /// which a release of another thread may have held.
    pub(crate) fn forget_other_threads(&self, own: Option<&ThreadCache>) {
        for cache in self.caches.registry.all() {
            if own.is_some_and(|own| core::ptr::eq(own, cache)) {
                cache.lock.unlock_after_fork(self.os());
            } else {
                // Relaxed: there is one thread.
                cache.pointer.store(core::ptr::null_mut(), Ordering::Relaxed);
                cache.detached.store(false, Ordering::Relaxed);
                self.counters().count_handed(cache.of_sole_thread().settle_drift());
            }
        }
    }
}
