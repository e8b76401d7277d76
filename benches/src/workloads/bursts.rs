//! One size, one thread: pairs, and bursts freed in order of stack, queue and chance.
//!
//! One operation is one allocation and its free.

use std::hint::black_box;

use ebbtide_tests::rng::Rng;

use crate::measure::block::Block;
use crate::measure::effort::{Effort, Sample};

const SIZE: usize = 64;

/// Allocate 64 bytes, free them.
pub(super) fn pair_64(effort: Effort) -> Sample {
    let pairs = effort.of(40_000_000);
    Sample::time(pairs, || {
        for _ in 0..pairs {
            drop(black_box(Block::new(SIZE)));
        }
    })
}

fn burst(blocks: &mut Vec<Block>, len: usize) {
    for _ in 0..len {
        blocks.push(Block::new(SIZE));
    }
}

/// 1,000 allocated, then freed last first.
pub(super) fn lifo_1k(effort: Effort) -> Sample {
    const LEN: usize = 1000;
    let rounds = effort.of(30_000);
    let mut blocks = Vec::with_capacity(LEN);
    Sample::time(rounds * LEN, || {
        for _ in 0..rounds {
            burst(&mut blocks, LEN);
            while let Some(block) = blocks.pop() {
                drop(block);
            }
        }
    })
}

/// 100,000 allocated, then freed first first.
pub(super) fn fifo_100k(effort: Effort) -> Sample {
    const LEN: usize = 100_000;
    let rounds = effort.of(150);
    let mut blocks = Vec::with_capacity(LEN);
    Sample::time(rounds * LEN, || {
        for _ in 0..rounds {
            burst(&mut blocks, LEN);
            blocks.drain(..).for_each(drop);
        }
    })
}

/// 100,000 allocated, then freed in random order (the order is drawn beforehand).
pub(super) fn random_100k(effort: Effort) -> Sample {
    const LEN: usize = 100_000;
    let rounds = effort.of(60);
    let mut order: Vec<u32> = (0..LEN as u32).collect();
    Rng::new(1).shuffle(&mut order);
    let mut blocks: Vec<Option<Block>> = Vec::with_capacity(LEN);
    Sample::time(rounds * LEN, || {
        for _ in 0..rounds {
            blocks.extend((0..LEN).map(|_| Some(Block::new(SIZE))));
            for &at in &order {
                blocks[at as usize] = None;
            }
            blocks.clear();
        }
    })
}
