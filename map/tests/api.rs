//! The map from outside, with the constants that users get: auto traits, variance, and generations of real size.

use std::cell::Cell;
use std::collections::HashMap as Model;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use ebbtide_map::{Drain, Entry, HashMap, IntoIter, IntoKeys, Iter, IterMut, Keys, MapStats, Values};
use proptest as _;
use static_assertions::{assert_impl_all, assert_not_impl_any};

type Shared = Rc<u32>;
type State = std::hash::RandomState;

assert_impl_all!(HashMap<u32, String>: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe);
assert_not_impl_any!(HashMap<Shared, u32>: Send, Sync);
assert_not_impl_any!(HashMap<u32, Shared>: Send, Sync);
assert_not_impl_any!(HashMap<u32, u32, Shared>: Send, Sync);
assert_impl_all!(HashMap<u32, Cell<u32>>: Send);
assert_not_impl_any!(HashMap<u32, Cell<u32>>: Sync, RefUnwindSafe);
assert_not_impl_any!(HashMap<u32, &'static mut u32>: UnwindSafe);
assert_impl_all!(Iter<'static, u32, u32>: Send, Sync, Clone, ExactSizeIterator);
assert_not_impl_any!(Iter<'static, u32, Cell<u32>>: Send);
assert_impl_all!(IterMut<'static, u32, u32>: Send, Sync, ExactSizeIterator);
assert_impl_all!(IterMut<'static, u32, Cell<u32>>: Send);
assert_not_impl_any!(IterMut<'static, u32, Cell<u32>>: Sync, Clone);
assert_impl_all!(IntoIter<u32, u32>: Send, Sync);
assert_not_impl_any!(IntoIter<u32, Shared>: Send, Sync);
assert_impl_all!(Drain<'static, u32, u32>: Send, Sync);
assert_not_impl_any!(Drain<'static, u32, Shared>: Send, Sync);
assert_impl_all!(IntoKeys<u32, u32>: Send, Sync);
assert_impl_all!(MapStats: Send, Sync);

/// Compiles only if the types are covariant in keys and values.
#[test]
fn maps_and_iterators_are_covariant() {
    fn map<'a>(map: HashMap<&'static str, &'static str, State>) -> HashMap<&'a str, &'a str, State> {
        map
    }
    fn iter<'a>(iter: Iter<'a, &'static str, &'static str>) -> Iter<'a, &'a str, &'a str> {
        iter
    }
    fn keys<'a>(keys: Keys<'a, &'static str, u8>) -> Keys<'a, &'a str, u8> {
        keys
    }
    fn values<'a>(values: Values<'a, u8, &'static str>) -> Values<'a, u8, &'a str> {
        values
    }
    fn into_iter<'a>(iter: IntoIter<&'static str, &'static str>) -> IntoIter<&'a str, &'a str> {
        iter
    }
    fn drain<'a>(drain: Drain<'static, &'static str, &'static str>) -> Drain<'a, &'a str, &'a str> {
        drain
    }
    let _ = (iter as fn(_) -> _, keys as fn(_) -> _, values as fn(_) -> _, drain as fn(_) -> _);
    let map = map(HashMap::from([("a", "b")]));
    assert_eq!(into_iter(map.into_iter()).next(), Some(("a", "b")));
}

#[test]
fn a_map_moves_between_threads_in_mid_growth() {
    let mut map: HashMap<u64, String> = HashMap::new();
    for key in 0..3600 {
        map.insert(key, key.to_string());
    }
    assert!(map.stats().old_buckets > 0, "3584 entries fill 4096 slots");
    let map = std::thread::spawn(move || {
        map.insert(9999, "x".to_owned());
        map
    })
    .join()
    .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert!((0..3600).all(|key| map[&key] == key.to_string())));
        }
    });
}

#[test]
fn growth_and_shrink_over_many_generations() {
    let mut map = HashMap::new();
    let mut model = Model::new();
    for key in 0..300_000_u64 {
        assert_eq!(map.insert(key, key), model.insert(key, key));
        if key.is_power_of_two() {
            map.verify();
        }
    }
    map.verify();
    assert_eq!(map.len(), model.len());
    for key in 0..300_000 {
        if key % 100 != 0 {
            assert_eq!(map.remove(&key), model.remove(&key));
        }
        if key.is_power_of_two() {
            map.verify();
        }
    }
    map.verify();
    assert!(map.stats().shrinks >= 4, "{:?}", map.stats());
    assert!(map.iter().all(|(key, value)| model.get(key) == Some(value)));
    assert_eq!(map.len(), 3000);
    assert!(map.capacity() < 40_000);
}

#[test]
fn strings_are_looked_up_by_str() {
    let mut map: HashMap<String, usize> = (0..50_000).map(|n| (format!("key {n}"), n)).collect();
    assert_eq!(map.get("key 4711"), Some(&4711));
    assert_eq!(map.remove("key 4711"), Some(4711));
    assert!(!map.contains_key("key 4711"));
    *map.entry("key 1".to_owned()).or_default() += 5;
    assert_eq!(map["key 1"], 6);
    assert!(matches!(map.entry("key 4711".to_owned()), Entry::Vacant(_)));
    map.verify();
}

#[test]
#[should_panic(expected = "no entry found for key")]
fn indexing_a_missing_key_panics() {
    let _ = HashMap::from([(1, 2)])[&2];
}
