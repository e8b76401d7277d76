//! [`set_observer`]: a function that hears of each change of generation, for traces.
//!
//! No lock: the function pointer is one atomic, so that the child of a fork may set it whatever other threads did.

#![allow(unsafe_code, reason = "a function pointer kept in an atomic")]

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::pacing::ChangeKind;

type Observer = fn(&MapEvent<'_>);

/// An [`Observer`], or null.
static OBSERVER: AtomicPtr<()> = AtomicPtr::new(null_mut());

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
    // Release: what the function relies on was set up before.
    OBSERVER.store(observer as *mut (), Ordering::Release);
}

/// Whether anybody listens.
pub(crate) fn is_observed() -> bool {
    // Relaxed: only a hint; `notify` acquires.
    !OBSERVER.load(Ordering::Relaxed).is_null()
}

pub(crate) fn notify(event: &MapEvent<'_>) {
    // Acquire: pairs with `set_observer`.
    let observer = OBSERVER.load(Ordering::Acquire);
    if !observer.is_null() {
        // SAFETY: what is not null was stored by `set_observer` from an `Observer`.
        let observer = unsafe { core::mem::transmute::<*mut (), Observer>(observer) };
        observer(event);
    }
}
