//! Assertions about memory for the tests of programs that use ebbtide.
//!
//! They need [`Ebbtide`](crate::Ebbtide) as the global allocator of the test program, and panic without it. What they
//! measure is the process's, so what other threads do meanwhile is measured too: put such tests into a test file
//! of their own, or run them with `--test-threads=1`. Calls of these assertions on different threads wait for each other.
//!
//! ```
//! use ebbtide::testing::{assert_no_growth, assert_released};
//!
//! #[global_allocator]
//! static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();
//!
//! // A burst leaves nothing behind.
//! assert_released(30 << 20, || drop(vec![1_u8; 32 << 20]));
//! // Work that is repeated needs no more memory each time.
//! assert_no_growth(1000, || drop(vec![String::from("request"); 10]));
//! ```
//!
//! Locks: that of `turn`, so that one assertion runs at a time; what it measures runs under it.

mod growth;
mod holders;
mod resident;
mod turn;

pub use growth::assert_no_growth;
pub use resident::{ResidentError, resident};

use crate::policy::Policy;
use crate::{events, governor};
use ebbtide_alloc::ReleaseOptions;
use holders::Holders;
use turn::Turn;

/// One assertion at a time.
#[track_caller]
fn begin(assertion: &str) -> Turn {
    assert!(
        governor::is_active(),
        "{assertion}: ebbtide is not the global allocator of this test program; add\n    #[global_allocator]\n    \
         static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();"
    );
    Turn::take()
}

/// In the child of a fork: assertions of other threads are over.
pub(crate) fn begin_in_child() {
    turn::begin_in_child();
}

/// Runs `f`, then releases idle memory, and asserts that at least `min` bytes went back to the operating system.
///
/// Whatever is idle before `f` leaves first, so that it does not count. While `f` runs the policy is
/// [`Policy::Off`], so that what `f` frees is still there to be counted; the policy before is put back at the end. Releases
/// that `f` asks for itself count. What `f` returns is kept until after the release: return what is to be alive then.
///
/// # Panics
/// If less left, with a message that says what held the memory: live objects, and which named maps; blocked bytes and
/// why; or that `f` never made so much resident. Panics of `f` are passed on.
///
/// # Examples
/// ```
/// use ebbtide::testing::assert_released;
///
/// #[global_allocator]
/// static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();
///
/// let cache = assert_released(15 << 20, || {
///     let mut cache: Vec<Box<[u8]>> = (0..400).map(|_| vec![1; 50_000].into()).collect();
///     cache.truncate(20);
///     cache
/// });
/// assert_eq!(cache.len(), 20);
/// ```
#[track_caller]
pub fn assert_released<R>(min: u64, f: impl FnOnce() -> R) -> R {
    let _turn = begin("assert_released");
    governor::release_as_asked(ReleaseOptions::new());
    let before = events::released_bytes();
    let off = OffFor::now();
    let kept = f();
    let report = governor::release_as_asked(ReleaseOptions::new());
    drop(off);
    let released = events::released_bytes().saturating_sub(before);
    assert!(
        released >= min,
        "assert_released: {} MiB left, expected at least {} MiB\n{}",
        holders::mib(released),
        holders::mib(min),
        Holders::now(Some(&report)),
    );
    kept
}

/// Puts [`Policy::Off`] in force until it is dropped, be it by a panic.
struct OffFor {
    before: Policy,
}

impl OffFor {
    fn now() -> Self {
        Self { before: governor::set(Policy::Off) }
    }
}

impl Drop for OffFor {
    fn drop(&mut self) {
        // A policy that was set meanwhile stays.
        if governor::current() == Policy::Off {
            governor::set(self.before);
        }
    }
}
