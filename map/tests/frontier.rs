//! What a map in the middle of a change holds. In a process of its own: another map that is dropped leaves pages in the
//! heap, and a region made of those is resident before it is touched.

use ebbtide_map::HashMap;
use proptest as _;
use static_assertions as _;

#[test]
fn pages_behind_the_frontier_are_not_resident() {
    ebbtide_alloc::set_retire_mode(ebbtide_alloc::Retire::Release);
    let mut map = HashMap::new();
    let limit = (1_u64 << 18) / 8 * 7;
    for key in 0..=limit {
        map.insert(key, key);
    }
    let start = map.stats();
    assert_eq!((start.old_buckets, start.buckets), (1 << 14, 1 << 15));
    map.rehash_step(3 << 12);
    let stats = map.stats();
    // Three quarters are evacuated. Of the new 8.5 MiB as much is touched, and of the old 4.25 MiB the quarter that
    // is left, the tags, and up to two batches of 128 KiB are resident.
    assert!(stats.nevacuate >= 3 << 12);
    let (new, old) = ((1_u64 << 19) * 17, (1_u64 << 18) * 16);
    let expected = new * 3 / 4 + old / 4 + old / 16 + (512 << 10);
    assert!(stats.resident_bytes <= expected, "{} > {expected}", stats.resident_bytes);
    map.verify();
}
