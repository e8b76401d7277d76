//! Churn never stalls: no operation hashes, and so moves, more than its share, however long a map is kept full while
//! entries come and go. Hashes are counted, not time. With the constants that users get.

use std::cell::Cell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;

use ebbtide_map::HashMap;
use proptest as _;
use static_assertions as _;

#[derive(Clone, Default)]
struct Counting(Rc<Cell<u64>>);

struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }
}

impl BuildHasher for Counting {
    type Hasher = Mixer;
    fn build_hasher(&self) -> Mixer {
        self.0.set(self.0.get() + 1);
        Mixer(0xcbf2_9ce4_8422_2325)
    }
}

/// Slots that a step visits, and so the most entries that it hashes.
const STEP: u64 = 112;
/// Entries of the largest table that moves whole.
const WHOLE: u64 = 2048 / 8 * 7;

/// Counts the hashes of single operations.
struct Watched<K, V> {
    map: HashMap<K, V, Counting>,
    hashes: Rc<Cell<u64>>,
    most: u64,
    operations: u64,
    all: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Watched<K, V> {
    fn new() -> Self {
        let counting = Counting::default();
        let hashes = Rc::clone(&counting.0);
        Self { map: HashMap::with_hasher(counting), hashes, most: 0, operations: 0, all: 0 }
    }

    fn act(&mut self, act: impl FnOnce(&mut HashMap<K, V, Counting>)) {
        self.hashes.set(0);
        let small = self.map.len() as u64 <= WHOLE;
        act(&mut self.map);
        // Its own key once, or twice to look the key up first, and a step of a change or a small table's move.
        let bound = 2 + if small { WHOLE } else { STEP };
        let hashes = self.hashes.get();
        assert!(hashes <= bound, "{hashes} hashes with {} entries", self.map.len());
        self.most = self.most.max(if self.map.len() as u64 <= 2 * WHOLE { 0 } else { hashes });
        self.operations += 1;
        self.all += hashes;
    }
}

/// Fills a map again and again to the last entry that fits, and has entries come and go there.
fn churn<K: Hash + Eq + Clone, V: Clone>(key: impl Fn(u64) -> K, value: V) {
    let mut watched = Watched::new();
    let (mut alive, mut next) = (VecDeque::new(), 0);
    let add = |watched: &mut Watched<K, V>, alive: &mut VecDeque<u64>, next: &mut u64| {
        let (fresh, value) = (key(*next), value.clone());
        watched.act(|map| assert!(map.insert(fresh, value).is_none()));
        alive.push_back(*next);
        *next += 1;
    };
    // Full tables of four sizes, and lengths between.
    for target in [2_500, 5_000, 7_000, 9_500, 12_000, 20_000, 28_000, 40_000] {
        while alive.len() < target || watched.map.len() < watched.map.capacity() {
            add(&mut watched, &mut alive, &mut next);
        }
        // At the load limit at first: the oldest goes, a new one comes.
        for _ in 0..3 * target {
            let oldest = key(alive.pop_front().expect("an entry"));
            watched.act(|map| assert!(map.remove(&oldest).is_some()));
            watched.act(|map| assert!(map.remove(&oldest).is_none()));
            add(&mut watched, &mut alive, &mut next);
        }
        // Down to where it shrinks, and further.
        while alive.len() > target / 9 {
            let oldest = key(alive.pop_front().expect("an entry"));
            watched.act(|map| assert!(map.remove(&oldest).is_some()));
        }
        assert_eq!(watched.map.len(), alive.len());
    }
    let stats = watched.map.stats();
    assert!(watched.most > 16, "no step was seen: {}", watched.most);
    // All in all an operation hashes few entries: those of the changes that churn needs, over all operations.
    assert!(watched.all < 4 * watched.operations, "{} in {}", watched.all, watched.operations);
    assert!(stats.grows > 20 && stats.shrinks > 8, "{stats:?}");
    assert!(alive.iter().all(|number| watched.map.contains_key(&key(*number))));
}

#[test]
fn of_numbers() {
    churn(|number| number, ());
}

#[test]
fn of_entries_of_64_bytes() {
    churn(|number| number, [7_u64; 7]);
}

#[test]
fn of_strings() {
    churn(|number| format!("a key with the number {number}"), String::from("value"));
}

#[test]
fn of_entries_that_move_by_sixteen() {
    churn(|number| number, [7_u64; 63]);
}
