//! Whether this process has locked itself in since its start: then calls that a filter may forbid are not made any more.
//!
//! The allocator finds that out, for its own calls: see `ebbtide_alloc::enter_sandbox` and its module `os::probe`.
//!
//! Locks: none.

use ebbtide_alloc::Sandbox;

/// Has the allocator look how this process started. Called once, before anything is asked for that a filter may forbid.
pub(crate) fn begin() {
    let _ = ebbtide_alloc::sandbox();
}

/// Whether the process has locked itself in since it started.
pub(crate) fn is_locked_in() -> bool {
    ebbtide_alloc::sandbox() == Sandbox::Later
}

/// Whether a filter would be noticed: there was none at the start, and there is none.
pub(crate) fn is_told() -> bool {
    ebbtide_alloc::sandbox() == Sandbox::None
}
