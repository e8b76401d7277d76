//! What code with interleavings is written against: the atomics of `core` or, under `cfg(loom)`, those of loom.
//!
//! Without `cfg(loom)` this file is nothing but names. With it, [`late`] stands in for them, so that the models of
//! `models/` run the allocator's own code over every interleaving that loom can tell apart.

#[cfg(loom)]
pub(crate) mod late;

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence,
};
#[cfg(loom)]
pub(crate) use late::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, compiler_fence,
    thread_local,
};
#[cfg(not(loom))]
pub(crate) use std::thread_local;
