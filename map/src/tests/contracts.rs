//! What std promises about capacity, and what this map promises about shrinking and steps.

use super::{Hashing, changing, doubled, split};
use crate::table::change::pacing::load_limit;
use crate::{HashMap, HashSet};

#[test]
fn an_empty_map_has_no_memory() {
    let mut map = HashMap::<u64, u64>::new();
    assert_eq!((map.capacity(), map.stats().arena_bytes), (0, 0));
    assert_eq!(map.get(&1), None);
    assert_eq!(map.remove(&1), None);
    assert_eq!(map.iter().count(), 0);
    map.clear();
    map.shrink_to_fit();
    map.retain(|_, _| true);
    assert_eq!(map.drain().count(), 0);
    assert_eq!(map.rehash_step(5), 0);
    assert_eq!(map.clone().capacity(), 0);
    map.verify();
    assert_eq!(HashMap::<u64, u64>::with_capacity(0).capacity(), 0);
}

#[test]
fn capacities_are_those_of_hashbrown() {
    for (asked, got) in [(1, 3), (3, 3), (4, 7), (8, 14), (15, 28), (29, 56), (57, 112)] {
        assert_eq!(HashMap::<u64, u64>::with_capacity(asked).capacity(), got);
    }
}

#[test]
fn the_length_reaches_the_capacity_and_the_next_insert_raises_it() {
    let mut map = HashMap::with_hasher(Hashing::Spread);
    let mut raises = 0;
    for key in 0..2000_u64 {
        let before = map.capacity();
        let full = map.len() == before;
        map.insert(key, key);
        assert_eq!(map.capacity() > before, full);
        raises += u64::from(full);
        // Neither an old key nor a look needs room.
        let now = map.capacity();
        map.insert(key, key);
        assert_eq!(map.capacity(), now);
    }
    assert_eq!(raises, 11, "0 to 3, 7, 14, .. 3584");
}

#[test]
fn the_capacity_is_constant_while_a_reservation_fills() {
    for (start, reserved) in [(0, 100), (50, 100), (113, 5), (113, 400), (120, 2000), (223, 1), (229, 300)] {
        let mut map = doubled(0..start, Hashing::Spread);
        map.reserve(reserved as usize);
        let capacity = map.capacity();
        assert!(capacity >= (start + reserved) as usize);
        for key in start..start + reserved {
            map.insert(key, key);
            assert_eq!(map.capacity(), capacity);
            map.verify();
        }
    }
}

#[test]
fn a_reservation_after_churn_counts_tombstones() {
    let mut map = doubled(0..112, Hashing::Identity);
    for round in 0..5 {
        for key in 0..100 {
            map.remove(&(round * 1000 + key));
            map.insert((round + 1) * 1000 + key, 0);
        }
        let wanted = map.len() + 40;
        map.reserve(40);
        assert!(map.capacity() >= wanted);
        map.verify();
    }
}

#[test]
fn reserving_and_failing_loses_nothing() {
    for part in 0..9 {
        let mut map = split(part);
        assert!(map.try_reserve(usize::MAX).is_err());
        assert!(map.try_reserve(usize::MAX / 16).is_err());
        assert!(map.try_reserve(1 << 55).is_err());
        map.verify();
        assert_eq!(map, doubled(0..113, Hashing::Spread));
    }
}

#[test]
#[should_panic(expected = "Hash table capacity overflow")]
fn reserving_too_much_panics() {
    HashMap::<u64, u64>::new().reserve(usize::MAX);
}

#[test]
fn shrinking_at_once() {
    for part in 0..9 {
        let mut map = split(part);
        map.retain(|key, _| key % 10 == 0);
        map.shrink_to(50);
        assert_eq!((map.len(), map.capacity()), (12, 56));
        map.shrink_to(1000);
        assert_eq!(map.capacity(), 56, "it never grows");
        map.shrink_to_fit();
        assert_eq!(map.capacity(), 14);
        map.verify();
        map.clear();
        map.shrink_to_fit();
        assert_eq!((map.capacity(), map.stats().arena_bytes), (0, 0));
    }
}

#[test]
fn removals_shrink_step_by_step_down_to_the_least_size() {
    let mut map = doubled(0..3000, Hashing::Spread);
    let mut largest = 0;
    for key in 0..3000 {
        let before = map.table.current.generation.slots();
        assert_eq!(map.remove(&key), Some(2 * key));
        largest = largest.max(before / map.table.current.generation.slots());
        map.verify();
    }
    assert_eq!(largest, 2, "always by half");
    let slots = map.table.current.generation.slots();
    assert!(slots <= 64, "{slots} slots for an empty map");
    assert_eq!(map.stats().shrinks, (4096_u64 / 64).ilog2() as u64 + 1);
}

#[test]
fn a_map_with_room_asked_for_keeps_it() {
    let mut map = HashMap::with_capacity_and_hasher(1000, Hashing::Spread);
    let slots = map.table.current.generation.slots();
    for key in 0..900_u64 {
        map.insert(key, key);
    }
    map.retain(|_, _| false);
    assert_eq!((map.table.current.generation.slots(), changing(&map)), (slots, false));
    map.shrink_to(100);
    assert_eq!(map.capacity(), 112);
    map.reserve(500);
    for key in 0..500_u64 {
        map.insert(key, key);
    }
    for key in 0..500_u64 {
        map.remove(&key);
    }
    assert!(map.capacity() >= 500);
}

#[test]
fn a_map_told_not_to_shrink_only_grows() {
    let mut map = doubled(0..3000, Hashing::Spread);
    map.set_auto_shrink(false);
    while map.rehash_step(100) > 0 {}
    let slots = map.table.current.generation.slots();
    map.retain(|&key, _| key < 2);
    map.remove(&0);
    assert_eq!(map.table.current.generation.slots(), slots);
    map.set_auto_shrink(true);
    map.remove(&1);
    assert!(map.table.current.generation.slots() < slots);
}

#[test]
fn churn_at_constant_length_stays_at_constant_size() {
    for hashing in [Hashing::Spread, Hashing::Identity] {
        let mut map = doubled(0..400, hashing);
        while map.rehash_step(100) > 0 {}
        for key in 400..20_000 {
            map.insert(key, key);
            map.remove(&(key - 400));
        }
        assert_eq!(map.len(), 400);
        assert!(
            map.table.current.generation.slots() <= 1024,
            "{hashing:?}: {} slots",
            map.table.current.generation.slots()
        );
        map.verify();
    }
}

#[test]
fn tombstones_are_shed_at_the_same_size() {
    // With keys that are their own homes, a run of 112 full slots: removals in its middle leave tombstones.
    let mut map = HashMap::with_capacity_and_hasher(112, Hashing::Identity);
    for key in 0..112_u64 {
        map.insert(key, key);
    }
    for key in 20..112 {
        map.remove(&key);
    }
    // Keys whose home is the empty rest of the 128 slots use it up.
    let tombstones = load_limit(128) - map.len() - map.table.current.growth_left();
    assert!(tombstones > 50, "{tombstones}");
    for key in 0..30 {
        map.insert(112 + 128 * key, 0);
        map.verify();
    }
    assert_eq!(map.table.current.generation.slots(), 128);
    assert_eq!((map.stats().same_size_grows, map.stats().grows), (1, 0));
    assert_eq!(map.len(), 50);
}

#[test]
fn writes_alone_end_a_change_and_reads_do_not() {
    let mut map = doubled(0..113, Hashing::Spread);
    let evacuated = map.stats().nevacuate;
    for key in 0..113 {
        assert_eq!(map.get(&key), Some(&(2 * key)));
        map.get_mut(&key);
    }
    assert_eq!(map.iter().count(), 113);
    assert_eq!(map.stats().nevacuate, evacuated);
    // 128 slots at 16 homes a write, and some for the memory of the tags.
    for key in 0..12 {
        map.remove(&key);
        map.verify();
    }
    assert!(!changing(&map));
}

#[test]
fn the_change_ends_before_the_new_table_is_full() {
    let mut map = HashMap::with_hasher(Hashing::Spread);
    for key in 0..20_000_u64 {
        let before = changing(&map);
        let limit = load_limit(map.table.current.generation.slots());
        map.insert(key, key);
        if !before && changing(&map) {
            assert_eq!(map.len(), limit + 1, "a change starts at the limit, not earlier");
        }
    }
}

#[test]
fn what_is_asked_for_is_there_and_can_be_used_up() {
    for asked in (0..600).chain([1000, 1792, 1793, 3584, 5000]) {
        let mut map = HashMap::with_capacity_and_hasher(asked, Hashing::Spread);
        let capacity = map.capacity();
        assert!(capacity >= asked && (asked == 0) == (capacity == 0), "{asked}");
        for key in 0..capacity as u64 {
            map.insert(key, ());
            assert_eq!(map.capacity(), capacity);
        }
        assert!(!changing(&map), "a reservation is no reason to grow");
        map.insert(u64::MAX, ());
        assert!(map.capacity() > capacity);
        map.verify();
    }
}

#[test]
fn reservations_of_all_sizes_hold_in_all_states() {
    for start in (0..240).step_by(3).chain([224, 225, 226]) {
        for reserved in [0, 1, 2, 13, 50, 111, 300] {
            let mut map = doubled(0..start, Hashing::Spread);
            for key in 0..start / 3 {
                map.remove(&key);
            }
            map.reserve(reserved as usize);
            let capacity = map.capacity();
            assert!(capacity >= map.len() + reserved as usize, "{start} and {reserved}");
            let slots = map.table.current.generation.slots();
            for key in 1000..1000 + reserved {
                map.insert(key, key);
                // As in hashbrown it rises where a tombstone is used again.
                assert!(map.capacity() >= capacity, "{start} and {reserved}");
            }
            // Within the capacity no reservation does anything.
            map.reserve(map.capacity() - map.len());
            assert_eq!(map.table.current.generation.slots(), slots, "{start} and {reserved}");
            map.verify();
        }
    }
}

#[test]
fn shrinking_gives_what_was_asked_and_never_more_than_there_was() {
    for len in [0, 1, 3, 4, 14, 15, 57, 113, 200] {
        for least in [0, 1, 3, 7, 8, 60, 112, 113, 250, 2000] {
            let mut map = doubled(0..len, Hashing::Spread);
            map.reserve(300);
            let before = map.capacity();
            map.shrink_to(least);
            let wanted = (len as usize).max(least);
            assert!(map.capacity() >= wanted.min(before) && map.capacity() <= before, "{len} and {least}");
            let fresh = HashMap::<u64, u64>::with_capacity(wanted).capacity();
            assert!(map.capacity() <= fresh, "{len} and {least}");
            map.verify();
        }
        let mut map = doubled(0..len, Hashing::Spread);
        map.clear();
        assert!(map.capacity() >= len as usize);
        map.shrink_to_fit();
        assert_eq!(map.capacity(), 0);
    }
}

#[test]
fn sets_have_the_same_contracts() {
    let mut set = HashSet::<u64>::new();
    assert_eq!(set.capacity(), 0);
    set.reserve(100);
    let capacity = set.capacity();
    set.extend(0..100);
    assert_eq!(set.capacity(), capacity);
    set.clear();
    set.shrink_to_fit();
    assert_eq!(set.capacity(), 0);
    assert_eq!(HashSet::<u64>::with_capacity(57).capacity(), 112);
}

#[test]
fn a_hint_makes_room_but_is_no_wish() {
    let map: HashMap<u64, ()> = (0..1000).map(|key| (key, ())).collect();
    assert_eq!((map.stats().grows, map.capacity()), (0, HashMap::<u64, ()>::with_capacity(1000).capacity()));
    let mut map = map;
    map.retain(|&key, ()| key < 10);
    assert!(changing(&map), "it shrinks");
}

#[test]
fn a_clone_from_uses_memory_again_and_keeps_the_name() {
    for part in 0..9 {
        let source = split(part);
        let mut map = HashMap::with_capacity_and_hasher(200, Hashing::Spread).named("target of a clone");
        map.extend((0..112).map(|key| (key, 0)));
        assert_eq!(map.table.current.generation.slots(), source.table.current.generation.slots());
        let tags = map.table.current.generation.tags();
        map.clone_from(&source);
        assert_eq!(map.table.current.generation.tags(), tags, "the same memory");
        assert_eq!((&map, map.capacity(), changing(&map)), (&source, source.capacity(), true));
        assert_eq!(map.stats().name, "target of a clone");
        let row = crate::map_stats().into_iter().find(|row| row.name == "target of a clone").unwrap();
        assert_eq!((row.len, row.capacity), (map.len() as u64, map.capacity() as u64));
        map.verify();
    }
}

#[test]
fn a_clone_leaves_a_generation_without_entries_behind() {
    let mut map = doubled(0..=28_672, Hashing::Spread);
    assert!(changing(&map), "32,768 slots take 28,672");
    while map.table.old().is_some_and(|old| !old.is_drained_of_entries()) {
        map.rehash_step(1);
    }
    assert!(changing(&map), "memory is left");
    let clone = map.clone();
    assert_eq!((&clone, clone.capacity(), changing(&clone)), (&map, map.capacity(), false));
    clone.verify();
}

#[test]
fn extracting_starts_a_shrink_at_its_end_or_with_the_next() {
    let mut map = doubled(0..224, Hashing::Spread);
    while map.rehash_step(9) > 0 {}
    map.extract_if(|&key, _| key >= 20).take(204).for_each(drop);
    assert_eq!((map.len(), changing(&map)), (20, false), "it did not come to its end");
    assert!(map.extract_if(|_, _| false).next().is_none());
    assert!(changing(&map));
    map.verify();

    let mut map = doubled(0..224, Hashing::Spread);
    while map.rehash_step(9) > 0 {}
    let mut extract = map.extract_if(|&key, _| key >= 20);
    assert_eq!(extract.by_ref().count(), 204);
    assert_eq!((extract.next(), extract.next()), (None, None), "fused, though the map changes now");
    assert!(changing(&map));
}
