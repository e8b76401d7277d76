//! Holes inside live spans leave: what stays is the pages that hold live objects.

use ebbtide::{BlockReason, Policy};
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{anonymous, page_floor};
use ebbtide_tests::rng::Rng;

use crate::harness::{Case, MIB, at_most, resident_vec, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "holes_leave_small_scattered", run: || scattered(16, 256, 600_000) },
    Case { name: "holes_leave_medium_scattered", run: || scattered(256, 8 << 10, 25_000) },
    Case { name: "holes_leave_large_scattered", run: || scattered(8 << 10, 256 << 10, 1000) },
    Case { name: "holes_leave_runs", run: runs },
    Case { name: "every_other_block_keeps_all_pages", run: every_other_block },
];

/// Above the floor: the allocator's tables, and the cached slots that the thread took again after its flush.
const REST: u64 = 2 * MIB;

fn fill(slots: &mut [Option<Block>], low: usize, high: usize) {
    let mut rng = Rng::new(4);
    for (seed, slot) in slots.iter_mut().enumerate() {
        *slot = Some(Block::filled(rng.range(low, high), seed as u64));
    }
}

/// Releases, then checks that resident memory is at the floor and that the live blocks are whole.
fn release_and_check(before: u64, slots: &[Option<Block>]) {
    ebbtide::free_os_memory();
    let after = anonymous();
    at_most(
        "resident above the start, against the page floor",
        after,
        before + page_floor(slots.iter().flatten().map(Block::range)),
        REST,
    );
    for (seed, slot) in slots.iter().enumerate() {
        if let Some(block) = slot {
            assert!(block.holds(seed as u64, block.size()), "{block:?} lost its contents");
        }
    }
}

/// One block in a hundred stays, chosen at random.
fn scattered(low: usize, high: usize, blocks: usize) {
    let mut slots: Vec<Option<Block>> = resident_vec(blocks);
    let before = start(Policy::Off);
    fill(&mut slots, low, high);
    let full = anonymous();
    assert!(full > before + 70 * MIB, "the burst is resident: {before} -> {full}");
    let mut rng = Rng::new(5);
    for slot in &mut slots {
        if rng.below(100) != 0 {
            *slot = None;
        }
    }
    release_and_check(before, &slots);
    // The holes are memory again, not lost: filling them needs little more address space than before.
    let sys = ebbtide::mem_stats().heap_sys;
    let mut refill: Vec<Option<Block>> = resident_vec(blocks * 9 / 10);
    fill(&mut refill, low, high);
    let table = (refill.capacity() * size_of::<Option<Block>>()) as u64;
    at_most(
        "heap_sys after the holes were filled again",
        ebbtide::mem_stats().heap_sys,
        sys + table,
        16 * MIB,
    );
    for (seed, slot) in refill.iter().enumerate() {
        assert!(slot.as_ref().is_some_and(|block| block.holds(seed as u64, block.size())));
    }
    for (seed, slot) in slots.iter().enumerate() {
        assert!(slot.as_ref().is_none_or(|block| block.holds(seed as u64, block.size())));
    }
}

/// 2,000 neighbours stay out of every 50,000.
fn runs() {
    let mut slots: Vec<Option<Block>> = resident_vec(600_000);
    let before = start(Policy::Off);
    fill(&mut slots, 16, 256);
    for (at, slot) in slots.iter_mut().enumerate() {
        if at % 50_000 >= 2000 {
            *slot = None;
        }
    }
    release_and_check(before, &slots);
}

/// With a live block in every page nothing can leave, and the report says that this is why.
fn every_other_block() {
    let mut slots: Vec<Option<Block>> = resident_vec(1_000_000);
    start(Policy::Off);
    fill(&mut slots, 64, 64);
    let full = anonymous();
    for slot in slots.iter_mut().step_by(2) {
        *slot = None;
    }
    let report = ebbtide::free_os_memory();
    at_most("full, against resident after", full, anonymous(), REST);
    let blocked = report.blocked.bytes(BlockReason::LiveObjects);
    let freed = 500_000 * 64;
    // The slots that the thread's cache held are given back too, so all freed bytes are seen, but for those that a
    // page at either end of a span may add.
    assert!(
        blocked >= freed - MIB && blocked <= freed + 4 * MIB,
        "blocked by live objects: {blocked}, freed: {freed}"
    );
}
