//! Sequences of operations against a list of what was handed out.

use core::alloc::Layout;

use proptest::prelude::*;

use super::{allocate, check_identities, empty_cache, free, heap, take_cache};
use crate::base::units::{HUGE, PAGE, UNIT};
use crate::cache::magazine::ThreadCache;
use crate::heap::Heap;
use crate::inspect::report::ReleaseOptions;
use crate::os::Os;
use crate::os::fake::Fake;
use crate::space::size_class::SizeClass;

#[derive(Clone, Debug)]
enum Op {
    Allocate {
        size: usize,
        align: usize,
        zeroed: bool,
    },
    /// Many of one size, so that spans fill.
    Burst {
        size: usize,
        count: usize,
    },
    Free(usize),
    /// Every `step`th.
    FreeMany(usize),
    Resize {
        at: usize,
        size: usize,
    },
    Flush,
    Release {
        max_bytes: Option<u64>,
    },
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 1..2_000usize,
        2 => 2_000..40_000usize,
        2 => 40_000..400_000usize,
        1 => (HUGE - 70_000)..(HUGE + 70_000),
        1 => Just(2 * HUGE),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    let aligns = prop_oneof![4 => Just(8usize), 1 => (0..18u32).prop_map(|log| 1 << log)];
    prop_oneof![
        4 => (sizes(), aligns, any::<bool>()).prop_map(|(size, align, zeroed)| Op::Allocate { size, align, zeroed }),
        2 => (1..5_000usize, 1..600usize).prop_map(|(size, count)| Op::Burst { size, count }),
        4 => any::<usize>().prop_map(Op::Free),
        1 => (1..6usize).prop_map(Op::FreeMany),
        2 => (any::<usize>(), sizes()).prop_map(|(at, size)| Op::Resize { at, size }),
        1 => Just(Op::Flush),
        1 => proptest::option::of(0..1_000_000u64).prop_map(|max_bytes| Op::Release { max_bytes }),
    ]
}

struct Block {
    addr: *mut u8,
    layout: Layout,
    mark: u8,
}

impl Block {
    /// The bytes that carry the mark: all of a small block, some of each page of a large one.
    fn marked(&self) -> impl Iterator<Item = usize> + use<> {
        let size = self.layout.size();
        let step = if size > 4096 { 509 } else { 1 };
        (0..size).step_by(step).chain([size - 1])
    }

    fn write(&self) {
        // SAFETY: the block has `size` bytes, which this list owns.
        self.marked().for_each(|at| unsafe { self.addr.add(at).write(self.mark) });
    }

    fn is_intact(&self) -> bool {
        // SAFETY: as above.
        self.marked().all(|at| unsafe { self.addr.add(at).read() } == self.mark)
    }
}

struct Oracle<'a> {
    heap: &'a Heap<Fake>,
    cache: &'a ThreadCache,
    blocks: Vec<Block>,
    mark: u8,
}

impl Oracle<'_> {
    fn allocate(&mut self, size: usize, align: usize, zeroed: bool) {
        let layout = Layout::from_size_align(size, align).unwrap();
        let addr = allocate(self.heap, self.cache, layout, zeroed);
        if addr.is_null() {
            return;
        }
        assert!((addr as usize).is_multiple_of(align));
        self.mark = self.mark.wrapping_add(1);
        let block = Block { addr, layout, mark: self.mark };
        if zeroed {
            // SAFETY: the block has `size` bytes.
            assert!(block.marked().all(|at| unsafe { addr.add(at).read() } == 0), "zeroed is zero");
        }
        block.write();
        self.blocks.push(block);
    }

    fn free(&mut self, at: usize) {
        if self.blocks.is_empty() {
            return;
        }
        let block = self.blocks.swap_remove(at % self.blocks.len());
        assert!(block.is_intact(), "{} bytes at {:p} were overwritten", block.layout.size(), block.addr);
        free(self.heap, self.cache, block.addr, block.layout);
    }

    fn resize(&mut self, at: usize, size: usize) {
        if self.blocks.is_empty() {
            return;
        }
        let index = at % self.blocks.len();
        let block = &mut self.blocks[index];
        let large = |size| SizeClass::of(size, block.layout.align()).is_none();
        if !large(block.layout.size()) || !large(size) {
            return;
        }
        assert!(block.is_intact());
        if self.heap.sound(self.heap.pages().resize_large(block.addr, size, block.layout.align())) {
            let kept = block.layout.size().min(size);
            block.layout = Layout::from_size_align(size, block.layout.align()).unwrap();
            // SAFETY: the block has at least `kept` bytes.
            let keeps = |at: usize| unsafe { block.addr.add(at).read() } == block.mark;
            let mut same = block.marked().filter(|at| *at < kept && at.is_multiple_of(509));
            assert!(same.all(keeps), "content is kept");
            block.write();
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Allocate { size, align, zeroed } => self.allocate(size, align, zeroed),
            Op::Burst { size, count } => (0..count).for_each(|_| self.allocate(size, 8, false)),
            Op::Free(at) => self.free(at),
            Op::FreeMany(step) => (0..self.blocks.len() / step).for_each(|at| self.free(at * step)),
            Op::Resize { at, size } => self.resize(at, size),
            Op::Flush => empty_cache(self.heap, self.cache),
            Op::Release { max_bytes } => {
                let options = ReleaseOptions { max_bytes, ..ReleaseOptions::new() };
                let before = self.heap.snapshot();
                let report = self.heap.release(options);
                let after = self.heap.snapshot();
                assert_eq!(before.heap_released + report.released_bytes, after.heap_released, "{report}");
                // Of larger pages some are partly free.
                let all = max_bytes.is_none() && self.heap.os().pages().bytes() == PAGE;
                assert!(!all || after.heap_free == 0, "{after:?}");
                assert!(max_bytes.is_none_or(|most| report.released_bytes < most + 2 * UNIT as u64));
            }
        }
    }

    /// Blocks do not overlap, and hold what was written.
    fn check(&mut self) {
        self.blocks.sort_by_key(|block| block.addr);
        for pair in self.blocks.windows(2) {
            assert!(pair[0].addr as usize + pair[0].layout.size() <= pair[1].addr as usize, "overlap");
        }
        assert!(self.blocks.iter().all(Block::is_intact));
        self.heap.verify(Some(self.cache)).unwrap();
        let stats = self.heap.snapshot();
        check_identities(&stats);
        let live: usize = self.blocks.iter().map(|block| block.layout.size()).sum();
        assert!(stats.heap_alloc >= live as u64);
    }

    /// The running totals say what a walk finds.
    fn check_totals(&self) {
        let (usage, stats) = (self.heap.usage(), self.heap.snapshot());
        assert_eq!(usage.resident, stats.heap_inuse + stats.heap_free);
        let apart = usage.handed.abs_diff(stats.heap_alloc + stats.heap_cached);
        assert!(apart < 32 << 10, "{usage:?} {stats:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn blocks_never_overlap_and_keep_their_content(
        ops in proptest::collection::vec(ops(), 1..60),
        page_size in prop_oneof![2 => Just(PAGE), 1 => Just(16 << 10), 1 => Just(64 << 10)],
    ) {
        let heap = heap();
        heap.os().set_page_size(page_size);
        let cache = take_cache(&heap).unwrap();
        let mut oracle = Oracle { heap: &heap, cache, blocks: Vec::new(), mark: 0 };
        for op in &ops {
            oracle.run(op);
            heap.verify(Some(cache)).unwrap();
            oracle.check_totals();
        }
        oracle.check();
        while !oracle.blocks.is_empty() {
            oracle.free(0);
        }
        empty_cache(&heap, cache);
        heap.release(ReleaseOptions::new());
        heap.verify(Some(cache)).unwrap();
        let stats = heap.snapshot();
        prop_assert_eq!((stats.heap_inuse, stats.heap_free), (0, 0), "all went back");
        prop_assert_eq!(stats.mallocs_total, stats.frees_total);
        prop_assert_eq!((heap.usage().handed, heap.usage().resident), (0, 0), "totals come down to nothing");
    }
}
