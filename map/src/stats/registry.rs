//! The process-wide registry of maps: [`map_stats`], a [`Listing`] of each map, whose numbers are a row if it has a name,
//! else a part of one sum.
//!
//! Invariant: the gauges in the sum are what all living unnamed maps last reported.
//!
//! No lock: named maps are in [`Seats`], and all else is atomics. So a callback that the allocator's slow paths reach while
//! a map is named or dropped may call [`map_stats`], and so may a forked child, whatever the other threads did.
#![allow(unsafe_code, reason = "passes on what the child of a fork vouches for")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use ebbtide_alloc::seats::{Held, Seats};

use crate::stats::{LEN, MapStats, NUMBERS, Numbers, Sum};

/// Named maps. Seats stay, so what is large has a box of its own, which goes.
static NAMED: Seats<Box<Shared>> = Seats::new();
/// The next number for a named map.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Whose the arenas of all unnamed maps are, to the allocator.
pub(crate) const UNNAMED_OWNER: u32 = 1;
/// What the unnamed maps come to.
static UNNAMED: [AtomicU64; NUMBERS] = [const { AtomicU64::new(0) }; NUMBERS];

/// What a named map shows. The map writes, anybody reads.
#[derive(Debug)]
struct Shared {
    number: u64,
    name: String,
    // Relaxed throughout: each number stands for itself, and a reader may see some older than others.
    numbers: [AtomicU64; NUMBERS],
}

impl Shared {
    /// Whose its arenas are, to the allocator: a number of its own, until four billion maps have had names.
    const fn owner(&self) -> u32 {
        (self.number % (u32::MAX - UNNAMED_OWNER) as u64) as u32 + UNNAMED_OWNER + 1
    }
}

/// A map's place in the registry. Whatever it shows is withdrawn when this is dropped.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The row of a named map.
    row: Option<Held<Box<Shared>>>,
    /// What the sum over unnamed maps has from this one.
    reported: Numbers,
}

impl Listing {
    /// Gives the map a name, or a new one, and so a row.
    pub(crate) fn set_name(&mut self, name: String) {
        self.withdraw();
        let numbers = [const { AtomicU64::new(0) }; NUMBERS];
        // Relaxed: only distinct numbers matter, but for what `map_stats` says.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.row = Some(NAMED.occupy(Box::new(Shared { number, name, numbers })));
    }

    /// Empty if the map has none.
    pub(crate) fn name(&self) -> &str {
        self.row.as_ref().map_or("", |shared| &shared.name)
    }

    /// Whose the map's arenas are, to the allocator.
    pub(crate) fn owner(&self) -> u32 {
        self.row.as_ref().map_or(UNNAMED_OWNER, |shared| shared.owner())
    }

    /// Shows the one number that a named map keeps exact.
    pub(crate) fn publish_len(&self, len: usize) {
        if let Some(shared) = &self.row {
            shared.numbers[LEN].store(len as u64, Ordering::Relaxed);
        }
    }

    /// Shows all numbers.
    pub(crate) fn publish(&mut self, stats: &MapStats) {
        let numbers = stats.numbers();
        match &self.row {
            Some(shared) => {
                for (shown, now) in shared.numbers.iter().zip(numbers) {
                    shown.store(now, Ordering::Relaxed);
                }
            }
            None => {
                report(&self.reported, &numbers);
                self.reported = numbers;
            }
        }
    }

    /// Exact numbers of the map, with what it keeps if it has a name.
    pub(crate) fn complete(&self, stats: &MapStats) -> MapStats {
        let stats = MapStats::of_numbers(self.name(), stats.numbers());
        match &self.row {
            Some(shared) => Keeping::by_owner().remove(&shared.owner()).unwrap_or_default().told_in(stats),
            None => stats,
        }
    }

    /// Takes back the row, or the gauges of an unnamed map. What that one counted stays.
    pub(crate) fn withdraw(&mut self) {
        if self.row.take().is_none() {
            take_back(&self.reported);
            self.reported = [0; NUMBERS];
        }
    }
}

impl Default for Listing {
    fn default() -> Self {
        Self { row: None, reported: [0; NUMBERS] }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Replaces what an unnamed map reported before.
fn report(before: &Numbers, now: &Numbers) {
    for (index, sum) in UNNAMED.iter().enumerate() {
        let (before, now) = (before[index], now[index]);
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

/// Takes back the gauges of an unnamed map that ends.
fn take_back(last: &Numbers) {
    for (index, sum) in UNNAMED.iter().enumerate().filter(|&(index, _)| Sum::of(index) == Sum::Gauge) {
        // Relaxed: as in `report`.
        sum.fetch_sub(last[index], Ordering::Relaxed);
    }
}

fn load(numbers: &[AtomicU64; NUMBERS]) -> Numbers {
    // Relaxed: see the fields.
    numbers.each_ref().map(|number| number.load(Ordering::Relaxed))
}

/// Numbers of all maps: a row for each named map, in the order of naming, and one with an empty name for all others
/// together, if there are any that count.
///
/// Maps that are named or dropped during the call may be in it or not.
///
/// Named maps keep their length exact, and [`kept_bytes`](MapStats::kept_bytes) is as of the call; the other numbers,
/// and all of the unnamed ones, are as of the last step of growing or shrinking. Small maps that have changed their size
/// rarely are not counted unless they have a name.
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
    if unnamed != [0; NUMBERS] || rest.living + rest.left > 0 {
        let stats = rest.added_to(MapStats::of_numbers("", unnamed));
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
    kept.added_to(MapStats::of_numbers(&shared.name, load(&shared.numbers)))
}

/// Resident bytes that a map does not need any more.
#[derive(Clone, Copy, Debug, Default)]
struct Keeping {
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

    fn and(self, other: Self) -> Self {
        Self { living: self.living + other.living, left: self.left + other.left }
    }

    /// Numbers that were published leave out what should have left.
    fn added_to(self, stats: MapStats) -> MapStats {
        let resident_bytes = stats.resident_bytes + self.living.min(stats.retired_bytes);
        MapStats { resident_bytes, ..self.told_in(stats) }
    }

    /// Exact numbers have it in what is resident.
    fn told_in(self, stats: MapStats) -> MapStats {
        MapStats { kept_bytes: self.living + self.left, ..stats }
    }
}
