//! What is above the goal of the policy in force: one release that gives it back, as far as the budget allows.
//!
//! The caller has [entered](super::books::enter). No lock.

use super::{books, in_force, quiet};
use crate::kernel;
use crate::policy::goal::{self, Action, Pressure};
use ebbtide_alloc::{ReleaseOptions, ReleaseReport, Usage};

/// Whether the refaults so far count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Book {
    Kept,
    New,
}

/// The release that the policy wants now, if it wants one and the budget allows it. The caller has entered.
pub(super) fn give_back(book: Book) -> Option<ReleaseReport> {
    let (before, now) = (ebbtide_alloc::usage(), kernel::monotonic_ns());
    let mut budget = books::load_budget();
    let looked = budget.look(before.resident, now);
    let stuck = if book == Book::New { 0 } else { books::stuck() };
    let (mut stuck_after, mut report) = (stuck.min(before.idle()), None);
    if let Action::Release(bytes) = goal::action(in_force::current(), pressure_of(before), stuck) {
        // A walk that finds nothing is worth no more than its share of the time; free runs need none.
        let may_walk = book == Book::New || budget.may_walk(now);
        let (bytes, worth) =
            if may_walk { (bytes, WORTH_A_WALK) } else { (bytes.min(before.free_runs), WORTH_A_RELEASE) };
        if bytes < worth || !(looked || book == Book::New) {
            // Too dear for now. Nothing counts as stuck, so that each slow path that frees asks again, and the first one
            // after the debt is paid gets what is owed.
            stuck_after = 0;
        } else {
            let mut done = quiet::release(ReleaseOptions::new().max_bytes(bytes));
            release_tables_behind(&mut done);
            let after = ebbtide_alloc::usage();
            budget.gave_back(done.released_bytes, after.resident, now);
            let took = u64::try_from(done.elapsed.as_nanos()).unwrap_or(u64::MAX);
            if may_walk {
                budget.walked(done.released_bytes, took);
            }
            stuck_after = stuck_in(after, done.stopped_early);
            report = Some(done);
        }
    }
    books::set_stuck(stuck_after);
    if book == Book::New {
        budget.forgive();
    }
    books::store_budget(budget);
    report
}

/// A walk for fewer bytes costs more than it gives.
const WORTH_A_WALK: u64 = 64 << 10;
/// While no walk is affordable, so much in free runs leaves at a time. The budget of refaults bounds how often; were the time
/// charged to that of walks, a program that frees and allocates the same little would never have a walk again.
const WORTH_A_RELEASE: u64 = 4 << 20;

/// From this many bytes on, what describes them is worth giving back too.
const WORTH_THEIR_TABLES: u64 = 16 << 20;

/// Gives back the tables of what has left: about a hundredth of it, if it was in small objects.
pub(super) fn release_tables_behind(done: &mut ReleaseReport) {
    if done.released_bytes >= WORTH_THEIR_TABLES {
        done.metadata_released_bytes += ebbtide_alloc::release_tables();
    }
}

/// What is stuck after a release: all that is idle, unless the release ended before it had seen the whole heap.
pub(super) fn stuck_in(after: Usage, stopped_early: bool) -> u64 {
    if stopped_early { 0 } else { after.idle() }
}

pub(super) fn pressure_of(usage: Usage) -> Pressure {
    Pressure { in_use: usage.handed, idle: usage.idle() }
}
