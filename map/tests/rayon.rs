//! The feature `rayon`: each entry is visited once, whatever the size and however many generations; nothing is lost or
//! dropped twice when a consumer stops early or panics.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use ebbtide_map::{HashMap, HashSet};
use rayon::prelude::*;
use static_assertions::assert_impl_all;

assert_impl_all!(ebbtide_map::hash_map::ParIter<'static, u8, u8>: Send, Clone);
assert_impl_all!(ebbtide_map::hash_map::ParIterMut<'static, u8, std::cell::Cell<u8>>: Send);
assert_impl_all!(ebbtide_map::hash_map::IntoParIter<u8, std::cell::Cell<u8>>: Send);

/// Sizes without memory, of one window, of several chunks; 29, 3600 and 60,000 are amid growth or not, by their steps.
const SIZES: [u64; 10] = [0, 1, 3, 7, 14, 29, 300, 3600, 5000, 60_000];

/// A map with as many generations as one gets by inserting.
fn map(len: u64) -> HashMap<u64, u64> {
    let mut map = HashMap::new();
    for key in 0..len {
        map.insert(key, key);
    }
    map
}

#[test]
fn some_map_has_two_generations() {
    assert!(map(3600).stats().old_buckets > 0);
    assert!(map(5000).stats().old_buckets == 0);
}

#[test]
fn each_entry_is_visited_once() {
    for len in SIZES {
        let mut map = map(len);
        assert_eq!(map.par_iter().map(|(&key, _)| key).sum::<u64>(), (0..len).sum::<u64>());
        assert_eq!(map.par_iter().count(), map.len());
        let visits = AtomicUsize::new(0);
        map.par_iter_mut().for_each(|(&key, value)| {
            visits.fetch_add(1, Ordering::Relaxed);
            *value += key + 1;
        });
        assert_eq!(visits.into_inner(), map.len());
        assert!(map.iter().all(|(&key, &value)| value == 2 * key + 1));
        let keys: BTreeSet<u64> = map.clone().into_par_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, (0..len).collect());

        let mut set: HashSet<u64> = (0..len).collect();
        assert_eq!(set.par_iter().sum::<u64>(), (0..len).sum::<u64>());
        assert_eq!(set.clone().into_par_iter().collect::<BTreeSet<_>>(), keys);
        let capacity = set.capacity();
        assert_eq!(set.par_drain().collect::<BTreeSet<_>>(), keys);
        assert!(set.is_empty() && set.capacity() >= capacity);
        set.verify();
    }
}

#[test]
fn the_order_is_that_of_a_sequential_iteration() {
    for len in SIZES {
        let map = map(len);
        let parallel: Vec<_> = map.par_iter().map(|(&key, _)| key).collect();
        assert!(parallel.iter().eq(map.keys()), "{len}");
    }
}

#[test]
fn a_few_slow_entries_are_split_among_threads() {
    // 64 entries lie in eight windows: two threads must meet, or this waits for ever.
    let barrier = std::sync::Barrier::new(2);
    let met = AtomicUsize::new(0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let map = map(64);
    let first = std::sync::Mutex::new(BTreeSet::new());
    pool.install(|| {
        map.par_iter().for_each(|_| {
            if first.lock().unwrap().insert(rayon::current_thread_index()) {
                barrier.wait();
                met.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    assert_eq!(met.into_inner(), 2);
}

#[test]
fn collecting_is_inserting() {
    for len in SIZES {
        let entries: Vec<(u64, u64)> = (0..len).map(|key| (key, 2 * key)).collect();
        let map: HashMap<u64, u64> = entries.clone().into_par_iter().collect();
        map.verify();
        assert_eq!(map, entries.iter().copied().collect::<HashMap<u64, u64>>());
        // Later values win, as with `extend`, since the order is kept.
        let mut twice = map.clone();
        twice.par_extend(entries.par_iter().map(|&(key, _)| (key / 2, key)));
        assert!((0..len / 2).all(|key| twice[&key] == 2 * key + 1));
        let mut set: HashSet<u64> = (0..len).into_par_iter().collect();
        set.par_extend(&(len..2 * len).collect::<Vec<_>>());
        assert_eq!(set, (0..2 * len).collect::<HashSet<_>>());
        let mut copy = HashMap::new();
        copy.par_extend(&map);
        assert_eq!(copy, map);
    }
}

static ALIVE: AtomicI64 = AtomicI64::new(0);

struct Counted(u64);

impl Counted {
    fn new(number: u64) -> Self {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Self(number)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn each_entry_is_dropped_once() {
    let counted = |len| {
        let mut map = HashMap::new();
        (0..len).for_each(|key| drop(map.insert(key, Counted::new(key))));
        map
    };
    for len in SIZES {
        assert_eq!(counted(len).into_par_iter().count() as u64, len);
        assert_eq!(ALIVE.load(Ordering::Relaxed), 0, "all consumed");
        drop(counted(len).into_par_iter());
        assert_eq!(ALIVE.load(Ordering::Relaxed), 0, "never driven");
        drop(counted(len).into_par_iter().find_any(|(_, value)| value.0 == len / 2));
        assert_eq!(ALIVE.load(Ordering::Relaxed), 0, "stopped early");
        let panics = |(key, _): (u64, Counted)| assert!(key != len / 2, "this one is in the way");
        let outcome = catch_unwind(AssertUnwindSafe(|| counted(len).into_par_iter().for_each(panics)));
        assert_eq!(outcome.is_err(), len > 0);
        assert_eq!(ALIVE.load(Ordering::Relaxed), 0, "panicked");

        let mut map = counted(len);
        drop(map.par_drain().find_any(|(_, value)| value.0 == len / 2));
        assert_eq!((ALIVE.load(Ordering::Relaxed), map.len()), (0, 0));
        map.verify();
        map.insert(1, Counted::new(1));
        let outcome = catch_unwind(AssertUnwindSafe(|| map.par_drain().for_each(|_| panic!("no"))));
        assert!(outcome.is_err());
        map.verify();
        assert_eq!((ALIVE.load(Ordering::Relaxed), map.len()), (0, 0));
    }
}
