//! [`MapStats`]: what a map says about itself, and [`Numbers`], as they are published.
//!
//! Plain data. No locks.

pub(crate) mod brief;
pub(crate) mod life;
pub(crate) mod observer;
pub(crate) mod registry;

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
    /// Bytes of memory behind the map: of both generations, entries, tags and room for more. The sum of the next three.
    pub arena_bytes: u64,
    /// Of these, the generation that takes new entries.
    pub live_bytes: u64,
    /// Of these, what is still needed of the generation that is being evacuated.
    pub old_bytes: u64,
    /// Of these, what is not needed any more and was retired. It has left, or stays resident, as the policy says.
    pub retired_bytes: u64,
    /// How many of `arena_bytes` are resident. In the rows of `map_stats` an estimate from above.
    pub resident_bytes: u64,
    /// Bytes that the map does not need any more and that are resident all the same: what it has retired of the old
    /// generation, and what is left of arenas that it has given up, until somebody uses their pages or a release gives
    /// them back. 0 from [`HashMap::stats`](crate::HashMap::stats) of a map without a name. In the row of the unnamed
    /// maps it is also what maps left that are gone.
    ///
    /// Counted in whole pages, as far as the allocator knows: a page that was never touched counts too.
    pub kept_bytes: u64,
    /// Bucket arrays made for it.
    pub allocations: u64,
    /// Exponent of the number of buckets of the first one. 0 for the row of the unnamed maps.
    pub initial_b: u32,
    /// 1 if the first one was made for a capacity that was asked for, else 0. In the row of the unnamed maps: how many
    /// there were for which it was.
    pub preallocations: u64,
    /// Changes to more buckets since the map was made.
    pub grows: u64,
    /// Changes to fewer buckets.
    pub shrinks: u64,
    /// Changes that shed tombstones, to as many buckets.
    pub same_size_grows: u64,
    /// Buckets evacuated by changes that ended.
    pub evacuated_buckets: u64,
    /// Entries moved by changes, the one under way included.
    pub evacuated_entries: u64,
    /// Operations over which changes were spread, the one under way included.
    pub evacuation_writes: u64,
    /// Nanoseconds spent on changes, the one under way included. Those of small tables are not timed.
    pub evacuation_ns: u64,
    /// The longest that one operation worked on a change, in nanoseconds.
    pub max_pause_ns: u64,
    /// Bytes of the bucket arrays that changes left behind, all that ended. Of a map without a name only from its first
    /// change in steps on, as for the numbers below.
    pub retired_total: u64,
    /// How many of these were left by shrinks.
    pub shrunk_total: u64,
    /// Buckets before and after the latest change to more of them. For the unnamed maps: of any of them.
    pub last_grow: [u64; 2],
    /// Buckets before and after the latest change to fewer, as for `last_grow`.
    pub last_shrink: [u64; 2],
}

impl MapStats {
    /// The pace of changes: entries moved per operation. 0 before the first change.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::new();
    /// (0..100_000).for_each(|i| assert_eq!(map.insert(i, i), None));
    /// assert!(map.stats().entries_per_write() > 1.0);
    /// ```
    #[must_use]
    pub fn entries_per_write(&self) -> f64 {
        ratio(self.evacuated_entries, self.evacuation_writes)
    }

    /// Nanoseconds for each entry moved. 0 before the first change. Small tables, which are not timed, lower it.
    #[must_use]
    pub fn ns_per_entry(&self) -> f64 {
        ratio(self.evacuation_ns, self.evacuated_entries)
    }
}

fn ratio(of: u64, to: u64) -> f64 {
    if to == 0 { 0.0 } else { of as f64 / to as f64 }
}

/// The numbers of [`MapStats`] in one array, so that they can be published, added up and taken back in a loop. First
/// gauges, then counters, then what is of the latest map or change, then a maximum.
pub(crate) type Numbers = [u64; NUMBERS];

/// How many there are.
pub(crate) const NUMBERS: usize = 27;
/// Where the length is among them.
pub(crate) const LEN: usize = 0;

/// How the numbers of several maps come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// They add up over the maps that live.
    Gauge,
    /// They add up over all maps there were.
    Counter,
    /// The latest stands for all.
    Latest,
    /// The greatest stands for all.
    Maximum,
}

impl Sum {
    /// How the number at `index` is summed.
    pub(crate) const fn of(index: usize) -> Self {
        match index {
            0..10 => Self::Gauge,
            10..21 => Self::Counter,
            21..26 => Self::Latest,
            _ => Self::Maximum,
        }
    }
}

impl MapStats {
    /// What is published.
    #[rustfmt::skip]
    pub(crate) fn numbers(&self) -> Numbers {
        let ([grown_from, grown_to], [shrunk_from, shrunk_to]) = (self.last_grow, self.last_shrink);
        [
            self.len, self.capacity, self.nevacuate, self.buckets, self.old_buckets, self.logical_bytes,
            self.live_bytes, self.old_bytes, self.retired_bytes, self.resident_bytes,

            self.grows, self.shrinks, self.same_size_grows, self.allocations, self.preallocations,
            self.evacuated_buckets, self.evacuated_entries, self.evacuation_writes, self.evacuation_ns,
            self.retired_total, self.shrunk_total,

            grown_from, grown_to, shrunk_from, shrunk_to, u64::from(self.initial_b),

            self.max_pause_ns,
        ]
    }

    /// What was published, of one map with this name or of several.
    #[rustfmt::skip]
    pub(crate) fn of_numbers(name: &str, numbers: Numbers) -> Self {
        let [
            len, capacity, nevacuate, buckets, old_buckets, logical_bytes,
            live_bytes, old_bytes, retired_bytes, resident_bytes,

            grows, shrinks, same_size_grows, allocations, preallocations,
            evacuated_buckets, evacuated_entries, evacuation_writes, evacuation_ns,
            retired_total, shrunk_total,

            grown_from, grown_to, shrunk_from, shrunk_to, initial_b,

            max_pause_ns,
        ] = numbers;
        Self {
            name: name.to_owned(),
            b: exponent(buckets),
            arena_bytes: live_bytes + old_bytes + retired_bytes,
            kept_bytes: 0,
            initial_b: initial_b as u32,
            last_grow: [grown_from, grown_to],
            last_shrink: [shrunk_from, shrunk_to],
            len, capacity, nevacuate, buckets, old_buckets, logical_bytes,
            live_bytes, old_bytes, retired_bytes, resident_bytes,
            allocations, preallocations, grows, shrinks, same_size_grows,
            evacuated_buckets, evacuated_entries, evacuation_writes, evacuation_ns, max_pause_ns,
            retired_total, shrunk_total,
        }
    }
}

/// The exponent of a number of buckets, which is a power of two. 0 for none.
pub(crate) fn exponent(buckets: u64) -> u32 {
    buckets.checked_ilog2().unwrap_or(0)
}
