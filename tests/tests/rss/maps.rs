//! The difference between a logical shrink (the map holds less) and a physical release (the process is smaller).

use ebbtide::{HashMap, Policy};
use ebbtide_tests::memory::anonymous;

use crate::harness::{Case, MIB, at_most, near, start};

pub(crate) const CASES: &[Case] = &[
    Case {
        name: "logical_shrink_keeps_memory_until_release",
        run: logical_shrink_keeps_memory_until_release,
    },
    Case { name: "map_shrink_leaves_under_percent", run: map_shrink_leaves_under_percent },
    Case { name: "growing_map_peaks_below_one_and_a_half", run: growing_map_peaks_below_one_and_a_half },
];

const ENTRIES: u64 = 2_000_000;

fn filled() -> HashMap<u64, u64> {
    let mut map = HashMap::new();
    for key in 0..ENTRIES {
        map.insert(key, !key);
    }
    map
}

/// Leaves one entry in a hundred, and lets the map finish its shrinking.
fn thin_out(map: &mut HashMap<u64, u64>) {
    for key in (0..ENTRIES).filter(|key| key % 100 != 0) {
        assert_eq!(map.remove(&key), Some(!key));
    }
    map.shrink_to_fit();
    while map.stats().old_buckets > 0 {
        map.rehash_step(1 << 12);
    }
}

fn check(map: &HashMap<u64, u64>) {
    assert_eq!(map.len() as u64, ENTRIES / 100);
    assert!((0..ENTRIES).step_by(100).all(|key| map.get(&key) == Some(&!key)), "entries survive");
}

fn logical_shrink_keeps_memory_until_release() {
    let before = start(Policy::Off);
    let mut map = filled();
    let (full, capacity) = (anonymous(), map.capacity());
    assert!(full > before + 32 * MIB, "two million entries of 16 bytes are resident: {before} -> {full}");
    thin_out(&mut map);
    at_most("logical capacity", map.capacity() as u64, capacity as u64 / 20, 0);
    assert!(map.stats().shrinks > 0);
    // While it shrinks the next generation is resident beside the old one: at most half of it, at the first halving,
    // and that comes from memory which growing left idle.
    near("resident after the logical shrink", anonymous(), full, (full - before) / 20);
    let report = ebbtide::free_os_memory();
    let after = anonymous();
    assert!(report.released_bytes > (full - before) * 8 / 10, "{report}");
    at_most("resident after the physical release", after, before, (full - before) / 20);
    check(&map);
}

fn map_shrink_leaves_under_percent() {
    let before = start(Policy::Percent(10));
    let mut map = filled();
    let full = anonymous();
    assert!(full > before + 32 * MIB);
    thin_out(&mut map);
    // Without being asked: all but a few MiB that the policy may keep.
    at_most("resident after the shrink", anonymous(), before, 8 * MIB);
    check(&map);
}

/// While a map grows, the pages behind the frontier of the old generation leave, so that the peak is about the size
/// of the new one and not one and a half times that.
fn growing_map_peaks_below_one_and_a_half() {
    let before = start(Policy::Percent(0));
    let mut map: HashMap<u64, u64> = HashMap::new();
    let mut peak = 0;
    for key in 0..ENTRIES {
        map.insert(key, !key);
        if key % 4096 == 0 {
            peak = peak.max(anonymous() - before);
        }
    }
    let last = anonymous() - before;
    peak = peak.max(last);
    let final_size = map.stats().arena_bytes;
    at_most("peak against the final arena", peak, final_size, final_size / 5 + 4 * MIB);
    assert_eq!(map.len() as u64, ENTRIES);
}
