//! Hashers that cluster, collide or lie.

use core::cell::Cell;
use core::hash::{BuildHasher, Hasher};
use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Hashing, changing, doubled};
use crate::table::change::pacing;
use crate::{HashMap, HashSet};

/// Hashes that differ each time, and equality that depends on the weather.
#[derive(Clone, Default)]
struct Lying(Rc<Cell<u64>>);

struct LyingHasher(u64);

impl Hasher for LyingHasher {
    fn finish(&self) -> u64 {
        self.0.wrapping_mul(0xd1b5_4a32_d192_ed03) >> 11 | self.0 << 57
    }
    fn write(&mut self, _: &[u8]) {}
}

impl BuildHasher for Lying {
    type Hasher = LyingHasher;
    fn build_hasher(&self) -> LyingHasher {
        self.0.set(self.0.get() + 1);
        LyingHasher(self.0.get())
    }
}

struct Key(u64, Rc<Cell<u64>>, Rc<Cell<i64>>);

impl Key {
    fn new(key: u64, weather: &Rc<Cell<u64>>, alive: &Rc<Cell<i64>>) -> Self {
        alive.set(alive.get() + 1);
        Self(key, Rc::clone(weather), Rc::clone(alive))
    }
}
impl Drop for Key {
    fn drop(&mut self) {
        self.2.set(self.2.get() - 1);
    }
}
impl core::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}
impl PartialEq for Key {
    fn eq(&self, _: &Self) -> bool {
        self.1.set(self.1.get() + 1);
        self.1.get().is_multiple_of(3)
    }
}
impl Eq for Key {}

#[test]
fn lying_hashers_and_equality_lose_and_double_nothing() {
    let (weather, alive) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut map = HashMap::with_hasher(Lying::default());
    for round in 0..6 {
        for key in 0..700 {
            let _ = map.insert(Key::new(key, &weather, &alive), ());
            map.verify_counts();
            assert_eq!(map.iter().count(), map.len());
            assert_eq!(alive.get(), map.len() as i64);
        }
        for key in 0..(300 * round) {
            let key = Key::new(key, &weather, &alive);
            drop(map.remove_entry(&key));
            drop(key);
            map.verify_counts();
            assert_eq!(alive.get(), map.len() as i64);
        }
    }
    assert!(map.len() > 200, "it was no test if nothing grew");
    while map.rehash_step(1) > 0 {}
    map.shrink_to_fit();
    map.verify_counts();
    drop(map);
    assert_eq!(alive.get(), 0);
}

#[test]
fn colliding_keys_are_told_apart_in_both_generations() {
    for hashing in [Hashing::Constant, Hashing::OneHome, Hashing::Clustered, Hashing::Identity] {
        let mut map = doubled(0..500, hashing);
        for key in 0..500 {
            assert_eq!(map.get(&key), Some(&(2 * key)), "{hashing:?}");
        }
        assert_eq!(map.get(&500), None);
        map.verify();
        for key in 0..490 {
            assert_eq!(map.remove(&key), Some(2 * key), "{hashing:?}");
        }
        map.verify();
        assert_eq!(map.keys().copied().collect::<BTreeSet<_>>(), (490..500).collect());
    }
}

#[test]
fn wrapped_chains_survive_the_retirement_of_low_slots() {
    // All homes are the last four of the table, so all but a few entries lie in low slots. Evacuation passes those
    // slots first, and must neither retire them nor let new entries into retired ones.
    let mut map = HashMap::with_hasher(Hashing::Clustered);
    for key in 0..2000_u64 {
        map.insert(key, key);
        if changing(&map) {
            map.rehash_step(1);
        }
        if key % 50 == 0 {
            map.verify();
        }
        if key % 3 == 0 {
            map.remove(&(key / 2));
        }
    }
    map.verify();
}

/// All ways to take a map's entries out, put into another one with the same hasher one by one. In hundredths: at 7/8 load
/// about two windows a probe for keys in any order, and some six more to leave a chunk that was filled twice. In the
/// order of slots it is fourteen here, and grows with the root of the size.
#[test]
fn one_iteration_into_another_map_stays_linear() {
    let source: HashMap<u64, (), Hashing> = (0..50_000).map(|key| (key, ())).collect();
    let set: HashSet<u64, Hashing> = (0..50_000).collect();
    let other: HashSet<u64, Hashing> = (25_000..30_000).collect();
    let fill = |keys: &mut dyn Iterator<Item = u64>| {
        let mut target = HashMap::with_hasher(Hashing::Spread);
        let mut most = 0;
        for key in keys {
            target.insert(key, ());
            if target.len() % 256 == 0 {
                most = most.max(windows_per_probe(&target));
            }
        }
        assert!(target.len() >= 45_000);
        most
    };
    let found = [
        fill(&mut source.keys().copied()),
        fill(&mut source.clone().iter_mut().map(|(&key, ())| key)),
        fill(&mut source.clone().into_keys()),
        fill(&mut source.clone().drain().map(|(key, ())| key)),
        fill(&mut source.clone().extract_if(|_, ()| true).map(|(key, ())| key)),
        fill(&mut set.union(&other).copied()),
        fill(&mut set.difference(&other).copied()),
        fill(&mut set.clone().extract_if(|_| true)),
    ];
    assert!(found.iter().all(|&most| most <= 1000), "{found:?}/100 windows");
}

/// Windows that a lookup of a missing key passes, in hundredths, on average over all homes.
fn windows_per_probe<K, V>(map: &HashMap<K, V, Hashing>) -> usize {
    let main = &map.table.current.generation;
    let windows: usize = (0..main.slots()).map(|home| windows_from(main, home)).sum();
    windows * 100 / main.slots()
}

fn windows_from<T>(generation: &crate::generation::Generation<T>, home: usize) -> usize {
    let (mut position, mut windows) = (home, 1);
    while !generation.window(position).empty().any() {
        position = (position + 16 * windows) & generation.mask();
        windows += 1;
    }
    windows
}

#[test]
fn hashes_per_entry_while_growing_are_few() {
    #[derive(Clone)]
    struct Counting(Rc<Cell<u64>>);
    impl BuildHasher for Counting {
        type Hasher = super::KeyHasher;
        fn build_hasher(&self) -> super::KeyHasher {
            self.0.set(self.0.get() + 1);
            Hashing::Spread.build_hasher()
        }
    }
    let calls = Rc::new(Cell::new(0));
    let mut map = HashMap::with_hasher(Counting(Rc::clone(&calls)));
    let entries = pacing::load_limit(1 << 14) as u64 + 1;
    for key in 0..entries {
        map.insert(key, ());
    }
    while map.rehash_step(9) > 0 {}
    // One for each insert, two for the moves of all doublings up to the one that just ended, and some for probes that
    // reach beyond the hashes that are kept.
    assert!(calls.get() < 4 * entries, "{} hashes for {entries} entries", calls.get());
}
