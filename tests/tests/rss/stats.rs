//! `MemStats`: its identities, and what mincore says about the same pages.

use ebbtide::{MemStats, Policy};
use ebbtide_alloc::Region;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{resident_in_heap, rss};
use ebbtide_tests::rng::Rng;

use crate::harness::{Case, MIB, at_most, near, resident_vec, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "stats_identities_hold", run: stats_identities_hold },
    Case { name: "stats_identities_hold_while_others_allocate", run: identities_while_others_allocate },
    Case { name: "stats_agree_with_mincore", run: stats_agree_with_mincore },
    Case { name: "stats_count_live_bytes", run: stats_count_live_bytes },
];

#[track_caller]
pub(crate) fn identities(stats: &MemStats) {
    assert_eq!(stats.heap_sys, stats.heap_inuse + stats.heap_idle, "{stats:?}");
    assert_eq!(stats.heap_idle, stats.heap_free + stats.heap_released, "{stats:?}");
    assert_eq!(stats.heap_inuse, stats.heap_alloc + stats.heap_cached + stats.heap_unused, "{stats:?}");
}

/// Every byte of the heap starts as released (nobody has touched it), leaves that state when it is taken into use, and
/// comes back to it by a release: so the totals must account for what is released now. Only for a heap at rest.
#[track_caller]
pub(crate) fn totals_balance(stats: &MemStats) {
    let released = stats.heap_sys + stats.released_total - stats.reacquired_total;
    assert_eq!(stats.heap_released, released, "{stats:?}");
}

/// One random step on a working set.
fn step(slots: &mut [Option<Block>], rng: &mut Rng) {
    let at = rng.below(slots.len());
    let high = if rng.below(100) == 0 { 21 } else { 13 };
    slots[at] = match rng.below(3) {
        0 => None,
        _ => Some(Block::filled(rng.log_uniform(0, high), at as u64)),
    };
}

fn stats_identities_hold() {
    let mut slots: Vec<Option<Block>> = resident_vec(4000);
    start(Policy::Off);
    let mut rng = Rng::new(6);
    for round in 0..3000 {
        for _ in 0..40 {
            step(&mut slots, &mut rng);
        }
        let stats = ebbtide::mem_stats();
        identities(&stats);
        totals_balance(&stats);
        match round % 500 {
            499 => drop(ebbtide::free_os_memory()),
            250 => slots.fill_with(|| None),
            _ => {}
        }
    }
}

fn identities_while_others_allocate() {
    use std::sync::atomic::{AtomicBool, Ordering};
    start(Policy::Percent(10));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let stop = &stop;
            scope.spawn(move || {
                let mut slots: Vec<Option<Block>> = resident_vec(1000);
                let mut rng = Rng::new(seed);
                // Relaxed: the flag carries no data.
                while !stop.load(Ordering::Relaxed) {
                    step(&mut slots, &mut rng);
                }
            });
        }
        for round in 0..300 {
            identities(&ebbtide::mem_stats());
            if round % 50 == 0 {
                ebbtide::free_os_memory();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    identities(&ebbtide::mem_stats());
}

/// Both bounds at once: pages that are called released are not resident, and pages that are called in use or free
/// are, where everything was written once.
#[track_caller]
pub(crate) fn agree(what: &str, untouched: u64) {
    let stats = ebbtide::mem_stats();
    identities(&stats);
    let resident = resident_in_heap();
    let claimed = stats.heap_inuse + stats.heap_free;
    at_most(&format!("{what}: resident in the heap against in use + free"), resident, claimed, 0);
    // Slots that a cache took and nobody wrote, and the tail of the last page of a span: pages that are in use or
    // free without ever having been touched. They are few beside 2 MiB.
    at_most(&format!("{what}: in use + free against resident"), claimed, resident, untouched + 2 * MIB);
}

fn stats_agree_with_mincore() {
    let mut slots: Vec<Option<Block>> = resident_vec(60_000);
    start(Policy::Off);
    agree("at the start", 0);
    let mut rng = Rng::new(7);
    for (seed, slot) in slots.iter_mut().enumerate() {
        *slot = Some(Block::filled(rng.log_uniform(0, 13), seed as u64));
    }
    agree("small blocks", 0);
    for slot in &mut slots {
        if rng.below(10) != 0 {
            *slot = None;
        }
    }
    agree("nine in ten freed", 0);
    ebbtide::free_os_memory();
    agree("released", 0);
    let mut large: Vec<Block> =
        (0..20).map(|seed| Block::filled(rng.range(100_000, 5_000_000), seed)).collect();
    agree("large blocks", 0);
    large.truncate(5);
    agree("large blocks freed", 0);
    ebbtide::free_os_memory();
    agree("large blocks released", 0);
    let region = Region::new(24 << 20).expect("memory");
    // Nobody wrote to it: its pages count as in use and may or may not be resident.
    agree("an untouched region", 24 * MIB);
    drop(region);
    ebbtide::free_os_memory();
    agree("the region dropped", 0);
    slots.fill_with(|| None);
    drop(large);
    ebbtide::free_os_memory();
    agree("all freed and released", 0);
    let stats = ebbtide::mem_stats();
    near("rss", stats.rss, rss(), MIB / 2);
}

fn stats_count_live_bytes() {
    let mut slots: Vec<Option<Block>> = resident_vec(10_000);
    start(Policy::Off);
    let before = ebbtide::mem_stats();
    for (seed, slot) in slots.iter_mut().enumerate() {
        *slot = Some(Block::filled(4096, seed as u64));
    }
    let live = ebbtide::mem_stats();
    // 4096 is a power of two, so every sensible set of classes holds it without rounding.
    near("heap_alloc of 10,000 blocks of 4 KiB", live.heap_alloc - before.heap_alloc, 10_000 * 4096, MIB);
    let large = Block::filled(10 << 20, 1);
    near("heap_alloc of 10 MiB", ebbtide::mem_stats().heap_alloc - live.heap_alloc, 10 * MIB, 64 << 10);
    drop(large);
    slots.fill_with(|| None);
    let after = ebbtide::mem_stats();
    near("heap_alloc after all were freed", after.heap_alloc, before.heap_alloc, MIB);
    ebbtide::free_os_memory();
    // The release flushed the caches, so both counts are complete but for what the start held back in a cache.
    let after = ebbtide::mem_stats();
    near("mallocs", after.mallocs_total - before.mallocs_total, 10_001, 2000);
    near("frees", after.frees_total - before.frees_total, 10_001, 2000);
}
