//! Random sequences of operations on ebbtide's `HashMap`, each also done to the standard library's: both must answer the
//! same and hold the same. ebbtide is the global allocator, as in use.
//!
//! Three kinds of keys: numbers with a good hash, numbers of which many share a hash, and strings.

use std::collections::HashMap as Oracle;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

use ebbtide::HashMap;
use proptest::prelude::*;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

#[derive(Clone, Debug)]
enum Op {
    Insert(u16, u32),
    Remove(u16),
    Get(u16),
    GetMut(u16, u32),
    EntryOrInsert(u16, u32),
    EntryRemove(u16),
    /// So many keys from the first on, to pass several generations.
    InsertMany(u16, u16),
    RemoveMany(u16, u16),
    /// Keep keys whose value has this remainder by 3.
    Retain(u32),
    Reserve(u16),
    ShrinkToFit,
    ShrinkTo(u16),
    Clear,
    DrainAll,
    Clone,
    Step(u16),
    Release,
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0_u16..6000;
    prop_oneof![
        10 => (key(), any::<u32>()).prop_map(|(k, v)| Op::Insert(k, v)),
        8 => key().prop_map(Op::Remove),
        4 => key().prop_map(Op::Get),
        2 => (key(), any::<u32>()).prop_map(|(k, v)| Op::GetMut(k, v)),
        3 => (key(), any::<u32>()).prop_map(|(k, v)| Op::EntryOrInsert(k, v)),
        2 => key().prop_map(Op::EntryRemove),
        6 => (key(), 1_u16..2500).prop_map(|(k, n)| Op::InsertMany(k, n)),
        6 => (key(), 1_u16..3500).prop_map(|(k, n)| Op::RemoveMany(k, n)),
        1 => (0_u32..3).prop_map(Op::Retain),
        1 => (0_u16..5000).prop_map(Op::Reserve),
        2 => Just(Op::ShrinkToFit),
        1 => (0_u16..3000).prop_map(Op::ShrinkTo),
        1 => Just(Op::Clear),
        1 => Just(Op::DrainAll),
        1 => Just(Op::Clone),
        3 => (0_u16..300).prop_map(Op::Step),
        1 => Just(Op::Release),
    ]
}

/// A hasher that gives 64 hashes in all, so that probe chains get long and bits repeat.
#[derive(Default)]
struct Poor(u64);

impl Hasher for Poor {
    fn finish(&self) -> u64 {
        (self.0 % 64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.wrapping_mul(31).wrapping_add(u64::from(byte));
        }
    }
}

/// A number as a key of the kind under test.
trait Key: Eq + Hash + Clone + Ord + std::fmt::Debug {
    fn of(number: u16) -> Self;
}

impl Key for u16 {
    fn of(number: u16) -> Self {
        number
    }
}

impl Key for String {
    fn of(number: u16) -> Self {
        format!("key {number}")
    }
}

/// Values own memory, so that one dropped twice or never shows in the heap, and one moved badly in the comparison.
fn value(number: u32) -> Box<u32> {
    Box::new(number)
}

struct Pair<K, S> {
    ours: HashMap<K, Box<u32>, S>,
    oracle: Oracle<K, Box<u32>>,
}

impl<K: Key, S: BuildHasher + Clone + Default> Pair<K, S> {
    fn new() -> Self {
        Self { ours: HashMap::with_hasher(S::default()), oracle: Oracle::new() }
    }

    /// Same length, same entries, by lookup and by iteration.
    fn compare(&self) {
        assert_eq!(self.ours.len(), self.oracle.len());
        assert_eq!(self.ours.is_empty(), self.oracle.is_empty());
        assert!(self.ours.capacity() >= self.ours.len());
        assert!(
            self.oracle.iter().all(|(key, value)| self.ours.get(key) == Some(value)),
            "a key is not found"
        );
        let mut ours: Vec<_> = self.ours.iter().collect();
        let mut oracle: Vec<_> = self.oracle.iter().collect();
        ours.sort_unstable();
        oracle.sort_unstable();
        assert_eq!(ours, oracle, "iteration differs");
    }

    fn insert(&mut self, key: u16, number: u32) {
        let ours = self.ours.insert(K::of(key), value(number));
        assert_eq!(ours, self.oracle.insert(K::of(key), value(number)), "insert {key}");
    }

    fn remove(&mut self, key: u16) {
        let key = K::of(key);
        assert_eq!(self.ours.remove_entry(&key), self.oracle.remove_entry(&key), "remove {key:?}");
    }

    fn apply_single(&mut self, op: &Op) {
        match *op {
            Op::Insert(key, number) => self.insert(key, number),
            Op::Remove(key) => self.remove(key),
            Op::Get(key) => {
                let key = K::of(key);
                assert_eq!(self.ours.get_key_value(&key), self.oracle.get_key_value(&key));
                assert_eq!(self.ours.contains_key(&key), self.oracle.contains_key(&key));
            }
            Op::GetMut(key, number) => {
                let key = K::of(key);
                let ours = self.ours.get_mut(&key).map(|place| std::mem::replace(&mut **place, number));
                let oracle = self.oracle.get_mut(&key).map(|place| std::mem::replace(&mut **place, number));
                assert_eq!(ours, oracle);
            }
            Op::EntryOrInsert(key, number) => {
                let key = K::of(key);
                let ours = self.ours.entry(key.clone()).or_insert_with(|| value(number));
                assert_eq!(ours, self.oracle.entry(key).or_insert_with(|| value(number)));
            }
            Op::EntryRemove(key) => self.entry_remove(K::of(key)),
            _ => self.apply_whole(op),
        }
    }

    fn entry_remove(&mut self, key: K) {
        use std::collections::hash_map::Entry;
        let oracle = match self.oracle.entry(key.clone()) {
            Entry::Occupied(entry) => Some(entry.remove()),
            Entry::Vacant(_) => None,
        };
        let ours = match self.ours.entry(key) {
            ebbtide::hash_map::Entry::Occupied(entry) => Some(entry.remove()),
            ebbtide::hash_map::Entry::Vacant(_) => None,
        };
        assert_eq!(ours, oracle);
    }

    fn apply_whole(&mut self, op: &Op) {
        match *op {
            Op::InsertMany(from, count) => {
                (from..from.saturating_add(count)).for_each(|key| self.insert(key, u32::from(key)));
            }
            Op::RemoveMany(from, count) => {
                (from..from.saturating_add(count)).for_each(|key| self.remove(key));
            }
            Op::Retain(rest) => {
                self.ours.retain(|_, number| **number % 3 == rest);
                self.oracle.retain(|_, number| **number % 3 == rest);
            }
            Op::Reserve(more) => {
                self.ours.reserve(usize::from(more));
                assert!(self.ours.capacity() >= self.ours.len() + usize::from(more));
            }
            Op::ShrinkToFit => self.ours.shrink_to_fit(),
            Op::ShrinkTo(least) => {
                let floor = usize::from(least).min(self.ours.capacity());
                self.ours.shrink_to(usize::from(least));
                assert!(self.ours.capacity() >= floor.max(self.ours.len()));
            }
            Op::Clear => {
                self.ours.clear();
                self.oracle.clear();
            }
            Op::DrainAll => {
                let mut ours: Vec<_> = self.ours.drain().collect();
                let mut oracle: Vec<_> = self.oracle.drain().collect();
                ours.sort_unstable();
                oracle.sort_unstable();
                assert_eq!(ours, oracle, "drain differs");
            }
            Op::Clone => self.ours = self.ours.clone(),
            Op::Step(buckets) => {
                let _ = self.ours.rehash_step(usize::from(buckets));
            }
            Op::Release => drop(ebbtide::free_os_memory()),
            _ => unreachable!("operations on one key are done by the caller"),
        }
    }
}

fn run<K: Key, S: BuildHasher + Clone + Default>(ops: &[Op]) {
    let mut pair: Pair<K, S> = Pair::new();
    for op in ops {
        pair.apply_single(op);
        assert_eq!(pair.ours.len(), pair.oracle.len(), "after {op:?}");
    }
    pair.compare();
    let mut ours: Vec<_> = pair.ours.into_iter().collect();
    let mut oracle: Vec<_> = pair.oracle.into_iter().collect();
    ours.sort_unstable();
    oracle.sort_unstable();
    assert_eq!(ours, oracle, "into_iter differs");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, failure_persistence: None, max_shrink_iters: 1000, ..ProptestConfig::default() })]

    #[test]
    fn numbers_with_a_good_hash(ops in prop::collection::vec(op(), 1..60)) {
        run::<u16, RandomState>(&ops);
    }

    #[test]
    fn strings(ops in prop::collection::vec(op(), 1..25)) {
        run::<String, RandomState>(&ops);
    }

    #[test]
    fn numbers_with_few_hashes(ops in prop::collection::vec(op(), 1..12)) {
        run::<u16, BuildHasherDefault<Poor>>(&ops);
    }
}
