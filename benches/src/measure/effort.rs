//! How much a workload does ([`Effort`]) and what it measured ([`Sample`]).

use std::time::{Duration, Instant};

/// Divides the number of operations of a workload. Sizes of live sets stay as they are.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    divisor: usize,
}

impl Effort {
    /// All operations: 0.2 to 0.5 s for most workloads.
    pub const FULL: Self = Self { divisor: 1 };
    /// A tenth, for a first look.
    pub const QUICK: Self = Self { divisor: 10 };
    /// A fiftieth: brings caches, branch predictors and the allocator's own lists into their steady state.
    pub const WARM_UP: Self = Self { divisor: 50 };

    /// `full` operations divided, at least one.
    #[must_use]
    pub fn of(self, full: usize) -> usize {
        (full / self.divisor).max(1)
    }
}

/// Operations done and the time they took. What a workload prepares before is not in the time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Operations, in the unit of the workload.
    pub ops: usize,
    /// Wall-clock time of all of them.
    pub elapsed: Duration,
}

impl Sample {
    /// Times `work`, which does `ops` operations.
    pub fn time(ops: usize, work: impl FnOnce()) -> Self {
        let start = Instant::now();
        work();
        Self { ops, elapsed: start.elapsed() }
    }

    /// Nanoseconds per operation.
    #[must_use]
    pub fn ns_per_op(&self) -> f64 {
        self.elapsed.as_nanos() as f64 / self.ops as f64
    }
}
