//! The operating system: the only room that makes system calls.
//!
//! [`Os`] is all that the layers above ask of it. [`Linux`] is the real one; `Fake` records calls and injects failures.
//! Locks sleep in the kernel, so they are here as well.

mod api;
mod call;
mod linux;
mod lock;
mod moves;
mod pinned;
mod probe;
mod support;
mod threads;

#[cfg(test)]
pub(crate) mod fake;

pub(crate) use api::{Errno, ForkHandlers, Life, Moved, Os, PageRange, ThreadMark, resident_bytes};
pub(crate) use call::fatal;
pub(crate) use linux::Linux;
pub(crate) use lock::{Guard, Lock, begin_fork, end_fork, held, is_forking};
pub use support::{KernelSupport, Sandbox};
