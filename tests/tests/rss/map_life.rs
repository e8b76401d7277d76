//! What the monitor of maps says about memory, beside what the kernel says.

use ebbtide::{HashMap, MapStats, Policy};
use ebbtide_tests::memory::anonymous;

use crate::harness::{Case, KIB, MIB, at_most, near, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "map_stats_show_whose_kept_memory_is", run: map_stats_show_whose_kept_memory_is },
    Case {
        name: "map_stats_show_nothing_kept_under_percent",
        run: map_stats_show_nothing_kept_under_percent,
    },
    Case { name: "map_stats_show_arena_bytes_by_state", run: map_stats_show_arena_bytes_by_state },
];

const ENTRIES: u64 = 1_500_000;

fn row(name: &str) -> MapStats {
    ebbtide::map_stats().into_iter().find(|row| row.name == name).unwrap_or_default()
}

fn fill(map: &mut HashMap<u64, u64>, entries: u64) {
    for key in 0..entries {
        map.insert(key, !key);
    }
    while map.rehash_step(64) > 0 {}
}

/// Leaves one entry in 64, and lets shrinks end.
fn thin_out(map: &mut HashMap<u64, u64>, entries: u64) {
    for key in (0..entries).filter(|key| key % 64 != 0) {
        assert_eq!(map.remove(&key), Some(!key));
    }
    while map.rehash_step(64) > 0 {}
}

fn map_stats_show_whose_kept_memory_is() {
    let before = start(Policy::Off);
    let mut large = HashMap::new().named("large");
    let mut small = HashMap::new().named("small");
    fill(&mut large, ENTRIES);
    fill(&mut small, ENTRIES / 8);
    for (map, entries) in [(&mut large, ENTRIES), (&mut small, ENTRIES / 8)] {
        thin_out(map, entries);
    }
    let rows = [row("large"), row("small")];
    let [kept_large, kept_small] = [rows[0].kept_bytes, rows[1].kept_bytes];
    let (now, live) = (anonymous() - before, rows[0].live_bytes + rows[1].live_bytes);
    // The largest arena of each was left whole, or its pages are those of an arena that was made in its place.
    assert!(kept_large > 20 * MIB && kept_small > 2 * MIB, "{rows:?}");
    // All that is resident is what the maps have and what they keep. Pages never touched count as kept as well, so the
    // difference can be of either sign; two MiB are small arenas that count as blocks, and the allocator's own tables.
    let untouched = rows[0].live_bytes / 8 + 2 * MIB;
    near("resident, by the kernel and by the rows", now, kept_large + kept_small + live, untouched + now / 8);
    assert_eq!(large.stats().kept_bytes, kept_large);

    // Gone with a release, and back with the next life. What a map that is gone left is nobody's.
    ebbtide::free_os_memory();
    assert_eq!([row("large").kept_bytes, row("small").kept_bytes, row("").kept_bytes], [0; 3]);
    at_most("resident after the release", anonymous() - before, live, MIB);
    fill(&mut small, ENTRIES / 8);
    thin_out(&mut small, ENTRIES / 8);
    let again = row("small").kept_bytes;
    assert!(again > 2 * MIB && row("large").kept_bytes == 0, "{again}");
    let left = row("small").live_bytes;
    drop(small);
    let rest = row("").kept_bytes;
    near("kept for a map that is gone", rest, again + left, 64 * KIB);
    ebbtide::free_os_memory();
    assert_eq!(row("").kept_bytes, 0);
    assert_eq!(large.len() as u64, ENTRIES.div_ceil(64));
}

fn map_stats_show_nothing_kept_under_percent() {
    start(Policy::Percent(0));
    let mut map = HashMap::new().named("thrifty");
    fill(&mut map, ENTRIES);
    thin_out(&mut map, ENTRIES);
    // Arenas below 4 MiB leave whole and stay for the next one: 2 MiB and 1 MiB of them, and the floor of the policy.
    at_most("kept under the policy", row("thrifty").kept_bytes, 8 * MIB, 0);
    let stats = map.stats();
    assert!(stats.shrinks >= 3 && stats.shrunk_total > 40 * MIB, "{stats:?}");
}

/// In the middle of a change under `Off` the old generation's dead part is resident, and is told apart from the rest.
fn map_stats_show_arena_bytes_by_state() {
    start(Policy::Off);
    let mut map = HashMap::new().named("halfway");
    fill(&mut map, ENTRIES);
    let whole = map.stats();
    assert_eq!((whole.arena_bytes, whole.old_bytes, whole.retired_bytes), (whole.live_bytes, 0, 0));
    assert!(whole.arena_bytes > 32 * MIB);
    ebbtide::free_os_memory();
    map.reserve(4 * ENTRIES as usize);
    let begun = map.stats();
    assert_eq!((begun.old_bytes, begun.retired_bytes), (whole.live_bytes, 0));
    let mut last = 0;
    while map.stats().nevacuate < map.stats().old_buckets / 2 {
        map.rehash_step(256);
        let now = map.stats();
        assert_eq!(now.arena_bytes, now.live_bytes + now.old_bytes + now.retired_bytes);
        assert_eq!(now.old_bytes + now.retired_bytes, whole.live_bytes);
        assert!(now.retired_bytes >= last);
        last = now.retired_bytes;
    }
    let half = row("halfway");
    let entries = half.old_buckets * 16 * 16;
    // Half of the entries, in batches of 128 KiB, but for the first one.
    near("retired", half.retired_bytes, entries / 2, 512 * KIB);
    assert_eq!(half.kept_bytes, half.retired_bytes, "they stay");
    ebbtide::free_os_memory();
    let released = row("halfway");
    assert_eq!((released.kept_bytes, released.retired_bytes), (0, half.retired_bytes), "they left");
    near("resident", half.resident_bytes - released.resident_bytes, half.retired_bytes, 0);
    while map.rehash_step(256) > 0 {}
    assert_eq!(map.stats().evacuated_entries - whole.evacuated_entries, ENTRIES);
    assert!((0..ENTRIES).all(|key| map.get(&key) == Some(&!key)));
}
