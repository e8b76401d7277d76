//! Whether this process has locked itself in since its start: then calls that may be forbidden are not made any more.
//!
//! A filter of system calls (seccomp) may kill for a call that it does not know. The kernel tells whether a process has
//! one, not which calls it forbids, nor whether there are two. A process in a container has one from the start, and what
//! was called before `main` went through it. So this compares with the start: a filter where there was none; and beside one,
//! `no_new_privs`, which an ordinary process must set before it installs its own.
//!
//! The question itself is a `prctl`. A filter that kills for that cannot be noticed by any means; a program with such a
//! filter ends what asks for it, by `set_memory_limit` with the limit in force, before it locks itself in.
//!
//! Locks: none.
#![allow(unsafe_code, reason = "libc calls")]

use core::sync::atomic::{AtomicU32, Ordering};

/// What was found at the start; [`UNKNOWN`] before, [`LOCKED_IN`] once that has changed, for good: no filter is ever taken
/// off. Relaxed: a number for itself.
static AT_START: AtomicU32 = AtomicU32::new(UNKNOWN);

const UNKNOWN: u32 = u32::MAX;
const LOCKED_IN: u32 = u32::MAX - 1;

/// Remembers how this process started. Called once, before anything is asked for that a filter may forbid.
pub(crate) fn begin() {
    AT_START.store(state(), Ordering::Relaxed);
}

/// Whether the process has locked itself in since [`begin`].
pub(crate) fn is_locked_in() -> bool {
    match AT_START.load(Ordering::Relaxed) {
        UNKNOWN => false,
        LOCKED_IN => true,
        before if differs(before, state()) => {
            AT_START.store(LOCKED_IN, Ordering::Relaxed);
            true
        }
        _ => false,
    }
}

/// Whether what is found now says that a filter has come since `before`. Where there was none, only a filter does: programs
/// set `no_new_privs` for other reasons, too.
const fn differs(before: u32, now: u32) -> bool {
    before >> MODE != now >> MODE || (before >> MODE != 0 && before != now)
}

/// Whether a filter would be noticed: there was none at the start.
pub(crate) fn is_told() -> bool {
    let state = AT_START.load(Ordering::Relaxed);
    state != LOCKED_IN && (state == UNKNOWN || state >> MODE == 0)
}

/// Where the mode of seccomp stands in the number.
const MODE: u32 = 8;

/// The mode of seccomp, and whether new privileges can be had, as one number.
fn state() -> u32 {
    let ask = |option: i32| {
        // SAFETY: both options take numbers alone, and change nothing.
        let answer = unsafe { libc::prctl(option, 0, 0, 0, 0) };
        // A kernel without it says so by an error each time.
        u32::try_from(answer).unwrap_or(0) & 0xff
    };
    ask(libc::PR_GET_SECCOMP) << MODE | ask(libc::PR_GET_NO_NEW_PRIVS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_came_is_told_from_what_was_there() {
        let (none, none_nnp, filter, filter_nnp) = (0, 1, 2 << MODE, 2 << MODE | 1);
        assert!(differs(none, filter) && differs(none, filter_nnp) && differs(none_nnp, filter_nnp));
        assert!(differs(filter, filter_nnp), "the first step towards another one");
        assert!(!differs(none, none_nnp), "no filter, so nothing is forbidden");
        assert!([none, none_nnp, filter, filter_nnp].iter().all(|state| !differs(*state, *state)));
    }

    #[test]
    fn this_process_is_what_it_was_at_the_start() {
        assert_eq!(state(), state());
        assert!([0, 2].contains(&(state() >> MODE)), "no filter, or one");
    }
}
