//! Requests that cannot be met, odd ones, errno.

use std::alloc::Layout;

use ebbtide::Policy;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::{anonymous, errno, set_errno};
use ebbtide_tests::rng::Rng;

use crate::harness::{Case, MIB, at_most, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "impossible_layouts_give_null", run: impossible_layouts_give_null },
    Case { name: "terabytes_are_refused_at_once", run: terabytes_are_refused_at_once },
    Case { name: "odd_layouts_work", run: odd_layouts_work },
    Case { name: "errno_is_kept", run: errno_is_kept },
];

pub(crate) fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a possible layout")
}

/// Works: a block of some common sizes, filled and checked.
#[track_caller]
pub(crate) fn heap_works() {
    for size in [1, 100, 5000, 300_000, 5 << 20] {
        assert!(Block::filled(size, 3).holds(3, size));
    }
}

fn impossible_layouts_give_null() {
    start(Policy::Off);
    const MAX: usize = isize::MAX as usize;
    let mut layouts = vec![layout(MAX, 1), layout(MAX - 7, 8), layout(MAX / 2, 4096), layout(1 << 47, 8)];
    layouts.extend([layout(8, 1 << 62), layout(1, 1 << 50), layout((1 << 61) + 1, 1 << 61)]);
    for layout in layouts {
        assert!(Block::try_new(layout).is_none(), "{layout:?} was met");
        assert!(Block::try_zeroed(layout).is_none(), "{layout:?} was met");
        heap_works();
    }
    for size in [10, 5000, 3 << 20] {
        let mut block = Block::filled(size, 4);
        for too_much in [MAX - 7, MAX / 2, 1 << 47] {
            assert!(!block.try_resize(too_much), "{too_much} bytes were met");
            assert!(block.holds(4, size), "a failed realloc must leave the block alone");
        }
    }
    heap_works();
}

/// More than the allocator can count the pages of.
fn terabytes_are_refused_at_once() {
    let before = start(Policy::Off);
    let mut vec = vec![7_u8; 100];
    let mut large = vec![7_u8; 8 << 20];
    for tib in [9, 16, 20, 100] {
        assert!(vec.try_reserve_exact(tib << 40).is_err() && vec.len() == 100, "{tib} TiB");
        assert!(large.try_reserve_exact(tib << 40).is_err() && large.len() == 8 << 20, "{tib} TiB");
        assert!(Vec::<u64>::new().try_reserve((tib << 40) / 8).is_err(), "{tib} TiB");
        assert!(Block::try_zeroed(layout(tib << 40, 8)).is_none(), "{tib} TiB");
        assert!(ebbtide_alloc::Region::new(tib << 40).is_none(), "{tib} TiB");
    }
    assert!(vec == [7; 100] && large.iter().all(|byte| *byte == 7));
    drop(large);
    heap_works();
    ebbtide::free_os_memory();
    at_most("resident", anonymous(), before, MIB);
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}

fn odd_layouts_work() {
    start(Policy::Off);
    let mut rng = Rng::new(10);
    let mut live: Vec<(Block, u64)> = Vec::new();
    for shift in 0..=24 {
        for size in [1, 7, 24, 100, 4096, 40_000, (1 << shift) + 1] {
            let seed = rng.next_u64();
            let mut block = Block::try_new(layout(size, 1 << shift)).expect("memory");
            block.fill(seed);
            live.push((block, seed));
            let zeroed = Block::try_zeroed(layout(size, 1 << shift)).expect("memory");
            assert!(zeroed.is_zero());
        }
    }
    for (block, seed) in &mut live {
        assert!(block.holds(*seed, block.size()), "{block:?} was overwritten");
        let old = block.size();
        let new = rng.log_uniform(0, 17);
        assert!(block.try_resize(new));
        assert!(block.holds(*seed, old.min(new)), "{block:?} lost its contents");
    }
}

fn errno_is_kept() {
    start(Policy::Off);
    set_errno(1234);
    let mut blocks: Vec<Block> = Vec::new();
    for size in [1, 64, 1000, 10_000, 100_000, 3 << 20, 40 << 20] {
        blocks.extend((0..50.min((100 << 20) / size)).map(|_| Block::new(size)));
        assert_eq!(errno(), 1234, "allocation of {size} bytes");
    }
    assert!(Block::try_new(layout(1 << 47, 8)).is_none());
    assert_eq!(errno(), 1234, "allocation that failed");
    for block in &mut blocks {
        assert!(block.try_resize(block.size() * 2));
        assert_eq!(errno(), 1234, "realloc of {block:?}");
    }
    blocks.clear();
    assert_eq!(errno(), 1234, "frees");
    ebbtide::set_policy(Policy::Percent(0));
    let burst: Vec<Block> = (0..100_000).map(|_| Block::new(700)).collect();
    drop(burst);
    assert_eq!(errno(), 1234, "frees with releases in them");
}
