//! [`MapStats`]: what a map says about itself, and [`Figures`], its numbers as they are published.
//!
//! Plain data. No locks.

/// Numbers of one map. All sizes are in bytes.
///
/// From [`HashMap::stats`](crate::HashMap::stats) they are exact. From [`map_stats`](crate::map_stats) the length is
/// exact for named maps, and the rest is as of the map's last step of growing or shrinking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapStats {
    /// The name given with [`HashMap::named`](crate::HashMap::named). Empty for all maps without one together.
    pub name: String,
    /// Entries.
    pub len: u64,
    /// Entries that fit before the map grows.
    pub capacity: u64,
    /// Exponent of the number of buckets: there are 2^b. 0 for the row of the unnamed maps.
    pub b: u32,
    /// How many buckets of the old generation are evacuated. 0 when there is none.
    pub nevacuate: u64,
    /// Buckets of 16 slots in the generation that takes new entries. A map without memory has none.
    pub buckets: u64,
    /// Buckets of the generation that is being evacuated. 0 when there is none.
    pub old_buckets: u64,
    /// Bytes that the entries themselves take.
    pub logical_bytes: u64,
    /// Bytes of memory behind the map: of both generations, entries, tags and room for more.
    pub arena_bytes: u64,
    /// How many of these are resident. In the rows of `map_stats` an estimate from above.
    pub resident_bytes: u64,
    /// Changes to more buckets since the map was made.
    pub grows: u64,
    /// Changes to fewer buckets.
    pub shrinks: u64,
    /// Changes that shed tombstones.
    pub same_size_grows: u64,
    /// Buckets evacuated by changes that ended.
    pub evacuated_buckets: u64,
    /// Nanoseconds spent on changes. Those of small tables are not timed.
    pub evacuation_ns: u64,
    /// The longest that one operation worked on a change, in nanoseconds.
    pub max_pause_ns: u64,
}

/// How many numbers there are.
pub(crate) const FIGURES: usize = 14;
/// The first ones say how things are, the others count what happened.
pub(crate) const GAUGES: usize = 8;
/// The last one is a maximum.
pub(crate) const MAX_PAUSE: usize = FIGURES - 1;
/// The one that changes with each insert and remove.
pub(crate) const LEN: usize = 0;

/// The numbers of [`MapStats`] in one array, so that they can be published, added up and taken back in a loop. The
/// first [`GAUGES`] are gauges; the one at [`MAX_PAUSE`] is a maximum; the rest are counters.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures(pub(crate) [u64; FIGURES]);

impl Figures {
    /// In words.
    pub(crate) fn into_stats(self, name: &str) -> MapStats {
        let [len, capacity, nevacuate, buckets, old_buckets, logical, arena, resident, ..] = self.0;
        let [.., grows, shrinks, same_size_grows, evacuated_buckets, evacuation_ns, max_pause_ns] = self.0;
        MapStats {
            name: name.to_owned(),
            len,
            capacity,
            b: 0,
            nevacuate,
            buckets,
            old_buckets,
            logical_bytes: logical,
            arena_bytes: arena,
            resident_bytes: resident,
            grows,
            shrinks,
            same_size_grows,
            evacuated_buckets,
            evacuation_ns,
            max_pause_ns,
        }
    }

    /// The numbers of one map, whose buckets are a power of two.
    pub(crate) fn into_map_stats(self, name: &str) -> MapStats {
        let stats = self.into_stats(name);
        MapStats { b: stats.buckets.checked_ilog2().unwrap_or(0), ..stats }
    }
}
