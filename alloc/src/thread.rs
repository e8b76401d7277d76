//! The calling thread's cache: found, made at first use, emptied when the thread ends.
//!
//! A thread local of a plain pointer without a destructor: reading it is one move. The end of a thread is told by a
//! pthread key, whose destructor runs after those of Rust's thread locals. What is allocated or freed after it goes
//! straight to the spans.

#![allow(unsafe_code, reason = "thread caches are reached through a raw pointer")]

use core::cell::Cell;

use crate::central::empty_cache;
use crate::heap::HEAP;
use crate::magazine::ThreadCache;
use crate::os::Os;
use crate::size_class::SizeClass;

thread_local! {
    static CACHE: Cell<*const ThreadCache> = const { Cell::new(ThreadCache::no_cache()) };
}

/// The cache of this thread, or one that holds nothing and takes nothing.
#[inline(always)]
pub(crate) fn cache() -> &'static ThreadCache {
    let cache = CACHE.with(Cell::get);
    // SAFETY: the pointer is that of a static or of a cache in metadata, neither of which ever goes away.
    unsafe { &*cache }
}

/// The cache of this thread; makes one if it has none yet. `None` without memory, or when the thread is ending.
#[cold]
fn attached() -> Option<&'static ThreadCache> {
    let now = cache();
    if now.is_real() {
        return Some(now);
    }
    // Without a word at the thread's end its cache would be lost: then it gets none.
    if now.is_past() || !HEAP.os.watch_thread_exit() {
        return None;
    }
    let new = HEAP.registry.take(&HEAP.os, &HEAP.counters)?;
    CACHE.set(new);
    Some(new)
}

/// A slot when the magazine is empty. Null without memory.
#[cold]
#[inline(never)]
pub(crate) fn allocate_slow(class: SizeClass) -> *mut u8 {
    let slot = match attached() {
        Some(cache) if HEAP.refill(cache, class) => cache.magazine(class).pop(),
        Some(_) => None,
        None => HEAP.take_one(class),
    };
    slot.unwrap_or(core::ptr::null_mut())
}

/// Takes a slot back when the magazine has no room.
#[cold]
#[inline(never)]
pub(crate) fn free_slow(class: SizeClass, slot: *mut u8) {
    match attached() {
        Some(cache) => HEAP.make_room(cache, class, slot),
        None => {
            HEAP.flush(class, &[slot]);
            HEAP.counters.small_frees.add(1);
        }
    }
    HEAP.pressure.check(&HEAP.counters);
}

/// Empties the caller's cache into the spans.
pub(crate) fn flush() {
    let cache = cache();
    if cache.is_real() {
        empty_cache(&HEAP, cache);
    }
}

/// The thread ends: its cache goes to the next one.
pub(crate) fn exit() {
    let old = cache();
    CACHE.set(ThreadCache::past_cache());
    if old.is_real() {
        empty_cache(&HEAP, old);
        HEAP.registry.put(old);
    }
}
