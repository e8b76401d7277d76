//! Hash maps with the API of [`std::collections::HashMap`] that grow and shrink a few buckets at a time.
//!
//! A map has one *generation* (bucket array) in the steady state and two while it changes size. Each insert or remove
//! then moves the entries of a few *home buckets* from the old generation to the new, in order, so that no single
//! operation pauses. Bucket arrays of more than 128 KiB lie in arenas of [`ebbtide_alloc`]; the pages behind the
//! frontier of evacuation are dead at once, so the peak while growing is little more than the final size.
//!
//! The module [`std_api`] says of each method and trait of std's maps and sets whether it is the same here.
//!
//! # Rooms, each uses those below it
//! | folder | holds |
//! |---|---|
//! | `impls/` | the features `serde` and `rayon` |
//! | `set/` | sets, over maps |
//! | `map/` | the public API of maps: [`HashMap`], entries, iterators |
//! | `table/` | the raw table: two generations behind one interface; `scan` visits all entries |
//! | `table/change/` | a change under way: the old generation, evacuation in steps, what it gives back, the pacing |
//! | `generation/` | one bucket array: memory, probing, what it gives back early; `window/`, `tag`, `error` |
//! | `stats/` | what maps count and tell the process |
//!
//! # Examples
//! ```
//! use ebbtide_map::HashMap;
//!
//! let mut sessions = HashMap::new().named("sessions");
//! for user in 0..100_000_u64 {
//!     sessions.insert(user, user * 2);
//! }
//! for user in 1000..100_000 {
//!     sessions.remove(&user);
//! }
//! assert_eq!(sessions.get(&999), Some(&1998));
//! assert!(sessions.stats().shrinks > 0, "it gave most of its buckets up by itself");
//! ```

#[doc = include_str!("std.md")]
pub mod std_api {}

/// The examples of `README.md`, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod generation;
mod impls;
mod map;
mod set;
mod stats;
mod table;

#[cfg(test)]
mod tests;

/// [`HashMap`] and its companions, under the names that `std::collections::hash_map` gives them.
pub mod hash_map {
    #[cfg(feature = "rayon")]
    pub use crate::impls::rayon::{IntoParIter, ParDrain, ParIter, ParIterMut};
    pub use crate::{
        ChangeKind, Drain, Entry, EntryRef, Equivalent, ExtractIf, HashMap, IntoIter, IntoKeys, IntoValues,
        Iter, IterMut, Keys, MapEvent, OccupiedEntry, OccupiedError, TryReserveError, VacantEntry,
        VacantEntryRef, Values, ValuesMut,
    };
}

/// [`HashSet`] and its companions, under the names that `std::collections::hash_set` gives them.
pub mod hash_set {
    pub use crate::TryReserveError;
    #[cfg(feature = "rayon")]
    pub use crate::impls::rayon::sets::{IntoParIter, ParDrain, ParIter};
    pub use crate::set::{
        Difference, Drain, ExtractIf, HashSet, Intersection, IntoIter, Iter, SymmetricDifference, Union,
    };
}

/// What the runtime calls: no part of the public interface.
#[doc(hidden)]
pub mod internal {
    pub use crate::stats::observer::observe;
    pub use crate::stats::registry::after_fork;
}

pub use equivalent::Equivalent;
pub use generation::error::TryReserveError;
pub use map::HashMap;
pub use map::drain::Drain;
pub use map::entry::{Entry, OccupiedEntry, OccupiedError, VacantEntry};
pub use map::entry_ref::{EntryRef, VacantEntryRef};
pub use map::extract_if::ExtractIf;
pub use map::into_iter::{IntoIter, IntoKeys, IntoValues};
pub use map::iter::{Iter, IterMut, Keys, Values, ValuesMut};
pub use set::HashSet;
pub use stats::MapStats;
pub use stats::observer::{ChangeKind, MapEvent};
pub use stats::registry::map_stats;
