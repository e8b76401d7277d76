//! The thread local that points to the calling thread's cache.
//!
//! A plain pointer without a destructor: reading it is one move. A release may point it to a closed cache, whose
//! magazines are empty and full at once; the owner's next slow path points it back.

#![allow(unsafe_code, reason = "thread caches are reached through a raw pointer")]

use core::cell::Cell;

use crate::base::sync::{AtomicPtr, Ordering, compiler_fence, thread_local};
use crate::cache::magazine::{Locked, ThreadCache};
use crate::heap::HEAP;
use crate::os::Os;

thread_local! {
    /// What the fast path uses.
    static CACHE: AtomicPtr<ThreadCache> = const { AtomicPtr::new(ThreadCache::no_cache()) };
    /// The cache that this thread owns.
    static HOME: Cell<Option<&'static ThreadCache>> = const { Cell::new(None) };
}

/// The cache of this thread, or a closed one.
#[inline(always)]
pub(crate) fn cache() -> &'static ThreadCache {
    // A pop or push that comes after another one reads the pointer after it: see `magazine`. No instruction.
    compiler_fence(Ordering::SeqCst);
    // Relaxed: a release that changes the pointer orders that by a barrier on this thread's behalf.
    let cache = CACHE.with(|cache| cache.load(Ordering::Relaxed));
    // SAFETY: the pointer is that of a static or of a cache in metadata, neither of which ever goes away.
    unsafe { &*cache }
}

/// Attaches the calling thread to its cache again: drops the entries that a release stole, and points the thread local
/// back.
pub(crate) fn come_back(cache: Locked<'_>) {
    cache.mend();
    point_to(core::ptr::from_ref::<ThreadCache>(&cache).cast_mut());
}

pub(crate) fn point_to(cache: *mut ThreadCache) {
    // Relaxed: see `cache`.
    CACHE.with(|pointer| pointer.store(cache, Ordering::Relaxed));
}

/// Makes the calling thread the owner of a cache.
pub(crate) fn own(cache: Locked<'_>) {
    let mark = HEAP.os().mark_thread();
    CACHE.with(|pointer| cache.belongs_to(mark, core::ptr::from_ref(pointer).cast_mut()));
}

/// In the child of a fork: the cache's owner gets the thread id that it has there.
pub(crate) fn renew() {
    if let Some(cache) = HOME.get() {
        own(cache.locked(&cache.lock.lock(HEAP.os())));
    }
}

/// As [`come_back`], for the caller's cache, if it has one.
pub(crate) fn mend() {
    if let Some(cache) = HOME.get() {
        come_back(cache.locked(&cache.lock.lock(HEAP.os())));
    }
}

/// The cache that this thread owns.
pub(crate) fn own_cache() -> Option<&'static ThreadCache> {
    HOME.get()
}

/// Sets the cache that this thread owns.
pub(crate) fn set_own_cache(cache: Option<&'static ThreadCache>) {
    HOME.set(cache);
}
