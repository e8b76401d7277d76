//! The calling thread's cache: where it is, and whose.
//!
//! A thread local of a plain pointer without a destructor: reading it is one move. A release may point it at the cache
//! that has and takes nothing; the owner's next slow path points it back.

#![allow(unsafe_code, reason = "thread caches are reached through a raw pointer")]

use core::cell::Cell;

use crate::base::sync::{AtomicPtr, Ordering, compiler_fence, thread_local};
use crate::cache::magazine::ThreadCache;
use crate::heap::HEAP;
use crate::os::Os;

thread_local! {
    /// What the fast path uses.
    static CACHE: AtomicPtr<ThreadCache> = const { AtomicPtr::new(ThreadCache::no_cache()) };
    /// The cache that this thread took.
    static HOME: Cell<Option<&'static ThreadCache>> = const { Cell::new(None) };
}

/// The cache of this thread, or one that holds nothing and takes nothing.
#[inline(always)]
pub(crate) fn cache() -> &'static ThreadCache {
    // A pop or push that comes after another one reads the pointer after it: see `magazine`. No instruction.
    compiler_fence(Ordering::SeqCst);
    // Relaxed: a release that changes the pointer orders that by a barrier on this thread's behalf.
    let cache = CACHE.with(|cache| cache.load(Ordering::Relaxed));
    // SAFETY: the pointer is that of a static or of a cache in metadata, neither of which ever goes away.
    unsafe { &*cache }
}

/// Takes note of what a release took of a cache that it turned its owner away from. The owner holds the lock.
pub(crate) fn come_back(cache: &ThreadCache) {
    cache.mend();
    point_to(core::ptr::from_ref(cache).cast_mut());
}

pub(crate) fn point_to(cache: *mut ThreadCache) {
    // Relaxed: see `cache`.
    CACHE.with(|pointer| pointer.store(cache, Ordering::Relaxed));
}

/// Says that a cache is the calling thread's. The caller holds its lock.
pub(crate) fn own(cache: &ThreadCache) {
    let mark = HEAP.os().mark_thread();
    CACHE.with(|pointer| cache.belongs_to(mark, core::ptr::from_ref(pointer).cast_mut()));
}

/// The child of a fork: the one thread that goes on has another number.
pub(crate) fn renew() {
    if let Some(cache) = HOME.get() {
        let _busy = cache.lock.lock(HEAP.os());
        own(cache);
    }
}

/// Takes note of what a release took from the caller's cache.
pub(crate) fn mend() {
    if let Some(cache) = HOME.get() {
        let _busy = cache.lock.lock(HEAP.os());
        come_back(cache);
    }
}

/// The cache that this thread took.
pub(crate) fn own_cache() -> Option<&'static ThreadCache> {
    HOME.get()
}

/// The thread has taken a cache, or has none any more.
pub(crate) fn set_own_cache(cache: Option<&'static ThreadCache>) {
    HOME.set(cache);
}
