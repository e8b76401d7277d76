//! What every layer uses: units and pages as types, the atomics, counters, cache lines, and the slab of seats.

pub(crate) mod counters;
pub(crate) mod own_line;
#[doc(hidden)]
pub mod seats;
pub(crate) mod sync;
pub(crate) mod units;
