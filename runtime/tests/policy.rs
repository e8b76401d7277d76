//! Policies at work on the real heap. One test, so that nothing else allocates meanwhile.

use ebbtide::{Policy, free_os_memory, mem_stats, set_policy};

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const MIB: u64 = 1 << 20;
/// What a burst allocates and frees.
const BURST: u64 = 128 * MIB;
/// The test harness and magazines of this thread.
const SLACK: u64 = 4 * MIB;
/// Above 4 MiB that always stay, another 4 MiB are the threshold.
const KEPT: u64 = 8 * MIB;

fn burst() {
    let blocks: Vec<Vec<u8>> = (0..BURST / (64 << 10)).map(|_| vec![1; 64 << 10]).collect();
    assert_eq!(blocks.iter().map(|block| u64::from(block[4096])).sum::<u64>(), BURST / (64 << 10));
}

#[test]
fn what_leaves_is_what_the_policy_says() {
    assert!(ebbtide::is_active());

    set_policy(Policy::Off);
    let before = mem_stats();
    burst();
    let after = mem_stats();
    assert_eq!(after.released_total, before.released_total, "off: nothing leaves");
    assert!(after.heap_free >= BURST - SLACK, "{after:?}");

    assert_eq!(set_policy(Policy::Percent(10)), Policy::Off);
    let set = mem_stats();
    assert!(set.heap_free <= KEPT + SLACK, "a new policy acts at once: {set:?}");
    assert!(set.released_total - after.released_total >= BURST - KEPT - SLACK, "{set:?}");

    burst();
    let hooked = mem_stats();
    assert!(hooked.heap_free <= KEPT + SLACK, "so does the freeing thread: {hooked:?}");
    assert!(hooked.releases_total > set.releases_total);

    burst();
    let steady = mem_stats();
    assert_eq!(steady.released_total, hooked.released_total, "what comes and goes stays: {steady:?}");

    let keep = set_policy(Policy::Percent(u32::MAX));
    assert_eq!(keep, Policy::Percent(10));
    burst();
    let kept = mem_stats();
    assert_eq!(kept.released_total, steady.released_total, "a huge percentage keeps everything");

    let report = free_os_memory();
    assert!(report.released_bytes >= BURST - SLACK, "asked for, it leaves under every policy: {report}");
    assert!(mem_stats().heap_free <= SLACK);
}
