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
//! The default is `percent:10`. Two environment variables are read once, before `main`:
//!
//! | variable | value | default |
//! |---|---|---|
//! | `EBBTIDE_POLICY` | `off`, `percent:N`, `background:N` | `percent:10` |
//! | `EBBTIDE_TRACE` | list of `release`, `map`, `limit`, `all` | empty |
//!
//! A value that cannot be read is one line on stderr, and the default holds. Code overrides the environment. Of maps
//! without a name, `map` shows only changes long enough to be timed.
//!
//! # Invariants and locks
//! This layer has no locks: its state is a few atomics, since policy runs on threads that are freeing memory. Its
//! start-up, its hook and its trace lines neither allocate nor panic.

mod activation;
mod budget;
mod environment;
mod events;
mod global;
mod governor;
mod init;
mod line;
mod os;
mod policy;
pub mod testing;
mod trace;

pub use ebbtide_alloc::{BlockReason, Blocked, BlockedList, MemStats, ReleaseOptions, ReleaseReport};
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
    ebbtide_alloc::mem_stats()
}

/// The numbers of every named map that is alive, and one row without a name for all other maps together.
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
