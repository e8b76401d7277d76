//! The process-wide registry of maps: [`map_stats`], [`Shared`] for each named map, one sum for all others.
//!
//! Invariant: the gauges in the sum are what all living unnamed maps last reported.
//!
//! No lock: named maps are in [`Seats`], and all else is atomics. So a callback that the allocator's slow paths reach while
//! a map is named or dropped may call [`map_stats`], and so may a forked child, whatever the other threads did.
#![allow(unsafe_code, reason = "passes on what the child of a fork vouches for")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use ebbtide_alloc::seats::{Held, Seats};

use crate::stats::{FIGURES, Figures, MapStats, Sum, at};

/// Named maps. Seats stay, so what is large has a box of its own, which goes.
static NAMED: Seats<Box<Shared>> = Seats::new();
/// The next number for a named map.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Whose the arenas of all unnamed maps are, to the allocator.
pub(crate) const UNNAMED_OWNER: u32 = 1;
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
    /// Lists a map until what this returns is dropped. One that had another name has dropped that before.
    pub(crate) fn register(name: String) -> Held<Box<Self>> {
        let figures = [const { AtomicU64::new(0) }; FIGURES];
        // Relaxed: only distinct numbers matter, but for what `map_stats` says.
        NAMED.occupy(Box::new(Self { number: NEXT.fetch_add(1, Ordering::Relaxed), name, figures }))
    }

    /// Whose its arenas are, to the allocator: a number of its own, until four billion maps have had names.
    pub(crate) const fn owner(&self) -> u32 {
        (self.number % (u32::MAX - UNNAMED_OWNER) as u64) as u32 + UNNAMED_OWNER + 1
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The one number that is kept exact.
    #[inline]
    pub(crate) fn publish_len(&self, len: usize) {
        self.figures[at::LEN].store(len as u64, Ordering::Relaxed);
    }

    pub(crate) fn publish(&self, figures: &Figures) {
        for (shown, now) in self.figures.iter().zip(figures.0) {
            shown.store(now, Ordering::Relaxed);
        }
    }
}

/// Replaces what an unnamed map reported before.
pub(crate) fn report(before: &Figures, now: &Figures) {
    for (index, sum) in UNNAMED.iter().enumerate() {
        let (before, now) = (before.0[index], now.0[index]);
        if before == now {
            continue;
        }
        // Relaxed: sums of independent numbers. A gauge may fall: the difference wraps around, and so does the sum.
        match Sum::of(index) {
            Sum::Gauge | Sum::Counter => drop(sum.fetch_add(now.wrapping_sub(before), Ordering::Relaxed)),
            Sum::Maximum => drop(sum.fetch_max(now, Ordering::Relaxed)),
            Sum::Latest => sum.store(now, Ordering::Relaxed),
        }
    }
}

/// Takes back the gauges of an unnamed map that ends. What it counted stays.
pub(crate) fn take_back(last: &Figures) {
    for (index, sum) in UNNAMED.iter().enumerate().filter(|&(index, _)| Sum::of(index) == Sum::Gauge) {
        // Relaxed: as in `report`.
        sum.fetch_sub(last.0[index], Ordering::Relaxed);
    }
}

fn load(figures: &[AtomicU64; FIGURES]) -> Figures {
    // Relaxed: see the fields.
    Figures(figures.each_ref().map(|figure| figure.load(Ordering::Relaxed)))
}

/// Numbers of all maps: a row for each named map, in the order of naming, and one with an empty name for all others
/// together, if there are any that count.
///
/// Maps that are named or dropped during the call may be in it or not.
///
/// Named maps keep their length exact, and [`kept_bytes`](MapStats::kept_bytes) is as of the call; the other numbers,
/// and all of the unnamed ones, are as of the last step of growing or shrinking. Maps that never had some two thousand
/// slots are not counted unless they have a name.
///
/// O(named maps + heap / 64 KiB), without stopping anybody.
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
    let mut kept = Keeping::by_owner();
    // A map that gets another name meanwhile may be visited under both, but draws its number after it gave the first one
    // up, which is after the visit to that began. Visits are ordered by their seats, so it is not below this one.
    let bound = NEXT.load(Ordering::Relaxed);
    let mut numbered: Vec<(u64, MapStats)> = Vec::new();
    let mut visit = |shared: &Shared| {
        if shared.number < bound {
            numbered.push((shared.number, row(shared, &mut kept)));
        }
    };
    NAMED.each(|shared| visit(shared), drop);
    numbered.sort_unstable_by_key(|(number, _)| *number);
    let mut rows: Vec<MapStats> = numbered.into_iter().map(|(_, row)| row).collect();
    // What is left is of unnamed maps, or of maps that are gone.
    let rest = kept.values().fold(Keeping::default(), |all, one| all.and(*one));
    let unnamed = load(&UNNAMED);
    if unnamed.0 != [0; FIGURES] || rest.living + rest.left > 0 {
        let stats = rest.added_to(unnamed.into_stats(""));
        // Numbers of many maps have no exponent.
        rows.push(MapStats { b: 0, initial_b: 0, ..stats });
    }
    rows
}

/// In the child of a fork: wins back the rows that other threads had in hand.
///
/// # Safety
/// As for [`Seats::after_fork`]: this is the only thread of the process, and it is in none of this crate's functions but
/// in an allocation, or in what an observer calls.
pub unsafe fn after_fork() {
    // SAFETY: `NAMED` runs nothing of a caller's but `row`, which allocates, and the end of a name.
    unsafe { NAMED.after_fork() };
}

fn row(shared: &Shared, kept: &mut BTreeMap<u32, Keeping>) -> MapStats {
    let kept = kept.remove(&shared.owner()).unwrap_or_default();
    kept.added_to(load(&shared.figures).into_stats(&shared.name))
}

/// Resident bytes that a map does not need any more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keeping {
    /// In the old generation.
    living: u64,
    /// In arenas that it gave up.
    left: u64,
}

impl Keeping {
    fn by_owner() -> BTreeMap<u32, Self> {
        let mut kept = BTreeMap::<u32, Self>::new();
        ebbtide_alloc::each_kept(|pages| {
            let sum = kept.entry(pages.owner).or_default();
            *(if pages.lives { &mut sum.living } else { &mut sum.left }) += pages.bytes;
        });
        kept
    }

    /// What all maps of one owner keep.
    pub(crate) fn of(owner: u32) -> Self {
        Self::by_owner().remove(&owner).unwrap_or_default()
    }

    fn and(self, other: Self) -> Self {
        Self { living: self.living + other.living, left: self.left + other.left }
    }

    /// Numbers that were published leave out what should have left.
    fn added_to(self, stats: MapStats) -> MapStats {
        let resident_bytes = stats.resident_bytes + self.living.min(stats.retired_bytes);
        MapStats { resident_bytes, ..self.told_in(stats) }
    }

    /// Exact numbers have it in what is resident.
    pub(crate) fn told_in(self, stats: MapStats) -> MapStats {
        MapStats { kept_bytes: self.living + self.left, ..stats }
    }
}
