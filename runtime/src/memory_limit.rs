//! The public functions of the soft memory limit. No locks of their own.

use crate::governor::{self, soft_limit};
use crate::policy::{LimitError, MemoryLimit};
use crate::start;

/// Sets the soft memory limit and returns the previous one in bytes, if there was one.
///
/// The limit is a [`MemoryLimit`]: bytes, a share of the control group's, which is then
/// [followed](follow_cgroup_limit), or none. An `Option<u64>` is one in bytes, or none; `u64::MAX` is none, too. What is
/// returned does not tell a share from bytes; [`memory_limit_setting`] does.
///
/// The limit is on what is resident of the heap and of the allocator's tables: `heap_sys - heap_released +
/// metadata_sys` of [`MemStats`](crate::MemStats). From 95 % of it on, allocations that need more pages first give idle
/// ones back, as many as they take, under every policy. Thread stacks, the program's text and mappings of other libraries do
/// not count.
///
/// It is soft: no allocation fails by it. When more is in use than it allows, attempts to get below take 5 % of the time
/// at most while idle memory comes and goes, and ever less when nothing can leave; memory that becomes idle then leaves
/// soon. With `EBBTIDE_TRACE=limit` each crossing is one line. What is above the limit when this is called leaves by
/// this call, if it can.
///
/// # Complexity
/// Without a limit one comparison on the slow paths that take pages. With one, a few loads more.
///
/// # Errors
/// [`LimitError::Share`] for a share that is not above 0 and at most 1. Then nothing has changed.
///
/// # Examples
/// ```
/// use ebbtide::MemoryLimit;
///
/// let before = ebbtide::set_memory_limit(Some(512 << 20))?;
/// assert_eq!(ebbtide::memory_limit(), Some(512 << 20));
///
/// ebbtide::set_memory_limit("1GiB".parse::<MemoryLimit>()?)?;
/// assert_eq!(ebbtide::set_memory_limit(before)?, Some(1 << 30));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn set_memory_limit(limit: impl Into<MemoryLimit>) -> Result<Option<u64>, LimitError> {
    start::ensure();
    governor::set_limit(limit.into())
}

/// The soft memory limit in bytes, if there is one. [`memory_limit_setting`] tells whether it follows the control group's.
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

/// The soft memory limit as it was set: in bytes, as the share of the control group's that is followed, or none. It may be
/// handed to [`set_memory_limit`] again.
///
/// # Examples
/// ```
/// use ebbtide::MemoryLimit;
///
/// let before = ebbtide::memory_limit_setting();
/// ebbtide::follow_cgroup_limit(0.75)?;
/// assert_eq!(ebbtide::memory_limit_setting(), MemoryLimit::CgroupShare(0.75));
/// ebbtide::set_memory_limit(before)?;
/// # Ok::<(), ebbtide::LimitError>(())
/// ```
#[must_use]
pub fn memory_limit_setting() -> MemoryLimit {
    start::ensure();
    soft_limit::setting()
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
///     ebbtide::set_memory_limit(limit)?;
/// }
/// # Ok::<(), ebbtide::LimitError>(())
/// ```
#[must_use]
pub fn limit_from_cgroup(ratio: f64) -> Option<u64> {
    soft_limit::of_cgroup(MemoryLimit::millionths(ratio).ok()?)
}

/// Has the soft memory limit follow `ratio` of the control group's: as [`limit_from_cgroup`], and read again as memory
/// grows (at most each 20 ms), and every ten seconds under [`Policy::Background`](crate::Policy::Background). Returns the
/// limit that is in force now; [`set_memory_limit`] ends it. [`MemoryLimit::CgroupShare`] and `EBBTIDE_MEMORY_LIMIT=cgroup:90%` do the same.
///
/// # What is held open
/// Up to 16 files of limits, those of the nearest groups, so that an allocation that reads them again opens nothing. Their
/// descriptors have numbers from 500 on (where `RLIMIT_NOFILE` allows that) and are closed on `exec`. A program may close
/// them: they are told from files of its own, and opened again by the next call of this one, [`set_policy`](crate::set_policy),
/// [`free_os_memory`](crate::free_os_memory), [`release`](crate::release) or [`mem_stats`](crate::mem_stats), or by the
/// background thread. The same calls find the group again, at most every two seconds, when the process was moved to another.
///
/// A program that closes descriptors which it did not open should do so while no other thread runs, the background thread of
/// [`Policy::Background`](crate::Policy::Background) included, which opens and closes files: a number that it gives to a file of its own at the very
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
/// # Errors
/// [`LimitError::Share`] for a `ratio` that is not above 0 and at most 1. Then nothing has changed.
///
/// # Examples
/// ```
/// let limit = ebbtide::follow_cgroup_limit(0.9)?;
/// assert_eq!(ebbtide::memory_limit(), limit);
/// assert!(ebbtide::follow_cgroup_limit(2.0).is_err());
/// # Ok::<(), ebbtide::LimitError>(())
/// ```
pub fn follow_cgroup_limit(ratio: f64) -> Result<Option<u64>, LimitError> {
    set_memory_limit(MemoryLimit::CgroupShare(ratio))?;
    Ok(soft_limit::current())
}
