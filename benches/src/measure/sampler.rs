//! [`Sampler`]: a thread that looks at some sizes every few milliseconds while an experiment runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A look: the seconds since the start, and the sizes in bytes.
type Look<const N: usize> = (f64, [u64; N]);

/// Looks until it is finished. The list of looks is made and touched before, so that it does not grow what it measures.
#[derive(Debug)]
pub struct Sampler<const N: usize> {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Look<N>>>,
}

/// More are not kept.
const MOST: usize = 10_000;

impl<const N: usize> Sampler<N> {
    /// Begins to call `look` every so often.
    #[must_use]
    pub fn start(every: Duration, look: fn() -> [u64; N]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (ended, begun) = (Arc::clone(&over), Instant::now());
        let mut looks = vec![(1.0, [1; N]); MOST];
        looks.clear();
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) && looks.len() < MOST {
                looks.push((begun.elapsed().as_secs_f64(), look()));
                thread::sleep(every);
            }
            looks
        });
        Self { over, thread }
    }

    /// The looks, as rows of `[seconds, size, ..]`.
    ///
    /// # Panics
    /// If `look` did.
    #[must_use]
    pub fn finish(self) -> Value {
        self.over.store(true, Ordering::Relaxed);
        let looks = self.thread.join().expect("the look does not panic");
        let row = |(at, sizes): Look<N>| {
            let cells = std::iter::once(json!((at * 1e4).round() / 1e4));
            Value::Array(cells.chain(sizes.map(|size| json!(size))).collect())
        };
        looks.into_iter().map(row).collect()
    }
}
