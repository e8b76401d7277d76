//! What the black-box tests share, and the benches in part: blocks with patterns in them, the kernel's view of memory,
//! threads, signals, filters on system calls, a generator, how long they wait, and trials in child processes.

/// The examples of the workspace's `README.md`, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}

pub mod block;
pub mod memory;
pub mod patience;
pub mod rng;
pub mod seccomp;
pub mod signal;
pub mod thread;
#[cfg(feature = "trials")]
pub mod trial;
