//! The process-wide registry of maps: [`map_stats`], [`Shared`] for each named map, one sum for all others.
//!
//! Invariant: the gauges in the sum are what all living unnamed maps last reported. Locks: one mutex around the list of
//! named maps, taken when one is named or dropped and by [`map_stats`]; nothing else happens under it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::stats::{FIGURES, Figures, GAUGES, LEN, MAX_PAUSE, MapStats};

/// Named maps, by the order of naming.
static NAMED: Mutex<BTreeMap<u64, Arc<Shared>>> = Mutex::new(BTreeMap::new());
/// The next number for a named map.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// What the unnamed maps come to.
static UNNAMED: [AtomicU64; FIGURES] = [const { AtomicU64::new(0) }; FIGURES];

/// What a named map shows. The map writes, anybody reads.
#[derive(Debug)]
pub(crate) struct Shared {
    number: u64,
    name: String,
    // Relaxed throughout: each number stands for itself, and a reader may see some older than others.
    figures: [AtomicU64; FIGURES],
}

impl Shared {
    /// Puts a map on the list.
    pub(crate) fn register(name: String) -> Arc<Self> {
        let figures = [const { AtomicU64::new(0) }; FIGURES];
        // Relaxed: only distinct numbers matter.
        let shared = Arc::new(Self { number: NEXT.fetch_add(1, Ordering::Relaxed), name, figures });
        named().insert(shared.number, Arc::clone(&shared));
        shared
    }

    /// Takes it off the list.
    pub(crate) fn withdraw(&self) {
        let gone = named().remove(&self.number);
        drop(gone);
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The one number that is kept exact.
    #[inline]
    pub(crate) fn publish_len(&self, len: usize) {
        self.figures[LEN].store(len as u64, Ordering::Relaxed);
    }

    pub(crate) fn publish(&self, figures: &Figures) {
        for (shown, now) in self.figures.iter().zip(figures.0) {
            shown.store(now, Ordering::Relaxed);
        }
    }
}

fn named() -> MutexGuard<'static, BTreeMap<u64, Arc<Shared>>> {
    // Nothing under the lock panics half-way: a poisoned list is whole.
    NAMED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Replaces what an unnamed map reported before.
pub(crate) fn report(before: &Figures, now: &Figures) {
    for (index, sum) in UNNAMED.iter().enumerate() {
        // Relaxed: sums of independent numbers. A gauge may fall: the difference wraps around, and so does the sum.
        if index == MAX_PAUSE {
            sum.fetch_max(now.0[index], Ordering::Relaxed);
        } else {
            sum.fetch_add(now.0[index].wrapping_sub(before.0[index]), Ordering::Relaxed);
        }
    }
}

/// Takes back the gauges of an unnamed map that ends. What it counted stays.
pub(crate) fn take_back(last: &Figures) {
    for (sum, gauge) in UNNAMED.iter().zip(&last.0[..GAUGES]) {
        // Relaxed: as in `report`.
        sum.fetch_sub(*gauge, Ordering::Relaxed);
    }
}

fn load(figures: &[AtomicU64; FIGURES]) -> Figures {
    // Relaxed: see the fields.
    Figures(figures.each_ref().map(|figure| figure.load(Ordering::Relaxed)))
}

/// Numbers of all maps: a row for each named map, in the order of naming, and one with an empty name for all others
/// together, if there are any that count.
///
/// Named maps keep their length exact; the other numbers, and all of the unnamed ones, are as of the last step of
/// growing or shrinking. Maps that never had some two thousand slots are not counted unless they have a name.
/// O(number of named maps), without stopping anybody.
///
/// # Examples
/// ```
/// let mut map = ebbtide_map::HashMap::new().named("sessions");
/// map.insert(7, "seven");
/// let row = ebbtide_map::map_stats().into_iter().find(|row| row.name == "sessions").unwrap();
/// assert_eq!(row.len, 1);
/// ```
#[must_use]
pub fn map_stats() -> Vec<MapStats> {
    let list: Vec<Arc<Shared>> = named().values().cloned().collect();
    let mut rows: Vec<MapStats> =
        list.iter().map(|shared| load(&shared.figures).into_map_stats(&shared.name)).collect();
    let unnamed = load(&UNNAMED);
    if unnamed.0 != [0; FIGURES] {
        rows.push(unnamed.into_stats(""));
    }
    rows
}
