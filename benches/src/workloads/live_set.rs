//! Replacement in a set of live blocks, one thread: one operation frees a block and allocates another in its place.

use ebbtide_tests::rng::Rng;

use crate::measure::block::Block;
use crate::measure::effort::{Effort, Sample};

fn replace(ops: usize, seed: u64, len: usize, mut size: impl FnMut(&mut Rng, usize) -> usize) -> Sample {
    let mut rng = Rng::new(seed);
    let mut live: Vec<Block> = Vec::with_capacity(len);
    for _ in 0..len {
        let first = size(&mut rng, 0);
        live.push(Block::new(first));
    }
    Sample::time(ops, || {
        for op in 0..ops {
            let at = rng.below(len);
            let next = size(&mut rng, op);
            live[at] = Block::new(next);
        }
    })
}

/// 10,000 live blocks of 8 B to 8 KiB, the logarithm of the size uniform.
pub(super) fn live_10k(effort: Effort) -> Sample {
    replace(effort.of(6_000_000), 2, 10_000, |rng, _| rng.log_uniform(3, 13))
}

/// A million live blocks of 16 to 272 B: more than the caches of the machine hold.
pub(super) fn live_1m(effort: Effort) -> Sample {
    replace(effort.of(2_500_000), 3, 1_000_000, |rng, _| rng.range(16, 272))
}

/// 50,000 live blocks whose usual size drifts from 32 B to 2 KiB and back, so that what one size leaves behind must
/// serve the next.
pub(super) fn drift(effort: Effort) -> Sample {
    const PERIOD: usize = 1 << 19;
    replace(effort.of(5_000_000), 4, 50_000, |rng, op| {
        let phase = op % PERIOD;
        let height = if phase < PERIOD / 2 { phase } else { PERIOD - phase };
        let usual = 32 + height * (2048 - 32) / (PERIOD / 2);
        rng.range(usual / 2 + 1, usual + usual / 2)
    })
}
