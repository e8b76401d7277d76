//! [`Recorder`]: measures while the demo works: the longest single operation, and every few milliseconds where the
//! memory is. It works on the demo's own thread, so it needs no lock, and times itself out of what it measures.

use ebbtide::MemStats;
use std::time::{Duration, Instant};

/// Where the memory was at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Time since the first phase began.
    pub(crate) at: Duration,
    /// Sizes in bytes, as in [`MemStats`].
    pub(crate) rss: u64,
    pub(crate) in_use: u64,
    pub(crate) free: u64,
    pub(crate) released: u64,
}

/// Samples are this far apart at first, and twice as far each time that their room is used up.
const INTERVAL: Duration = Duration::from_millis(4);
/// Room for samples. It is taken once, before the first phase, so that sampling does not change what it sees.
const ROOM: usize = 2048;

/// The measurements so far.
#[derive(Debug)]
pub(crate) struct Recorder {
    begin: Instant,
    next: Duration,
    interval: Duration,
    samples: Vec<Sample>,
    longest: Duration,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self {
            begin: Instant::now(),
            next: Duration::ZERO,
            interval: INTERVAL,
            samples: Vec::with_capacity(ROOM),
            longest: Duration::ZERO,
        }
    }

    /// Does `work`, one operation, and remembers how long it took if none took longer.
    pub(crate) fn operation<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = Instant::now();
        let result = work();
        let after = Instant::now();
        self.longest = self.longest.max(after - before);
        self.sample_if_due(after - self.begin);
        result
    }

    /// Takes a sample if one is due.
    pub(crate) fn tick(&mut self) {
        self.sample_if_due(self.begin.elapsed());
    }

    fn sample_if_due(&mut self, now: Duration) {
        if now >= self.next {
            self.sample();
        }
    }

    /// Takes a sample now. Returns its time and all that it saw.
    pub(crate) fn sample(&mut self) -> (Duration, MemStats) {
        let at = self.begin.elapsed();
        let stats = ebbtide::mem_stats();
        let cost = self.begin.elapsed().saturating_sub(at);
        if self.samples.len() == ROOM {
            let mut nth = 0;
            self.samples.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
            self.interval *= 2;
        }
        let MemStats { rss, heap_inuse: in_use, heap_free: free, heap_released: released, .. } = stats;
        self.samples.push(Sample { at, rss, in_use, free, released });
        // However slow a snapshot is, it stays a small part of the whole.
        self.next = at + self.interval.max(cost * 20);
        (at, stats)
    }

    /// The longest operation since the last call.
    pub(crate) fn take_longest(&mut self) -> Duration {
        std::mem::take(&mut self.longest)
    }

    /// All samples, in order of time.
    pub(crate) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_operation_is_kept_until_taken() {
        let mut recorder = Recorder::new();
        assert_eq!(recorder.operation(|| 7), 7);
        recorder.operation(|| std::thread::sleep(Duration::from_millis(2)));
        recorder.operation(|| ());
        assert!(recorder.take_longest() >= Duration::from_millis(2));
        assert_eq!(recorder.take_longest(), Duration::ZERO);
    }

    #[test]
    fn more_samples_than_there_is_room_for_are_thinned_evenly() {
        let mut recorder = Recorder::new();
        for _ in 0..=ROOM {
            recorder.sample();
        }
        assert_eq!(recorder.interval, INTERVAL * 2);
        let samples = recorder.into_samples();
        assert_eq!(samples.len(), ROOM / 2 + 1);
        assert!(samples.is_sorted_by_key(|sample| sample.at));
    }
}
