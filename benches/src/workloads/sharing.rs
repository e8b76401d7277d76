//! False sharing, after Berger's cache-scratch and cache-thrash: two threads write to small blocks of their own,
//! which is slow where the allocator put both into one cache line.
//!
//! One operation is one block allocated, written 200 times and freed.

use std::sync::Barrier;
use std::thread;

use crate::measure::block::Block;
use crate::measure::effort::{Effort, Sample};

const THREADS: usize = 2;
const WRITES: usize = 200;

fn work(first: Option<Block>, ops: usize, start_line: &Barrier) {
    start_line.wait();
    drop(first);
    for _ in 0..ops {
        let mut block = Block::new(8);
        for _ in 0..WRITES {
            block.touch(0);
        }
    }
}

fn run(ops: usize, mut first: impl FnMut() -> Option<Block>) -> Sample {
    let start_line = Barrier::new(THREADS);
    let firsts: [Option<Block>; THREADS] = std::array::from_fn(|_| first());
    Sample::time(ops, || {
        thread::scope(|scope| {
            for block in firsts {
                let start_line = &start_line;
                scope.spawn(move || work(block, ops, start_line));
            }
        });
    })
}

/// One thread made all first blocks, side by side; each thread frees its own and may get it again: an allocator
/// that reuses what was freed locally spreads one cache line over both threads.
pub(super) fn cache_scratch(effort: Effort) -> Sample {
    run(effort.of(2_000_000), || Some(Block::new(8)))
}

/// Each thread allocates from nothing: an allocator that carves neighbours for both shares the line actively.
pub(super) fn cache_thrash(effort: Effort) -> Sample {
    run(effort.of(2_000_000), || None)
}
