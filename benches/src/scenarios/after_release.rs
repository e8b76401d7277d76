//! "Resident memory after release now": how much of a heap that has become mostly idle leaves when asked.
//!
//! Each scenario fills tables of blocks, frees most, asks the allocator to release, and compares resident memory with
//! the floor: the 4 KiB pages that hold at least one byte of a block that is still live, which no allocator that
//! cannot move objects gets below. The tables themselves are touched before the first measurement, and the floor
//! is computed after the last, so that neither shows.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use ebbtide_tests::memory::{page_floor, rss};
use ebbtide_tests::rng::Rng;

use crate::measure::block::Block;
use crate::measure::release::ReleaseCall;

/// What a scenario measured, in bytes above the start.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Resident when all blocks were live.
    pub peak: u64,
    /// Bytes of the pages that hold live blocks at the end.
    pub floor: u64,
    /// Resident after the frees, before the release.
    pub before: u64,
    /// Resident after the release.
    pub after: u64,
    /// How long the release took.
    pub latency: Duration,
    /// What the allocator said it released.
    pub reported: Option<u64>,
}

/// A scenario by its name.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The row's name.
    pub name: &'static str,
    /// Runs it once, in a process that has done nothing else.
    pub run: fn(ReleaseCall) -> Outcome,
}

/// All scenarios, in the order in which they are printed.
pub const ALL: &[Scenario] = &[
    Scenario { name: "small_all_freed", run: |call| one_thread(SMALL, None, call) },
    Scenario { name: "small_10_percent_kept", run: |call| one_thread(SMALL, Some(10), call) },
    Scenario { name: "small_1_percent_kept", run: |call| one_thread(SMALL, Some(100), call) },
    Scenario { name: "medium_10_percent_kept", run: |call| one_thread(MEDIUM, Some(10), call) },
    Scenario { name: "large_10_percent_kept", run: |call| one_thread(LARGE, Some(10), call) },
    Scenario { name: "threads_exit_main_frees", run: threads_exit },
    Scenario { name: "threads_parked", run: threads_parked },
];

/// The scenario of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

/// How many blocks, and between which sizes.
#[derive(Clone, Copy)]
struct Load {
    blocks: usize,
    low: usize,
    high: usize,
}

/// 2 million of 16 to 256 B.
const SMALL: Load = Load { blocks: 2_000_000, low: 16, high: 256 };
/// 100,000 of 256 B to 8 KiB.
const MEDIUM: Load = Load { blocks: 100_000, low: 256, high: 8 << 10 };
/// 4,000 of 8 to 256 KiB.
const LARGE: Load = Load { blocks: 4000, low: 8 << 10, high: 256 << 10 };
/// What each of four threads allocates: 85 MiB.
const PER_THREAD: Load = Load { blocks: 340_000, low: 16, high: 512 };
const THREADS: usize = 4;

type Slots = [Option<Block>];

/// A table whose pages are resident from the start.
fn touched_table(len: usize) -> Vec<Option<Block>> {
    let mut table = Vec::with_capacity(len);
    for _ in 0..len {
        table.push(black_box(None));
    }
    table
}

fn fill(slots: &mut Slots, load: Load, rng: &mut Rng) {
    for slot in slots {
        let mut block = Block::new(rng.range(load.low, load.high));
        block.touch_pages();
        block.touch(block.size() - 1);
        *slot = Some(block);
    }
}

/// Frees all blocks but one in `keep`, chosen at random.
fn free_most(slots: &mut Slots, keep: Option<usize>, rng: &mut Rng) {
    for slot in slots {
        if !keep.is_some_and(|keep| rng.one_in(keep)) {
            *slot = None;
        }
    }
}

/// Measures from the frees on. `start` and `peak` are absolute.
fn measure(start: u64, peak: u64, call: ReleaseCall, slots: &Slots) -> Outcome {
    let before = rss();
    let began = Instant::now();
    let reported = call();
    let latency = began.elapsed();
    let after = rss();
    let above = |bytes: u64| bytes.saturating_sub(start);
    let floor = page_floor(slots.iter().flatten().map(Block::range));
    Outcome { peak: above(peak), floor, before: above(before), after: above(after), latency, reported }
}

fn one_thread(load: Load, keep: Option<usize>, call: ReleaseCall) -> Outcome {
    let mut rng = Rng::new(21);
    let mut table = touched_table(load.blocks);
    let start = rss();
    fill(&mut table, load, &mut rng);
    let peak = rss();
    free_most(&mut table, keep, &mut rng);
    measure(start, peak, call, &table)
}

/// Four threads allocate and exit; then the main thread frees everything.
fn threads_exit(call: ReleaseCall) -> Outcome {
    let mut table = touched_table(THREADS * PER_THREAD.blocks);
    let start = rss();
    thread::scope(|scope| {
        let parts = table.chunks_mut(PER_THREAD.blocks).enumerate();
        let spawn = |(seed, part)| scope.spawn(move || fill(part, PER_THREAD, &mut Rng::new(seed as u64)));
        let workers: Vec<_> = parts.map(spawn).collect();
        // A join waits for the thread's own end, destructors of its thread-locals included; the scope's end does not.
        for worker in workers {
            worker.join().expect("no thread panics");
        }
    });
    let peak = rss();
    free_most(&mut table, None, &mut Rng::new(0));
    measure(start, peak, call, &table)
}

/// Four threads allocate and free their own blocks, then sleep while the main thread releases.
fn threads_parked(call: ReleaseCall) -> Outcome {
    let mut table = touched_table(THREADS * PER_THREAD.blocks);
    let barrier = Barrier::new(THREADS + 1);
    let start = rss();
    thread::scope(|scope| {
        for (seed, part) in table.chunks_mut(PER_THREAD.blocks).enumerate() {
            let barrier = &barrier;
            scope.spawn(move || {
                fill(part, PER_THREAD, &mut Rng::new(seed as u64));
                barrier.wait();
                barrier.wait();
                free_most(part, None, &mut Rng::new(0));
                barrier.wait();
                barrier.wait();
            });
        }
        barrier.wait();
        let peak = rss();
        barrier.wait();
        barrier.wait();
        let outcome = measure(start, peak, call, &[]);
        barrier.wait();
        outcome
    })
}
