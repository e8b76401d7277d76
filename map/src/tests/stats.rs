//! Numbers, names, the registry and the observer.

use core::hash::BuildHasher;
use core::ops::Range;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Hashing, changing, doubled};
use crate::{ChangeKind, HashMap, MapEvent, MapStats, map_stats};

fn row(name: &str) -> Option<MapStats> {
    map_stats().into_iter().find(|row| row.name == name)
}

#[test]
fn a_named_map_is_listed_while_it_lives() {
    let mut map = HashMap::with_hasher(Hashing::Spread).named("listed");
    assert_eq!(row("listed").unwrap().len, 0);
    for key in 0..1000_u64 {
        map.insert(key, key);
        assert_eq!(row("listed").unwrap().len, key + 1);
    }
    map.remove(&3);
    assert_eq!(row("listed").unwrap().len, 999);
    let copy = map.clone();
    assert_eq!(map_stats().iter().filter(|row| row.name == "listed").count(), 1);
    drop(map);
    assert_eq!(row("listed"), None);
    drop(copy);
}

#[test]
fn rows_are_in_the_order_of_naming() {
    let name = |number: u32| format!("in order {number}");
    let numbers = || -> Vec<u32> {
        let rows = map_stats().into_iter();
        rows.filter_map(|row| row.name.strip_prefix("in order ")?.parse().ok()).collect()
    };
    let mut maps: Vec<HashMap<u8, u8>> = (0..40).map(|n| HashMap::new().named(name(n))).collect();
    assert_eq!(numbers(), (0..40).collect::<Vec<_>>());
    // Later maps sit where earlier ones did.
    let kept = maps.split_off(20);
    drop(maps);
    let more: Vec<HashMap<u8, u8>> = (40..80).map(|n| HashMap::new().named(name(n))).collect();
    assert_eq!(numbers(), (20..80).collect::<Vec<_>>());
    let renamed: Vec<HashMap<u8, u8>> =
        kept.into_iter().zip(80..).map(|(map, n)| map.named(name(n))).collect();
    assert_eq!(numbers(), (40..100).collect::<Vec<_>>());
    drop((more, renamed));
    assert!(numbers().is_empty());
}

#[test]
fn a_map_is_listed_once_whatever_names_it_gets_meanwhile() {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let renaming = scope.spawn(|| {
            // Seats are found in the order of addresses or not: with many maps a new name comes behind the old one at times.
            let mut maps: Vec<HashMap<u8, u8>> = (0..50).map(|_| HashMap::new()).collect();
            for round in 0..400 {
                let number = |at: usize| (at + round) % 50;
                maps = (0..50).map(|at| core::mem::take(&mut maps[number(at)]).named("renamed")).collect();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let mut looks = 0_u32;
        // Relaxed: a flag.
        while !stop.load(Ordering::Relaxed) || looks == 0 {
            let rows = map_stats().into_iter().filter(|row| row.name == "renamed").count();
            assert!(rows <= 50, "{rows} rows of 50 maps");
            looks += 1;
        }
        renaming.join().unwrap();
    });
    assert!(row("renamed").is_none());
}

#[test]
fn clearing_and_draining_keep_the_row() {
    let mut map = doubled(0..500, Hashing::Spread).named("drained");
    map.drain().next();
    assert_eq!(row("drained").unwrap().len, 0);
    map.extend([(1, 1), (2, 2)]);
    assert_eq!(row("drained").unwrap().len, 2);
    map.clear();
    assert_eq!(row("drained").unwrap().len, 0);
    map.retain(|_, _| false);
    let moved = map;
    assert_eq!(row("drained").unwrap().len, moved.len() as u64);
}

#[test]
fn numbers_of_a_map() {
    let mut map = doubled(0..113, Hashing::Spread);
    let stats = map.stats();
    assert_eq!((stats.len, stats.logical_bytes), (113, 113 * 16));
    assert_eq!((stats.b, stats.buckets, stats.old_buckets), (4, 16, 8));
    assert_eq!(stats.capacity, map.capacity() as u64);
    assert!(stats.arena_bytes >= 256 * 17 && stats.resident_bytes <= stats.arena_bytes);
    map.rehash_step(3);
    assert_eq!(map.stats().nevacuate, 3);
    while map.rehash_step(1) > 0 {}
    let stats = map.stats();
    assert_eq!((stats.buckets, stats.old_buckets, stats.nevacuate), (16, 0, 0));
    // 4, 8, 16, 32, 64 and 128 slots were left.
    assert_eq!((stats.grows, stats.shrinks, stats.same_size_grows), (6, 0, 0));
    assert_eq!(stats.evacuated_buckets, 1 + 1 + 1 + 2 + 4 + 8);
    assert!(stats.max_pause_ns > 0 && stats.evacuation_ns >= stats.max_pause_ns);
}

#[test]
fn unnamed_maps_share_a_row() {
    let map = doubled(0..5000, Hashing::Spread);
    let total = row("").unwrap();
    assert!(total.arena_bytes >= map.stats().arena_bytes);
    assert!(total.grows > 0 && total.buckets > 0);
}

#[test]
fn the_observer_hears_of_each_change_of_a_map() {
    hear();
    let mut map = doubled(0..0, Hashing::Spread).named("observed");
    for key in 0..200 {
        map.insert(key, key);
    }
    for key in 0..200 {
        map.remove(&key);
    }
    let heard = heard("observed");
    let sizes: Vec<_> =
        heard.iter().map(|event| (event.kind, event.old_buckets, event.new_buckets)).collect();
    use ChangeKind::{Grow, Shrink};
    assert_eq!(
        sizes[..6],
        [(Grow, 1, 1), (Grow, 1, 1), (Grow, 1, 2), (Grow, 2, 4), (Grow, 4, 8), (Grow, 8, 16)]
    );
    assert_eq!(sizes[6..], [(Shrink, 16, 8), (Shrink, 8, 4), (Shrink, 4, 2)]);
    for event in heard {
        assert_eq!(event.evacuated_buckets, event.old_buckets);
        assert!(event.writes >= 1 && event.elapsed_ns >= event.longest_ns && event.retired_bytes > 0);
    }
}

/// What the observer of these tests heard, by name.
static HEARD: Mutex<Vec<(String, MapEvent<'static>)>> = Mutex::new(Vec::new());

fn hear() {
    crate::internal::observe(|event| {
        if !event.name.is_empty() {
            HEARD.lock().unwrap().push((event.name.to_owned(), MapEvent { name: "", ..*event }));
        }
        // A map used in the observer takes the same paths.
        drop(map_stats());
    });
}

fn heard(name: &str) -> Vec<MapEvent<'static>> {
    HEARD.lock().unwrap().iter().filter(|heard| heard.0 == name).map(|heard| heard.1).collect()
}

type Map = HashMap<u64, u64, Hashing>;

/// Counts what happens to a map by looking at it before and after each operation.
#[derive(Debug, Default)]
struct Naive {
    allocations: u64,
    entries: u64,
}

/// Keys that lie in the old generation.
fn keys_in_old(map: &Map) -> BTreeSet<u64> {
    let Some(old) = map.table.old() else { return BTreeSet::new() };
    let in_old = |key: &&u64| {
        let hash = map.hasher().hash_one(**key);
        old.generation.find(hash, |entry| entry.0 == **key).is_some()
    };
    map.keys().filter(in_old).copied().collect()
}

impl Naive {
    /// Does `act`, which must not both end a change and begin one.
    fn watch(&mut self, map: &mut Map, act: impl FnOnce(&mut Map)) {
        let (tags, slots, in_old) =
            (map.table.current.generation.tags(), map.table.current.generation.slots(), keys_in_old(map));
        let (was_changing, keys) = (changing(map), map.keys().copied().collect::<BTreeSet<_>>());
        act(map);
        let moved_whole =
            slots > 0 && map.table.current.generation.tags() != tags && !was_changing && !changing(map);
        // A new bucket array is made before the other one is given back.
        self.allocations += u64::from(
            map.table.current.generation.tags() != tags && map.table.current.generation.slots() > 0,
        );
        let left = keys_in_old(map);
        let gone = if moved_whole { keys } else { in_old };
        self.entries +=
            gone.iter().filter(|key| map.contains_key(*key) && !left.contains(key)).count() as u64;
    }

    fn check(&self, map: &Map, name: &str) {
        let (stats, heard) = (map.stats(), heard(name));
        let sum = |of: fn(&MapEvent<'_>) -> u64| heard.iter().map(of).sum::<u64>();
        let of_kind = |kind| heard.iter().filter(move |event| event.kind == kind);
        let latest =
            |kind| of_kind(kind).next_back().map_or([0, 0], |event| [event.old_buckets, event.new_buckets]);
        assert_eq!((stats.allocations, stats.evacuated_entries), (self.allocations, self.entries));
        let kinds = [ChangeKind::Grow, ChangeKind::Shrink, ChangeKind::SameSize];
        assert_eq!(
            [stats.grows, stats.shrinks, stats.same_size_grows],
            kinds.map(|kind| of_kind(kind).count() as u64)
        );
        assert_eq!([stats.last_grow, stats.last_shrink], [latest(kinds[0]), latest(kinds[1])]);
        assert_eq!(stats.evacuated_buckets, sum(|event| event.evacuated_buckets));
        assert_eq!(stats.retired_total, sum(|event| event.retired_bytes));
        assert_eq!(
            stats.shrunk_total,
            of_kind(ChangeKind::Shrink).map(|event| event.retired_bytes).sum::<u64>()
        );
        assert!(stats.max_pause_ns >= heard.iter().map(|event| event.longest_ns).max().unwrap_or(0));
        assert!(stats.evacuation_ns >= sum(|event| event.elapsed_ns));
        if !changing(map) {
            assert_eq!(stats.evacuation_writes, sum(|event| event.writes));
            assert_eq!(stats.evacuated_entries, sum(|event| event.evacuated_entries));
            assert_eq!((stats.old_bytes, stats.retired_bytes), (0, 0));
        }
        assert_eq!(stats.arena_bytes, stats.live_bytes + stats.old_bytes + stats.retired_bytes);
        assert_eq!(stats.live_bytes, map.table.current.generation.bytes() as u64);
    }
}

#[test]
fn a_life_adds_up_to_what_was_seen_of_it() {
    hear();
    let mut map = HashMap::with_hasher(Hashing::Identity).named("counted");
    let mut naive = Naive::default();
    let mut each = |map: &mut Map, keys: Range<u64>, act: fn(&mut Map, u64)| {
        for key in keys {
            naive.watch(map, |map| act(map, key));
            naive.check(map, "counted");
        }
    };
    let insert: fn(&mut Map, u64) = |map, key| assert_eq!(map.insert(key, key), None);
    // A removal does its share of a change first, and what it removes then would not be seen to have moved.
    let share: fn(&mut Map, u64) = |map, _| assert_eq!(map.remove(&u64::MAX), None);
    let remove: fn(&mut Map, u64) = |map, key| map.retain(|&other, _| other != key);
    let step: fn(&mut Map, u64) = |map, _| assert!(map.rehash_step(1) <= 128);
    // Tombstones in most of a full table, and keys whose home is the empty rest of it: a change to the same size.
    each(&mut map, 0..112, insert);
    each(&mut map, 0..50, step);
    for key in 30..112 {
        each(&mut map, 0..1, share);
        each(&mut map, key..key + 1, remove);
    }
    each(&mut map, 0..26, |map, key| assert_eq!(map.insert(112 + 128 * key, key), None));
    each(&mut map, 0..50, step);
    assert!(map.stats().same_size_grows == 1 && map.stats().shrinks == 0, "{:?}", map.stats());
    each(&mut map, 40_000..40_400, insert);
    for key in (0..20).chain(40_000..40_360) {
        each(&mut map, 0..1, share);
        each(&mut map, key..key + 1, remove);
    }
    each(&mut map, 0..200, step);
    assert!(map.stats().shrinks > 1);
    each(&mut map, 0..1, |map, _| map.reserve(1000));
    each(&mut map, 0..200, step);
    each(&mut map, 0..1, |map, _| map.shrink_to_fit());
    // A change that `clear` cuts short has ended, and a map that shrinks to nothing begins anew.
    each(&mut map, 0..400, |map, key| assert_eq!(map.insert(key + 5000, key), None));
    assert!(changing(&map));
    each(&mut map, 0..1, |map, _| map.clear());
    each(&mut map, 0..1, |map, _| map.shrink_to_fit());
    assert_eq!(map.capacity(), 0);
    each(&mut map, 0..50, insert);
    let small = doubled(0..5, Hashing::Spread);
    each(&mut map, 0..1, |map, _| map.reserve(2000));
    each(&mut map, 0..1, |map, _| map.clear());
    naive.watch(&mut map, |map| map.clone_from(&small));
    naive.check(&map, "counted");
    assert_eq!((map.stats().initial_b, map.stats().preallocations), (0, 0));
    assert!(map.stats().entries_per_write() > 0.5 && map.stats().ns_per_entry() > 0.0);
}

/// A small map has one word for all of it. It must not overflow unseen.
#[test]
fn many_changes_of_a_small_map_are_counted() {
    let mut map = doubled(0..10, Hashing::Spread);
    let mut naive = [3_u64, 0, 0];
    let count = |map: &Map| [map.stats().grows, map.stats().shrinks, map.stats().evacuated_entries];
    naive[2] = 3 + 7;
    naive[0] = 2;
    assert_eq!(count(&map), naive);
    for round in 0..7000 {
        map.reserve(18);
        map.shrink_to_fit();
        naive = [naive[0] + 1, naive[1] + 1, naive[2] + 20];
        assert_eq!(count(&map), naive, "round {round}");
    }
    let stats = map.stats();
    assert_eq!((stats.evacuated_buckets, stats.allocations), (2 + 7000 * 3, 3 + 14_000));
    assert_eq!(stats.evacuation_writes, stats.grows + stats.shrinks);
}

#[test]
fn how_a_map_began() {
    let began = |map: &Map| (map.stats().initial_b, map.stats().preallocations, map.stats().allocations);
    let mut map = Map::default();
    assert_eq!(began(&map), (0, 0, 0));
    map.insert(1, 1);
    assert_eq!(began(&map), (0, 0, 1));
    let mut map = Map::with_capacity_and_hasher(500, Hashing::Spread);
    assert_eq!(began(&map), (6, 1, 1), "1024 slots are 2^6 buckets");
    map.extend((0..2000).map(|key| (key, key)));
    assert_eq!((map.stats().initial_b, map.stats().preallocations), (6, 1));
    let mut map = Map::default();
    map.reserve(30);
    assert_eq!(began(&map), (2, 1, 1));
    map.shrink_to_fit();
    map.reserve(100);
    assert_eq!(began(&map), (2, 1, 2));
    // A clone has the size of its source, for which nobody asked.
    assert_eq!(began(&doubled(0..100, Hashing::Spread).clone()), (3, 0, 1));
}

#[test]
fn entries_that_are_dropped_with_their_map_see_no_row_of_it() {
    struct Looks;

    impl Drop for Looks {
        fn drop(&mut self) {
            assert!(map_stats().iter().all(|row| row.name != "going"));
        }
    }

    let map: HashMap<u32, Looks> = (0..3).map(|key| (key, Looks)).collect();
    let map = map.named("going");
    assert!(map_stats().iter().any(|row| row.name == "going"));
    drop(map);
}

#[test]
fn a_clone_during_a_change_counts_from_zero() {
    let mut map: Map = (0..1 << 13).map(|key| (key, key)).collect();
    while map.stats().old_buckets == 0 || map.stats().evacuated_entries == 0 {
        map.insert(map.len() as u64, 0);
    }
    let copy = map.clone().stats();
    assert!(copy.old_buckets > 0);
    assert_eq!(
        (copy.evacuated_entries, copy.evacuation_writes, copy.evacuation_ns, copy.max_pause_ns),
        (0, 0, 0, 0)
    );
}
