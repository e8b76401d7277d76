//! `ReleaseReport`: exact against the kernel's own numbers, and honest about what stayed.

use ebbtide::{BlockReason, Policy};
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{anonymous, lock, resident_in, rss, unlock};
use ebbtide_tests::rng::Rng;

use crate::harness::{Case, KIB, MIB, at_most, near, resident_vec, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "report_agrees_with_the_kernel", run: report_agrees_with_the_kernel },
    Case { name: "report_of_a_second_release_is_empty", run: second_release_is_empty },
    Case { name: "locked_pages_are_reported_and_kept", run: locked_pages_are_reported_and_kept },
    Case { name: "report_counts_only_resident_pages", run: report_counts_only_resident_pages },
];

/// Resident memory that moves for other reasons during a release: stack, tables, and, where a counter is read and
/// not the page tables, what each CPU has not yet added to it.
const NOISE: u64 = 512 * KIB;

fn report_agrees_with_the_kernel() {
    let mut slots: Vec<Option<Block>> = resident_vec(300_000);
    start(Policy::Off);
    let mut rng = Rng::new(8);
    for keep in [0, 50, 7] {
        for (seed, slot) in slots.iter_mut().enumerate() {
            *slot = Some(Block::filled(rng.range(16, 600), seed as u64));
        }
        let large: Vec<Block> = (0..10).map(|seed| Block::filled(1_500_000, seed)).collect();
        for slot in &mut slots {
            if keep == 0 || rng.below(keep) != 0 {
                *slot = None;
            }
        }
        drop(large);
        let (rss_before, anonymous_before) = (rss(), anonymous());
        let report = ebbtide::free_os_memory();
        let (rss_after, anonymous_after) = (rss(), anonymous());
        assert!(report.released_bytes > 10 * MIB, "{report}");
        let left = report.released_bytes + report.metadata_released_bytes;
        near("released against the fall", left, anonymous_before - anonymous_after, NOISE);
        assert!(report.metadata_released_bytes * 50 < report.released_bytes, "{report:?}");
        near("rss_before", report.rss_before, rss_before, NOISE);
        near("rss_after", report.rss_after, rss_after, NOISE);
        assert!(report.syscalls > 0 && report.released_bytes.is_multiple_of(4096), "{report:?}");
        let stats = ebbtide::mem_stats();
        near("in use", report.in_use_bytes, stats.heap_alloc, NOISE);
    }
}

fn second_release_is_empty() {
    let mut slots: Vec<Option<Block>> = resident_vec(100_000);
    start(Policy::Off);
    let releases = ebbtide::mem_stats().releases_total;
    for (seed, slot) in slots.iter_mut().enumerate() {
        *slot = Some(Block::filled(500, seed as u64));
    }
    slots.fill_with(|| None);
    let first = ebbtide::free_os_memory();
    let second = ebbtide::free_os_memory();
    at_most("released by the second", second.released_bytes, 0, NOISE);
    assert!(second.already_released_bytes >= first.released_bytes - NOISE, "{first:?}\n{second:?}");
    assert_eq!(ebbtide::mem_stats().releases_total, releases + 2);
    assert_eq!(format!("{first}").lines().count(), 1, "one line");
}

fn locked_pages_are_reported_and_kept() {
    start(Policy::Off);
    let mut blocks: Vec<Option<Block>> = (0..40_000).map(|seed| Some(Block::filled(1000, seed))).collect();
    let mut addresses: Vec<usize> = blocks.iter().flatten().map(Block::address).collect();
    addresses.sort_unstable();
    let middle = addresses[20_000] & !4095;
    let locked = middle..middle + MIB as usize;
    if !lock(&locked) {
        eprintln!("the limit on locked memory is below 1 MiB: nothing to test");
        return;
    }
    for (at, block) in blocks.iter_mut().enumerate() {
        if at % 100 != 0 {
            *block = None;
        }
    }
    let report = ebbtide::free_os_memory();
    let stuck = report.blocked.bytes(BlockReason::Locked);
    // All idle pages of the locked range, at least three quarters of it; a call that was refused may have held
    // some idle pages beside the range, which must be tried again on their own.
    assert!(stuck > MIB / 2, "{report:?}");
    at_most("blocked as locked", stuck, MIB, 0);
    assert!(resident_in(locked.clone()) == MIB, "locked pages stay");
    assert!(report.released_bytes > 25 * MIB, "the rest leaves: {report:?}");
    let intact = |blocks: &[Option<Block>]| {
        let whole = |(seed, block): (usize, &Option<Block>)| {
            block.as_ref().is_none_or(|b| b.holds(seed as u64, 1000))
        };
        blocks.iter().enumerate().all(whole)
    };
    assert!(intact(&blocks), "live blocks keep their contents");
    let more: Vec<Block> = (0..40_000).map(|seed| Block::filled(1000, seed)).collect();
    assert!(
        more.iter().enumerate().all(|(seed, block)| block.holds(seed as u64, 1000)),
        "locked pages are usable"
    );
    assert!(intact(&blocks), "live blocks keep their contents");
    drop(more);
    unlock(&locked);
    let report = ebbtide::free_os_memory();
    assert_eq!(report.blocked.bytes(BlockReason::Locked), 0, "{report:?}");
    at_most("resident in the range once unlocked", resident_in(locked), MIB / 4, 0);
}

/// Pages of a freed block that nobody ever touched were not resident, so no release can have given them back.
fn report_counts_only_resident_pages() {
    start(Policy::Off);
    let small = Block::filled(100, 1);
    let mut block = Block::new(64 << 20);
    assert!(block.try_resize(32 << 20));
    block.fill(1);
    assert!(block.try_resize(64 << 20));
    drop(block);
    let before = anonymous();
    let report = ebbtide::free_os_memory();
    let fell = before - anonymous();
    assert!(small.holds(1, 100));
    at_most("released", report.released_bytes, fell, NOISE);
}
