//! Tests of the map with small constants, so that few entries reach every branch. What they share is here.

mod acts;
mod bounds;
mod contracts;
mod drops;
mod failures;
mod fuses;
mod hashers;
mod lies;
mod model;
mod ops;
mod panics;
mod stats;

pub(crate) use ops::{Hashing, KeyHasher};

use core::cell::RefCell;

use crate::{HashMap, MapEvent};

type Observer = Box<dyn Fn(&MapEvent<'_>)>;

thread_local! {
    /// What hears of changes of maps on this thread.
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
}

fn tell_own(event: &MapEvent<'_>) {
    OBSERVER.with_borrow(|own| own.iter().for_each(|observer| observer(event)));
}

/// Has `observer` hear of the changes of maps that `work` makes on this thread.
pub(crate) fn observed<R>(observer: impl Fn(&MapEvent<'_>) + 'static, work: impl FnOnce() -> R) -> R {
    crate::internal::observe(tell_own);
    OBSERVER.set(Some(Box::new(observer)));
    let done = work();
    OBSERVER.set(None);
    done
}

/// A map from key to twice the key.
pub(crate) fn doubled(keys: impl IntoIterator<Item = u64>, hashing: Hashing) -> HashMap<u64, u64, Hashing> {
    let mut map = HashMap::with_hasher(hashing);
    for key in keys {
        map.insert(key, 2 * key);
    }
    map
}

/// Whether the map has two generations.
pub(crate) fn changing<K, V, S>(map: &HashMap<K, V, S>) -> bool {
    map.table.is_changing()
}

/// A map with two generations of which `part` of 8 of the old one is evacuated.
pub(crate) fn split(part: usize) -> HashMap<u64, u64, Hashing> {
    let mut map = doubled(0..113, Hashing::Spread);
    assert!(changing(&map), "128 slots take 112");
    map.rehash_step(part);
    assert_eq!(changing(&map), part < 8 + 1);
    map
}
