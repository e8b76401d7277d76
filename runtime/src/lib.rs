//! # ebbtide
//!
//! A memory runtime for Rust programs on Linux. Idle memory goes back to the operating system when asked, and the
//! answer says how much left, how much stayed, and why.
//!
//! ```
//! #[global_allocator]
//! static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();
//!
//! let burst: Vec<String> = (0..10_000).map(|n| format!("session {n}")).collect();
//! drop(burst);
//!
//! let report = ebbtide::free_os_memory();
//! println!("{report}");
//! assert!(ebbtide::is_active());
//! ```
//!
//! Three layers stand on each other: `ebbtide-alloc` (the allocator), `ebbtide-map` (hash maps whose bucket arrays
//! shrink and leave) and this crate, which decides *when* memory goes back and shows where it is. It re-exports the
//! public types of both.
//!
//! # When memory goes back
//! [`Policy`] says what happens without being asked; [`free_os_memory`] and [`release`] work under every policy.
//! The default is `percent:10`. Four environment variables are read once, before `main`:
//!
//! | variable | value | default |
//! |---|---|---|
//! | `EBBTIDE_POLICY` | `off`, `percent:N`, `background:N` | `percent:10` |
//! | `EBBTIDE_MEMORY_LIMIT` | bytes as in `512MiB` (or B, KiB, GiB, TiB), `cgroup:90%`, `off` | `off` |
//! | `EBBTIDE_KERNEL` | `plain`: no system call but the basic ones ([`enter_sandbox`]) | empty |
//! | `EBBTIDE_TRACE` | list of `release`, `map`, `limit`, `all` | empty |
//!
//! A value that cannot be read is one line on stderr, and the default holds. Code overrides the environment. Of maps
//! without a name, `map` shows only changes long enough to be timed.
//!
//! # Hearing of it
//! [`on_event`] calls back at releases, crossings of the limit and changes of maps; the feature `tracing` hands the same
//! events to the `tracing` crate. [`idle`] helps a thread that is about to sleep, and [`testing`] has assertions for the
//! tests of programs that care. If a variable above is set and [`Ebbtide`] is not the global allocator, one line on
//! stderr says so at the first call of this crate or the first change of a map.
//!
//! # Sandboxes
//! Files are opened before `main`, by calls of this crate that the program makes itself, and by the background thread unless the
//! process was started under a filter (then it could not tell that there is another one): never inside an allocation, a
//! free, or a release by policy or limit. There, files that are open already may be read again (the
//! control group's limit, if it is followed; what is resident, if releases are traced), and not even that once the process
//! has installed a filter of system calls (seccomp) after its start. Whether it has is asked by `prctl(PR_GET_SECCOMP)`, before
//! any call beyond `mmap`, `munmap`, `mprotect`, `madvise(MADV_DONTNEED)` and `futex`; in a process that had a filter from the
//! start, `no_new_privs` set since counts as another one. A program whose filter kills for that question calls
//! [`enter_sandbox`] first; where such a filter, or one that kills for `clone` or `wait4`, is there before the program begins,
//! `EBBTIDE_KERNEL=plain` in the environment says so.
//!
//! # Signals
//! A signal may come at any time, to any thread, and calls that it interrupts are made again. But allocating, freeing and all
//! calls of this crate are **not async-signal-safe**: a handler must make none of them, as with the allocator of libc. What
//! happens to one that does depends on what it interrupted on its own thread:
//! - the fast path of an allocation or a free of the same size class: a slot may be handed out twice, or be lost. The
//!   path is a few instructions that nothing guards;
//! - a slow path: the handler does not wait for the thread's cache and takes or gives single slots instead. It waits for ever
//!   where the interrupted code holds the lock of the size class or of the page heap, and also in a program that
//!   has had one thread so far, since whoever works beside a cache for the first time waits for all caches; and what the
//!   interrupted code was moving in the cache may be handed out twice, as above;
//! - a release, its own or one by policy or limit: whoever begins another one inside it waits for ever;
//! - a call that follows the control group's limit: [`follow_cgroup_limit`] and [`set_memory_limit`] give up after a second.
//!
//! A handler that leaves by `siglongjmp` leaves locks taken behind it, as above. Handlers of the program never run on the
//! background thread, which blocks all signals.
//!
//! # Forks
//! The child of a `fork` is a full program: policy, limit and subscriptions hold there. The background thread starts anew when it
//! is needed; where the system refuses it a thread, in parent or child, one line says so, the policy works as
//! `percent`, and the next [`set_policy`] asks again. The control group's files stay open and are the child's own group's
//! until a call that may open files finds that it was moved.
//!
//! # Invariants and locks
//! This layer has no locks that anybody waits for in an allocation or a free, one of [`testing`]'s aside: its state is a
//! few atomics, since policy runs on threads that are freeing memory. Its start-up, its hook and its trace lines neither
//! allocate nor panic.

/// The examples of `README.md`, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod activation;
mod background;
mod budget;
mod cgroup;
mod environment;
mod events;
mod global;
mod governor;
mod group_limit;
mod init;
mod limit;
mod line;
mod os;
mod pace;
mod policy;
mod quiet;
mod soft_limit;
pub mod testing;
mod trace;

pub use ebbtide_alloc::{
    BlockReason, Blocked, BlockedList, KernelSupport, MemStats, ReleaseOptions, ReleaseReport, enter_sandbox,
};
pub use ebbtide_map::{ChangeKind, HashMap, HashSet, MapEvent, MapStats, hash_map, hash_set, std_api};
pub use events::{Event, LimitCrossing, ReleaseCause, Subscription, dropped_events, on_event};
pub use global::Ebbtide;
pub use policy::{ParsePolicyError, Policy};

/// Gives every idle page of the heap back to the operating system, and says what that did.
///
/// The counterpart of Go's `debug.FreeOSMemory`. It waits for a release that is already running, then does its own,
/// so that all memory freed before the call is covered. Other threads go on meanwhile.
///
/// # Complexity
/// Linear in the pages of the heap, plus about 0.3 us for each page that leaves.
///
/// # Examples
/// ```
/// let report = ebbtide::free_os_memory();
/// assert!(!report.stopped_early);
/// ```
pub fn free_os_memory() -> ReleaseReport {
    release(ReleaseOptions::new())
}

/// Gives idle pages back within the bounds of `options`: so many bytes at most, or so much time.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// let report = ebbtide::release(ebbtide::ReleaseOptions::new().deadline(Duration::from_millis(2)));
/// println!("{} bytes left", report.released_bytes);
/// ```
pub fn release(options: ReleaseOptions) -> ReleaseReport {
    init::ensure();
    governor::release_as_asked(options)
}

/// Says that this thread is about to sleep: gives the free memory that its cache holds back to the heap, where other
/// threads and releases can use it. A pool of a hundred threads may hold tens of MiB in such caches; a release reaches
/// them too, all but one slot of each size, at the price of a pause of all threads that this call spares.
///
/// What the policy in force thinks too much then leaves. Nothing else leaves by this call.
///
/// # Cost
/// Some nanoseconds for each slot held and about a microsecond in any case, and the same again when the thread goes on and
/// refills its cache. So call it before sleeps of milliseconds, not in a loop that waits for microseconds. A thread
/// that never allocated pays nothing.
///
/// # Examples
/// A map that is between two sizes keeps both its bucket arrays until somebody writes to it. Before a long pause it is
/// finished by hand:
/// ```
/// let mut sessions: ebbtide::HashMap<u64, String> = (0..30_000).map(|id| (id, id.to_string())).collect();
/// for id in 300..30_000 {
///     sessions.remove(&id);
/// }
///
/// while sessions.rehash_step(256) > 0 {} // to the end, 256 buckets at a time
/// assert_eq!(sessions.stats().old_buckets, 0);
/// ebbtide::idle();
/// std::thread::park_timeout(std::time::Duration::from_millis(1));
/// ```
/// The workers of a tokio runtime call it whenever they run out of tasks (`examples/tokio.rs` shows the effect):
/// ```ignore
/// tokio::runtime::Builder::new_multi_thread().on_thread_park(ebbtide::idle).build()
/// ```
pub fn idle() {
    init::ensure();
    ebbtide_alloc::flush_thread_cache();
}

/// Where the memory of the heap is now, in bytes. No thread is stopped for it.
///
/// # Examples
/// ```
/// let stats = ebbtide::mem_stats();
/// assert_eq!(stats.heap_sys, stats.heap_inuse + stats.heap_idle);
/// ```
#[must_use]
pub fn mem_stats() -> MemStats {
    init::ensure();
    if governor::look_at_files() {
        governor::settle();
    }
    let mut stats = ebbtide_alloc::mem_stats();
    stats.limit = soft_limit::current();
    stats
}

/// The numbers of every named map that is alive, and one row without a name for all other maps together.
///
/// Under [`Policy::Off`] what maps leave behind as they grow and shrink stays resident;
/// [`kept_bytes`](MapStats::kept_bytes) shows whose it is, until it is used again or [`free_os_memory`] gives it back.
///
/// O(named maps + heap / 64 KiB), without stopping anybody.
///
/// # Examples
/// ```
/// let mut sessions = ebbtide::HashMap::new().named("sessions");
/// sessions.insert(7, "seven");
/// assert!(ebbtide::map_stats().iter().any(|map| map.name == "sessions" && map.len == 1));
/// ```
#[must_use]
pub fn map_stats() -> Vec<MapStats> {
    init::ensure();
    ebbtide_map::map_stats()
}

/// Puts `policy` in force and returns the previous one. What it asks for is done at once: under
/// [`Policy::Percent`] this call gives back what is above the percentage.
///
/// # Examples
/// ```
/// use ebbtide::Policy;
///
/// let before = ebbtide::set_policy(Policy::Off);
/// assert_eq!(ebbtide::policy(), Policy::Off);
/// ebbtide::set_policy(before);
/// ```
pub fn set_policy(policy: Policy) -> Policy {
    init::ensure();
    governor::set(policy)
}

/// The policy in force.
///
/// # Examples
/// ```
/// println!("{}", ebbtide::policy()); // percent:10, if neither code nor environment said otherwise
/// ```
#[must_use]
pub fn policy() -> Policy {
    init::ensure();
    governor::current()
}

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
    init::ensure();
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
    init::ensure();
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
    init::ensure();
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

/// Whether [`Ebbtide`] really is the global allocator of this program. It allocates one object to find out.
///
/// # Examples
/// ```
/// #[global_allocator]
/// static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();
///
/// assert!(ebbtide::is_active());
/// ```
#[must_use]
pub fn is_active() -> bool {
    init::ensure();
    activation::is_active()
}
