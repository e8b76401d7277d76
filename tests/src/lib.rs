//! What the black-box tests share: blocks with patterns in them, the kernel's view of memory, signals, a generator,
//! trials in processes of their own, how long they wait.

pub mod block;
pub mod memory;
pub mod patience;
pub mod rng;
pub mod signal;
pub mod trial;
