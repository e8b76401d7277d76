//! How long tests wait for what may take long, such as the end of a child process.
//!
//! The bounds in the tests suit a processor of its own. `EBBTIDE_TEST_PATIENCE` is a whole number that multiplies them,
//! for machines that are emulated or overloaded; `.ci/kernels` sets it. Only bounds grow by it that tell a hang from slow
//! work, and the time in which a test must get enough work done; long repetitions become fewer. What a test asserts stays the
//! same.

use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

const VARIABLE: &str = "EBBTIDE_TEST_PATIENCE";

static FACTOR: LazyLock<u32> = LazyLock::new(|| {
    let Some(value) = std::env::var_os(VARIABLE) else { return 1 };
    let factor = value.to_str().and_then(|text| text.parse().ok()).filter(|factor| *factor > 0);
    factor.unwrap_or_else(|| panic!("{VARIABLE} is a whole number above 0, and not {value:?}"))
});

/// Multiplies a bound on waiting by `EBBTIDE_TEST_PATIENCE`, or by 1 without it.
///
/// # Panics
/// If the variable is no whole number above 0.
#[must_use]
pub fn patient(bound: Duration) -> Duration {
    bound * *FACTOR
}

/// A third of a number of repetitions where patience is needed, so that emulated machines come to an end.
#[must_use]
pub fn fewer(count: usize) -> usize {
    if *FACTOR > 1 { count.div_ceil(3) } else { count }
}

/// Polls `is_so` until it holds or `bound`, times `EBBTIDE_TEST_PATIENCE`, has passed. Returns whether it held.
#[must_use]
pub fn eventually(bound: Duration, is_so: impl Fn() -> bool) -> bool {
    // Polls are walks of /proc or of all caches: rare enough that they do not slow down what is waited for.
    const POLL: Duration = Duration::from_millis(20);
    let started = Instant::now();
    while !is_so() {
        if started.elapsed() > patient(bound) {
            return false;
        }
        thread::sleep(POLL);
    }
    true
}

/// Whether a test that has worked since `started` should go on: it has not worked for `length`, or not done enough and
/// not come to the end of its patience.
#[must_use]
pub fn goes_on(started: Instant, length: Duration, enough: bool) -> bool {
    started.elapsed() < if enough { length } else { patient(length) }
}
