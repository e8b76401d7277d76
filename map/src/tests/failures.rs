//! Lack of memory: the global allocator of these tests, and the arenas, refuse when told to. What `try_reserve` cannot
//! have, it reports, and nothing is lost; automatic shrinks are put off.
//!
//! It also shows that maps work where ebbtide is not the global allocator.
#![allow(unsafe_code, reason = "implements a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};

use super::{Hashing, changing, doubled, split};
use crate::generation::failures::{arm, disarm, has_failed, is_due};
use crate::{HashMap, TryReserveError};

struct Failing;

// SAFETY: it is the system's allocator, or null, which is allowed.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on.
        if is_due() { core::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static GLOBAL: Failing = Failing;

/// Does `act` on the map that `make` returns, with each of its allocations failing in turn, alone and with all that
/// follow, until none of them does. Returns how many times something failed.
fn at_each_allocation(
    make: impl Fn() -> HashMap<u64, u64, Hashing>,
    act: impl Fn(&mut HashMap<u64, u64, Hashing>, bool),
) -> u32 {
    let mut failures = 0;
    for lasts in [false, true] {
        for fuse in 1.. {
            let mut map = make();
            let (before, wanted) = (map.len(), map.clone());
            arm(fuse, lasts);
            act(&mut map, false);
            let failed = disarm();
            map.verify();
            assert_eq!((map.len(), &map), (before, &wanted));
            if !failed {
                break;
            }
            failures += 1;
            act(&mut map, true);
            map.verify();
            assert_eq!((map.len(), &map), (before, &wanted));
        }
    }
    failures
}

#[test]
fn reserving_reports_each_failure_and_loses_nothing() {
    let reserve = |additional: usize| {
        move |map: &mut HashMap<u64, u64, Hashing>, must: bool| {
            let outcome = map.try_reserve(additional);
            assert!(outcome.is_ok() || !must);
            match outcome {
                Ok(()) => assert!(map.capacity() >= map.len() + additional),
                Err(error) => {
                    assert!(has_failed(), "it failed for no reason");
                    assert!(matches!(error, TryReserveError::AllocError { .. }), "{error:?}");
                }
            }
        }
    };
    for len in [0, 3, 14, 56, 100] {
        let failures = at_each_allocation(|| doubled(0..len, Hashing::Spread), reserve(2000));
        assert!(failures > 0, "{len}");
    }
    for part in 0..9 {
        let failures = at_each_allocation(|| split(part), reserve(2000));
        assert!(failures > 1, "{part}");
    }
    // Probes reach far ahead: the list of what a step moves grows.
    let clustered = || doubled(0..300, Hashing::Clustered);
    assert!(at_each_allocation(clustered, reserve(2000)) > 1);
}

#[test]
fn shrinking_without_memory_does_nothing() {
    let sparse = || {
        let mut map = doubled(0..100, Hashing::Spread);
        map.reserve(2000);
        while map.rehash_step(100) > 0 {}
        map
    };
    let failures = at_each_allocation(sparse, |map, must| {
        map.shrink_to_fit();
        assert!(!must || map.capacity() == 112);
    });
    assert!(failures > 1);
}

#[test]
fn an_automatic_shrink_without_memory_is_put_off() {
    let mut failures = 0;
    for fuse in 1..20 {
        let mut map = doubled(0..224, Hashing::Spread);
        while map.rehash_step(100) > 0 {}
        for key in 50..224 {
            // Steps that find no memory end the process, as those of std; so only the beginning of a shrink fails.
            if !changing(&map) {
                arm(fuse, true);
            }
            assert_eq!(map.remove(&key), Some(2 * key));
            let failed = disarm();
            failures += u32::from(failed);
            assert!(!failed || !changing(&map));
            map.verify();
        }
        assert_eq!(map.len(), 50);
        map.remove(&0);
        assert!(changing(&map) || map.stats().shrinks > 0);
    }
    assert!(failures > 4, "{failures}");
}

#[test]
fn the_map_works_on_another_global_allocator() {
    let probe = Box::new(0_u64);
    assert!(!ebbtide_alloc::owns((&raw const *probe).cast()), "these tests run on the system's allocator");
    let map: HashMap<u64, String> = (0..5000).map(|key| (key, key.to_string())).collect();
    assert!(map.iter().all(|(key, value)| key.to_string() == *value));
}
