//! Several threads: their own blocks, each other's blocks, and threads that live only briefly.
//!
//! Time is the wall clock of the whole group, operations are those of one thread, so a number stays the same when
//! threads do not disturb each other.

use std::hint::black_box;
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Instant;

use ebbtide_tests::rng::Rng;

use crate::measure::block::Block;
use crate::measure::channel::Channel;
use crate::measure::effort::{Effort, Sample};

fn pairs(ops: usize, threads: usize) -> Sample {
    let start_line = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                start_line.wait();
                for _ in 0..ops {
                    drop(black_box(Block::new(64)));
                }
                start_line.wait();
            });
        }
        start_line.wait();
        let start = Instant::now();
        start_line.wait();
        Sample { ops, elapsed: start.elapsed() }
    })
}

/// Pairs of 64 B on a thread that is not the main one.
pub(super) fn pair_1t(effort: Effort) -> Sample {
    pairs(effort.of(40_000_000), 1)
}

/// The same on two threads at once: scaling.
pub(super) fn pair_2t(effort: Effort) -> Sample {
    pairs(effort.of(40_000_000), 2)
}

/// After Larson and Krishnan's server simulation: two threads replace random blocks, and hand their whole set to
/// each other every 50,000 operations, so that many frees are of the other's blocks.
pub(super) fn larson_2t(effort: Effort) -> Sample {
    const THREADS: usize = 2;
    const LEN: usize = 5000;
    const PER_ROUND: usize = 50_000;
    let rounds = effort.of(150);
    let set = |seed| {
        let mut rng = Rng::new(seed);
        Mutex::new((0..LEN).map(|_| Block::new(rng.range(16, 512))).collect::<Vec<_>>())
    };
    let sets = [set(5), set(6)];
    let barrier = Barrier::new(THREADS);
    let work = |me: usize| {
        let mut rng = Rng::new(7 + me as u64);
        for round in 0..rounds {
            let mut set = sets[(me + round) % THREADS].lock().expect("no thread panics");
            for _ in 0..PER_ROUND {
                let at = rng.below(LEN);
                set[at] = Block::new(rng.range(16, 512));
            }
            drop(set);
            barrier.wait();
        }
    };
    Sample::time(rounds * PER_ROUND, || {
        thread::scope(|scope| {
            scope.spawn(|| work(0));
            work(1);
        });
    })
}

/// Blocks travel in batches whose vectors come back to be filled again.
struct Belt {
    full: Channel<Vec<Block>>,
    empty: Channel<Vec<Block>>,
}

impl Belt {
    const BATCH: usize = 256;
    const BATCHES: usize = 32;

    fn new() -> Self {
        let belt = Self { full: Channel::new(Self::BATCHES), empty: Channel::new(Self::BATCHES) };
        for _ in 0..Self::BATCHES {
            belt.empty.send(Vec::with_capacity(Self::BATCH));
        }
        belt
    }

    fn produce(&self, batches: usize, mut size: impl FnMut() -> usize) {
        for _ in 0..batches {
            let mut batch = self.empty.receive();
            batch.extend((0..Self::BATCH).map(|_| Block::new(size())));
            self.full.send(batch);
        }
    }

    fn consume(&self, batches: usize) {
        for _ in 0..batches {
            let mut batch = self.full.receive();
            batch.clear();
            self.empty.send(batch);
        }
    }
}

/// One thread allocates, the other frees: every free is foreign.
pub(super) fn producer_consumer(effort: Effort) -> Sample {
    let batches = effort.of(30_000);
    let belt = Belt::new();
    let mut rng = Rng::new(9);
    Sample::time(batches * Belt::BATCH, || {
        thread::scope(|scope| {
            scope.spawn(|| belt.consume(batches));
            belt.produce(batches, || rng.range(16, 256));
        });
    })
}

/// After Lever and Boreham's xmalloc-test: two threads allocate and two free, with sizes that differ much.
pub(super) fn xmalloc(effort: Effort) -> Sample {
    let batches = effort.of(8000);
    let belt = Belt::new();
    Sample::time(batches * Belt::BATCH, || {
        thread::scope(|scope| {
            for seed in 0..2 {
                let belt = &belt;
                let mut rng = Rng::new(10 + seed);
                scope.spawn(move || belt.produce(batches, || rng.log_uniform(4, 11)));
                scope.spawn(move || belt.consume(batches));
            }
        });
    })
}

/// One thread after the other, each of which makes and frees 1,000 blocks. One operation is one thread.
pub(super) fn short_threads(effort: Effort) -> Sample {
    let threads = effort.of(4000);
    Sample::time(threads, || {
        for seed in 0..threads {
            let worker = thread::spawn(move || {
                let mut rng = Rng::new(seed as u64);
                let blocks: Vec<Block> = (0..1000).map(|_| Block::new(rng.range(16, 512))).collect();
                black_box(&blocks);
            });
            worker.join().expect("no thread panics");
        }
    })
}
