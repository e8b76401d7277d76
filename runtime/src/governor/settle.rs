//! [`settle`]: the allocator's bounds, as the policy and the limit in force want them. Atomics only, no lock.

use super::{books, in_force, soft_limit, thread};
use crate::policy::goal;
use ebbtide_alloc::Retire;

/// Tells the allocator what the policy and the limit in force want. Threads may do this at the same time, so each repeats
/// until it sees that the policy and the limit are still those it wrote for: the last to write then wrote for the last
/// ones.
pub(super) fn settle() {
    loop {
        let (policy, limit) = (in_force::current(), soft_limit::current());
        let mode = if policy.keeps_retired() { Retire::Keep } else { Retire::Release };
        ebbtide_alloc::set_retire_mode(mode);
        let usage = ebbtide_alloc::usage();
        let (total, idle) = soft_limit::bounds(usage);
        let stuck = books::stuck();
        let (low, mut high) = goal::bounds(policy, usage.handed, stuck).into_inner();
        if in_force::wants_background() {
            // The first idle memory starts the thread; one that is at work will see what comes.
            let unwatched = thread::is_absent().then(|| stuck.saturating_add(goal::WORTH_WATCHING));
            high = if thread::is_busy() { goal::NEVER } else { high.min(unwatched.unwrap_or(high)) };
        }
        ebbtide_alloc::bound_idle(low..=high.min(idle));
        ebbtide_alloc::bound_resident(total);
        if in_force::current() == policy && soft_limit::current() == limit {
            return;
        }
    }
}
