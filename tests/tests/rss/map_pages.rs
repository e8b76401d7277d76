//! Pages that a map hands on from one generation to the next, or retires: whatever the policy, entries are where they
//! were, the heap is whole, and the mappings that moving pages makes stay few.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ebbtide::{HashMap, Policy};
use ebbtide_tests::memory::heap_mappings;
use ebbtide_tests::patience::fewer;
use ebbtide_tests::rng::Rng;

use crate::harness::{Case, StopOnDrop, skipped, start};
use crate::limits::{lock_all, unlock_all};

pub(crate) const CASES: &[Case] = &[
    Case { name: "map_pages_under_percent", run: || live(Policy::Percent(10), 2_000_000) },
    Case { name: "map_pages_under_percent_0", run: || live(Policy::Percent(0), 1_000_000) },
    Case { name: "map_pages_under_off", run: || live(Policy::Off, 2_000_000) },
    Case { name: "map_pages_as_the_policy_changes", run: map_pages_as_the_policy_changes },
    Case { name: "map_pages_beside_releases", run: map_pages_beside_releases },
    Case { name: "map_pages_in_locked_memory", run: map_pages_in_locked_memory },
];

/// A map and what it must hold: for each key the value, 0 for none.
struct Checked {
    map: HashMap<u64, u64>,
    model: Vec<u64>,
    rng: Rng,
    most_mappings: usize,
    /// No other thread changes the heap, so that it can be verified.
    alone: bool,
}

impl Checked {
    fn new(keys: usize) -> Self {
        Self { map: HashMap::new(), model: vec![0; keys], rng: Rng::new(5), most_mappings: 0, alone: true }
    }

    fn insert(&mut self, key: usize) {
        let value = self.rng.next_u64() | 1;
        let before = std::mem::replace(&mut self.model[key], value);
        assert_eq!(self.map.insert(key as u64, value).unwrap_or(0), before, "key {key}");
    }

    fn remove(&mut self, key: usize) {
        let before = std::mem::take(&mut self.model[key]);
        assert_eq!(self.map.remove(&(key as u64)).unwrap_or(0), before, "key {key}");
    }

    /// All keys one by one, in an order without pattern.
    fn each(&mut self, act: impl Fn(&mut Self, usize, u64)) {
        let keys = self.model.len();
        for number in 0..keys {
            let random = self.rng.next_u64();
            act(self, number, random);
            // Amid a change as often as not.
            if number % (keys / 64) == 0 {
                let mut mappings = 0;
                heap_mappings(|_| mappings += 1);
                self.most_mappings = self.most_mappings.max(mappings);
            }
            if number == keys / 3 || number == keys / 5 * 4 {
                self.check();
            }
        }
        self.check();
    }

    fn check(&self) {
        for (key, value) in self.model.iter().enumerate() {
            assert_eq!(self.map.get(&(key as u64)).copied().unwrap_or(0), *value, "key {key}");
        }
        let mut seen = 0;
        for (key, value) in &self.map {
            assert_eq!(self.model[*key as usize], *value, "key {key}");
            seen += 1;
        }
        assert_eq!(seen, self.map.len());
        if self.alone {
            assert_eq!(ebbtide_alloc::verify(), Ok(()));
        }
    }

    fn grow(&mut self) {
        self.each(|all, key, _| all.insert(key));
    }

    fn churn(&mut self) {
        self.each(|all, _, random| {
            let key = (random >> 8) as usize % all.model.len();
            if random & 1 == 0 { all.insert(key) } else { all.remove(key) }
        });
    }

    fn shrink(&mut self) {
        self.each(|all, key, random| {
            if random % 32 != 0 {
                all.remove(key);
            }
        });
    }
}

/// Mappings of the heap: three zones, and around each place that pages came from or went to some more.
const MOST_MAPPINGS: usize = 400;

fn live(policy: Policy, keys: usize) {
    let keys = fewer(keys);
    start(policy);
    let mut all = Checked::new(keys);
    for round in 0..2 {
        all.grow();
        all.churn();
        all.shrink();
        if round == 0 {
            ebbtide::free_os_memory();
            all.check();
        }
    }
    let stats = all.map.stats();
    assert!(stats.grows > 20 && stats.shrinks > 6, "{stats:?}");
    assert!(all.most_mappings < MOST_MAPPINGS, "{} mappings", all.most_mappings);
    drop(all);
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}

/// Another thread gives back whatever is idle while pages move, are retired and are reused.
fn map_pages_beside_releases() {
    start(Policy::Percent(10));
    let mut all = Checked { alone: false, ..Checked::new(600_000) };
    let stop = AtomicBool::new(false);
    let releases = thread::scope(|scope| {
        let releasing = scope.spawn(|| {
            let mut releases = 0;
            while !stop.load(Ordering::Relaxed) {
                ebbtide::free_os_memory();
                releases += 1;
            }
            releases
        });
        let ended = StopOnDrop(&stop);
        for _ in 0..2 {
            all.grow();
            all.churn();
            all.shrink();
        }
        drop(ended);
        releasing.join().expect("releases do not panic")
    });
    assert!(releases > 10, "{releases} releases");
    all.alone = true;
    all.check();
}

/// Generations some pages of which were handed on and some kept.
fn map_pages_as_the_policy_changes() {
    start(Policy::Off);
    let mut all = Checked::new(1_000_000);
    for round in 0..2 {
        all.each(|all, key, _| {
            if key % 50_000 == 0 {
                let policies = [Policy::Off, Policy::Percent(10), Policy::Percent(0)];
                ebbtide::set_policy(policies[key / 50_000 % 3]);
            }
            all.insert(key);
        });
        ebbtide::set_policy(if round == 0 { Policy::Percent(0) } else { Policy::Off });
        all.shrink();
    }
    assert!(all.most_mappings < MOST_MAPPINGS, "{} mappings", all.most_mappings);
}

/// Pages that come with their address space are never to be handed on, and none can be given back.
fn map_pages_in_locked_memory() {
    start(Policy::Percent(0));
    if !lock_all() {
        let error = std::io::Error::last_os_error();
        return skipped(&format!("mlockall is refused here ({error}): nothing was tested"));
    }
    let mut all = Checked::new(400_000);
    all.grow();
    all.churn();
    unlock_all();
    all.churn();
    all.shrink();
    all.grow();
}
