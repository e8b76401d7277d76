//! The policy in force: one word. No lock.

use crate::policy::Policy;
use core::sync::atomic::{AtomicU64, Ordering};

// All orderings are SeqCst: rare, and who settles the bounds reasons about several variables at once.
static POLICY: AtomicU64 = AtomicU64::new(UNSET);

const UNSET: u64 = u64::MAX;

const fn encode(policy: Policy) -> u64 {
    match policy {
        Policy::Off => 0,
        Policy::Percent(percent) => 1 << 32 | percent as u64,
        Policy::Background { percent } => 2 << 32 | percent as u64,
    }
}

const fn decode(word: u64) -> Policy {
    // The low half of the word is the percentage.
    let percent = word as u32;
    match word >> 32 {
        0 => Policy::Off,
        1 => Policy::Percent(percent),
        2 => Policy::Background { percent },
        _ => Policy::DEFAULT,
    }
}

/// Puts the environment's policy in force, unless code named one already.
pub(super) fn begin(from_environment: Policy) {
    // Failure means that code was faster, and code overrides the environment.
    let _ = POLICY.compare_exchange(UNSET, encode(from_environment), Ordering::SeqCst, Ordering::SeqCst);
}

/// The policy in force.
pub(crate) fn current() -> Policy {
    decode(POLICY.load(Ordering::SeqCst))
}

/// Puts `policy` in force and returns the one before. The caller has what it asks for done.
pub(super) fn replace(policy: Policy) -> Policy {
    decode(POLICY.swap(encode(policy), Ordering::SeqCst))
}

/// Whether the policy in force has a thread of its own.
pub(super) fn wants_background() -> bool {
    matches!(current(), Policy::Background { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_survives_its_word() {
        for policy in
            [Policy::Off, Policy::Percent(0), Policy::Percent(u32::MAX), Policy::Background { percent: 9 }]
        {
            assert_eq!(decode(encode(policy)), policy);
            assert_ne!(encode(policy), UNSET);
        }
        assert_eq!(decode(UNSET), Policy::DEFAULT);
    }
}
