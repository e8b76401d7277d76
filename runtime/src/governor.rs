//! The governor: holds the policy in force and carries out what [`policy`](crate::policy) decides.
//!
//! Invariants: after every change, [`settle`] leaves the allocator's retire mode and bounds as the policy and the limit in
//! force want them; and a release by policy never runs inside, or waits for, another release. Atomics only, no lock:
//! [`on_pressure`] runs on a thread that is freeing or allocating memory.
#![allow(unsafe_code, reason = "vouches for what is so in the child of a fork")]

use crate::budget::Budget;
use crate::events::{self, ReleaseCause};
use crate::group_limit::{self, Access};
use crate::limit::Setting;
use crate::policy::{self, Action, Policy, Pressure};
use crate::soft_limit::{self, Kept};
use crate::{background, os, pace, quiet, testing, trace};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;
use ebbtide_alloc::{ReleaseOptions, ReleaseReport, Retire, Usage};

// All orderings here are SeqCst: these are slow paths, and [`settle`] reasons about several variables at once.
static POLICY: AtomicU64 = AtomicU64::new(UNSET);
/// Releases under way in this process, whoever asked.
static UNDER_WAY: AtomicU32 = AtomicU32::new(0);
static RELEASES: AtomicU64 = AtomicU64::new(0);
/// Idle bytes that a release by policy was asked for and could not give back.
static STUCK: AtomicU64 = AtomicU64::new(0);
/// The fields of the [`Budget`]. Only who [entered](enter) uses them.
static BUDGET: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];

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

/// Puts the environment's policy and limit in force, unless code named a policy already. Called once.
pub(crate) fn begin(from_environment: Policy, limit: Setting) {
    ebbtide_alloc::set_child_hook(begin_in_child);
    ebbtide_alloc::set_pressure_hook(on_pressure);
    // Failure means that code was faster, and code overrides the environment.
    let _ = POLICY.compare_exchange(UNSET, encode(from_environment), Ordering::SeqCst, Ordering::SeqCst);
    match limit {
        Setting::Off => {}
        Setting::Bytes(bytes) => {
            soft_limit::set(Some(bytes));
        }
        Setting::Cgroup(percent) => {
            soft_limit::follow(percent * 10_000);
        }
    }
    look_at_files();
    settle();
}

/// The policy in force.
pub(crate) fn current() -> Policy {
    decode(POLICY.load(Ordering::SeqCst))
}

/// Puts `policy` in force, does what it asks for now, and returns the one before.
pub(crate) fn set(policy: Policy) -> Policy {
    let before = decode(POLICY.swap(encode(policy), Ordering::SeqCst));
    background::policy_changed();
    look_at_files();
    settle();
    // A new policy begins with a clean book: what leaves by this call, the program asked for.
    review(Book::New);
    before
}

/// The limit has changed: does what it asks for now.
pub(crate) fn limit_changed() {
    settle();
    review(Book::Kept);
}

/// For calls that the program makes itself: files may be opened here that are only read again elsewhere. Returns whether
/// that has changed the limit.
pub(crate) fn look_at_files() -> bool {
    quiet::reopen();
    if wants_background() {
        group_limit::watch_pressure();
    }
    soft_limit::refresh(Access::Open)
}

/// A release that the program asked for. It waits for one that is under way.
pub(crate) fn release_as_asked(options: ReleaseOptions) -> ReleaseReport {
    look_at_files();
    UNDER_WAY.fetch_add(1, Ordering::SeqCst);
    let report = ebbtide_alloc::release(options);
    leave();
    settle();
    tell(&report, ReleaseCause::Forced);
    report
}

/// Tells of a release. The caller has left and settled: who hears of it may do anything.
fn tell(report: &ReleaseReport, cause: ReleaseCause) {
    events::released(RELEASES.fetch_add(1, Ordering::SeqCst) + 1, report, cause);
}

/// Whether the refaults so far count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Book {
    Kept,
    New,
}

/// Compares the heap with the policy and the limit in force, and gives back what is too much, or has that done. Nothing
/// happens while a release is under way: who runs it settles the bounds afterwards.
fn review(book: Book) {
    if !enter() {
        return soft_limit::assist();
    }
    soft_limit::refresh(Access::Held);
    let kept = soft_limit::keep();
    let by_policy = if book == Book::Kept && is_done_elsewhere() { None } else { give_back_excess(book) };
    leave();
    settle();
    tell_kept(&kept);
    if let Some(report) = &by_policy {
        tell(report, ReleaseCause::Policy);
    }
}

/// Tells what the limit did, as [`tell`].
fn tell_kept(kept: &Kept) {
    if let Some(report) = &kept.report {
        tell(report, ReleaseCause::Limit);
    }
    if let Some((crossing, at)) = kept.crossing {
        events::limit_crossed(crossing, at);
    }
}

/// Whether the background thread does what the policy wants, if anything. It is told here.
fn is_done_elsewhere() -> bool {
    let policy = current();
    if !wants_background() {
        return false;
    }
    let (at, stuck) = (pressure(), STUCK.load(Ordering::SeqCst));
    let start = background::is_absent() && at.idle >= policy::WORTH_WATCHING;
    if start || policy::action(policy, at, stuck) != Action::Nothing {
        return background::ring();
    }
    STUCK.fetch_min(at.idle, Ordering::SeqCst);
    true
}

/// Whether the policy in force has a thread of its own.
pub(crate) fn wants_background() -> bool {
    matches!(current(), Policy::Background { .. })
}

/// The release that the policy wants now, if it wants one and the budget allows it. The caller has entered.
fn give_back_excess(book: Book) -> Option<ReleaseReport> {
    let (before, now) = (ebbtide_alloc::usage(), os::monotonic_ns());
    let mut budget = load_budget();
    let looked = budget.look(before.resident, now);
    let stuck = if book == Book::New { 0 } else { STUCK.load(Ordering::SeqCst) };
    let (mut stuck_after, mut report) = (stuck.min(before.idle()), None);
    if let Action::Release(bytes) = policy::action(current(), pressure_of(before), stuck) {
        // A walk that finds nothing is worth no more than its share of the time; free runs need none.
        let may_walk = book == Book::New || budget.may_walk(now);
        let bytes = if may_walk { bytes } else { bytes.min(before.free_runs) };
        if !(looked || book == Book::New) {
            stuck_after = 0;
        } else if bytes < WORTH_A_RELEASE {
            // Asked again when a little more is idle: by then it may be affordable.
            let high = *policy::bounds(current(), before.handed, stuck).end();
            stuck_after = stuck.saturating_add(before.idle().saturating_sub(high)).saturating_add(A_LITTLE);
        } else {
            let mut done = quiet::release(ReleaseOptions::new().max_bytes(bytes));
            release_tables_behind(&mut done);
            let after = ebbtide_alloc::usage();
            budget.gave_back(done.released_bytes, after.resident, now);
            let took = u64::try_from(done.elapsed.as_nanos()).unwrap_or(u64::MAX);
            budget.walked(done.released_bytes, took);
            stuck_after = stuck_in(after, done.stopped_early);
            report = Some(done);
        }
    }
    STUCK.store(stuck_after, Ordering::SeqCst);
    if book == Book::New {
        (budget.away, budget.debt) = (0, 0);
    }
    store_budget(budget);
    report
}

/// A release of fewer bytes costs more than it gives.
const WORTH_A_RELEASE: u64 = 64 << 10;
const A_LITTLE: u64 = 1 << 20;

/// From this many bytes on, what describes them is worth giving back too.
const WORTH_THEIR_TABLES: u64 = 16 << 20;

/// Gives back the tables of what has left: about a hundredth of it, if it was in small objects.
fn release_tables_behind(done: &mut ReleaseReport) {
    if done.released_bytes >= WORTH_THEIR_TABLES {
        done.metadata_released_bytes += ebbtide_alloc::release_tables();
    }
}

/// What is stuck after a release: all that is idle, unless the release ended before it had seen the whole heap.
fn stuck_in(after: Usage, stopped_early: bool) -> u64 {
    if stopped_early { 0 } else { after.idle() }
}

/// What the background thread is in the midst of: one excess, given back in steps.
#[derive(Debug, Default)]
pub(crate) struct Campaign {
    /// The steps so far, as one report.
    report: Option<ReleaseReport>,
    looked_at: u64,
    squeezed: bool,
    pressure_at_ns: u64,
}

/// What the background thread is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    More,
    /// Nothing before so many nanoseconds have gone by.
    After(u64),
    /// Nothing, but with `watch` to look from time to time.
    Done {
        watch: bool,
    },
}

/// One step of the background thread: a release of about [`pace::STEP_NS`], if one is wanted.
pub(crate) fn turn(campaign: &mut Campaign) -> Turn {
    if !enter() {
        return Turn::After(BUSY_WAIT_NS);
    }
    let now = os::monotonic_ns();
    soft_limit::refresh(Access::of_background());
    let kept = soft_limit::keep();
    let turn = step(campaign, now);
    leave();
    settle();
    tell_kept(&kept);
    if let Turn::Done { .. } = turn {
        if let Some(report) = campaign.report.take().filter(|report| report.released_bytes > 0) {
            let squeezed = campaign.squeezed;
            tell(&report, if squeezed { ReleaseCause::MemoryPressure } else { ReleaseCause::Policy });
        }
        *campaign = Campaign { pressure_at_ns: campaign.pressure_at_ns, ..Campaign::default() };
    }
    turn
}

/// How long the background thread waits for a release of another thread.
const BUSY_WAIT_NS: u64 = 20_000_000;
/// Between looks at the memory pressure.
const PRESSURE_EVERY_NS: u64 = 5_000_000_000;
/// From here on the kernel is short of memory: a tenth of the time, in hundredths of a percent.
const SQUEEZED: u32 = 1000;
/// Time that a step may take for each unit of 64 KiB, since it passes all runs on its way.
const STEP_NS_OF_UNIT: u64 = 25;

fn step(campaign: &mut Campaign, now: u64) -> Turn {
    let (before, policy) = (ebbtide_alloc::usage(), current());
    let (at, stuck) = (pressure_of(before), STUCK.load(Ordering::SeqCst));
    let mut budget = load_budget();
    let affordable = budget.look(before.resident, now);
    store_budget(budget);
    let watch = at.idle.saturating_sub(stuck) >= policy::WORTH_WATCHING || soft_limit::is_followed();
    if !campaign.squeezed && is_squeezed(campaign, now) {
        campaign.squeezed = at.idle.saturating_sub(stuck) >= policy::WORTH_WATCHING;
    }
    let action = match &campaign.report {
        _ if campaign.squeezed => Action::Release(at.idle.max(1)),
        Some(_) => policy::excess(policy, at),
        None => policy::action(policy, at, stuck),
    };
    let Action::Release(bytes) = action else {
        STUCK.fetch_min(at.idle, Ordering::SeqCst);
        return Turn::Done { watch };
    };
    if !affordable && !campaign.squeezed {
        return Turn::After(budget.wait_ns().clamp(BUSY_WAIT_NS, PRESSURE_EVERY_NS));
    }
    let units = (before.resident.max(before.runs)) >> 16;
    let time = Duration::from_nanos(pace::STEP_NS + units * STEP_NS_OF_UNIT);
    let mut options = ReleaseOptions::new().max_bytes(bytes).deadline(time);
    if campaign.report.is_some() {
        options = options.spare_caches();
    }
    let done = quiet::release(options);
    let after = ebbtide_alloc::usage();
    budget.gave_back(done.released_bytes, after.resident, now);
    store_budget(budget);
    campaign.looked_at = campaign.looked_at.saturating_add(done.looked_at_bytes);
    campaign.report = Some(together(campaign.report, done));
    let seen_all = !done.stopped_early || campaign.looked_at >= after.runs;
    if seen_all || (!campaign.squeezed && policy::excess(policy, pressure_of(after)) == Action::Nothing) {
        STUCK.store(stuck_in(after, !seen_all), Ordering::SeqCst);
        campaign.report.iter_mut().for_each(release_tables_behind);
        let loose = after.idle().saturating_sub(STUCK.load(Ordering::SeqCst));
        return Turn::Done { watch: loose >= policy::WORTH_WATCHING || soft_limit::is_followed() };
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

fn load_budget() -> Budget {
    let [resident, away, debt, at_ns, left_at_ns, walked_ns, paid_at_ns] =
        BUDGET.each_ref().map(|field| field.load(Ordering::SeqCst));
    Budget { resident, away, debt, at_ns, left_at_ns, walked_ns, paid_at_ns }
}

fn store_budget(budget: Budget) {
    let Budget { resident, away, debt, at_ns, left_at_ns, walked_ns, paid_at_ns } = budget;
    let values = [resident, away, debt, at_ns, left_at_ns, walked_ns, paid_at_ns];
    BUDGET.iter().zip(values).for_each(|(field, value)| field.store(value, Ordering::SeqCst));
}

/// What the allocator calls, without locks, when memory leaves its bounds. The call lifts the bound that was passed.
fn on_pressure() {
    os::keeping_errno(|| review(Book::Kept));
}

/// Counts a release by policy as under way, unless another is.
fn enter() -> bool {
    UNDER_WAY.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

fn leave() {
    // In the child of a fork the count begins at zero, whatever the one thread was in.
    let _ = UNDER_WAY.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1));
}

/// A fork copies the settings, which hold on, and books about the parent's past: what it owes, what its looks found in
/// vain, how long it rests, and what threads are doing that the child does not have. The child begins with clean ones and looks at its
/// first slow path. Totals since the start go on, and so does what subscribers were told of the limit.
///
/// Called by the allocator's own handler, while it holds all locks of the heap: a thread that a handler of the program
/// starts in the child waits for these before it can have caused an event or a release. It stores to atomics alone.
fn begin_in_child() {
    UNDER_WAY.store(0, Ordering::SeqCst);
    STUCK.store(0, Ordering::SeqCst);
    store_budget(Budget::default());
    soft_limit::begin_in_child();
    group_limit::begin_in_child();
    background::begin_in_child();
    trace::begin_in_child();
    testing::begin_in_child();
    // SAFETY: the child of a fork begins with one thread, the one that called `fork`; what others are started before this
    // ends wait in their first allocation. Of maps and events the one can only have been in callbacks and allocations:
    // nothing else of them calls what could fork.
    unsafe {
        events::after_fork();
        ebbtide_map::internal::after_fork();
    }
    ebbtide_alloc::bound_idle(0..=0);
    ebbtide_alloc::bound_resident(0..=u64::MAX);
}

/// Tells the allocator what the policy and the limit in force want. Threads may do this at the same time, so each repeats
/// until it sees that the policy and the limit are still those it wrote for: the last to write then wrote for the last
/// ones.
pub(crate) fn settle() {
    loop {
        let (word, limit) = (POLICY.load(Ordering::SeqCst), soft_limit::current());
        let policy = decode(word);
        let mode = if policy.keeps_retired() { Retire::Keep } else { Retire::Release };
        ebbtide_alloc::set_retire_mode(mode);
        let usage = ebbtide_alloc::usage();
        let (total, idle) = soft_limit::bounds(usage);
        let stuck = STUCK.load(Ordering::SeqCst);
        let (low, mut high) = policy::bounds(policy, usage.handed, stuck).into_inner();
        if wants_background() {
            // The first idle memory starts the thread; one that is at work will see what comes.
            let unwatched = background::is_absent().then(|| stuck.saturating_add(policy::WORTH_WATCHING));
            high = if background::is_busy() { policy::NEVER } else { high.min(unwatched.unwrap_or(high)) };
        }
        ebbtide_alloc::bound_idle(low..=high.min(idle));
        ebbtide_alloc::bound_resident(total);
        if POLICY.load(Ordering::SeqCst) == word && soft_limit::current() == limit {
            return;
        }
    }
}

fn pressure() -> Pressure {
    pressure_of(ebbtide_alloc::usage())
}

fn pressure_of(usage: Usage) -> Pressure {
    Pressure { in_use: usage.handed, idle: usage.idle() }
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
