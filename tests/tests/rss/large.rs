//! Large blocks and regions.
#![allow(unsafe_code, reason = "regions hand out raw memory")]

use ebbtide::Policy;
use ebbtide_alloc::{Region, Retire};
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{anonymous, resident_in};

use crate::harness::{Case, MIB, at_most, near, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "large_blocks_leave", run: large_blocks_leave },
    Case { name: "large_blocks_beside_live_ones_leave", run: large_blocks_beside_live_ones_leave },
    Case { name: "large_blocks_grow_and_shrink", run: large_blocks_grow_and_shrink },
    Case { name: "blocks_in_each_others_way_move_without_copies", run: move_without_copies },
    Case { name: "blocks_that_shrink_stay_or_move_whole", run: blocks_that_shrink_stay_or_move_whole },
    Case { name: "shrunk_large_block_gives_its_tail", run: shrunk_large_block_gives_its_tail },
    Case { name: "regions_leave", run: regions_leave },
    Case { name: "retired_ranges_leave_as_the_mode_says", run: retired_ranges_leave_as_the_mode_says },
];

fn large_blocks_leave() {
    for size in [300 << 10, 3 << 20, 64 << 20] {
        let before = start(Policy::Off);
        let blocks: Vec<Block> =
            (0..(128 << 20) / size).map(|seed| Block::filled(size, seed as u64)).collect();
        assert!(anonymous() >= before + 120 * MIB, "the blocks are resident");
        drop(blocks);
        at_most("kept under Off", before + 120 * MIB, anonymous(), 0);
        ebbtide::free_os_memory();
        at_most("resident after the release", anonymous(), before, MIB);
    }
}

fn large_blocks_beside_live_ones_leave() {
    let before = start(Policy::Off);
    let mut blocks: Vec<Option<Block>> = (0..200).map(|seed| Some(Block::filled(500_000, seed))).collect();
    for (at, block) in blocks.iter_mut().enumerate() {
        if at % 5 != 0 {
            *block = None;
        }
    }
    ebbtide::free_os_memory();
    // Each live block may hold the rest of its last unit of 64 KiB; those pages were never written, so they are not
    // resident, and the bound is about what was written.
    at_most("resident after the release", anonymous(), before + 40 * 500_000, MIB);
    for (seed, block) in blocks.iter().enumerate() {
        assert!(block.as_ref().is_none_or(|block| block.holds(seed as u64, block.size())));
    }
}

fn large_blocks_grow_and_shrink() {
    let before = start(Policy::Off);
    let mut block = Block::filled(100_000, 1);
    let mut size = 100_000;
    while size < 100 << 20 {
        let next = size * 8 / 5;
        assert!(block.try_resize(next));
        assert!(block.holds(1, size), "contents lost from {size} to {next}");
        block.fill(1);
        size = next;
    }
    while size > 50_000 {
        let next = size * 2 / 5;
        assert!(block.try_resize(next));
        assert!(block.holds(1, next), "contents lost from {size} to {next}");
        size = next;
    }
    ebbtide::free_os_memory();
    at_most("resident with only the shrunk block", anonymous(), before, MIB);
    drop(block);
}

/// Two blocks grow by turns, each time into the other. Their pages move; if they were copied, the copy and the original
/// would be resident at once.
fn move_without_copies() {
    let before = start(Policy::Off);
    let mut blocks = [Block::filled(8 << 20, 0), Block::filled(8 << 20, 1)];
    let mut size = 8 << 20;
    while size < 128 << 20 {
        for seed in [0, 1] {
            let address = blocks[seed].address();
            let most = anonymous();
            assert!(blocks[seed].try_resize(size * 2));
            at_most("resident right after growing to twice the size", anonymous(), most, MIB);
            let moved = blocks[seed].address() != address;
            assert!(moved || size > 8 << 20 || seed == 1, "the first must move out of the way");
            assert!(blocks[seed].holds(seed as u64, size), "contents lost at {size}");
            blocks[seed].fill(seed as u64);
        }
        size *= 2;
        ebbtide_alloc::verify().expect("the heap is whole");
    }
    // What they left behind on their way is empty already.
    at_most("resident", anonymous(), before + 256 * MIB, 4 * MIB);
    // What leaves must not be counted twice.
    let report = ebbtide::free_os_memory();
    at_most("released", report.released_bytes, 0, MIB);
    drop(blocks);
    ebbtide::free_os_memory();
    at_most("resident after the release", anonymous(), before, MIB);
}

/// Blocks of some KiB may stay in a slot of up to twice their size, and are freed by any size they had last.
fn blocks_that_shrink_stay_or_move_whole() {
    start(Policy::Off);
    for align in [8, 64, 4096] {
        for from in (3000..40_000).step_by(517) {
            let mut block = Block::new_aligned(from, align);
            block.fill(9);
            let mut size = from;
            while size > 1000 {
                size = size * 5 / 6;
                assert!(block.try_resize(size) && block.holds(9, size), "{from} to {size} at {align}");
            }
            let mut other = Block::new_aligned(size * 2, align);
            other.fill(3);
            assert!(block.try_resize(from) && block.holds(9, size), "{size} to {from} at {align}");
        }
    }
    ebbtide_alloc::verify().expect("the heap is whole");
}

/// A block that shrinks where it lies must not keep the pages behind its new end from leaving.
fn shrunk_large_block_gives_its_tail() {
    let before = start(Policy::Off);
    let mut blocks: Vec<Block> = (0..16).map(|seed| Block::filled(8 << 20, seed)).collect();
    assert!(anonymous() >= before + 126 * MIB);
    for block in &mut blocks {
        assert!(block.try_resize(1 << 20));
    }
    ebbtide::free_os_memory();
    at_most("resident after shrinking", anonymous(), before + 16 * MIB, 2 * MIB);
    for (seed, block) in blocks.iter().enumerate() {
        assert!(block.holds(seed as u64, 1 << 20));
    }
}

/// A region with every byte written.
fn written_region(bytes: usize) -> Region {
    let mut region = Region::new(bytes).expect("memory");
    assert!(region.len() >= bytes);
    let len = region.len();
    region.zero(0..len);
    // SAFETY: the region owns `len` bytes from `base`, and nobody else uses them; zeroed just now.
    let contents = unsafe { std::slice::from_raw_parts_mut(region.base().as_ptr(), len) };
    assert!(contents.iter().all(|&byte| byte == 0), "zero() left something");
    contents.fill(7);
    region
}

fn regions_leave() {
    let before = start(Policy::Off);
    for bytes in [64 << 10, 1 << 20, 40 << 20] {
        let regions: Vec<Region> = (0..(80 << 20) / bytes).map(|_| written_region(bytes)).collect();
        assert!(anonymous() >= before + 78 * MIB, "the regions are resident");
        near("resident_bytes", regions[0].resident_bytes() as u64, regions[0].len() as u64, 0);
        drop(regions);
        at_most("kept under Off", before + 78 * MIB, anonymous(), 0);
        // Old contents must not show in a region that comes after without a release between.
        drop(written_region(bytes));
        ebbtide::free_os_memory();
        at_most("resident after the release", anonymous(), before, MIB);
    }
}

fn retired_ranges_leave_as_the_mode_says() {
    const LEN: usize = 32 << 20;
    let before = start(Policy::Off);
    for mode in [Retire::Keep, Retire::Release] {
        ebbtide_alloc::set_retire_mode(mode);
        assert_eq!(ebbtide_alloc::retire_mode(), mode);
        let region = written_region(LEN);
        let base = region.base().as_ptr() as usize;
        // SAFETY: the first half is not accessed again.
        let retired = unsafe { region.retire(0..LEN / 2) };
        assert_eq!(retired, LEN / 2);
        let resident = resident_in(base..base + LEN / 2);
        match mode {
            Retire::Keep => assert_eq!(resident, 16 * MIB, "kept until asked"),
            Retire::Release => assert_eq!(resident, 0, "gone at once"),
        }
        ebbtide::free_os_memory();
        assert_eq!(resident_in(base..base + LEN / 2), 0, "retired pages leave on release");
        assert_eq!(resident_in(base + LEN / 2..base + LEN), 16 * MIB, "the live half stays");
        // SAFETY: the second half was not retired, and was written.
        let live = unsafe { std::slice::from_raw_parts(region.base().as_ptr().add(LEN / 2), LEN / 2) };
        assert!(live.iter().all(|&byte| byte == 7), "the live half keeps its contents");
        drop(region);
        ebbtide::free_os_memory();
        at_most("resident after the region was dropped", anonymous(), before, MIB);
    }
}
