//! [`Campaign`]: one excess, given back by the background thread in steps. No lock.

use super::excess::{pressure_of, release_tables_behind, stuck_in};
use super::settle::settle;
use super::{books, in_force, quiet, soft_limit, tell};
use crate::events::ReleaseCause;
use crate::kernel;
use crate::kernel::group_limit::{self, Access};
use crate::policy::goal::{self, Action};
use crate::policy::pace;
use core::time::Duration;
use ebbtide_alloc::{ReleaseOptions, ReleaseReport};

/// The background thread's work in progress: one excess, given back in steps.
#[derive(Debug, Default)]
pub(super) struct Campaign {
    /// The steps so far, as one report.
    report: Option<ReleaseReport>,
    /// What was idle when the round of steps under way began, and what it has given back.
    idle_before: u64,
    released: u64,
    squeezed: bool,
    pressure_at_ns: u64,
}

/// What the background thread is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    More,
    /// Nothing before so many nanoseconds have gone by.
    After(u64),
    /// Nothing, but with `watch` to look from time to time.
    Done {
        watch: bool,
    },
}

/// One step of the background thread: a release of about [`pace::STEP_NS`], if one is wanted.
pub(super) fn turn(campaign: &mut Campaign) -> Turn {
    if !books::enter() {
        return Turn::After(BUSY_WAIT_NS);
    }
    let now = kernel::monotonic_ns();
    soft_limit::refresh(Access::of_background());
    let kept = soft_limit::keep();
    let turn = step(campaign, now);
    books::leave();
    settle();
    tell::kept(&kept);
    if let Turn::Done { .. } = turn {
        if let Some(report) = campaign.report.take().filter(|report| report.released_bytes > 0) {
            let squeezed = campaign.squeezed;
            tell::release(
                &report,
                if squeezed { ReleaseCause::MemoryPressure } else { ReleaseCause::Policy },
            );
        }
        *campaign = Campaign { pressure_at_ns: campaign.pressure_at_ns, ..Campaign::default() };
    }
    turn
}

/// Whether the policy wants something given back.
pub(super) fn is_due() -> bool {
    let at = pressure_of(ebbtide_alloc::usage());
    goal::action(in_force::current(), at, books::stuck()) != Action::Nothing
}

/// How long the background thread waits for a release of another thread.
const BUSY_WAIT_NS: u64 = 20_000_000;
/// Between looks at the memory pressure.
const PRESSURE_EVERY_NS: u64 = 5_000_000_000;
/// From here on the kernel is short of memory: a tenth of the time, in hundredths of a percent.
const SQUEEZED: u32 = 1000;

fn step(campaign: &mut Campaign, now: u64) -> Turn {
    let (before, policy) = (ebbtide_alloc::usage(), in_force::current());
    let (at, stuck) = (pressure_of(before), books::stuck());
    let mut budget = books::load_budget();
    let affordable = budget.look(before.resident, now);
    books::store_budget(budget);
    let watch = at.idle.saturating_sub(stuck) >= goal::WORTH_WATCHING || soft_limit::is_followed();
    if !campaign.squeezed && is_squeezed(campaign, now) {
        campaign.squeezed = at.idle.saturating_sub(stuck) >= goal::WORTH_WATCHING;
    }
    let action = match &campaign.report {
        _ if campaign.squeezed => Action::Release(at.idle.max(1)),
        Some(_) => goal::excess(policy, at),
        None => goal::action(policy, at, stuck),
    };
    let Action::Release(bytes) = action else {
        books::stuck_is_at_most(at.idle);
        return Turn::Done { watch };
    };
    if !affordable && !campaign.squeezed {
        return Turn::After(budget.wait_ns().clamp(BUSY_WAIT_NS, PRESSURE_EVERY_NS));
    }
    let time = Duration::from_nanos(pace::STEP_NS);
    let mut options = ReleaseOptions::new().max_bytes(bytes).deadline(time).in_steps();
    if campaign.report.is_some() {
        options = options.spare_caches();
    } else {
        (campaign.idle_before, campaign.released) = (before.idle(), 0);
    }
    let done = quiet::release(options);
    let after = ebbtide_alloc::usage();
    budget.gave_back(done.released_bytes, after.resident, now);
    books::store_budget(budget);
    campaign.released += done.released_bytes;
    campaign.report = Some(together(campaign.report, done));
    let seen_all = !done.stopped_early;
    if seen_all || (!campaign.squeezed && goal::excess(policy, pressure_of(after)) == Action::Nothing) {
        // What has become idle behind the round is not known to be stuck.
        let left = campaign.idle_before.saturating_sub(campaign.released);
        let stuck = stuck_in(after, !seen_all).min(left);
        books::set_stuck(stuck);
        if goal::action(policy, pressure_of(after), stuck) != Action::Nothing {
            (campaign.idle_before, campaign.released) = (after.idle(), 0);
            return Turn::More;
        }
        campaign.report.iter_mut().for_each(release_tables_behind);
        let loose = after.idle().saturating_sub(books::stuck());
        return Turn::Done { watch: loose >= goal::WORTH_WATCHING || soft_limit::is_followed() };
    }
    Turn::More
}

/// Whether the kernel says that it is short of memory. It is asked now and then only.
fn is_squeezed(campaign: &mut Campaign, now: u64) -> bool {
    let fresh = now.checked_sub(campaign.pressure_at_ns).is_some_and(|age| age < PRESSURE_EVERY_NS);
    if fresh {
        return false;
    }
    campaign.pressure_at_ns = now;
    group_limit::memory_pressure().is_some_and(|pressure| pressure >= SQUEEZED)
}

/// Two releases in a row as one.
fn together(first: Option<ReleaseReport>, mut last: ReleaseReport) -> ReleaseReport {
    if let Some(first) = first {
        last.released_bytes += first.released_bytes;
        last.metadata_released_bytes += first.metadata_released_bytes;
        last.looked_at_bytes += first.looked_at_bytes;
        last.rss_before = first.rss_before;
        last.syscalls += first.syscalls;
        last.elapsed += first.elapsed;
    }
    last
}
