//! Blocks that change size.

use std::hint::black_box;

use crate::measure::block::Block;
use crate::measure::effort::{Effort, Sample};

/// A `Vec<u64>` from empty to 4,096 elements. One operation is one push.
pub(super) fn vec_push(effort: Effort) -> Sample {
    const LEN: u64 = 4096;
    let rounds = effort.of(120_000);
    Sample::time(rounds * LEN as usize, || {
        for _ in 0..rounds {
            let mut vec = Vec::new();
            for i in 0..LEN {
                vec.push(i);
            }
            black_box(&vec);
        }
    })
}

/// One `Vec<u64>` from empty to 64 MiB. One operation is one KiB.
pub(super) fn vec_64mib(effort: Effort) -> Sample {
    const BYTES: usize = 64 << 20;
    let rounds = effort.of(10);
    Sample::time(rounds * BYTES / 1024, || {
        for _ in 0..rounds {
            let mut vec = Vec::new();
            for i in 0..BYTES as u64 / 8 {
                vec.push(i);
            }
            black_box(&vec);
        }
    })
}

/// One block from 16 B to 1 MiB in steps of about 1.5, and down again. One operation is one resize.
pub(super) fn realloc_up_down(effort: Effort) -> Sample {
    let mut sizes = vec![16];
    while sizes[sizes.len() - 1] < 1 << 20 {
        sizes.push(sizes[sizes.len() - 1] * 3 / 2);
    }
    let down: Vec<usize> = sizes.iter().rev().skip(1).copied().collect();
    sizes.extend(down);
    let rounds = effort.of(5000);
    Sample::time(rounds * (sizes.len() - 1), || {
        for _ in 0..rounds {
            let mut block = Block::new(sizes[0]);
            for &size in &sizes[1..] {
                block.resize(size);
            }
        }
    })
}
