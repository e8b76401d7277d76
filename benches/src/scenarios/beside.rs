//! Work beside releases: how long single operations of busy threads take while another thread releases without pause.
//!
//! Stretches with and without releases alternate. An operation in which the scheduler took the processor from the thread
//! does not count; what the host of a virtual machine takes is in both kinds of stretch.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide_tests::rng::Rng;

use crate::measure::block::Block;
use crate::measure::processor::interruptions;
use crate::measure::release::ReleaseCall;

/// Stretches of each kind, and how long each is.
const STRETCHES: usize = 10;
const STRETCH: Duration = Duration::from_millis(150);
/// Blocks that each thread keeps, of 16 B to 4 KiB.
const LIVE: usize = 5000;
/// The kind of stretch: no releases; releases; the end.
const QUIET: usize = 0;
const OVER: usize = 2;
/// An operation that takes this long may have been interrupted.
const SLOW: u64 = 20_000;

/// Counts of durations: sixteen steps to each doubling of nanoseconds.
#[derive(Clone, Debug)]
struct Histogram {
    counts: Vec<u64>,
    worst: u64,
}

impl Histogram {
    fn new() -> Self {
        Self { counts: vec![0; 64 * 16], worst: 0 }
    }

    fn add(&mut self, nanoseconds: u64) {
        let log = nanoseconds.max(16).ilog2();
        let step = (nanoseconds.max(16) >> (log - 4)) as usize & 15;
        self.counts[log as usize * 16 + step] += 1;
        self.worst = self.worst.max(nanoseconds);
    }

    fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.worst = self.worst.max(other.worst);
    }

    /// The duration that `share` of all are below, within a sixteenth.
    fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.counts.iter().sum::<u64>() as f64 * share) as u64;
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen > wanted
        });
        at.map_or(self.worst, |at| (16 + (at as u64 & 15)) << (at / 16 - 4))
    }
}

/// Nanoseconds of single operations of one kind of stretch.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// One in ten thousand took longer.
    pub p9999: u64,
    /// The longest.
    pub worst: u64,
}

/// What the threads saw.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// While nobody released.
    pub quiet: Latency,
    /// While another thread did nothing else.
    pub beside: Latency,
    /// Releases done.
    pub releases: usize,
}

/// Runs `threads` busy threads beside this one, which releases.
#[must_use]
pub fn run(threads: usize, call: ReleaseCall) -> Outcome {
    let kind = AtomicUsize::new(QUIET);
    let started = AtomicBool::new(false);
    let mut releases = 0;
    let mut seen = [Histogram::new(), Histogram::new()];
    thread::scope(|scope| {
        let spawn = |seed| {
            let (kind, started) = (&kind, &started);
            scope.spawn(move || work(seed, kind, started))
        };
        let workers: Vec<_> = (0..threads as u64).map(spawn).collect();
        thread::sleep(STRETCH);
        started.store(true, Ordering::Relaxed);
        for stretch in 0..2 * STRETCHES {
            kind.store(stretch % 2, Ordering::Relaxed);
            let begun = Instant::now();
            if stretch % 2 == QUIET {
                // As much of a processor as the releases take.
                while begun.elapsed() < STRETCH {
                    std::hint::spin_loop();
                }
            }
            while begun.elapsed() < STRETCH {
                call();
                releases += 1;
            }
        }
        kind.store(OVER, Ordering::Relaxed);
        for worker in workers {
            let histograms = worker.join().expect("no thread panics");
            seen.iter_mut().zip(&histograms).for_each(|(all, one)| all.merge(one));
        }
    });
    let [quiet, beside] = seen.map(|all| Latency { p9999: all.quantile(0.9999), worst: all.worst });
    Outcome { quiet, beside, releases }
}

/// Replaces blocks at random until it is over. An operation is one allocation or one free.
fn work(seed: u64, kind: &AtomicUsize, started: &AtomicBool) -> [Histogram; 2] {
    let mut rng = Rng::new(seed + 31);
    let mut live: Vec<Option<Block>> = (0..LIVE).map(|_| None).collect();
    let mut seen = [Histogram::new(), Histogram::new()];
    let mut interrupted = interruptions();
    loop {
        let now = kind.load(Ordering::Relaxed);
        if now == OVER {
            return seen;
        }
        // Now and then most go at once, so that a release finds something.
        let burst = rng.one_in(20_000);
        if rng.one_in(100) {
            interrupted = interruptions();
        }
        for _ in 0..if burst { LIVE } else { 1 } {
            let at = rng.below(LIVE);
            let size = rng.log_uniform(4, 12);
            let begun = Instant::now();
            live[at] = None;
            let freed = Instant::now();
            if !burst {
                live[at] = Some(black_box(Block::new(size)));
            }
            let done = freed.elapsed();
            let times = [(freed - begun).as_nanos() as u64, done.as_nanos() as u64];
            let before = interrupted;
            if times.iter().any(|time| *time > SLOW) {
                interrupted = interruptions();
            }
            if interrupted == before && started.load(Ordering::Relaxed) {
                times.iter().for_each(|time| seen[now].add(*time));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_a_sixteenth() {
        let mut histogram = Histogram::new();
        (1..=100_000).for_each(|nanoseconds| histogram.add(nanoseconds));
        for (share, exact) in [(0.5, 50_000.0), (0.99, 99_000.0), (0.9999, 99_990.0)] {
            let found = histogram.quantile(share) as f64;
            assert!((exact * 15.0 / 16.0..=exact * 1.001).contains(&found), "{share}: {found}");
        }
        assert_eq!(histogram.worst, 100_000);
    }
}
