//! What the black-box tests share: blocks with patterns in them, the kernel's view of memory, signals, a generator,
//! and trials in child processes.

pub mod block;
pub mod memory;
pub mod rng;
pub mod signal;
pub mod trial;
