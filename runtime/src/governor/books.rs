//! The governor's books: which releases are under way, what could not leave, and what releases have cost.
//!
//! Invariant: who has [entered](enter) is the only one that uses the [`Budget`]. Atomics only, no lock.

use crate::policy::budget::{Budget, Refaults, Walks};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

// All orderings are SeqCst: these are slow paths, and who settles the bounds reasons about several variables at once.
/// Releases under way in this process, whoever asked.
static UNDER_WAY: AtomicU32 = AtomicU32::new(0);
/// Releases reported to subscribers.
static RELEASES: AtomicU64 = AtomicU64::new(0);
/// Idle bytes that a release by policy was asked for and could not give back.
static STUCK: AtomicU64 = AtomicU64::new(0);
/// The fields of the [`Budget`].
static BUDGET: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];

/// Counts a release by policy as under way, unless another is.
pub(super) fn enter() -> bool {
    UNDER_WAY.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

pub(super) fn leave() {
    // In the child of a fork the count begins at zero, whatever the one thread was in.
    let _ = UNDER_WAY.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1));
}

/// Counts a release that the program asked for as under way, beside others.
pub(super) fn join() {
    UNDER_WAY.fetch_add(1, Ordering::SeqCst);
}

/// The number of a release that is about to be reported, from 1 on.
pub(super) fn next_number() -> u64 {
    RELEASES.fetch_add(1, Ordering::SeqCst) + 1
}

/// Idle bytes that are known not to be able to leave.
pub(super) fn stuck() -> u64 {
    STUCK.load(Ordering::SeqCst)
}

pub(super) fn set_stuck(bytes: u64) {
    STUCK.store(bytes, Ordering::SeqCst);
}

/// No more can be stuck than is idle.
pub(super) fn stuck_is_at_most(idle: u64) {
    STUCK.fetch_min(idle, Ordering::SeqCst);
}

pub(super) fn load_budget() -> Budget {
    let [resident, away, left_at_ns, refaults, refaults_at_ns, walks, walks_at_ns] =
        BUDGET.each_ref().map(|field| field.load(Ordering::SeqCst));
    let refaults = Refaults { taken: refaults, at_ns: refaults_at_ns };
    let walks = Walks { taken: walks, at_ns: walks_at_ns };
    Budget { resident, away, left_at_ns, refaults, walks }
}

pub(super) fn store_budget(budget: Budget) {
    let Budget { resident, away, left_at_ns, refaults, walks } = budget;
    let values = [resident, away, left_at_ns, refaults.taken, refaults.at_ns, walks.taken, walks.at_ns];
    BUDGET.iter().zip(values).for_each(|(field, value)| field.store(value, Ordering::SeqCst));
}

/// In the child of a fork: clean books. The number of releases goes on. Stores to atomics only.
pub(super) fn begin_in_child() {
    UNDER_WAY.store(0, Ordering::SeqCst);
    STUCK.store(0, Ordering::SeqCst);
    store_budget(Budget::default());
}
