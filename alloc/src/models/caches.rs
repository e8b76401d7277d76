//! Threads that allocate and free on the fast path while a release takes from their caches: the protocol of
//! `cache/magazine.rs`, through the global allocator itself.

#![allow(unsafe_code, reason = "calls the global allocator")]

use core::alloc::{GlobalAlloc, Layout};

use super::{check, class, disown, own, settle};
use crate::cache::magazine::ThreadCache;
use crate::global::Allocator;
use crate::heap::HEAP;
use crate::local;
use crate::os::fake::Call;
use crate::thread;

const LAYOUT: Layout = match Layout::from_size_align(8192, 8) {
    Ok(layout) => layout,
    Err(_) => panic!(),
};

pub(super) fn allocate() -> usize {
    // SAFETY: the layout has a size.
    own(class(8192), unsafe { Allocator.alloc(LAYOUT) })
}

pub(super) fn free(addr: usize) {
    let block = disown(class(8192), addr);
    // SAFETY: `allocate` made it with this layout, and the caller gives it up.
    unsafe { Allocator.dealloc(block, LAYOUT) };
}

/// Gives the calling thread a cache that holds so many slots, and that many out.
pub(super) fn with_cached(cached: usize, out: usize) -> Vec<usize> {
    let mut slots: Vec<_> = (0..8).map(|_| allocate()).collect();
    slots.drain(out..out + cached).for_each(free);
    slots
}

pub(super) fn own_cache() -> &'static ThreadCache {
    local::own_cache().unwrap()
}

/// A release gathers, and another thread gets at once what it gathered.
fn gather_and_take() {
    HEAP.caches.share();
    HEAP.sound(HEAP.caches.steal_from_others());
    // What nobody holds any more, this thread may use.
    own(class(8192), HEAP.caches.take_one(class(8192)).unwrap());
}

#[test]
fn pops_beside_a_release() {
    check(4, || {
        with_cached(4, 0);
        let releaser = loom::thread::spawn(gather_and_take);
        allocate();
        allocate();
        releaser.join().unwrap();
        local::mend();
        settle(&[own_cache()]);
    });
}

/// The owner comes back to its cache between the barrier and the taking, and pops on.
#[test]
fn an_owner_comes_back_before_a_release_takes() {
    check(3, || {
        with_cached(4, 0);
        let releaser = loom::thread::spawn(gather_and_take);
        (0..3).for_each(|_| {
            allocate();
        });
        releaser.join().unwrap();
        local::mend();
        settle(&[own_cache()]);
    });
}

#[test]
fn pushes_beside_a_release() {
    check(4, || {
        let out = with_cached(2, 2);
        let releaser = loom::thread::spawn(gather_and_take);
        out[..2].iter().for_each(|addr| free(*addr));
        releaser.join().unwrap();
        local::mend();
        settle(&[own_cache()]);
    });
}

#[test]
fn a_pop_and_a_push_beside_two_releases() {
    check(3, || {
        let out = with_cached(3, 1);
        let releaser = loom::thread::spawn(|| {
            HEAP.caches.share();
            HEAP.sound(HEAP.caches.steal_from_others());
            HEAP.sound(HEAP.caches.steal_from_others());
        });
        free(out[0]);
        allocate();
        releaser.join().unwrap();
        local::mend();
        settle(&[own_cache()]);
    });
}

#[test]
fn a_thread_ends_beside_a_release() {
    check(4, || {
        let out = with_cached(3, 1);
        let cache = own_cache();
        let releaser = loom::thread::spawn(gather_and_take);
        thread::exit();
        // A destructor that runs later still frees, straight into the span.
        free(out[0]);
        assert!(local::own_cache().is_none());
        releaser.join().unwrap();
        settle(&[cache]);
        assert_eq!(cache.held_bytes(), 0);
    });
}

/// The cache goes from a thread that ends to one that begins, while a release works on it.
#[test]
fn a_cache_changes_hands_beside_a_release() {
    check(2, || {
        let out = with_cached(2, 1);
        let cache = own_cache();
        let releaser = loom::thread::spawn(|| {
            HEAP.caches.share();
            HEAP.sound(HEAP.caches.steal_from_others());
        });
        let heir = loom::thread::spawn(|| {
            let slot = allocate();
            free(slot);
            thread::exit();
        });
        free(out[0]);
        thread::exit();
        heir.join().unwrap();
        releaser.join().unwrap();
        settle(&[cache]);
    });
}

/// The kernel refuses the barrier, so a release takes nothing: the owner may be in the middle of any pop or push.
#[test]
fn pops_and_pushes_beside_a_release_that_gets_no_barrier() {
    check(4, || {
        let out = with_cached(4, 1);
        let held = own_cache().held_bytes();
        HEAP.os().refuse(Call::Barrier, 1, 0, true);
        let releaser = loom::thread::spawn(|| {
            HEAP.caches.share();
            HEAP.sound(HEAP.caches.steal_from_others());
        });
        allocate();
        free(out[0]);
        allocate();
        releaser.join().unwrap();
        local::mend();
        // A release that takes leaves one slot. The owner took two at most from here.
        assert!(own_cache().held_bytes() >= held - 2 * 8192);
        settle(&[own_cache()]);
    });
}
