//! Memory that is idle leaves when asked, is found again, and does not pile up.

use ebbtide::Policy;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::anonymous;
use ebbtide_tests::rng::Rng;

use crate::harness::{Case, MIB, at_most, resident_vec, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "idle_spans_leave", run: idle_spans_leave },
    Case { name: "nothing_leaves_under_off_until_asked", run: nothing_leaves_under_off_until_asked },
    Case { name: "bursts_do_not_pile_up", run: bursts_do_not_pile_up },
    Case { name: "refilled_after_release", run: refilled_after_release },
    Case { name: "tables_are_small_and_leave_after_a_peak", run: tables_are_small_and_leave_after_a_peak },
];

/// What may stay of a burst of 200 MiB: the allocator's tables for it (below 1 % of it) and page tables are not
/// counted as anonymous, so 4 MiB is generous for tables and mean for leaks.
const REST: u64 = 4 * MIB;

/// Fills `slots` with small blocks of about 520 bytes each.
fn burst(slots: &mut [Option<Block>], rng: &mut Rng) {
    for (seed, slot) in slots.iter_mut().enumerate() {
        *slot = Some(Block::filled(rng.range(16, 1024), seed as u64));
    }
}

/// As many blocks as make 200 MiB.
const BLOCKS: usize = 200 * MIB as usize / 520;

fn idle_spans_leave() {
    let mut slots: Vec<Option<Block>> = resident_vec(BLOCKS);
    let before = start(Policy::Off);
    burst(&mut slots, &mut Rng::new(1));
    let full = anonymous();
    assert!(full > before + 195 * MIB, "the burst is resident: {before} -> {full}");
    slots.fill_with(|| None);
    // The kernel may take nothing by itself (there is no swap involved), so only ebbtide could have lowered it.
    at_most("resident under Off before the release", full, anonymous(), MIB);
    let report = ebbtide::free_os_memory();
    at_most("resident after the release", anonymous(), before, REST);
    at_most("what the report calls blocked", report.blocked_bytes(), 0, REST);
}

fn nothing_leaves_under_off_until_asked() {
    let mut slots: Vec<Option<Block>> = resident_vec(BLOCKS / 4);
    start(Policy::Off);
    let released = ebbtide::mem_stats().released_total;
    let mut highest = 0;
    for round in 0..4 {
        burst(&mut slots, &mut Rng::new(round));
        let large: Vec<Block> = (0..8).map(|seed| Block::filled(3 << 20, seed)).collect();
        highest = anonymous().max(highest);
        drop(large);
        slots.fill_with(|| None);
        std::thread::spawn(|| drop(vec![1_u8; 5 << 20])).join().expect("it only allocates");
        at_most("resident under Off", highest, anonymous(), MIB);
    }
    assert_eq!(ebbtide::mem_stats().released_total, released, "released without being asked");
    ebbtide::free_os_memory();
    assert!(ebbtide::mem_stats().released_total > released + 60 * MIB);
}

/// Twenty bursts, each freed and released: neither resident memory nor address space grows with their number.
fn bursts_do_not_pile_up() {
    let mut slots: Vec<Option<Block>> = resident_vec(BLOCKS / 8);
    let before = start(Policy::Off);
    let mut sys = 0;
    for round in 0..20 {
        burst(&mut slots, &mut Rng::new(round));
        slots.fill_with(|| None);
        ebbtide::free_os_memory();
        at_most("resident after a release", anonymous(), before, REST);
        let stats = ebbtide::mem_stats();
        if round == 2 {
            sys = stats.heap_sys;
        }
        if round > 2 {
            // Random sizes may need a few more spans of one class than any round before.
            at_most("heap_sys", stats.heap_sys, sys, 4 * MIB);
        }
    }
}

/// What was released reads as zero where zero was asked for, and holds what is written.
fn refilled_after_release() {
    let mut slots: Vec<Option<Block>> = resident_vec(BLOCKS / 8);
    start(Policy::Off);
    let mut rng = Rng::new(3);
    for round in 0..3 {
        burst(&mut slots, &mut rng);
        slots.fill_with(|| None);
        // The second round checks dirty memory, the others released memory.
        if round != 1 {
            ebbtide::free_os_memory();
        }
        for slot in &mut slots {
            let layout = std::alloc::Layout::from_size_align(rng.range(1, 3000), 8).expect("small");
            let block = Block::try_zeroed(layout).expect("memory");
            assert!(block.is_zero(), "{block:?} of round {round} is not zero");
            *slot = Some(block);
        }
        for size in [100 << 10, 1 << 20, 9 << 20] {
            let layout = std::alloc::Layout::from_size_align(size, 8).expect("small");
            for _ in 0..3 {
                let mut block = Block::try_zeroed(layout).expect("memory");
                assert!(block.is_zero(), "{block:?} of round {round} is not zero");
                block.fill(1);
            }
        }
        for (seed, block) in slots.iter_mut().flatten().enumerate() {
            block.fill(seed as u64);
        }
        for (seed, block) in slots.iter().flatten().enumerate() {
            assert!(block.holds(seed as u64, block.size()), "{block:?} lost its contents");
        }
    }
}

/// Tables stay below 1 % of the heap at 1 GiB in small blocks, and leave with what they describe.
fn tables_are_small_and_leave_after_a_peak() {
    const COUNT: usize = (1 << 30) / 1024;
    let mut slots: Vec<Option<Block>> = resident_vec(COUNT);
    let before = start(Policy::Off);
    let metadata_before = ebbtide::mem_stats().metadata_sys;
    for round in 0..2 {
        for (seed, slot) in slots.iter_mut().enumerate() {
            *slot = Some(Block::filled(1024, seed as u64));
        }
        let full = ebbtide::mem_stats();
        assert!(full.heap_inuse >= 1 << 30);
        assert!(full.metadata_sys * 100 < full.heap_sys, "{full:?}");
        slots.fill_with(|| None);
        let report = ebbtide::free_os_memory();
        // Nine tenths of what came with the blocks; the rest is in pages that other rows share.
        let tables = full.metadata_sys - metadata_before;
        assert!(round > 0 || tables > 8 * MIB, "the peak had tables: {tables}");
        let least = (full.heap_inuse / 65536 * 576) * 9 / 10;
        assert!(report.metadata_released_bytes >= least, "{} of {tables}", report.metadata_released_bytes);
        at_most("resident after the release", anonymous(), before, MIB);
        let again = ebbtide::free_os_memory();
        at_most("tables left for a second release", again.metadata_released_bytes, 0, 64 << 10);
    }
}
