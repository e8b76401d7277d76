//! Activation: whether ebbtide is the program's global allocator, and one line on stderr if the environment has settings
//! for it and it is not.
//!
//! Before `main` only the variables are looked at, since finding out takes an allocation. That comes with the first call
//! of this crate's functions or the first change of a map, whichever is first. No lock: one atomic.

use crate::kernel::line::Line;
use crate::{governor, kernel};
use core::ffi::CStr;
use core::sync::atomic::{AtomicU8, Ordering};
use ebbtide_map::MapEvent;

/// All that a user may have set with the expectation that something happens.
const VARIABLES: [&CStr; 5] =
    [c"EBBTIDE_POLICY", c"EBBTIDE_MEMORY_LIMIT", c"EBBTIDE_TRACE", c"EBBTIDE_PROFILE", c"EBBTIDE_TRACEBACK"];

/// Nothing is set, or it was looked into.
const SETTLED: u8 = 0;
/// One more than the index of a variable that is set. Relaxed: a number for itself; a swap says who looks into it.
static SET: AtomicU8 = AtomicU8::new(SETTLED);

/// Looks for variables. Called once, perhaps before `main`.
pub(super) fn begin() {
    let is_set =
        |name: &CStr| kernel::with_variable(name, |value| value.is_some_and(|value| !value.is_empty()));
    let first = VARIABLES.iter().zip(1..).find(|(name, _)| is_set(name));
    if let Some((_, number)) = first {
        SET.store(number, Ordering::Relaxed);
        // A program may use nothing of this crate but its maps.
        static OBSERVER: fn(&MapEvent<'_>) = |_| check();
        ebbtide_map::internal::observe(OBSERVER);
    }
}

/// Says so, once, if the environment has settings for an allocator that this program does not use. One load if not.
#[inline]
pub(super) fn check() {
    if SET.load(Ordering::Relaxed) != SETTLED {
        look();
    }
}

#[cold]
fn look() {
    let number = SET.swap(SETTLED, Ordering::Relaxed);
    let Some(name) = usize::from(number).checked_sub(1).and_then(|at| VARIABLES.get(at)) else { return };
    if !governor::is_active() {
        Line::new(format_args!(
            "ebbtide: {} is set, but ebbtide is not this program's global allocator, so the environment reaches its \
             maps alone; it takes: #[global_allocator] static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();",
            name.to_str().unwrap_or_default()
        ))
        .emit();
    }
}
