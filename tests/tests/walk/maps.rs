//! Maps and sets beside those of std as oracles: named, grown, shrunk, cloned, dropped, in the hands of many threads.

use std::collections::{BTreeMap, BTreeSet};

use ebbtide::{HashMap, HashSet};
use ebbtide_tests::rng::Rng;

use crate::process::process;
use crate::worker::Worker;

/// Keys come from so small a range that many are there already.
const KEYS: usize = 6000;
/// Maps in one place.
const MOST: usize = 6;

/// A map and what it should hold.
pub(crate) struct Chart {
    map: HashMap<u64, Box<u64>>,
    oracle: BTreeMap<u64, u64>,
    name: Option<String>,
}

/// A set and what it should hold.
pub(crate) struct Club {
    set: HashSet<u64>,
    oracle: BTreeSet<u64>,
}

/// A name that no other map of the tree has.
fn new_name() -> String {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("walk {} {}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}

impl Chart {
    fn make(rng: &mut Rng) -> Self {
        let map = match rng.below(3) {
            0 => HashMap::new(),
            1 => HashMap::with_capacity(rng.below(KEYS)),
            _ => HashMap::with_capacity(rng.below(64)),
        };
        Self { map, oracle: BTreeMap::new(), name: None }.renamed(rng)
    }

    fn renamed(mut self, rng: &mut Rng) -> Self {
        if rng.below(3) != 0 {
            let name = new_name();
            (self.map, self.name) = (self.map.named(name.clone()), Some(name));
        }
        self
    }

    fn change(&mut self, rng: &mut Rng) {
        let (map, oracle) = (&mut self.map, &mut self.oracle);
        match rng.below(12) {
            0..4 => {
                for _ in 0..rng.below(KEYS / 4) {
                    let (key, value) = (rng.below(KEYS) as u64, rng.next_u64());
                    let before = map.insert(key, Box::new(value));
                    assert_eq!(before.map(|before| *before), oracle.insert(key, value), "insert of {key}");
                }
            }
            4..7 => {
                for _ in 0..rng.below(KEYS / 4) {
                    let key = rng.below(KEYS) as u64;
                    assert_eq!(map.remove(&key).map(|value| *value), oracle.remove(&key), "remove of {key}");
                }
            }
            7 => {
                let keep = rng.below(KEYS) as u64;
                map.retain(|key, _| *key < keep);
                oracle.retain(|key, _| *key < keep);
            }
            8 => {
                map.shrink_to_fit();
                map.set_auto_shrink(rng.below(4) != 0);
            }
            9 => map.reserve(rng.below(KEYS)),
            10 => drop(map.rehash_step(rng.below(64))),
            _ => {
                let taken: BTreeMap<u64, u64> = match rng.below(2) {
                    0 => map.drain().map(|(key, value)| (key, *value)).collect(),
                    _ => map.extract_if(|_, _| true).map(|(key, value)| (key, *value)).collect(),
                };
                assert_eq!(taken, std::mem::take(oracle));
            }
        }
    }

    fn copy(&self, into: &mut Self) {
        into.map.clone_from(&self.map);
        into.oracle.clone_from(&self.oracle);
    }

    pub(crate) fn check(&self) {
        self.map.verify();
        assert_eq!(self.map.len(), self.oracle.len());
        for (key, value) in &self.oracle {
            assert_eq!(self.map.get(key).map(|value| **value), Some(*value), "the value of {key}");
        }
    }

    /// What `map_stats` should say of it, if it has a name.
    pub(crate) fn row(&self) -> Option<(&str, u64)> {
        self.name.as_deref().map(|name| (name, self.map.len() as u64))
    }
}

impl Club {
    fn change(&mut self, rng: &mut Rng) {
        let (set, oracle) = (&mut self.set, &mut self.oracle);
        match rng.below(5) {
            0 | 1 => {
                for _ in 0..rng.below(KEYS / 4) {
                    let value = rng.below(KEYS) as u64;
                    assert_eq!(set.insert(value), oracle.insert(value), "insert of {value}");
                }
            }
            2 | 3 => {
                for _ in 0..rng.below(KEYS / 4) {
                    let value = rng.below(KEYS) as u64;
                    assert_eq!(set.remove(&value), oracle.remove(&value), "remove of {value}");
                }
            }
            _ => {
                let odd: HashSet<u64> = (1..KEYS as u64).step_by(2).collect();
                *set = set.intersection(&odd).copied().collect();
                oracle.retain(|value| value % 2 == 1);
            }
        }
    }

    pub(crate) fn check(&self) {
        self.set.verify();
        assert!(
            self.set.len() == self.oracle.len() && self.oracle.iter().all(|value| self.set.contains(value))
        );
    }
}

/// Changes a map of a shared place, or makes one.
pub(crate) fn change(worker: &mut Worker) {
    let Some(mut place) = worker.any_place() else { return };
    let rng = &mut worker.rng;
    if place.charts.len() < MOST && rng.below(3) == 0 {
        place.charts.push(Chart::make(rng));
    }
    let len = place.charts.len();
    if len > 0 {
        let at = rng.below(len);
        // Out of the place meanwhile: others may use it.
        let mut chart = place.charts.swap_remove(at);
        drop(place);
        chart.change(rng);
        put(worker, chart);
    }
}

fn put(worker: &mut Worker, chart: Chart) {
    match worker.any_place() {
        Some(mut place) if place.charts.len() < MOST => place.charts.push(chart),
        _ => chart.check(),
    }
}

/// Clones a map: into a new one, or into another, and gives it another name.
pub(crate) fn copy(worker: &mut Worker) {
    let Some(mut place) = worker.any_place() else { return };
    let Some(chart) = place.charts.pop() else { return };
    drop(place);
    let rng = &mut worker.rng;
    let mut other = Chart::make(rng);
    if rng.below(2) == 0 {
        other.change(rng);
        chart.copy(&mut other);
    } else {
        other = Chart { map: chart.map.clone(), oracle: chart.oracle.clone(), name: None }.renamed(rng);
    }
    other.check();
    let chart = chart.renamed(rng);
    put(worker, chart);
    put(worker, other);
}

/// Names and drops many small maps, as a program does that has one for each request.
pub(crate) fn name_and_drop(worker: &mut Worker) {
    for _ in 0..worker.rng.range(1, 30) {
        let mut chart = Chart { map: HashMap::new(), oracle: BTreeMap::new(), name: None };
        chart.map = chart.map.named(new_name());
        chart.map.insert(1, Box::new(2));
        assert_eq!(chart.map.get(&1).map(|value| **value), Some(2));
    }
}

/// Drops all maps of a place, checked.
pub(crate) fn drop_all(worker: &mut Worker) {
    let Some(mut place) = worker.any_place() else { return };
    let (charts, clubs) = (std::mem::take(&mut place.charts), std::mem::take(&mut place.clubs));
    drop(place);
    charts.iter().for_each(Chart::check);
    clubs.iter().for_each(Club::check);
}

/// Changes a set.
pub(crate) fn change_set(worker: &mut Worker) {
    let Some(mut place) = worker.any_place() else { return };
    let rng = &mut worker.rng;
    if place.clubs.len() < MOST / 2 {
        place.clubs.push(Club { set: HashSet::new(), oracle: BTreeSet::new() });
    }
    let at = rng.below(place.clubs.len());
    place.clubs[at].change(rng);
}

/// A map so large that it lies in regions. It holds the keys of one range, each with a value that follows from it, so
/// that its oracle needs no memory.
#[derive(Default)]
pub(crate) struct Wide {
    map: HashMap<u64, [u64; 3]>,
    first: u64,
    end: u64,
}

const fn value_of(key: u64) -> [u64; 3] {
    [key.wrapping_mul(0x9e37_79b9_7f4a_7c15), !key, key ^ 0x5555]
}

impl Wide {
    fn grow(&mut self, by: u64) {
        for key in self.end..self.end + by {
            assert_eq!(self.map.insert(key, value_of(key)), None, "insert of {key}");
        }
        self.end += by;
    }

    fn shrink(&mut self, by: u64) {
        let end = self.end.min(self.first + by);
        for key in self.first..end {
            assert_eq!(self.map.remove(&key), Some(value_of(key)), "remove of {key}");
        }
        self.first = end;
    }

    pub(crate) fn check(&self) {
        self.map.verify();
        assert_eq!(self.map.len() as u64, self.end - self.first);
        assert!(
            self.map.iter().all(|(key, value)| *value == value_of(*key)),
            "a value is not that of its key"
        );
        assert!((self.first..self.end).step_by(7).all(|key| self.map.contains_key(&key)), "a key is lost");
    }
}

/// Grows or shrinks the large map.
pub(crate) fn change_wide(worker: &mut Worker) {
    let Some(mut wide) = worker.process.wide.try_lock().ok() else { return };
    let rng = &mut worker.rng;
    // Children have smaller ones: all processes together must fit into a small machine.
    let most = if process().depth == 0 { 130_000 } else { 30_000 };
    let len = wide.end - wide.first;
    match rng.below(20) {
        0 => {
            let old = std::mem::take(&mut *wide);
            drop(wide);
            old.check();
        }
        1 => wide.map.shrink_to_fit(),
        2 => {
            let copy = Wide { map: wide.map.clone(), first: wide.first, end: wide.end };
            drop(wide);
            copy.check();
        }
        3 => {
            let name = new_name();
            wide.map = std::mem::take(&mut wide.map).named(name);
        }
        4..13 if len < most => wide.grow(rng.below(25_000) as u64),
        _ => wide.shrink(rng.below(40_000) as u64),
    }
}
