//! Each entry is dropped once, in both generations; types without size, with much of it, or with great alignment.

use core::cell::Cell;
use std::rc::Rc;

use super::{Hashing, changing, split};
use crate::HashMap;

struct Counted(Rc<Cell<i64>>);

impl Counted {
    fn new(alive: &Rc<Cell<i64>>) -> Self {
        alive.set(alive.get() + 1);
        Self(Rc::clone(alive))
    }
}
impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Maps of many sizes, with one or two generations.
fn each_map(test: impl Fn(HashMap<u64, Counted, Hashing>, &Rc<Cell<i64>>)) {
    for len in [0, 1, 3, 4, 14, 28, 29, 57, 113, 114, 118, 300, 450] {
        let alive = Rc::new(Cell::new(0));
        let mut map = HashMap::with_hasher(Hashing::Spread);
        for key in 0..len {
            map.insert(key, Counted::new(&alive));
        }
        assert_eq!(alive.get(), len as i64);
        test(map, &alive);
        assert_eq!(alive.get(), 0, "{len} entries");
    }
}

#[test]
fn every_way_to_end_drops_each_entry_once() {
    each_map(|map, _| drop(map));
    each_map(|mut map, alive| {
        map.clear();
        assert_eq!(alive.get(), 0);
        map.verify();
    });
    each_map(|map, alive| {
        let left = map.into_iter().skip(5).count();
        assert_eq!(alive.get(), 0);
        let _ = left;
    });
    each_map(|map, _| drop(map.into_iter().nth(7)));
    each_map(|mut map, _| drop(map.drain().nth(7)));
    each_map(|mut map, alive| {
        map.retain(|key, _| key % 3 == 0);
        assert_eq!(alive.get(), map.len() as i64);
        map.verify();
    });
    each_map(|mut map, alive| {
        for key in 0..1000 {
            drop(map.insert(key, Counted::new(alive)));
        }
        assert_eq!(alive.get(), 1000);
        for key in 5..1000 {
            map.remove(&key);
        }
        assert_eq!(alive.get(), 5);
    });
}

#[test]
fn a_forgotten_drain_leaves_an_empty_sound_map() {
    for part in 0..8 {
        let mut map = split(part);
        let mut drain = map.drain();
        drain.next();
        core::mem::forget(drain);
        assert!(map.is_empty());
        map.verify();
        map.insert(1, 2);
        assert_eq!(map[&1], 2);
        map.verify();
    }
    let map = split(3);
    core::mem::forget(map.into_iter());
}

#[test]
fn a_drained_map_keeps_its_memory() {
    let mut map = split(3);
    let capacity = map.capacity();
    drop(map.drain());
    assert!(!changing(&map) && map.capacity() >= capacity);
    map.verify();
}

#[test]
fn keys_and_values_without_size() {
    let mut set = HashMap::with_hasher(Hashing::Spread);
    for key in 0..1000_u64 {
        assert_eq!(set.insert(key, ()), None);
    }
    assert_eq!(set.insert(5, ()), Some(()));
    set.verify();

    let mut unit = HashMap::<(), Counted>::new();
    let alive = Rc::new(Cell::new(0));
    for _ in 0..100 {
        unit.insert((), Counted::new(&alive));
    }
    assert_eq!((unit.len(), alive.get()), (1, 1));

    // Entries without any bytes, told apart by no key: only a lying hasher gives it more than one.
    let mut nothing = HashMap::<(), ()>::new();
    assert_eq!(nothing.insert((), ()), None);
    assert_eq!(nothing.insert((), ()), Some(()));
    assert_eq!(nothing.iter().count(), 1);
    nothing.verify();
    assert_eq!(nothing.clone().into_iter().count(), 1);
    assert_eq!(nothing.remove(&()), Some(()));
    assert!(nothing.is_empty());
}

#[test]
fn many_entries_without_bytes() {
    #[derive(Clone, Copy, Debug)]
    struct Never;
    impl PartialEq for Never {
        fn eq(&self, _: &Self) -> bool {
            false
        }
    }
    impl Eq for Never {}
    impl core::hash::Hash for Never {
        fn hash<H: core::hash::Hasher>(&self, _: &mut H) {}
    }
    let mut map = HashMap::<Never, (), Hashing>::default();
    for _ in 0..300 {
        map.insert(Never, ());
        map.verify_counts();
    }
    assert_eq!(map.drain().count(), 300);
}

#[test]
fn entries_with_great_alignment() {
    #[repr(align(128))]
    #[derive(Clone, Debug, PartialEq)]
    struct Wide(u64);
    #[repr(align(131072))]
    struct Huge(u64);
    let mut map = HashMap::with_hasher(Hashing::Spread);
    for key in 0..400_u64 {
        map.insert(key, Wide(key));
        assert_eq!(core::ptr::from_ref(&map[&key]).addr() % 128, 0);
    }
    map.verify();
    assert!(map.iter().all(|(key, value)| value.0 == *key && core::ptr::from_ref(value).addr() % 128 == 0));
    assert_eq!(map.clone(), map);

    // Values of 128 KiB need a larger stack than tests have, the more so under a sanitizer.
    let test = || {
        let mut map = HashMap::with_hasher(Hashing::Spread);
        for key in 0..9_u64 {
            map.insert(key, Huge(key));
        }
        assert!(map.values().all(|value| core::ptr::from_ref(value).addr() % 131_072 == 0));
        assert_eq!(map.values().map(|value| value.0).sum::<u64>(), 36);
    };
    std::thread::Builder::new().stack_size(64 << 20).spawn(test).unwrap().join().unwrap();
}

#[test]
fn large_entries_change_in_steps() {
    let mut map = HashMap::with_hasher(Hashing::Spread);
    for key in 0..300_u64 {
        map.insert(key, [key; 100]);
        map.verify();
    }
    for key in 0..300 {
        assert_eq!(map.remove(&key), Some([key; 100]));
        map.verify();
    }
}

#[test]
fn an_iterator_that_extracts_loses_nothing_that_it_did_not_take() {
    each_map(|mut map, alive| {
        let len = map.len();
        let mut extract = map.extract_if(|key, _| key % 2 == 0);
        extract.by_ref().take(3).for_each(drop);
        // Leaking it is the same as dropping it, as with the other iterators that borrow.
        assert!(
            !core::mem::needs_drop::<crate::ExtractIf<'_, u64, Counted, fn(&u64, &mut Counted) -> bool>>()
        );
        assert!(!core::mem::needs_drop::<crate::IterMut<'_, u64, Counted>>());
        assert!(!core::mem::needs_drop::<crate::OccupiedEntry<'_, u64, Counted>>());
        assert_eq!(alive.get(), map.len() as i64);
        assert!(len - map.len() <= 3);
        map.verify();
        assert!(matches!(map.entry(10_000), crate::Entry::Vacant(_)));
        map.verify();
        assert_eq!(alive.get(), map.len() as i64);
        map.retain(|_, _| false);
        assert_eq!(alive.get(), 0);
    });
}

#[test]
fn a_replaced_element_is_dropped_once() {
    #[derive(Clone)]
    struct Element(u64, Rc<Cell<i64>>);
    impl Drop for Element {
        fn drop(&mut self) {
            self.1.set(self.1.get() - 1);
        }
    }
    impl PartialEq for Element {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }
    impl Eq for Element {}
    impl core::hash::Hash for Element {
        fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
            state.write_u64(self.0);
        }
    }
    let alive = Rc::new(Cell::new(0));
    let new = |number| {
        alive.set(alive.get() + 1);
        Element(number, Rc::clone(&alive))
    };
    let mut set = crate::HashSet::with_hasher(Hashing::Spread);
    for number in 0..113 {
        assert!(set.insert(new(number)));
        assert!(!set.insert(new(number)));
        assert!(set.replace(new(number)).is_some());
        set.get_or_insert(new(number));
    }
    assert_eq!(alive.get(), 113);
    drop(set);
    assert_eq!(alive.get(), 0);
}
