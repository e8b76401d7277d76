//! The feature `rayon`: parallel iterators over maps and sets, which split their tables, and collecting into them.
//!
//! Iterating needs no memory. Collecting hashes and inserts in one thread, so it keeps what the others produced until
//! then. No locks of its own.

mod map;
mod producers;
mod set;

pub use map::{IntoParIter, ParDrain, ParIter, ParIterMut};

/// The sets' own.
pub(crate) mod sets {
    pub use super::set::{IntoParIter, ParDrain, ParIter};
}
