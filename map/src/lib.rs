//! Hash maps with the API of [`std::collections::HashMap`] that grow and shrink a few buckets at a time.
//!
//! A map has one *generation* (bucket array) in the steady state and two while it changes size. Each insert or remove
//! then moves the entries of a few *home buckets* from the old generation to the new, in order, so that no single
//! operation pauses. Bucket arrays of more than 128 KiB lie in arenas of [`ebbtide_alloc`]; the pages behind the
//! frontier of evacuation are dead at once, so the peak while growing is little more than the final size.
//!
//! # Files, each uses those below it
//! | file | holds |
//! |---|---|
//! | `map/`, `entry`, `iter`, `into_iter`, `drain` | the public API |
//! | `table`, `size` | the raw table: two generations behind one interface; `clone` and `verify` of it |
//! | `evacuate`, `life` | changes of generation; what is counted about them |
//! | `old` | the generation that is being evacuated |
//! | `scan` | visits all entries |
//! | `generation`, `memory` | memory and probing of one bucket array |
//! | `registry`, `observer`, `stats` | what maps tell the process |
//! | `pacing` | when to change, and how much to move: pure arithmetic |
//! | `window/`, `tag`, `error`, `boxed` | leaves |
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

mod boxed;
mod clone;
mod drain;
mod entry;
mod error;
mod evacuate;
mod generation;
mod into_iter;
mod iter;
mod life;
mod map;
mod memory;
mod observer;
mod old;
mod pacing;
mod registry;
mod scan;
mod size;
mod stats;
mod table;
mod tag;
mod verify;
mod window;

#[cfg(test)]
mod tests;

pub use drain::Drain;
pub use entry::{Entry, OccupiedEntry, VacantEntry};
pub use equivalent::Equivalent;
pub use error::TryReserveError;
pub use into_iter::{IntoIter, IntoKeys, IntoValues};
pub use iter::{Iter, IterMut, Keys, Values, ValuesMut};
pub use map::HashMap;
pub use observer::{MapEvent, set_observer};
pub use pacing::ChangeKind;
pub use registry::map_stats;
pub use stats::MapStats;
