//! Tests of the whole heap over the fake OS.

#![allow(unsafe_code, reason = "the tests write into what the heap hands out")]

mod failure;
mod forks;
mod kept;
mod lines;
mod misuse;
mod moves;
mod ops;
mod races;
mod release;
mod seats;
mod threads;

use core::alloc::Layout;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::cache::magazine::ThreadCache;
use crate::heap::Heap;
use crate::inspect::stats::MemStats;
use crate::os::fake::Fake;
use crate::space::live_bits::HARDENED;
use crate::space::size_class::SizeClass;

/// Address space of a test heap: one zone of somewhat fewer bytes.
const SPACE: usize = 64 << 20;

/// Tells a thread to stop when it goes, be it by a panic: a test that fails must end.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        // Relaxed: only a flag.
        self.0.store(true, Ordering::Relaxed);
    }
}

fn heap() -> Heap<Fake> {
    Heap::new(Fake::new(2 * SPACE), SPACE)
}

/// The global allocator's steps, on any heap and cache.
fn allocate(heap: &Heap<Fake>, cache: &ThreadCache, layout: Layout, zeroed: bool) -> *mut u8 {
    let Some(class) = SizeClass::of(layout.size(), layout.align()) else {
        return heap.pages().allocate_large(layout.size(), layout.align(), zeroed);
    };
    let magazine = cache.magazine(class);
    let slot = magazine.pop().or_else(|| {
        let busy = cache.lock.lock(heap.os());
        heap.caches.refill(cache.locked(&busy), class).then(|| magazine.pop()).flatten()
    });
    let slot = slot.unwrap_or(core::ptr::null_mut());
    if HARDENED {
        heap.spans().hand_out(class, slot);
    }
    if zeroed && !slot.is_null() {
        // SAFETY: the slot has room for the layout.
        unsafe { slot.write_bytes(0, layout.size()) };
    }
    slot
}

fn free(heap: &Heap<Fake>, cache: &ThreadCache, block: *mut u8, layout: Layout) {
    if HARDENED {
        heap.sound(heap.spans().take_back(block, layout));
    }
    match SizeClass::of(layout.size(), layout.align()) {
        Some(class) if cache.magazine(class).push(block) => {}
        Some(class) => {
            let busy = cache.lock.lock(heap.os());
            heap.sound(heap.caches.make_room(cache.locked(&busy), class, block));
        }
        None => heap.sound(heap.pages().free_large(block)),
    }
}

fn empty_cache(heap: &Heap<Fake>, cache: &ThreadCache) {
    let busy = cache.lock.lock(heap.os());
    heap.sound(heap.caches.empty(cache.locked(&busy)));
}

fn take_cache(heap: &Heap<Fake>) -> Option<&ThreadCache> {
    heap.caches.enter();
    heap.caches.registry.take(heap.os(), heap.counters())
}

fn put_cache(heap: &Heap<Fake>, cache: &ThreadCache) {
    empty_cache(heap, cache);
    cache.of_sole_thread().close();
    heap.caches.registry.put(cache);
}

fn check_identities(stats: &MemStats) {
    assert_eq!(stats.heap_sys, stats.heap_inuse + stats.heap_idle, "{stats:?}");
    assert_eq!(stats.heap_idle, stats.heap_free + stats.heap_released, "{stats:?}");
    assert_eq!(stats.heap_inuse, stats.heap_alloc + stats.heap_cached + stats.heap_unused, "{stats:?}");
}
