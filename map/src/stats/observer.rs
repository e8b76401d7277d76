//! [`observe`]: functions that hear of each change of generation, for the layer above.
//!
//! No lock: each function pointer is one atomic, so that the child of a fork may add one whatever other threads did. They are
//! only added: nobody can unhook another.

#![allow(unsafe_code, reason = "function pointers kept in atomics")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

type Observer = fn(&MapEvent<'_>);

/// [`Observer`]s, then null.
static OBSERVERS: [AtomicPtr<()>; 4] = [const { AtomicPtr::new(null_mut()) }; 4];

/// Changes of generation, by what becomes of the number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// More slots, since the load limit was reached or capacity was reserved.
    Grow,
    /// Fewer slots, since most entries are gone or the user asked.
    Shrink,
    /// As many slots, without the tombstones.
    SameSize,
}

impl ChangeKind {
    /// What a change from so many slots to so many is.
    pub(crate) const fn to(from: usize, to: usize) -> Self {
        if to > from {
            Self::Grow
        } else if to < from {
            Self::Shrink
        } else {
            Self::SameSize
        }
    }
}

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

/// Has `observer` called at the end of each change of generation, in the thread that ended it, while that thread has the
/// map borrowed. It stays for good; adding the same address again changes nothing. A panic of it ends there.
///
/// # Panics
/// With more than four different observers.
pub fn observe(observer: fn(&MapEvent<'_>)) {
    let new = observer as *mut ();
    let is_there = OBSERVERS.iter().any(|slot| {
        // Release: what the function relies on was set up before. Acquire: it may be there already.
        match slot.compare_exchange(null_mut(), new, Ordering::Release, Ordering::Acquire) {
            Ok(_) => true,
            Err(known) => known == new,
        }
    });
    assert!(is_there, "no room for another observer");
}

/// Whether anybody listens.
pub(crate) fn is_observed() -> bool {
    // Relaxed: only a hint; `notify` acquires. The first slot is taken first.
    !OBSERVERS[0].load(Ordering::Relaxed).is_null()
}

/// Tells all observers. It does not panic: the table that calls this may be in the midst of an unwind itself.
pub(crate) fn notify(event: &MapEvent<'_>) {
    for slot in &OBSERVERS {
        // Acquire: pairs with `observe`.
        let observer = slot.load(Ordering::Acquire);
        if observer.is_null() {
            return;
        }
        // SAFETY: what is not null was stored by `observe` from an `Observer`.
        let observer = unsafe { core::mem::transmute::<*mut (), Observer>(observer) };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| observer(event))) {
            // It may panic when it is dropped.
            core::mem::forget(payload);
        }
    }
}
