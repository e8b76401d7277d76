//! What every layer uses: units and pages as types, the atomics, counters, and the slab of seats.

pub(crate) mod counters;
#[doc(hidden)]
pub mod seats;
pub(crate) mod sync;
pub(crate) mod units;
