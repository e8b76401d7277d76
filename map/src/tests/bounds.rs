//! Work per operation: bounded, with no step that does much more than its share.

use super::{Hashing, changing};
use crate::HashMap;
use crate::table::change::pacing::HOMES_PER_WRITE;

/// Homes evacuated so far, from the first change on.
fn homes_done<K, V>(map: &HashMap<K, V, Hashing>) -> u64 {
    map.stats().evacuated_buckets * 16 + map.table.old().map_or(0, |old| old.nevacuate() as u64)
}

#[test]
fn an_insert_evacuates_at_most_one_step() {
    let mut map = HashMap::with_hasher(Hashing::Spread);
    for key in 0..30_000_u64 {
        let (before, was_changing) = (homes_done(&map), changing(&map));
        map.insert(key, key);
        if was_changing {
            assert!(homes_done(&map) - before <= HOMES_PER_WRITE as u64, "at {key}");
        }
    }
}

#[test]
fn any_mix_of_writes_evacuates_at_most_one_step_each() {
    let mut map = HashMap::with_hasher(Hashing::Spread);
    let mut random = 1_u64;
    for _ in 0..60_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = random >> 40 & 0x1fff;
        let (before, was_changing) = (homes_done(&map), changing(&map));
        // Phases of growing and shrinking.
        if (random >> 33 & 7) < 4 + (map.len() as u64 / 1000) % 2 {
            map.insert(key, key);
        } else {
            map.remove(&key);
        }
        if was_changing {
            assert!(homes_done(&map) - before <= HOMES_PER_WRITE as u64);
        }
    }
    map.verify();
}

#[test]
fn a_reservation_is_not_paid_at_once() {
    let mut map = super::doubled(0..50_000, Hashing::Spread);
    while map.rehash_step(100) > 0 {}
    let before = homes_done(&map);
    map.reserve(500_000);
    assert!(changing(&map));
    assert_eq!(homes_done(&map), before);
    map.insert(1_000_000, 0);
    assert!(homes_done(&map) - before <= HOMES_PER_WRITE as u64);
}
