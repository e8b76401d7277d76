//! The memory limit in force: holds it, follows the control group's, and carries out what [`limit`](crate::limit) decides.
//!
//! Atomics only, no lock: who acts has [entered](crate::governor) as the only one, but for [`assist`].

use crate::cgroup::{self, Files, Path, Unknown};
use crate::limit::{self, Crossing, Limiter, Standing};
use crate::line::Line;
use crate::{os, trace};
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use ebbtide_alloc::{ReleaseOptions, ReleaseReport, Usage};

// All orderings are SeqCst, as in the governor.
static LIMIT: AtomicU64 = AtomicU64::new(limit::NONE);
/// The share of the control group's limit that is followed, in millionths; 0: the limit stays as it was set.
static SHARE: AtomicU32 = AtomicU32::new(0);
static READ_AT_NS: AtomicU64 = AtomicU64::new(0);
/// The fields of the [`Limiter`].
static LIMITER: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
static COMPLAINED: AtomicBool = AtomicBool::new(false);

/// A limit that is followed is read again after so long.
const READ_EVERY_NS: u64 = 2_000_000_000;
/// And, without a thread in the background, when memory has grown by so much.
const READ_EVERY_BYTES: u64 = 4 << 20;

/// The limit in bytes.
pub(crate) fn current() -> Option<u64> {
    Some(LIMIT.load(Ordering::SeqCst)).filter(|limit| *limit != limit::NONE)
}

/// Puts a limit in force and returns the one before. The caller has the heap reviewed.
pub(crate) fn set(limit: Option<u64>) -> Option<u64> {
    SHARE.store(0, Ordering::SeqCst);
    replace(limit.unwrap_or(limit::NONE))
}

fn replace(limit: u64) -> Option<u64> {
    let before = LIMIT.swap(limit, Ordering::SeqCst);
    if before != limit {
        store(Limiter::default());
    }
    Some(before).filter(|before| *before != limit::NONE)
}

/// Puts a share of the control group's limit, in millionths, in force, and follows it. The caller has the heap reviewed.
pub(crate) fn follow(share: u32) -> Option<u64> {
    follow_in(&Kernel, share, os::monotonic_ns())
}

fn follow_in(files: &impl Files, share: u32, now_ns: u64) -> Option<u64> {
    SHARE.store(share, Ordering::SeqCst);
    READ_AT_NS.store(now_ns, Ordering::SeqCst);
    replace(share_in(files, share).unwrap_or(limit::NONE));
    current()
}

/// A share of the control group's limit, in millionths.
pub(crate) fn of_cgroup(share: u32) -> Option<u64> {
    share_in(&Kernel, share)
}

fn share_in(files: &impl Files, share: u32) -> Option<u64> {
    match cgroup::memory_limit(files) {
        Ok(limit) => {
            let part = u128::from(limit?) * u128::from(share) / 1_000_000;
            u64::try_from(part).ok()
        }
        Err(unknown) => {
            complain(unknown);
            None
        }
    }
}

fn complain(unknown: Unknown) {
    if !COMPLAINED.swap(true, Ordering::SeqCst) {
        Line::new(format_args!("ebbtide: {unknown}; no limit is taken from there")).emit();
    }
}

/// In the child of a fork: the limit stays, and one that is followed is read again when the heap is reviewed next, since
/// another thread may have been about to. What attempts came to is forgotten; on which side of the limit memory was last told to
/// be is not, so that subscribers hear of the next crossing.
pub(crate) fn begin_in_child() {
    READ_AT_NS.store(0, Ordering::SeqCst);
    store(Limiter { above: load().above, ..Limiter::default() });
}

/// Reads a limit that is followed again, if that is due.
pub(crate) fn refresh(now_ns: u64) {
    refresh_in(&Kernel, now_ns);
}

fn refresh_in(files: &impl Files, now_ns: u64) {
    let share = SHARE.load(Ordering::SeqCst);
    let read_at = READ_AT_NS.load(Ordering::SeqCst);
    // A clock that went back makes it due.
    if share == 0 || now_ns.checked_sub(read_at).is_some_and(|age| age < READ_EVERY_NS) {
        return;
    }
    READ_AT_NS.store(now_ns, Ordering::SeqCst);
    let new = share_in(files, share).unwrap_or(limit::NONE);
    let old = LIMIT.load(Ordering::SeqCst);
    // Whoever set another limit meanwhile has the last word.
    let same = SHARE.load(Ordering::SeqCst) == share;
    if same && new != old && LIMIT.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        store(Limiter::default());
        trace::limit_change(old, new);
    }
}

/// Whether a control group's limit is followed.
pub(crate) fn is_followed() -> bool {
    SHARE.load(Ordering::SeqCst) != 0
}

/// What the limit did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) report: Option<ReleaseReport>,
    pub(crate) crossing: Option<(Crossing, Standing)>,
}

/// Does the release that the limit demands now, if any. The caller has entered, and tells of it when it has left.
pub(crate) fn keep() -> Kept {
    let before = standing();
    if before.limit == limit::NONE {
        return Kept::default();
    }
    let start = os::monotonic_ns();
    let mut limiter = load();
    let report = limiter.wanted(before, start).map(|wanted| {
        let report = ebbtide_alloc::release(options(before, wanted));
        let now = os::monotonic_ns();
        limiter.tried(wanted, before, standing(), now.saturating_sub(start), now);
        report
    });
    let after = standing();
    let crossing = limiter.crossing(after);
    store(limiter);
    Kept { report, crossing: crossing.map(|crossing| (crossing, after)) }
}

/// For a thread that finds another at work on a release: gives back what it has just taken itself, if memory is above
/// the limit and that can help.
pub(crate) fn assist() {
    let at = standing();
    if at.limit != limit::NONE && at.total > at.limit && at.idle >= at.total - at.limit {
        let wanted = (at.total - at.limit).saturating_add(limit::step(at.limit));
        ebbtide_alloc::release(ReleaseOptions::new().max_bytes(wanted).spare_caches());
    }
}

fn options(at: Standing, wanted: u64) -> ReleaseOptions {
    let options = ReleaseOptions::new().max_bytes(wanted);
    // Slots in the caches of busy threads are soon fetched again: they are the last to go.
    if at.total > at.limit { options } else { options.spare_caches() }
}

/// The bounds to set: of all resident memory, from where on one thread looks to where all do, and of idle memory.
pub(crate) fn bounds(usage: Usage) -> (RangeInclusive<u64>, u64) {
    let at = standing_of(usage);
    let mut total = Limiter::total_bound(at);
    if is_followed() {
        total = total.min(at.total.saturating_add((at.total / 16).max(READ_EVERY_BYTES)));
    }
    (total..=Limiter::hard_bound(at).max(total), load().idle_bound(at))
}

fn standing() -> Standing {
    standing_of(ebbtide_alloc::usage())
}

fn standing_of(usage: Usage) -> Standing {
    let limit = LIMIT.load(Ordering::SeqCst);
    Standing { limit, total: usage.total(), idle: usage.idle(), sure: usage.free_runs }
}

fn load() -> Limiter {
    let [stuck, share_ns, rest_ns, fails, above] =
        LIMITER.each_ref().map(|field| field.load(Ordering::SeqCst));
    Limiter { stuck, share_ns, rest_ns, fails, above: above != 0 }
}

fn store(limiter: Limiter) {
    let Limiter { stuck, share_ns, rest_ns, fails, above } = limiter;
    let values = [stuck, share_ns, rest_ns, fails, u64::from(above)];
    LIMITER.iter().zip(values).for_each(|(field, value)| field.store(value, Ordering::SeqCst));
}

/// The files of the running kernel.
struct Kernel;

impl Files for Kernel {
    fn each_line(&self, path: &Path, line: &mut dyn FnMut(&[u8])) -> bool {
        os::each_line(path.as_c_str(), line)
    }
}

/// The share of the last ten seconds in which some task waited for memory, in hundredths of a percent. `None` where the
/// kernel does not measure it.
pub(crate) fn memory_pressure() -> Option<u32> {
    let path = cgroup::pressure_file(&Kernel)?;
    let mut pressure = None;
    Kernel.each_line(&path, &mut |line| pressure = pressure.or_else(|| cgroup::parse_pressure(line)));
    if pressure.is_none() && !COMPLAINED.swap(true, Ordering::SeqCst) {
        Line::new(format_args!(
            "ebbtide: {} has no line such as \"some avg10=0.00\"; memory pressure is not watched",
            path.as_bytes().escape_ascii()
        ))
        .emit();
    }
    pressure
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::tests::Tree;

    const SECOND: u64 = 1_000_000_000;

    fn group_of(content: &str) -> Tree {
        Tree::two("/a", "/").with("/sys/fs/cgroup/a/memory.max", content)
    }

    /// One test: the limit is the process's.
    #[test]
    fn a_limit_that_is_followed_changes_with_its_file() {
        assert_eq!(follow_in(&group_of("1000000\n"), 900_000, SECOND), Some(900_000));
        refresh_in(&group_of("500000\n"), 2 * SECOND);
        assert_eq!(current(), Some(900_000), "not before two seconds have gone by");
        refresh_in(&group_of("500000\n"), 3 * SECOND);
        assert_eq!(current(), Some(450_000));
        refresh_in(&group_of("max\n"), 6 * SECOND);
        assert_eq!(current(), None);
        refresh_in(&group_of("2000000\n"), SECOND);
        assert_eq!(current(), Some(1_800_000), "a clock that goes back makes it due");
        refresh_in(&group_of("what?\n"), 9 * SECOND);
        assert_eq!(current(), None, "what cannot be read is no limit");
        assert_eq!(set(Some(77)), None);
        refresh_in(&group_of("500000\n"), 20 * SECOND);
        assert_eq!(set(None), Some(77), "one that was set stays");
        assert_eq!(follow_in(&group_of("18446744073709551615\n"), 1_000_000, SECOND), None);
        set(None);
    }
}
