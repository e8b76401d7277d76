//! The public functions of the soft memory limit. No locks of their own.

use crate::governor::{self, soft_limit};
use crate::start;

/// Sets the soft memory limit in bytes, or none, and returns the previous one. `u64::MAX` is none.
///
/// The limit is on what is resident of the heap and of the allocator's tables: `heap_sys - heap_released +
/// metadata_sys` of [`MemStats`]. From 95 % of it on, allocations that need more pages first give idle ones back, as many
/// as they take, under every policy. Thread stacks, the program's text and mappings of other libraries do not count.
///
/// It is soft: no allocation fails by it. When more is in use than it allows, attempts to get below take 5 % of the time
/// at most while idle memory comes and goes, and ever less when nothing can leave; memory that becomes idle then leaves
/// soon. With `EBBTIDE_TRACE=limit` each crossing is one line. What is above the limit when this is called leaves by
/// this call, if it can.
///
/// # Complexity
/// Without a limit one comparison on the slow paths that take pages. With one, a few loads more.
///
/// # Examples
/// ```
/// let before = ebbtide::set_memory_limit(Some(512 << 20));
/// assert_eq!(ebbtide::memory_limit(), Some(512 << 20));
/// ebbtide::set_memory_limit(before);
/// ```
pub fn set_memory_limit(limit: Option<u64>) -> Option<u64> {
    start::ensure();
    let before = soft_limit::set(limit);
    governor::limit_changed();
    before
}

/// The soft memory limit in bytes, if there is one.
///
/// # Examples
/// ```
/// assert_eq!(ebbtide::mem_stats().limit, ebbtide::memory_limit());
/// ```
#[must_use]
pub fn memory_limit() -> Option<u64> {
    start::ensure();
    soft_limit::current()
}

/// What `ratio` of the memory limit of this process's control group is, in bytes: the least of `memory.max` and
/// `memory.high` (version 2) or `memory.limit_in_bytes` (version 1), of its own group and of all above it. It only
/// looks; [`follow_cgroup_limit`] puts it in force.
///
/// `None` if there is no such limit, if it cannot be read (one line on stderr says so, once), or if `ratio` is not above
/// 0 and at most 1.
///
/// # Examples
/// ```
/// if let Some(limit) = ebbtide::limit_from_cgroup(0.9) {
///     ebbtide::set_memory_limit(Some(limit));
/// }
/// ```
#[must_use]
pub fn limit_from_cgroup(ratio: f64) -> Option<u64> {
    soft_limit::of_cgroup(millionths(ratio)?)
}

/// Has the soft memory limit follow `ratio` of the control group's: as [`limit_from_cgroup`], and read again as memory
/// grows (at most each 20 ms), and every ten seconds under [`Policy::Background`]. Returns the limit that is in force now;
/// [`set_memory_limit`] ends it. `EBBTIDE_MEMORY_LIMIT=cgroup:90%` does the same.
///
/// # What is held open
/// Up to 16 files of limits, those of the nearest groups, so that an allocation that reads them again opens nothing. Their
/// descriptors have numbers from 500 on (where `RLIMIT_NOFILE` allows that) and are closed on `exec`. A program may close
/// them: they are told from files of its own, and opened again by the next call of this one, [`set_policy`],
/// [`free_os_memory`], [`release`] or [`mem_stats`], or by the background thread. The same calls find the group again, at
/// most every two seconds, when the process was moved to another.
///
/// A program that closes descriptors which it did not open should do so while no other thread runs, the background thread of
/// [`Policy::Background`] included, which opens and closes files: a number that it gives to a file of its own at the very
/// moment when a file is closed here may be closed with it.
///
/// # What is not lost
/// A file that cannot be read, for want of descriptors or rights, keeps its last limit. Only a file that says `max` or is not
/// there means that there is none. While nothing is known of the group's limit, the limit in force stays, one that
/// [`set_memory_limit`] has set included, and this call returns it. The files are tried again later, and one line on stderr
/// says why they could not be read. With `EBBTIDE_MEMORY_LIMIT=cgroup:90%` that means no limit until they can be. Where no hierarchy
/// of control groups is mounted, nothing is known either.
/// A process that locks itself in by a filter of system calls (seccomp) after the start keeps the limit that it has: from
/// then on no file is read.
///
/// A `ratio` that is not above 0 and at most 1 changes nothing.
///
/// # Examples
/// ```
/// let limit = ebbtide::follow_cgroup_limit(0.9);
/// assert_eq!(ebbtide::memory_limit(), limit);
/// ```
pub fn follow_cgroup_limit(ratio: f64) -> Option<u64> {
    start::ensure();
    let Some(share) = millionths(ratio) else { return soft_limit::current() };
    let limit = soft_limit::follow(share);
    governor::limit_changed();
    limit
}

fn millionths(ratio: f64) -> Option<u32> {
    let share = (ratio * 1e6).round();
    // Not a number is in no range.
    (1.0..=1e6).contains(&share).then_some(share as u32)
}
