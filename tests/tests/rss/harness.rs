//! What the trials of this program share: the start of each, and comparisons that fail with the numbers.

use std::process::ExitCode;

use ebbtide::Policy;
use ebbtide_tests::memory::anonymous;
use ebbtide_tests::trial;

pub(crate) use ebbtide_tests::trial::{Case, StopOnDrop, finish, is_trial, skipped};

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn main(cases: &[Case]) -> ExitCode {
    assert!(ebbtide::is_active(), "the trials are about ebbtide");
    trial::main(cases)
}

/// Sets the policy, brings everything that a trial uses into memory once, and returns the resident heap bytes to
/// compare with.
pub(crate) fn start(policy: Policy) -> u64 {
    ebbtide::set_policy(policy);
    drop(vec![1_u8; 100_000]);
    let _ = ebbtide::mem_stats();
    ebbtide::free_os_memory();
    anonymous()
}

/// A vector that can take `len` items and whose memory is resident already, so that the trial's own bookkeeping is
/// below its start line.
pub(crate) fn resident_vec<T: Default>(len: usize) -> Vec<T> {
    let mut vec = Vec::with_capacity(len);
    for _ in 0..len {
        vec.push(std::hint::black_box(T::default()));
    }
    vec
}

/// Panics with the numbers unless `left <= right + slack`.
#[track_caller]
pub(crate) fn at_most(what: &str, left: u64, right: u64, slack: u64) {
    assert!(
        left <= right + slack,
        "{what}: {left} is more than {right} by {}, allowed {slack}",
        left - right
    );
}

/// Panics with the numbers unless `left` and `right` differ by `slack` at most.
#[track_caller]
pub(crate) fn near(what: &str, left: u64, right: u64, slack: u64) {
    let apart = left.abs_diff(right);
    assert!(apart <= slack, "{what}: {left} and {right} are {apart} apart, allowed {slack}");
}
