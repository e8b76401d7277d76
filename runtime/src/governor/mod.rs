//! The governor: carries out what [`policy`](crate::policy) decides.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | what the program and the allocator ask of the governor |
//! | `in_force.rs`, `books.rs` | the policy in force; releases under way, what is stuck, the budget |
//! | `settle.rs` | the allocator's bounds |
//! | `excess.rs`, `campaign.rs` | a release by policy: at once, and in steps |
//! | `soft_limit.rs` | the limit in force: follows the control group, carries out what it demands |
//! | `background.rs`, `thread.rs` | the background thread: what it does; started, woken, ended |
//! | `quiet.rs` | releases that open no file |
//! | `tell.rs` | the events of releases and crossings |
//!
//! Invariants: after every change, [`settle`] leaves the allocator's retire mode and bounds as the policy and the limit in
//! force want them; and a release by policy never runs inside, or waits for, another release. Atomics only, no lock:
//! [`on_pressure`] runs on a thread that is freeing or allocating memory.

mod background;
mod books;
mod campaign;
mod excess;
mod in_force;
mod quiet;
mod settle;
pub(crate) mod soft_limit;
mod tell;
mod thread;

pub(crate) use in_force::current;

use crate::events::ReleaseCause;
use crate::events::trace::{self, Topics};
use crate::kernel;
use crate::kernel::group_limit::{self, Access};
use crate::policy::goal::{self, Action};
use crate::policy::{LimitError, MemoryLimit, Policy};
use ebbtide_alloc::{MemStats, ReleaseOptions, ReleaseReport};
use excess::{Book, pressure_of};
use settle::settle;

/// Puts the environment's policy and limit in force, unless code named a policy already. Called once, when it is known what
/// is traced.
pub(crate) fn begin(from_environment: Policy, limit: MemoryLimit) {
    if trace::is_on(Topics::RELEASE) {
        quiet::begin();
    }
    ebbtide_alloc::set_pressure_hook(on_pressure);
    in_force::begin(from_environment);
    // What the environment names is a limit: it was read as one.
    let _ = put_limit(limit);
    look_at_files();
    settle();
}

/// Puts `policy` in force, does what it asks for now, and returns the one before.
pub(crate) fn set(policy: Policy) -> Policy {
    let before = in_force::replace(policy);
    thread::policy_changed();
    look_at_files();
    settle();
    // A new policy begins with a clean book: what leaves by this call, the program asked for.
    review(Book::New);
    before
}

/// Puts `limit` in force, does what it asks for now, and returns the bytes of the one before.
pub(crate) fn set_limit(limit: MemoryLimit) -> Result<Option<u64>, LimitError> {
    let before = put_limit(limit)?;
    settle();
    review(Book::Kept);
    Ok(before)
}

fn put_limit(limit: MemoryLimit) -> Result<Option<u64>, LimitError> {
    Ok(match limit {
        MemoryLimit::None => soft_limit::set(None),
        MemoryLimit::Bytes(bytes) => soft_limit::set(Some(bytes)),
        MemoryLimit::CgroupShare(share) => {
            let share = MemoryLimit::millionths(share)?;
            let before = soft_limit::current();
            soft_limit::follow(share);
            before
        }
    })
}

/// For calls that the program makes itself: files may be opened here that are only read again elsewhere. Returns whether
/// that has changed the limit.
fn look_at_files() -> bool {
    quiet::reopen();
    if in_force::wants_background() {
        group_limit::watch_pressure();
    }
    soft_limit::refresh(Access::Open)
}

/// A release that the program asked for. It waits for one that is under way.
pub(crate) fn release_as_asked(options: ReleaseOptions) -> ReleaseReport {
    look_at_files();
    books::join();
    let report = ebbtide_alloc::release(options);
    books::leave();
    settle();
    tell::release(&report, ReleaseCause::Forced);
    report
}

/// Where the memory of the heap is, with the limit in force.
pub(crate) fn mem_stats() -> MemStats {
    if look_at_files() {
        settle();
    }
    let mut stats = ebbtide_alloc::mem_stats();
    stats.limit = soft_limit::current();
    stats
}

/// Whether an object that the program allocates is in the heap that is governed here.
pub(crate) fn is_active() -> bool {
    // Both black boxes are needed: an object that nobody looks at may be optimized out of the heap.
    let probe = core::hint::black_box(Box::new(0_u64));
    ebbtide_alloc::owns(core::hint::black_box(&raw const *probe).cast())
}

/// Compares the heap with the policy and the limit in force, and gives back what is too much, or has that done. Nothing
/// happens while a release is under way: who runs it settles the bounds afterwards.
fn review(book: Book) {
    if !books::enter() {
        return soft_limit::assist();
    }
    soft_limit::refresh(Access::Held);
    let kept = soft_limit::keep();
    let by_policy = if book == Book::Kept && is_done_elsewhere() { None } else { excess::give_back(book) };
    books::leave();
    settle();
    tell::kept(&kept);
    if let Some(report) = &by_policy {
        tell::release(report, ReleaseCause::Policy);
    }
}

/// Whether the background thread does what the policy wants, if anything. It is told here.
fn is_done_elsewhere() -> bool {
    let policy = current();
    if !in_force::wants_background() {
        return false;
    }
    let (at, stuck) = (pressure_of(ebbtide_alloc::usage()), books::stuck());
    let start = thread::is_absent() && at.idle >= goal::WORTH_WATCHING;
    if start || goal::action(policy, at, stuck) != Action::Nothing {
        return thread::ring(background::run);
    }
    books::stuck_is_at_most(at.idle);
    true
}

/// What the allocator calls, without locks, when memory leaves its bounds. The call lifts the bound that was passed.
fn on_pressure() {
    kernel::keeping_errno(|| review(Book::Kept));
}

/// A fork copies the settings, which hold on, and books about the parent's past: what it owes, what its looks found in
/// vain, how long it rests, and what threads are doing that the child does not have. The child begins with clean books and
/// looks at its first slow path. Totals since the start stay, and so does the side of the limit that subscribers know.
/// Stores to atomics only.
pub(crate) fn begin_in_child() {
    books::begin_in_child();
    soft_limit::begin_in_child();
    group_limit::begin_in_child();
    thread::begin_in_child();
    quiet::begin_in_child(trace::is_on(Topics::RELEASE));
    ebbtide_alloc::bound_idle(0..=0);
    ebbtide_alloc::bound_resident(0..=u64::MAX);
}
