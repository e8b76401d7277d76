//! Large blocks, and blocks that must read as zero. One byte of each page is written, so that the price of the pages
//! is counted whether the allocator clears them or the kernel does.

use crate::measure::block::Block;
use crate::measure::effort::{Effort, Sample};

/// 4 MiB allocated, touched, freed. One operation is one KiB.
pub(super) fn large_4mib(effort: Effort) -> Sample {
    const BYTES: usize = 4 << 20;
    let rounds = effort.of(10_000);
    Sample::time(rounds * BYTES / 1024, || {
        for _ in 0..rounds {
            Block::new(BYTES).touch_pages();
        }
    })
}

fn zeroed(ops: usize, bytes: usize) -> Sample {
    Sample::time(ops, || {
        for _ in 0..ops {
            Block::zeroed(bytes).touch_pages();
        }
    })
}

/// 4 KiB of zeros.
pub(super) fn zeroed_4k(effort: Effort) -> Sample {
    zeroed(effort.of(5_000_000), 4 << 10)
}

/// 32 KiB of zeros.
pub(super) fn zeroed_32k(effort: Effort) -> Sample {
    zeroed(effort.of(500_000), 32 << 10)
}

/// 1 MiB of zeros.
pub(super) fn zeroed_1m(effort: Effort) -> Sample {
    zeroed(effort.of(4000), 1 << 20)
}
