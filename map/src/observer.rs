//! [`set_observer`]: a function that hears of each change of generation, for traces.
//!
//! Locks: a read-write lock around the function pointer, never held while the function runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::pacing::ChangeKind;

type Observer = fn(&MapEvent<'_>);

static OBSERVER: RwLock<Option<Observer>> = RwLock::new(None);
/// Whether there is one: lets small maps pass without the lock.
static OBSERVED: AtomicBool = AtomicBool::new(false);

/// A map went over to another generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapEvent<'a> {
    /// Name of the map, empty if it has none.
    pub name: &'a str,
    /// What kind of change.
    pub kind: ChangeKind,
    /// Buckets before.
    pub old_buckets: u64,
    /// Buckets after.
    pub new_buckets: u64,
    /// Buckets evacuated: all of the old ones.
    pub evacuated_buckets: u64,
    /// Entries that these held when they were evacuated.
    pub evacuated_entries: u64,
    /// Nanoseconds spent on it.
    pub elapsed_ns: u64,
    /// Operations over which it was spread.
    pub writes: u64,
    /// The longest that one of them worked on it, in nanoseconds.
    pub longest_ns: u64,
    /// Bytes of the old generation.
    pub retired_bytes: u64,
}

/// Sets the function that is called at the end of each change of generation, in the thread that ended it, while that
/// thread has the map borrowed. It replaces the one before.
///
/// # Examples
/// ```
/// ebbtide_map::set_observer(|event| println!("{} -> {}", event.old_buckets, event.new_buckets));
/// let map: ebbtide_map::HashMap<u64, u64> = (0..1000).map(|i| (i, i)).collect();
/// # assert_eq!(map.len(), 1000);
/// ```
pub fn set_observer(observer: fn(&MapEvent<'_>)) {
    *OBSERVER.write().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    // Release: who sees the flag finds the function. (The lock orders it as well.)
    OBSERVED.store(true, Ordering::Release);
}

/// Whether anybody listens.
pub(crate) fn is_observed() -> bool {
    // Relaxed: only a hint; the lock orders the function.
    OBSERVED.load(Ordering::Relaxed)
}

pub(crate) fn notify(event: &MapEvent<'_>) {
    let observer = *OBSERVER.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(observer) = observer {
        observer(event);
    }
}
