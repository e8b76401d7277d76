//! The governor: holds the policy in force and carries out what [`policy`](crate::policy) decides.
//!
//! Invariants: after every change, [`settle`] leaves the allocator's retire mode and threshold as the policy in force
//! wants them; and a release by policy never runs inside, or waits for, another release. Atomics only, no lock:
//! [`on_pressure`] runs on a thread that is freeing memory.

use crate::budget::Budget;
use crate::events::{self, ReleaseCause};
use crate::os;
use crate::policy::{self, Action, Policy, Pressure};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use ebbtide_alloc::{ReleaseOptions, ReleaseReport, Retire};

// All orderings here are SeqCst: these are slow paths, and [`settle`] reasons about several variables at once.
static POLICY: AtomicU64 = AtomicU64::new(UNSET);
/// Releases under way in this process, whoever asked.
static UNDER_WAY: AtomicU32 = AtomicU32::new(0);
static RELEASES: AtomicU64 = AtomicU64::new(0);
/// Idle bytes that a release by policy was asked for and could not give back.
static STUCK: AtomicU64 = AtomicU64::new(0);
/// The fields of the [`Budget`]. Only who [entered](enter) uses them.
static BUDGET: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

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

/// Puts the environment's policy in force, unless code named one already. Called once.
pub(crate) fn begin(from_environment: Policy) {
    os::in_forked_child(forget_releases);
    ebbtide_alloc::set_pressure_hook(on_pressure);
    // Failure means that code was faster, and code overrides the environment.
    let _ = POLICY.compare_exchange(UNSET, encode(from_environment), Ordering::SeqCst, Ordering::SeqCst);
    settle();
}

/// The policy in force.
pub(crate) fn current() -> Policy {
    decode(POLICY.load(Ordering::SeqCst))
}

/// Puts `policy` in force, does what it asks for now, and returns the one before.
pub(crate) fn set(policy: Policy) -> Policy {
    let before = decode(POLICY.swap(encode(policy), Ordering::SeqCst));
    settle();
    // A new policy begins with a clean book: what leaves by this call, the program asked for.
    review(Book::New);
    before
}

/// A release that the program asked for. It waits for one that is under way.
pub(crate) fn release_as_asked(options: ReleaseOptions) -> ReleaseReport {
    UNDER_WAY.fetch_add(1, Ordering::SeqCst);
    let report = ebbtide_alloc::release(options);
    UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    settle();
    events::released(RELEASES.fetch_add(1, Ordering::SeqCst) + 1, &report, ReleaseCause::Forced);
    report
}

/// Whether the refaults so far count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Book {
    Kept,
    New,
}

/// Compares the heap with the policy in force, and gives back what is too much. Nothing happens while a release is
/// under way: who runs it settles the threshold afterwards.
fn review(book: Book) {
    if !enter() {
        return;
    }
    let report = give_back_excess(book);
    UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    settle();
    if let Some(report) = report {
        events::released(RELEASES.fetch_add(1, Ordering::SeqCst) + 1, &report, ReleaseCause::Policy);
    }
}

/// The release that the policy wants now, if it wants one and the budget allows it. The caller has entered.
fn give_back_excess(book: Book) -> Option<ReleaseReport> {
    STUCK.store(0, Ordering::SeqCst);
    let before = pressure();
    let mut budget = load_budget();
    let looked = budget.look(before.in_use.saturating_add(before.free), os::monotonic_ns());
    let affordable = looked || book == Book::New;
    let report = match policy::action(current(), before) {
        Action::Release(bytes) if affordable => {
            let report = ebbtide_alloc::release(ReleaseOptions::new().max_bytes(bytes));
            let after = pressure();
            budget.gave_back(report.released_bytes, after.in_use.saturating_add(after.free));
            if policy::action(current(), after) != Action::Nothing {
                STUCK.store(after.free, Ordering::SeqCst);
            }
            Some(report)
        }
        _ => None,
    };
    if book == Book::New {
        (budget.away, budget.debt) = (0, 0);
    }
    store_budget(budget);
    report
}

fn load_budget() -> Budget {
    let [resident, away, debt, at_ns] = BUDGET.each_ref().map(|field| field.load(Ordering::SeqCst));
    Budget { resident, away, debt, at_ns }
}

fn store_budget(budget: Budget) {
    let values = [budget.resident, budget.away, budget.debt, budget.at_ns];
    BUDGET.iter().zip(values).for_each(|(field, value)| field.store(value, Ordering::SeqCst));
}

/// What the allocator calls, without locks, when its idle resident bytes pass the threshold. The call disarms it.
fn on_pressure() {
    os::keeping_errno(|| review(Book::Kept));
}

/// Counts a release by policy as under way, unless another is.
fn enter() -> bool {
    UNDER_WAY.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// A fork copies the count, but not the threads that would lower it again.
extern "C" fn forget_releases() {
    UNDER_WAY.store(0, Ordering::SeqCst);
}

/// Tells the allocator what the policy in force wants. Threads may do this at the same time, so each repeats until it
/// sees that the policy is still the one it wrote for: the last to write then wrote for the last policy.
fn settle() {
    loop {
        let word = POLICY.load(Ordering::SeqCst);
        let policy = decode(word);
        let mode = if policy.keeps_retired() { Retire::Keep } else { Retire::Release };
        ebbtide_alloc::set_retire_mode(mode);
        let threshold = policy::threshold(policy, pressure().in_use, STUCK.load(Ordering::SeqCst));
        ebbtide_alloc::set_pressure_threshold(threshold);
        if POLICY.load(Ordering::SeqCst) == word {
            return;
        }
    }
}

fn pressure() -> Pressure {
    let (in_use, free) = ebbtide_alloc::pressure();
    Pressure { in_use, free }
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
