//! Operations on maps and sets, each done to std's as well, with all answers compared and all invariants checked.
//!
//! The property tests make them at random, and the fuzz target (`fuzz/`, which includes this folder) by coverage. So
//! only the public API is used here, by the names that it has in `crate`.

mod hashing;
mod map;
mod set;

pub(crate) use hashing::Hashing;
#[cfg(not(fuzzing))]
pub(crate) use hashing::KeyHasher;
pub(crate) use map::{MapOp, run_map};
pub(crate) use set::{SetOp, run_set};

/// Keys are taken modulo this, so that operations meet.
const KEYS: u16 = 700;

/// So many keys from one on.
fn keys(from: u16, count: u8) -> impl Iterator<Item = u16> {
    (from % KEYS..KEYS).take(usize::from(count))
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort_unstable();
    items
}
