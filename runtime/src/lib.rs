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
//! events to the `tracing` crate, and the feature `serde` makes them records. [`usage`] tells totals without a walk.
//! [`flush_thread_cache`] helps a thread that is about to sleep, and [`testing`] has assertions for the
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
//!   where the interrupted code holds the lock of the size class or one of the page heap, and also in a program that
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

mod allocator;
mod events;
mod governor;
mod kernel;
mod memory_limit;
mod policy;
mod start;
pub mod testing;

pub use allocator::Ebbtide;
pub use ebbtide_alloc::{
    BlockReason, Blocked, BlockedList, KernelSupport, MemStats, ReleaseOptions, ReleaseReport, Usage,
    enter_sandbox,
};
pub use ebbtide_map::{ChangeKind, HashMap, HashSet, MapEvent, MapStats, hash_map, hash_set, std_api};
pub use events::{Event, LimitCrossing, ReleaseCause, Subscription, dropped_events};
pub use memory_limit::{
    follow_cgroup_limit, limit_from_cgroup, memory_limit, memory_limit_setting, set_memory_limit,
};
pub use policy::{LimitError, MemoryLimit, ParseLimitError, ParsePolicyError, Policy};

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
    start::ensure();
    governor::release_as_asked(options)
}

/// Gives the free memory that this thread's cache holds back to the heap, where other threads and releases can use it: for a
/// thread that is about to sleep. A pool of a hundred threads may hold tens of MiB in such caches; a release reaches
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
/// ebbtide::flush_thread_cache();
/// std::thread::park_timeout(std::time::Duration::from_millis(1));
/// ```
/// The workers of a tokio runtime call it whenever they run out of tasks (`examples/tokio.rs` shows the effect):
/// ```ignore
/// tokio::runtime::Builder::new_multi_thread().on_thread_park(ebbtide::flush_thread_cache).build()
/// ```
pub fn flush_thread_cache() {
    start::ensure();
    ebbtide_alloc::flush_thread_cache();
}

/// The former name of [`flush_thread_cache`], which says what it does.
#[deprecated(since = "0.1.0", note = "it is called `flush_thread_cache` now")]
pub fn idle() {
    flush_thread_cache();
}

/// How much memory is handed out, resident and idle, from running totals: O(1), where [`mem_stats`] walks the heap. For
/// metrics that are read often, and for programs that decide by themselves when to [`release`].
///
/// # Examples
/// ```
/// let usage = ebbtide::usage();
/// if usage.idle() > 64 << 20 {
///     ebbtide::free_os_memory();
/// }
/// assert!(usage.total() >= usage.resident);
/// ```
#[must_use]
pub fn usage() -> Usage {
    start::ensure();
    ebbtide_alloc::usage()
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
    start::ensure();
    governor::mem_stats()
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
    start::ensure();
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
    start::ensure();
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
    start::ensure();
    governor::current()
}

/// Calls `callback` for each [`Event`] from now on: releases, crossings of the soft limit, and maps that went over to
/// another bucket array. There may be any number of callbacks; each lasts as long as its [`Subscription`]. In which
/// order they are called is not defined.
///
/// # Where callbacks run
/// On the thread that caused the event, before it goes on:
/// - a release that the program asked for: on the thread that asked;
/// - a release by policy or limit, and a crossing: on the thread whose free or allocation brought it about, so **inside
///   that call**, or on the background thread, which has a stack of 1 MiB and all signals blocked;
/// - a change of a map: on the thread that wrote to it, which has the map borrowed, and the shard of a concurrent map
///   locked. Unnamed maps have events only for changes that took long enough to be timed (tables above some KiB).
///
/// No lock of ebbtide's allocator is held, so a callback may allocate, free, log, and call any function of this crate.
/// But the *program's* locks may be held: a callback that waits for a lock which some thread holds while it frees memory
/// can wait for ever. Counters, channels and `try_lock` are safe. It may also run while a thread ends, when thread
/// locals are gone, or before `main`. It should be short: the thread waits for it.
///
/// A callback is not called for events that it causes itself, on its own thread: [`dropped_events`] counts these. Only the
/// last crossing of the limit among them is delivered afterwards. A callback may subscribe and
/// unsubscribe, itself included.
///
/// The child of a fork keeps the subscriptions. If the fork was made in a callback, the child's copy of the call goes on,
/// and its thread hears of events again once that returns.
///
/// # The feature `tracing`
/// It emits the same events through the `tracing` crate, target `ebbtide`: `release` (info), `memory is above its limit`
/// (warn) and `memory is below its limit again` (info), `map changed` (debug), with their numbers as fields. All that is
/// said here of callbacks holds for the tracing subscriber: one that frees memory while it holds a lock which it takes again
/// for every event could wait for itself. Under [`Policy::Background`] releases by policy come from a thread of their own.
///
/// # Panics
/// A callback that panics is called no more; one line on stderr says so, and whatever caused the event goes on. (With
/// `panic = "abort"` the process ends, as with every panic.)
///
/// # Complexity
/// Without a subscriber an event costs one load. Nothing is added to allocations and frees.
///
/// # Examples
/// ```
/// use ebbtide::{Event, ReleaseCause};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// static BY_POLICY: AtomicU64 = AtomicU64::new(0);
///
/// let subscription = ebbtide::on_event(|event| match event {
///     Event::Release { cause: ReleaseCause::Policy, report, .. } => {
///         BY_POLICY.fetch_add(report.released_bytes, Ordering::Relaxed);
///     }
///     Event::Map(change) => println!("map {:?}: {:?}", change.name, change.kind),
///     _ => {}
/// });
/// ebbtide::free_os_memory();
/// drop(subscription); // from here on it is called no more
/// ```
pub fn on_event(callback: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Subscription {
    start::ensure();
    events::subscribe(callback)
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
    start::ensure();
    governor::is_active()
}
