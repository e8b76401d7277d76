//! Numbers, names, the registry and the observer.

use std::sync::Mutex;

use super::{Hashing, doubled};
use crate::{ChangeKind, HashMap, MapStats, map_stats};

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
    static HEARD: Mutex<Vec<(ChangeKind, u64, u64, u64)>> = Mutex::new(Vec::new());
    crate::set_observer(|event| {
        if event.name == "observed" {
            assert_eq!(event.evacuated_buckets, event.old_buckets);
            assert!(event.writes >= 1 && event.elapsed_ns >= event.longest_ns);
            HEARD.lock().unwrap().push((
                event.kind,
                event.old_buckets,
                event.new_buckets,
                event.retired_bytes,
            ));
        }
        // A map used in the observer takes the same paths.
        drop(map_stats());
    });
    let mut map = doubled(0..0, Hashing::Spread).named("observed");
    for key in 0..200 {
        map.insert(key, key);
    }
    for key in 0..200 {
        map.remove(&key);
    }
    let heard = HEARD.lock().unwrap().clone();
    let sizes: Vec<_> = heard.iter().map(|&(kind, old, new, _)| (kind, old, new)).collect();
    use ChangeKind::{Grow, Shrink};
    assert_eq!(
        sizes[..6],
        [(Grow, 1, 1), (Grow, 1, 1), (Grow, 1, 2), (Grow, 2, 4), (Grow, 4, 8), (Grow, 8, 16)]
    );
    assert_eq!(sizes[6..], [(Shrink, 16, 8), (Shrink, 8, 4), (Shrink, 4, 2)]);
    assert!(heard.iter().all(|&(.., bytes)| bytes > 0));
}
