//! Hashers, clones, drops and observers that panic, at each call.

use core::cell::Cell;
use core::hash::{BuildHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::{Hashing, KeyHasher, changing, doubled, observed};
use crate::{HashMap, MapEvent};

/// Panics when the fuse burns down. At 0 it does not burn.
#[derive(Clone, Default)]
struct Fuse(Rc<Cell<u32>>);

impl Fuse {
    fn burn(&self) {
        if self.0.get() > 0 {
            self.0.set(self.0.get() - 1);
            assert!(self.0.get() > 0, "the fuse burned down");
        }
    }
}

#[derive(Clone)]
struct Fused(Fuse);

impl BuildHasher for Fused {
    type Hasher = KeyHasher;
    fn build_hasher(&self) -> KeyHasher {
        self.0.burn();
        Hashing::Spread.build_hasher()
    }
}

/// A key that counts how many of it live.
#[derive(Debug)]
struct Key {
    key: u64,
    alive: Rc<Cell<i64>>,
}

impl Key {
    fn new(key: u64, alive: &Rc<Cell<i64>>) -> Self {
        alive.set(alive.get() + 1);
        Self { key, alive: Rc::clone(alive) }
    }
}
impl Drop for Key {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
    }
}
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.key);
    }
}
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}
impl Eq for Key {}

/// Runs `act` on a map of `len` keys with the fuse at 1, 2, .. until it no longer panics. Each time nothing may be
/// lost or doubled, and the map must go on working.
fn at_each_call(
    len: u64,
    prepare: impl Fn(&mut HashMap<Key, u64, Fused>),
    act: impl Fn(&mut HashMap<Key, u64, Fused>, &Rc<Cell<i64>>),
) {
    let mut panicked = 0;
    for fuse_length in 1.. {
        let alive = Rc::new(Cell::new(0));
        let fuse = Fuse::default();
        let mut map = HashMap::with_hasher(Fused(fuse.clone()));
        for key in 0..len {
            map.insert(Key::new(key, &alive), key);
        }
        prepare(&mut map);
        let before = map.len();
        fuse.0.set(fuse_length);
        let outcome = catch_unwind(AssertUnwindSafe(|| act(&mut map, &alive)));
        fuse.0.set(0);
        map.verify();
        assert_eq!(alive.get(), map.len() as i64);
        if outcome.is_err() {
            panicked += 1;
            assert_eq!(map.len(), before, "a hash function that panics changes nothing");
            act(&mut map, &alive);
            map.verify();
            assert_eq!(alive.get(), map.len() as i64);
        }
        for key in 0..before as u64 {
            assert_eq!(map.get(&Key::new(key, &alive)), Some(&key));
        }
        drop(map);
        assert_eq!(alive.get(), 0);
        if outcome.is_ok() {
            break;
        }
    }
    assert!(panicked > 0, "the fuse was never reached");
}

fn insert_one(map: &mut HashMap<Key, u64, Fused>, alive: &Rc<Cell<i64>>) {
    map.insert(Key::new(9999, alive), 9999);
}

#[test]
fn insert_into_a_full_small_table() {
    at_each_call(14, |_| {}, insert_one);
}

#[test]
fn insert_that_takes_steps_of_growing() {
    for len in [57, 113, 115, 225, 230] {
        at_each_call(len, |_| {}, insert_one);
    }
}

#[test]
fn finishing_steps_and_shrinks() {
    at_each_call(113, |_| {}, |map, _| while map.rehash_step(1) > 0 {});
    at_each_call(113, |_| {}, |map, _| map.shrink_to_fit());
    at_each_call(113, |_| {}, |map, _| map.reserve(1000));
    let remove_most = |map: &mut HashMap<Key, u64, Fused>| {
        map.retain(|key, _| key.key < 20);
        assert!(changing(map), "few entries start a shrink");
    };
    at_each_call(225, remove_most, |map, _| while map.rehash_step(1) > 0 {});
    at_each_call(225, remove_most, |map, _| map.shrink_to_fit());
    at_each_call(225, remove_most, insert_one);
}

#[test]
fn removal_during_growth() {
    let alive = Rc::new(Cell::new(0));
    for fuse_length in 1..60 {
        let fuse = Fuse::default();
        let mut map = HashMap::with_hasher(Fused(fuse.clone()));
        for key in 0..113 {
            map.insert(Key::new(key, &alive), key);
        }
        let wanted = Key::new(50, &alive);
        fuse.0.set(fuse_length);
        let removed = catch_unwind(AssertUnwindSafe(|| map.remove(&wanted)));
        fuse.0.set(0);
        map.verify();
        match removed {
            Ok(value) => assert_eq!((value, map.len()), (Some(50), 112)),
            Err(_) => assert_eq!((map.get(&wanted), map.len()), (Some(&50), 113)),
        }
    }
    assert_eq!(alive.get(), 0);
}

#[test]
fn clones_that_panic_drop_what_they_cloned() {
    struct Value(Fuse, Rc<Cell<i64>>);
    impl Clone for Value {
        fn clone(&self) -> Self {
            self.0.burn();
            self.1.set(self.1.get() + 1);
            Self(self.0.clone(), Rc::clone(&self.1))
        }
    }
    impl Drop for Value {
        fn drop(&mut self) {
            self.1.set(self.1.get() - 1);
        }
    }
    for fuse_length in 1..=113 {
        let (fuse, alive) = (Fuse::default(), Rc::new(Cell::new(0)));
        let mut map = HashMap::with_hasher(Hashing::Spread);
        for key in 0..113_u64 {
            alive.set(alive.get() + 1);
            map.insert(key, Value(fuse.clone(), Rc::clone(&alive)));
        }
        map.rehash_step(3);
        assert!(changing(&map));
        fuse.0.set(fuse_length);
        assert!(catch_unwind(AssertUnwindSafe(|| map.clone())).is_err());
        assert_eq!(alive.get(), 113);
    }
}

#[test]
fn values_that_panic_when_dropped() {
    struct Value(u64, Rc<Cell<i64>>);
    impl Drop for Value {
        fn drop(&mut self) {
            self.1.set(self.1.get() - 1);
            assert!(self.0 != 60, "this one does not like to go");
        }
    }
    let make = |dropped: &Rc<Cell<i64>>| {
        let mut map = HashMap::with_hasher(Hashing::Spread);
        for key in 0..113_u64 {
            map.insert(key, Value(key, Rc::clone(dropped)));
        }
        map.rehash_step(3);
        map
    };
    let alive = Rc::new(Cell::new(113));
    let mut map = make(&alive);
    assert!(catch_unwind(AssertUnwindSafe(|| map.clear())).is_err());
    map.verify();
    assert!(map.is_empty() && alive.get() < 113);
    map.insert(1, Value(1, Rc::new(Cell::new(0))));
    assert_eq!(map.len(), 1);

    let alive = Rc::new(Cell::new(113));
    let mut map = make(&alive);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(map.drain()))).is_err());
    map.verify();
    assert!(map.is_empty() && map.capacity() > 0);

    let alive = Rc::new(Cell::new(113));
    let mut map = make(&alive);
    assert!(catch_unwind(AssertUnwindSafe(|| map.retain(|_, _| false))).is_err());
    map.verify();
    assert_eq!(alive.get(), map.len() as i64);

    let alive = Rc::new(Cell::new(113));
    let map = make(&alive);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(map))).is_err());
    let alive = Rc::new(Cell::new(113));
    let map = make(&alive);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(map.into_iter()))).is_err());
}

/// Wherever an observer is called the map is whole: its panic ends nothing but its own call.
#[test]
fn observers_that_panic_change_nothing() {
    let sizes = [0, 5, 14, 56, 57, 113, 500];
    let panics = Rc::new(Cell::new(0));
    for (from, to) in sizes.into_iter().flat_map(|from| sizes.map(|to| (from, to))) {
        let (source, expected) = (doubled(0..to, Hashing::Spread), doubled(0..to, Hashing::Spread));
        let counted = Rc::clone(&panics);
        let observer = move |_: &MapEvent<'_>| {
            counted.set(counted.get() + 1);
            panic!("the observer's own");
        };
        let mut map = doubled(0..from, Hashing::Spread).named("observed");
        observed(observer, || {
            map.clone_from(&source);
            map.verify();
            assert_eq!(map, expected, "{from} and {to}");
            map.shrink_to_fit();
            map.reserve(1000);
            while map.rehash_step(1) > 0 {}
            map.retain(|key, _| key % 8 == 0);
            map.extend((1000..1100).map(|key| (key, 0)));
            assert_eq!(map.drain().count() as u64, to.div_ceil(8) + 100);
            map.clear();
            map.shrink_to_fit();
        });
        map.verify();
        assert_eq!((map.len(), map.capacity()), (0, 0));
    }
    assert!(panics.get() > 100, "{panics:?}");
}

/// Entries that panic when they are dropped during a change: what ends the change is heard of while the thread unwinds.
#[test]
fn an_observer_that_panics_amid_an_unwind() {
    struct Value;
    impl Drop for Value {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "one panics, the rest leaks");
        }
    }
    let panics = Rc::new(Cell::new(0));
    let counted = Rc::clone(&panics);
    let mut map: HashMap<u64, Value, Hashing> = HashMap::with_hasher(Hashing::Spread);
    (0..113).for_each(|key| drop(map.insert(key, Value)));
    assert!(changing(&map));
    let observer = move |_: &MapEvent<'_>| {
        counted.set(counted.get() + 1);
        panic!("the observer's own");
    };
    let outcome = observed(observer, || catch_unwind(AssertUnwindSafe(|| map.clear())));
    assert_eq!((outcome.is_err(), panics.get()), (true, 1));
    map.verify();
    assert!(map.is_empty() && !changing(&map));
}
