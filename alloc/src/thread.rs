//! Slow paths of the calling thread: its cache is made at first use, refilled, flushed, and emptied when the thread ends.
//!
//! The destructor of a pthread key runs when a thread ends, after those of Rust's thread locals. Later allocations and
//! frees of the thread go straight to the spans.

#![allow(unsafe_code, reason = "the destructor of a pthread key")]

use core::ffi::c_void;

use crate::base::sync::Ordering;
use crate::cache::magazine::{Locked, ThreadCache};
use crate::fork;
use crate::heap::HEAP;
use crate::inspect::misuse::assert_unlocked;
use crate::local::{cache, come_back, own, own_cache, point_to, set_own_cache};
use crate::os::Os;
use crate::space::size_class::SizeClass;

/// Works on the cache of this thread under its lock. Makes one if there is none yet; `None` without memory, when the
/// thread is ending, or while a release works on the cache: nobody sleeps for that.
fn with_cache<R>(work: impl FnOnce(Locked<'_>) -> R) -> Option<R> {
    let cache = match own_cache() {
        Some(cache) => cache,
        None => attach()?,
    };
    let busy = cache.lock.lock_soon(HEAP.os())?;
    let cache = cache.locked(&busy);
    come_back(cache);
    Some(work(cache))
}

#[cold]
fn attach() -> Option<&'static ThreadCache> {
    if cache().is_past() {
        return None;
    }
    // An allocation in the calls below must not recurse into this one.
    point_to(ThreadCache::past_cache());
    // Without a destructor at the thread's end its cache would leak: then it gets none.
    let watched = HEAP.os().watch_thread_exit(at_end);
    HEAP.os().prepare_barrier();
    if HEAP.caches.enter() {
        fork::watch();
    }
    let new = if watched { HEAP.caches.registry.take(HEAP.os(), HEAP.counters()) } else { None };
    point_to(ThreadCache::no_cache());
    let new = new?;
    own(new.locked(&new.lock.lock(HEAP.os())));
    set_own_cache(Some(new));
    Some(new)
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
    // Other threads write the cache lines of the totals: they are read only when this thread has just written them.
    if counted != Some(false) {
        HEAP.check_idle();
    }
}

/// Empties the caller's cache into the spans. False if it has none.
pub(crate) fn flush() -> bool {
    let Some(cache) = own_cache() else { return false };
    let busy = cache.lock.lock(HEAP.os());
    let cache = cache.locked(&busy);
    come_back(cache);
    HEAP.sound(HEAP.caches.empty(cache));
    true
}

/// Runs when a thread that asked for it ends, after the destructors of Rust's thread locals.
unsafe extern "C" fn at_end(_value: *mut c_void) {
    exit();
}

/// Flushes the cache of a thread that ends, and puts it back for another one.
pub(crate) fn exit() {
    let old = own_cache();
    set_own_cache(None);
    let Some(old) = old else {
        point_to(ThreadCache::past_cache());
        return;
    };
    {
        let busy = old.lock.lock(HEAP.os());
        let old = old.locked(&busy);
        old.mend();
        old.pointer.store(core::ptr::null_mut(), Ordering::Relaxed);
        point_to(ThreadCache::past_cache());
        HEAP.sound(HEAP.caches.empty(old));
        old.close();
    }
    HEAP.caches.registry.put(old);
}
