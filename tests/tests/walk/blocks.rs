//! Blocks of all sizes and alignments, with a pattern that is checked whenever one changes its size or is freed.

use std::alloc::Layout;
use std::sync::atomic::Ordering::Relaxed;

use ebbtide_tests::block::Block;
use ebbtide_tests::rng::Rng;

use crate::process::process;
use crate::worker::Worker;

/// Bytes in blocks that a process may hold.
const MOST_HELD: usize = 10 << 20;
/// Larger ones are marked, not filled.
const FILLED: usize = 8 << 10;
/// Blocks that a thread keeps to itself.
const MOST_OWN: usize = 400;
const PAGE: usize = 4096;
const HUGE: usize = 2 << 20;

/// A block and what it should hold.
pub(crate) struct Held {
    block: Block,
    seed: u64,
    filled: bool,
}

impl Held {
    /// None if the process holds enough.
    pub(crate) fn make(rng: &mut Rng) -> Option<Self> {
        let size = any_size(rng);
        let align = match rng.below(20) {
            0 => 1 << rng.range(5, 16),
            1 if size > HUGE => HUGE,
            _ => 1 << rng.range(0, 4),
        };
        if process().held.fetch_add(size, Relaxed) + size > MOST_HELD {
            process().held.fetch_sub(size, Relaxed);
            return None;
        }
        let layout = Layout::from_size_align(size, align).expect("a possible layout");
        let mut block = if rng.below(6) == 0 {
            let block = Block::try_zeroed(layout).expect("memory");
            assert!(block.is_zero(), "{block:?} is not zero");
            block
        } else {
            Block::try_new(layout).expect("memory")
        };
        let (seed, filled) = (rng.next_u64(), size <= FILLED);
        write(&mut block, seed, filled);
        Some(Self { block, seed, filled })
    }

    pub(crate) fn size(&self) -> usize {
        self.block.size()
    }

    pub(crate) fn check(&self) {
        self.check_first(self.block.size());
    }

    /// What a stray write does.
    pub(crate) fn overwrite(&mut self) {
        write(&mut self.block, !self.seed, self.filled);
    }

    fn check_first(&self, len: usize) {
        let (block, seed) = (&self.block, self.seed);
        let whole = if self.filled { block.holds(seed, len) } else { block.bears(seed, len) };
        assert!(whole, "{block:?} was overwritten: its first {len} bytes are not those of seed {seed:#x}");
    }

    fn resize(&mut self, rng: &mut Rng) {
        let before = self.size();
        let size = match rng.below(4) {
            0 => any_size(rng),
            1 => before + rng.range(1, 3 * PAGE),
            2 => (before * 2).min(4 * HUGE),
            _ => rng.range(1, before),
        };
        if process().held.fetch_add(size, Relaxed) + size > MOST_HELD + before {
            process().held.fetch_sub(size, Relaxed);
            return;
        }
        assert!(self.block.try_resize(size), "memory");
        process().held.fetch_sub(before, Relaxed);
        self.check_first(before.min(size));
        (self.seed, self.filled) = (rng.next_u64(), size <= FILLED);
        write(&mut self.block, self.seed, self.filled);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.check();
        process().held.fetch_sub(self.size(), Relaxed);
    }
}

fn write(block: &mut Block, seed: u64, filled: bool) {
    if filled { block.fill(seed) } else { block.mark(seed) }
}

/// Mostly small; slots of several units, large blocks and blocks of huge pages in their turns.
fn any_size(rng: &mut Rng) -> usize {
    match rng.below(100) {
        0..75 => rng.log_uniform(0, 10),
        75..90 => rng.range(PAGE, 8 * PAGE),
        90..99 => rng.range(8 * PAGE, 1 << 20),
        _ => rng.range(HUGE, 2 * HUGE),
    }
}

/// Makes some blocks; what is too much goes to a shared place.
pub(crate) fn allocate(worker: &mut Worker) {
    for _ in 0..worker.rng.range(1, 60) {
        let Some(held) = Held::make(&mut worker.rng) else {
            free(worker);
            break;
        };
        worker.blocks.push(held);
    }
    if worker.blocks.len() > MOST_OWN {
        share(worker);
    }
}

/// Frees some of the thread's blocks, here and there.
pub(crate) fn free(worker: &mut Worker) {
    for _ in 0..worker.rng.range(1, 80).min(worker.blocks.len()) {
        let at = worker.rng.below(worker.blocks.len());
        drop(worker.blocks.swap_remove(at));
    }
}

/// Changes the sizes of some.
pub(crate) fn resize(worker: &mut Worker) {
    for _ in 0..worker.rng.range(1, 10) {
        if worker.blocks.is_empty() {
            return;
        }
        let at = worker.rng.below(worker.blocks.len());
        worker.blocks[at].resize(&mut worker.rng);
    }
}

/// Leaves all of the thread's blocks in a shared place, and takes or frees what others left there.
pub(crate) fn share(worker: &mut Worker) {
    let Some(mut place) = worker.any_place() else { return };
    std::mem::swap(&mut place.blocks, &mut worker.blocks);
    drop(place);
    worker.blocks.truncate(MOST_OWN / 2);
}

/// A spike: many blocks of one size, most of which go at once. It leaves holes.
pub(crate) fn spike(worker: &mut Worker) {
    let size = worker.rng.log_uniform(0, 11);
    let blocks: Vec<Block> = (0..(1 << 20) / (size + 64)).map(|at| Block::filled(size, at as u64)).collect();
    let whole = |(at, block): (usize, &Block)| block.holds(at as u64, block.size());
    assert!(blocks.iter().enumerate().all(whole), "a block of {size} bytes was overwritten");
    let kept: Vec<Block> = blocks.into_iter().step_by(worker.rng.range(2, 300)).collect();
    crate::settings::release(worker);
    drop(kept);
}
