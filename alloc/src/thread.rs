//! The calling thread's cache: found, made at first use, emptied when the thread ends.
//!
//! A thread local of a plain pointer without a destructor: reading it is one move. The end of a thread is told by a
//! pthread key, whose destructor runs after those of Rust's thread locals. What is allocated or freed after it goes
//! straight to the spans. A release may point the thread local at the cache that has and takes nothing; the owner's
//! next slow path points it back.

#![allow(unsafe_code, reason = "thread caches are reached through a raw pointer")]

use core::cell::Cell;
use core::ffi::c_void;

use crate::base::sync::{AtomicPtr, Ordering, compiler_fence, thread_local};
use crate::cache::magazine::ThreadCache;
use crate::fork;
use crate::heap::HEAP;
use crate::inspect::misuse::assert_unlocked;
use crate::os::Os;
use crate::space::size_class::SizeClass;

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

/// Works on the cache of this thread under its lock. Makes one if there is none yet; `None` without memory, when the
/// thread is ending, or while a release works on the cache: nobody sleeps for that.
fn with_cache<R>(work: impl FnOnce(&ThreadCache) -> R) -> Option<R> {
    let cache = match HOME.get() {
        Some(cache) => cache,
        None => attach()?,
    };
    let _busy = cache.lock.lock_soon(HEAP.os())?;
    come_back(cache);
    Some(work(cache))
}

/// Takes note of what a release took of a cache that it turned its owner away from. The owner holds the lock.
fn come_back(cache: &ThreadCache) {
    cache.mend();
    point_to(core::ptr::from_ref(cache).cast_mut());
}

fn point_to(cache: *mut ThreadCache) {
    // Relaxed: see `cache`.
    CACHE.with(|pointer| pointer.store(cache, Ordering::Relaxed));
}

#[cold]
fn attach() -> Option<&'static ThreadCache> {
    if cache().is_past() {
        return None;
    }
    // What the calls below allocate must not come here again.
    point_to(ThreadCache::past_cache());
    // Without a word at the thread's end its cache would be lost: then it gets none.
    let watched = HEAP.os().watch_thread_exit(at_end);
    HEAP.os().prepare_barrier();
    if HEAP.caches.enter() {
        fork::watch();
    }
    let new = if watched { HEAP.caches.registry.take(HEAP.os(), HEAP.counters()) } else { None };
    point_to(ThreadCache::no_cache());
    let new = new?;
    let _busy = new.lock.lock(HEAP.os());
    own(new);
    HOME.set(Some(new));
    Some(new)
}

/// Says that a cache is the calling thread's. The caller holds its lock.
fn own(cache: &ThreadCache) {
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

/// A slot when the magazine is empty. Null without memory.
#[cold]
#[inline(never)]
pub(crate) fn allocate_slow(class: SizeClass) -> *mut u8 {
    assert_unlocked("an allocation");
    let refilled = with_cache(|cache| {
        let magazine = cache.magazine(class);
        magazine.pop().or_else(|| HEAP.caches.refill(cache, class).then(|| magazine.pop()).flatten())
    });
    let slot = match refilled {
        Some(slot) => slot,
        None => HEAP.caches.take_one(class),
    };
    HEAP.check_total();
    slot.unwrap_or(core::ptr::null_mut())
}

/// Takes a slot back when the magazine has no room.
#[cold]
#[inline(never)]
pub(crate) fn free_slow(class: SizeClass, slot: *mut u8) {
    assert_unlocked("a free");
    let counted = with_cache(|cache| HEAP.sound(HEAP.caches.make_room(cache, class, slot)));
    if counted.is_none() {
        HEAP.sound(HEAP.caches.give_one(class, slot));
    }
    // The totals are cache lines that other threads write: they are looked at when this one has.
    if counted != Some(false) {
        HEAP.check_idle();
    }
}

/// Empties the caller's cache into the spans. False if it has none.
pub(crate) fn flush() -> bool {
    let Some(cache) = HOME.get() else { return false };
    let _busy = cache.lock.lock(HEAP.os());
    come_back(cache);
    HEAP.sound(HEAP.caches.empty(cache));
    true
}

/// Runs when a thread that asked for it ends, after the destructors of Rust's thread locals.
unsafe extern "C" fn at_end(_value: *mut c_void) {
    exit();
}

/// The thread ends: its cache goes to the next one.
pub(crate) fn exit() {
    let Some(old) = HOME.take() else {
        point_to(ThreadCache::past_cache());
        return;
    };
    {
        let _busy = old.lock.lock(HEAP.os());
        old.mend();
        old.pointer.store(core::ptr::null_mut(), Ordering::Relaxed);
        point_to(ThreadCache::past_cache());
        HEAP.sound(HEAP.caches.empty(old));
        old.close();
    }
    HEAP.caches.registry.put(old);
}

/// Takes note of what a release took from the caller's cache.
pub(crate) fn mend() {
    if let Some(cache) = HOME.get() {
        let _busy = cache.lock.lock(HEAP.os());
        come_back(cache);
    }
}

/// The cache that this thread took, for `verify`.
pub(crate) fn own_cache() -> Option<&'static ThreadCache> {
    HOME.get()
}
