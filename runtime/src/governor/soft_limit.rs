//! The memory limit in force: holds it, follows the control group's ([`group_limit`]), and carries out
//! what [`limit`] decides.
//!
//! Who acts has [entered](super::books::enter) as the only one, but for [`assist`].
//!
//! Lock: the [`Guard`] of the files. Whoever follows the group, looks at it again or ends that puts the limit in force with
//! that in hand, so that no look that has begun before a limit was set replaces it. Only the program's own calls wait for it.

use super::quiet;
use crate::events::trace;
use crate::kernel;
use crate::kernel::cgroup::{self, Files};
use crate::kernel::group_limit::{self, Access, Guard, Kernel};
use crate::policy::MemoryLimit;
use crate::policy::limit::{self, Crossing, Limiter, Rest, Share, Standing};
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use ebbtide_alloc::{ReleaseOptions, ReleaseReport, Usage};

// All orderings are SeqCst, as in the governor.
static LIMIT: AtomicU64 = AtomicU64::new(limit::NONE);
/// The share of the control group's limit that is followed, in millionths; 0: the limit stays as it was set.
static SHARE: AtomicU32 = AtomicU32::new(0);
/// The fields of the [`Limiter`].
static LIMITER: [AtomicU64; 7] = [const { AtomicU64::new(0) }; 7];

/// A limit that is followed is read again when memory has grown by so much.
const READ_EVERY_BYTES: u64 = 4 << 20;

/// The limit in bytes.
pub(crate) fn current() -> Option<u64> {
    Some(LIMIT.load(Ordering::SeqCst)).filter(|limit| *limit != limit::NONE)
}

/// The limit as it was set: in bytes, or as the share that is followed.
pub(crate) fn setting() -> MemoryLimit {
    match SHARE.load(Ordering::SeqCst) {
        0 => current().into(),
        share => MemoryLimit::of_millionths(share),
    }
}

/// Puts a limit in force and returns the one before. The caller has the heap reviewed.
pub(crate) fn set(limit: Option<u64>) -> Option<u64> {
    set_in(&Kernel, limit)
}

fn set_in(files: &impl Files, limit: Option<u64>) -> Option<u64> {
    let limit = limit.unwrap_or(limit::NONE);
    // A look that is under way sees this, and lets go itself if the guard cannot be had.
    if SHARE.swap(0, Ordering::SeqCst) != 0
        && let Some(guard) = Guard::wait()
    {
        // Another thread may have begun to follow while this one waited.
        SHARE.store(0, Ordering::SeqCst);
        group_limit::stop(&guard, files);
        return replace(limit);
    }
    replace(limit)
}

fn replace(limit: u64) -> Option<u64> {
    let before = LIMIT.swap(limit, Ordering::SeqCst);
    if before != limit {
        store(Limiter::default());
    }
    Some(before).filter(|before| *before != limit::NONE)
}

/// Puts a share of the control group's limit, in millionths, in force, and follows it. While that limit is not known, the
/// one in force stays. The caller has the heap reviewed.
pub(crate) fn follow(share: u32) -> Option<u64> {
    follow_in(&Kernel, share, kernel::monotonic_ns())
}

fn follow_in(files: &impl Files, share: u32, now_ns: u64) -> Option<u64> {
    let guard = Guard::wait();
    SHARE.store(share, Ordering::SeqCst);
    // Without the guard the next look finds the limit.
    if let Some(guard) = guard
        && let Some(limit) = group_limit::look(&guard, files, Access::Open, now_ns)
    {
        replace(share_of(limit, share));
    }
    current()
}

/// A share of the control group's limit, in millionths. It follows nothing.
pub(crate) fn of_cgroup(share: u32) -> Option<u64> {
    match cgroup::memory_limit(&Kernel) {
        Ok(limit) => limit.map(|limit| share_of(limit, share)),
        Err(unknown) => {
            group_limit::complain(unknown, limit::NONE);
            None
        }
    }
}

/// A share of a limit, in millionths.
fn share_of(limit: u64, share: u32) -> u64 {
    match limit {
        limit::NONE => limit::NONE,
        bytes => u64::try_from(u128::from(bytes) * u128::from(share) / 1_000_000).unwrap_or(limit::NONE),
    }
}

/// In the child of a fork: the limit stays. What attempts came to is forgotten; on which side of the limit memory was last
/// told to be is not, so that subscribers hear of the next crossing.
pub(crate) fn begin_in_child() {
    store(Limiter { above: load().above, ..Limiter::default() });
}

/// Reads a limit that is followed again, if that is due. Returns whether it has changed.
pub(crate) fn refresh(access: Access) -> bool {
    is_followed() && refresh_in(&Kernel, access, kernel::monotonic_ns())
}

fn refresh_in(files: &impl Files, access: Access, now_ns: u64) -> bool {
    let Some(access) = group_limit::due(files, access, now_ns) else { return false };
    let Some(guard) = Guard::take() else { return false };
    let share = SHARE.load(Ordering::SeqCst);
    if share == 0 {
        return false;
    }
    let old = LIMIT.load(Ordering::SeqCst);
    let new = group_limit::look(&guard, files, access, now_ns).map_or(old, |limit| share_of(limit, share));
    if SHARE.load(Ordering::SeqCst) == 0 {
        // Whoever has set a limit meanwhile has the last word, and no file is wanted any more.
        if access == Access::Open {
            group_limit::stop(&guard, files);
        }
        return false;
    }
    let changed = new != old && LIMIT.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok();
    drop(guard);
    if changed {
        store(Limiter::default());
        trace::limit_change(old, new);
    }
    changed
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

/// Does the release that the limit demands now, if any. The caller has entered, and emits the events when it has left.
pub(crate) fn keep() -> Kept {
    let before = standing();
    if before.limit == limit::NONE {
        return Kept::default();
    }
    let start = kernel::monotonic_ns();
    let mut limiter = load();
    let report = limiter.wanted(before, start).map(|wanted| {
        let report = quiet::release(options(before, wanted));
        let now = kernel::monotonic_ns();
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
        quiet::release(ReleaseOptions::new().max_bytes(wanted).spare_caches());
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
    let [stuck, share, share_at_ns, rest, rest_at_ns, fails, above] =
        LIMITER.each_ref().map(|field| field.load(Ordering::SeqCst));
    let (share, rest) = (Share { taken: share, at_ns: share_at_ns }, Rest { taken: rest, at_ns: rest_at_ns });
    Limiter { stuck, share, rest, fails, above: above != 0 }
}

fn store(limiter: Limiter) {
    let Limiter { stuck, share, rest, fails, above } = limiter;
    let values = [stuck, share.taken, share.at_ns, rest.taken, rest.at_ns, fails, u64::from(above)];
    LIMITER.iter().zip(values).for_each(|(field, value)| field.store(value, Ordering::SeqCst));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cgroup::Path;
    use crate::kernel::cgroup::fake::Tree;

    const SECOND: u64 = 1_000_000_000;

    fn stop(tree: &Tree) {
        group_limit::stop(&Guard::wait().expect("free"), tree);
    }

    fn group_of(content: &str) -> Tree {
        Tree::two("/a", "/").with("/sys/fs/cgroup/a/memory.max", content)
    }

    #[test]
    fn a_limit_that_is_followed_changes_with_its_file() {
        let _alone = group_limit::ALONE.lock();
        let tree = group_of("1000000\n");
        let refresh = |content: &str, now_ns| {
            tree.set("/sys/fs/cgroup/a/memory.max", content);
            refresh_in(&tree, Access::Held, now_ns)
        };
        assert_eq!(follow_in(&tree, 900_000, SECOND), Some(900_000));
        assert!(!refresh("500000\n", SECOND + 1), "not at once");
        assert!(refresh("500000\n", 2 * SECOND));
        assert_eq!(current(), Some(450_000));
        assert!(refresh("max\n", 3 * SECOND));
        assert_eq!(current(), None);
        assert!(refresh("2000000\n", SECOND), "a clock that goes back makes it due");
        assert!(!refresh("what?\n", 4 * SECOND));
        assert_eq!(current(), Some(1_800_000), "what cannot be read keeps the last limit");
        tree.locked.set(true);
        assert!(!refresh("500000\n", 5 * SECOND));
        assert_eq!(current(), Some(1_800_000), "locked in");
        tree.locked.set(false);
        assert!(refresh("500000\n", 5 * SECOND));
        SHARE.store(0, Ordering::SeqCst);
        assert_eq!(set(Some(77)), Some(450_000));
        assert!(!refresh("600000\n", 20 * SECOND));
        assert_eq!(set(None), Some(77), "one that was set stays");
        stop(&tree);
        let unreadable = group_of("1000\n");
        unreadable.refuse("/proc/self/cgroup", libc::EMFILE);
        assert_eq!(follow_in(&unreadable, 1_000_000, SECOND), None, "refused from the start");
        assert!(!refresh_in(&unreadable, Access::Held, 3 * SECOND));
        unreadable.refuse("/proc/self/cgroup", 0);
        assert!(refresh_in(&unreadable, Access::Open, 4 * SECOND), "and tried again");
        assert_eq!(current(), Some(1000));
        stop(&unreadable);
        assert_eq!(follow_in(&group_of("18446744073709551615\n"), 1_000_000, SECOND), None);
        SHARE.store(0, Ordering::SeqCst);
        stop(&tree);
    }

    #[test]
    fn a_limit_in_force_outlives_ignorance() {
        let _alone = group_limit::ALONE.lock();
        let tree = group_of("1000\n");
        tree.refuse("/proc/self/cgroup", libc::EMFILE);
        set(Some(1 << 30));
        assert_eq!(follow_in(&tree, 900_000, SECOND), Some(1 << 30), "no descriptors left");
        assert!(!refresh_in(&tree, Access::Held, 2 * SECOND));
        assert_eq!(current(), Some(1 << 30));
        tree.refuse("/proc/self/cgroup", 0);
        assert!(refresh_in(&tree, Access::Open, 3 * SECOND));
        assert_eq!(current(), Some(900), "what is known then counts");
        // As another thread, or the child of a fork, sees it while the first look is under way.
        stop(&tree);
        assert!(!refresh_in(&tree, Access::Held, 4 * SECOND));
        assert_eq!(current(), Some(900));
        tree.set("/sys/fs/cgroup/a/memory.max", "max\n");
        assert_eq!(follow_in(&tree, 900_000, 5 * SECOND), None, "max means none");
        SHARE.store(0, Ordering::SeqCst);
        stop(&tree);
    }

    /// A tree in which something happens just before it is read, or during that.
    struct Meanwhile<'t> {
        tree: &'t Tree,
        before: &'t dyn Fn(),
        amid: &'t dyn Fn(),
    }

    impl Files for Meanwhile<'_> {
        fn may_read(&self) -> bool {
            (self.before)();
            self.tree.may_read()
        }

        fn each_line(&self, path: &Path, line: &mut dyn FnMut(&[u8])) -> Result<(), i32> {
            (self.amid)();
            self.tree.each_line(path, line)
        }

        fn hold(&self, slot: usize, path: &Path) -> Result<(), i32> {
            self.tree.hold(slot, path)
        }

        fn read_held(&self, slot: usize, buffer: &mut [u8]) -> Result<usize, i32> {
            self.tree.read_held(slot, buffer)
        }

        fn let_go(&self, slot: usize) {
            self.tree.let_go(slot);
        }
    }

    #[test]
    fn a_limit_that_is_pinned_while_a_look_begins_stays_and_no_file_is_held() {
        let _alone = group_limit::ALONE.lock();
        let tree = group_of("1000\n");
        for access in [Access::Open, Access::Held] {
            tree.set("/sys/fs/cgroup/a/memory.max", "1000\n");
            assert_eq!(follow_in(&tree, 1_000_000, SECOND), Some(1000));
            tree.set("/sys/fs/cgroup/a/memory.max", "900\n");
            let pin = || assert_eq!(set_in(&tree, current()), Some(1000));
            let files = Meanwhile { tree: &tree, before: &pin, amid: &|| {} };
            assert!(!refresh_in(&files, access, 9 * SECOND));
            assert_eq!((current(), tree.held().len()), (Some(1000), 0), "{access:?}");
        }
        set_in(&tree, None);
    }

    #[test]
    fn a_limit_that_is_pinned_amid_a_look_stays() {
        let _alone = group_limit::ALONE.lock();
        let tree = group_of("1000\n");
        assert_eq!(follow_in(&tree, 1_000_000, SECOND), Some(1000));
        tree.set("/sys/fs/cgroup/a/memory.max", "900\n");
        std::thread::scope(|scope| {
            // The other thread waits until this look is over: it holds the files.
            let begun = core::cell::Cell::new(false);
            let pin = || {
                if !begun.replace(true) {
                    scope.spawn(|| set_in(&Tree::default(), Some(1000)));
                    while is_followed() {
                        std::thread::yield_now();
                    }
                }
            };
            let files = Meanwhile { tree: &tree, before: &|| {}, amid: &pin };
            assert!(!refresh_in(&files, Access::Open, 9 * SECOND), "it is followed no more");
            assert!(tree.held().is_empty(), "who finds that lets go");
        });
        assert_eq!(current(), Some(1000));
        set_in(&tree, None);
    }

    #[test]
    fn a_share_of_none_is_none() {
        assert_eq!(share_of(limit::NONE, 1), limit::NONE);
        assert_eq!(share_of(limit::NONE - 1, 1_000_000), limit::NONE - 1);
        assert_eq!(share_of(1_000_000, 900_000), 900_000);
        assert_eq!(share_of(0, 900_000), 0);
    }
}
