//! Random sequences of operations on the allocator, against an oracle of what was handed out: blocks are aligned,
//! never overlap, keep their contents through realloc and release, and are zero where that was asked for. After
//! each sequence `ebbtide_alloc::verify` walks the whole heap.
//!
//! The test program's own memory is glibc's, so that the heap holds nothing but the sequence's blocks.

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use ebbtide_alloc::ReleaseOptions;
use ebbtide_tests::block::Block;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    /// Size, binary logarithm of the alignment, and whether it must be zero.
    Alloc(usize, u32, bool),
    /// Several at once, to pass the caches' limits.
    Burst(usize, u16),
    Realloc(prop::sample::Index, usize),
    Free(prop::sample::Index),
    /// Every so many blocks are freed.
    FreeSome(usize),
    FreeElsewhere(prop::sample::Index),
    AllocElsewhere(usize),
    Release(Option<u64>),
    ReleaseElsewhere,
    Verify,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 1_usize..=300,
        4 => 1_usize..=9000,
        2 => 8000_usize..=200_000,
        1 => 200_000_usize..=5_000_000,
        // The edges of size classes, pages and units.
        2 => (3_u32..=22, -1_isize..=1).prop_map(|(shift, by)| (1_usize << shift).saturating_add_signed(by)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        8 => (size(), prop_oneof![4 => 0_u32..=4, 1 => 5_u32..=21], any::<bool>()).prop_map(|(s, a, z)| Op::Alloc(s, a, z)),
        2 => (1_usize..=2000, 1_u16..=700).prop_map(|(s, n)| Op::Burst(s, n)),
        5 => (index(), size()).prop_map(|(i, s)| Op::Realloc(i, s)),
        6 => index().prop_map(Op::Free),
        2 => (1_usize..=5).prop_map(Op::FreeSome),
        2 => index().prop_map(Op::FreeElsewhere),
        2 => size().prop_map(Op::AllocElsewhere),
        2 => prop::option::weighted(0.3, 0_u64..=(1 << 20)).prop_map(Op::Release),
        1 => Just(Op::ReleaseElsewhere),
        1 => Just(Op::Verify),
    ]
}

/// A live block and the seed of its contents.
#[derive(Debug)]
struct Live {
    block: Block,
    seed: u64,
}

impl Live {
    fn check(&self) {
        assert!(self.block.holds(self.seed, self.block.size()), "{:?} was overwritten", self.block);
    }
}

/// Work for the second thread, which lives through the whole sequence and so keeps a cache of its own.
enum Errand {
    Free(Box<Live>),
    Alloc(Layout),
    Release,
}

fn run_errands(errands: &Receiver<Errand>, results: &Sender<Option<Block>>) {
    while let Ok(errand) = errands.recv() {
        let result = match errand {
            Errand::Free(live) => {
                live.check();
                drop(live);
                None
            }
            Errand::Alloc(layout) => Some(Block::try_new(layout).expect("memory")),
            Errand::Release => {
                ebbtide_alloc::release(ReleaseOptions::new());
                None
            }
        };
        if results.send(result).is_err() {
            return;
        }
    }
}

/// What was handed out and not yet taken back.
#[derive(Default)]
struct Oracle {
    live: Vec<Live>,
    /// First address and length of every live block.
    ranges: BTreeMap<usize, usize>,
    seeds: u64,
}

impl Oracle {
    fn add(&mut self, mut block: Block) {
        self.claim(&block);
        self.seeds += 1;
        block.fill(self.seeds);
        self.live.push(Live { block, seed: self.seeds });
    }

    /// Notes the block's range, which must be nobody else's.
    fn claim(&mut self, block: &Block) {
        let (start, end) = (block.address(), block.address() + block.size());
        let before = self.ranges.range(..end).next_back();
        if let Some((&other, &len)) = before {
            assert!(other + len <= start, "{start:#x}..{end:#x} overlaps {other:#x} of {len} bytes");
        }
        self.ranges.insert(start, block.size());
        assert!(ebbtide_alloc::owns(start as *const u8), "the heap owns what it hands out");
    }

    fn take(&mut self, index: prop::sample::Index) -> Option<Live> {
        if self.live.is_empty() {
            return None;
        }
        let at = index.index(self.live.len());
        let live = self.live.swap_remove(at);
        self.ranges.remove(&live.block.address());
        live.check();
        Some(live)
    }

    fn resize(&mut self, index: prop::sample::Index, size: usize) {
        let Some(mut live) = self.take(index) else { return };
        let kept = live.block.size().min(size);
        assert!(live.block.try_resize(size), "memory");
        assert!(live.block.holds(live.seed, kept), "realloc to {size} lost contents of {:?}", live.block);
        self.add(live.block);
    }

    fn free_some(&mut self, every: usize) {
        let mut at = 0;
        let ranges = &mut self.ranges;
        self.live.retain(|live| {
            at += 1;
            let keep = at % every != 0;
            if !keep {
                live.check();
                ranges.remove(&live.block.address());
            }
            keep
        });
    }
}

/// The walk of the heap compares totals, so no other test may run beside one that verifies.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn verify() {
    if let Err(error) = ebbtide_alloc::verify() {
        panic!("the heap is broken: {error:?}");
    }
}

fn apply(oracle: &mut Oracle, op: Op, errand: &mut dyn FnMut(Errand) -> Option<Block>) {
    match op {
        Op::Alloc(size, shift, zeroed) => {
            let layout = Layout::from_size_align(size, 1 << shift).expect("a possible layout");
            let block =
                if zeroed { Block::try_zeroed(layout) } else { Block::try_new(layout) }.expect("memory");
            assert!(!zeroed || block.is_zero(), "{block:?} is not zero");
            oracle.add(block);
        }
        Op::Burst(size, count) => (0..count).for_each(|_| oracle.add(Block::new(size))),
        Op::Realloc(index, size) => oracle.resize(index, size),
        Op::Free(index) => drop(oracle.take(index)),
        Op::FreeSome(every) => oracle.free_some(every),
        Op::FreeElsewhere(index) => {
            if let Some(live) = oracle.take(index) {
                errand(Errand::Free(Box::new(live)));
            }
        }
        Op::AllocElsewhere(size) => {
            let layout = Layout::from_size_align(size, 16).expect("a possible layout");
            oracle.add(errand(Errand::Alloc(layout)).expect("an allocation gives a block"));
        }
        Op::Release(None) => drop(ebbtide_alloc::release(ReleaseOptions::new())),
        Op::Release(Some(bytes)) => drop(ebbtide_alloc::release(ReleaseOptions::new().max_bytes(bytes))),
        Op::ReleaseElsewhere => drop(errand(Errand::Release)),
        Op::Verify => verify(),
    }
}

fn run(ops: Vec<Op>) {
    let _alone = alone();
    let mut oracle = Oracle::default();
    let (errands, inbox) = channel();
    let (outbox, results) = channel();
    thread::scope(|scope| {
        scope.spawn(move || run_errands(&inbox, &outbox));
        let mut errand = |errand| {
            errands.send(errand).expect("the second thread lives");
            results.recv().expect("the second thread answers")
        };
        for op in ops {
            apply(&mut oracle, op, &mut errand);
        }
        oracle.live.iter().for_each(Live::check);
        verify();
        drop(errands);
    });
    oracle.free_some(1);
    ebbtide_alloc::release(ReleaseOptions::new());
    verify();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn sequences_keep_every_promise(ops in prop::collection::vec(op(), 1..120)) {
        run(ops);
    }
}

/// Sizes around every class boundary, all live at once, freed in another order than they came.
#[test]
fn every_size_up_to_a_page_and_more() {
    let _alone = alone();
    let mut oracle = Oracle::default();
    for size in 1..=5000 {
        oracle.add(Block::new(size));
    }
    verify();
    for every in [7, 5, 3, 2, 1] {
        oracle.free_some(every);
        ebbtide_alloc::release(ReleaseOptions::new());
        oracle.live.iter().for_each(Live::check);
        verify();
    }
    assert!(oracle.live.is_empty());
}
