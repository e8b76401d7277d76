//! The map operations that ebbtide's `HashMap` and hashbrown's are compared by, over one trait: `u64` to `u64`, the
//! same hasher (foldhash with a fixed seed) on both sides. hashbrown's stands twice: over the global allocator, which
//! is ebbtide's in these benches, and over libc's, as in a program without ebbtide.

use std::alloc::System;
use std::hint::black_box;

use foldhash::fast::FixedState;

use ebbtide_tests::rng::Rng;

/// ebbtide's map.
pub type Ebbtide = ebbtide::HashMap<u64, u64, FixedState>;
/// hashbrown's map.
pub type Hashbrown = hashbrown::HashMap<u64, u64, FixedState>;

/// hashbrown's map over libc's allocator.
pub type Plain = hashbrown::HashMap<u64, u64, FixedState, System>;

/// What all maps can do.
pub trait Map: Clone + Extend<(u64, u64)> {
    /// The column's name.
    const NAME: &'static str;
    /// An empty map with room for `capacity` entries.
    fn with_room(capacity: usize) -> Self;
    /// Inserts an entry.
    fn put(&mut self, key: u64, value: u64);
    /// Looks a key up.
    fn find(&self, key: u64) -> Option<u64>;
    /// Removes a key. Was it there?
    fn take(&mut self, key: u64) -> bool;
    /// The sum of all values.
    fn sum(&self) -> u64;
    /// Keeps the entries with even values.
    fn keep_even(&mut self);
}

macro_rules! map {
    ($type:ty, $name:literal, $with_room:expr) => {
        impl Map for $type {
            const NAME: &'static str = $name;

            #[inline]
            fn with_room(capacity: usize) -> Self {
                $with_room(capacity)
            }

            #[inline]
            fn put(&mut self, key: u64, value: u64) {
                self.insert(key, value);
            }

            #[inline]
            fn find(&self, key: u64) -> Option<u64> {
                self.get(&key).copied()
            }

            #[inline]
            fn take(&mut self, key: u64) -> bool {
                self.remove(&key).is_some()
            }

            fn keep_even(&mut self) {
                self.retain(|_, value| *value % 2 == 0);
            }

            #[inline]
            fn sum(&self) -> u64 {
                self.values().fold(0, |sum, value| sum.wrapping_add(*value))
            }
        }
    };
}

map!(Ebbtide, "ebbtide", |room| Self::with_capacity_and_hasher(room, FixedState::default()));
map!(Hashbrown, "hashbrown", |room| Self::with_capacity_and_hasher(room, FixedState::default()));
map!(Plain, "hashbrown on libc", |room| Self::with_capacity_and_hasher_in(
    room,
    FixedState::default(),
    System
));

/// What maps with other keys and values can do.
pub trait Mapping<K, V>: Default {
    /// Inserts an entry.
    fn put(&mut self, key: K, value: V);
    /// Is the key there?
    fn has(&self, key: &K) -> bool;
    /// Removes a key. Was it there?
    fn take(&mut self, key: &K) -> bool;
    /// Shrinks to what the entries need.
    fn fit(&mut self);
}

macro_rules! mapping {
    ($type:ty) => {
        impl<K: Eq + std::hash::Hash, V> Mapping<K, V> for $type {
            #[inline]
            fn put(&mut self, key: K, value: V) {
                self.insert(key, value);
            }

            #[inline]
            fn has(&self, key: &K) -> bool {
                self.contains_key(key)
            }

            #[inline]
            fn take(&mut self, key: &K) -> bool {
                self.remove(key).is_some()
            }

            fn fit(&mut self) {
                self.shrink_to_fit();
            }
        }
    };
}

mapping!(ebbtide::HashMap<K, V, FixedState>);
mapping!(hashbrown::HashMap<K, V, FixedState>);
mapping!(hashbrown::HashMap<K, V, FixedState, System>);

/// The maps of one side with other keys and values.
pub trait Types {
    /// `u64` to `u64`.
    type Numbers: Mapping<u64, u64>;
    /// With `String` keys.
    type Text: Mapping<String, u64>;
    /// With values of 64 bytes.
    type Wide: Mapping<u64, [u64; 8]>;
}

impl Types for Ebbtide {
    type Numbers = Self;
    type Text = ebbtide::HashMap<String, u64, FixedState>;
    type Wide = ebbtide::HashMap<u64, [u64; 8], FixedState>;
}

impl Types for Hashbrown {
    type Numbers = Self;
    type Text = hashbrown::HashMap<String, u64, FixedState>;
    type Wide = hashbrown::HashMap<u64, [u64; 8], FixedState>;
}

impl Types for Plain {
    type Numbers = Self;
    type Text = hashbrown::HashMap<String, u64, FixedState, System>;
    type Wide = hashbrown::HashMap<u64, [u64; 8], FixedState, System>;
}

/// The `index`-th key: scattered over all 64 bits, different for different indices.
#[inline]
#[must_use]
pub fn key(index: usize) -> u64 {
    Rng::new(index as u64).next_u64()
}

/// A map with the keys `0..len`.
#[must_use]
pub fn filled<M: Map>(len: usize) -> M {
    let mut map = M::with_room(0);
    fill(&mut map, len);
    map
}

/// Inserts the keys `0..len`.
pub fn fill<M: Map>(map: &mut M, len: usize) {
    for index in 0..len {
        map.put(key(index), index as u64);
    }
}

/// Looks up `count` random keys that are there.
pub fn hits<M: Map>(map: &M, len: usize, count: usize, rng: &mut Rng) {
    let mut sum = 0_u64;
    for _ in 0..count {
        sum = sum.wrapping_add(map.find(key(rng.below(len))).unwrap_or(0));
    }
    black_box(sum);
}

/// Looks up `count` random keys that are not there.
pub fn misses<M: Map>(map: &M, len: usize, count: usize, rng: &mut Rng) {
    let mut found = 0_usize;
    for _ in 0..count {
        found += usize::from(map.find(key(len + rng.below(len))).is_some());
    }
    black_box(found);
}

/// Removes all of the keys `0..len`.
pub fn remove_all<M: Map>(map: &mut M, len: usize) {
    let mut removed = 0;
    for index in 0..len {
        removed += usize::from(map.take(key(index)));
    }
    assert_eq!(removed, len, "every key was there");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both_sides<M: Map>() -> (u64, bool) {
        let mut map: M = filled(1000);
        let sum = map.sum();
        let outside = map.find(key(1000)).is_some();
        remove_all(&mut map, 1000);
        (sum, outside || map.find(key(1)).is_some())
    }

    #[test]
    fn do_the_same() {
        assert_eq!(both_sides::<Ebbtide>(), (499_500, false));
        assert_eq!(both_sides::<Hashbrown>(), (499_500, false));
        assert_eq!(both_sides::<Plain>(), (499_500, false));
    }
}
