//! [`HashMap`]: the type, how to make one, and its size. Its other methods are in the files below.
//!
//! Invariant: all entries are where the table puts them by `hash_builder`; only the table moves them. No locks.

mod access;
mod bulk;
mod disjoint;
pub(crate) mod drain;
pub(crate) mod entry;
pub(crate) mod entry_ref;
pub(crate) mod extract_if;
pub(crate) mod into_iter;
pub(crate) mod iter;
mod traits;
mod verify;

use core::hash::{BuildHasher, Hash};
use core::panic::UnwindSafe;
use std::hash::RandomState;

use crate::generation::error::TryReserveError;
use crate::stats::MapStats;
use crate::table::Table;

/// A hash map with the API of [`std::collections::HashMap`] that grows and shrinks a few buckets at a time.
///
/// Lookups are those of hashbrown (SwissTable): windows of 16 tags compared at once, load up to 7/8. When the table is
/// full, or fewer than a quarter of the entries it could hold are left, a second bucket array of twice or half the
/// size is made, in O(1), and each insert or remove moves a few buckets over. The idea is that of Go's classic map,
/// with a strict order as in linear hashing (Litwin 1980).
///
/// Removing entries makes a map shrink by itself, as far as the capacity that was asked for
/// ([`with_capacity`](Self::with_capacity), [`reserve`](Self::reserve)) allows. See
/// [`set_auto_shrink`](Self::set_auto_shrink).
///
/// # What one operation costs at most
/// An insert or remove during a change does a share of it that does not grow with the map. Entries of up to 256 bytes: each
/// second such operation visits 112 slots, hashes and moves what is in them, and gives back, or hands on to the new
/// bucket array, 128 KiB behind itself at most. Larger entries: each operation visits 16 slots. Tables of at most 2,048
/// slots and 128 KiB of entries move whole, in the operation that finds them full. A change ends before the new bucket
/// array can fill, whatever the mix of inserts and removes, and churn goes on like that for ever: what removals leave
/// behind is shed by a change like any other. Beginning and ending a change takes no time in the number of entries, but some
/// nanoseconds for each 64 KiB of the bucket arrays.
///
/// That holds for hash functions that spread keys. If many keys share a hash, operations take time in their number, as
/// in any hash map.
///
/// Some operations reach all of the map, and take as long:
/// - `clear` and `drain` reset one byte for each slot, as hashbrown does. They and `drop` also drop the entries one by one, if these have anything to drop. If not, `drop` gives the memory
///   back without looking at it.
/// - `clone`, `retain`, `extract_if` and iteration visit every slot.
/// - `shrink_to_fit` and `shrink_to` finish at once, as std documents them. So does
///   `reserve` with a change that is under way, if that leaves too little room.
///
/// To move on at a time of your choosing, use [`rehash_step`](Self::rehash_step).
///
/// # Panics
/// Operations that need memory panic when the capacity overflows, and end the process when there is none, as those
/// of std. If a hash function panics while entries are moved, no entry is lost.
///
/// # Examples
/// ```
/// use ebbtide_map::HashMap;
///
/// let mut reviews = HashMap::new();
/// reviews.insert("Adventures of Huckleberry Finn", "My favorite book.");
/// reviews.insert("Pride and Prejudice", "Very enjoyable.");
/// assert_eq!(reviews.remove("Pride and Prejudice"), Some("Very enjoyable."));
/// assert_eq!(reviews.len(), 1);
/// ```
pub struct HashMap<K, V, S = RandomState> {
    pub(crate) hash_builder: S,
    pub(crate) table: Table<(K, V)>,
}

impl<K: UnwindSafe, V: UnwindSafe, S: UnwindSafe> UnwindSafe for HashMap<K, V, S> {}

/// The hash of an entry, for the table.
#[inline]
pub(crate) fn entry_hasher<K: Hash, V, S: BuildHasher>(hash_builder: &S) -> impl Fn(&(K, V)) -> u64 + '_ {
    move |entry| hash_builder.hash_one(&entry.0)
}

impl<K, V> HashMap<K, V, RandomState> {
    /// An empty map, without memory.
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::<&str, i32>::new();
    /// assert_eq!(map.capacity(), 0);
    /// ```
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty map with room for `capacity` entries. It does not shrink by itself below that.
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::<&str, i32>::with_capacity(10);
    /// assert!(map.capacity() >= 10);
    /// ```
    #[inline]
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self::with_capacity_and_hasher(capacity, RandomState::new())
    }
}

impl<K, V, S> HashMap<K, V, S> {
    /// An empty map, without memory, that hashes with `hash_builder`.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashMap;
    /// let mut map = HashMap::with_hasher(std::hash::RandomState::new());
    /// map.insert(1, 2);
    /// ```
    #[inline]
    #[must_use]
    pub const fn with_hasher(hash_builder: S) -> Self {
        Self { hash_builder, table: Table::new() }
    }

    /// An empty map with room for `capacity` entries that hashes with `hash_builder`.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashMap;
    /// let map: HashMap<i32, i32> = HashMap::with_capacity_and_hasher(10, Default::default());
    /// assert!(map.capacity() >= 10);
    /// ```
    #[inline]
    #[must_use]
    pub fn with_capacity_and_hasher(capacity: usize, hash_builder: S) -> Self {
        let table = match capacity {
            0 => Table::new(),
            _ => Table::with_capacity(capacity).unwrap_or_else(|error| error.raise()),
        };
        Self { hash_builder, table }
    }

    /// Gives the map a name, under which it appears in [`map_stats`](crate::map_stats) and in traces.
    ///
    /// Names need not differ. A clone of the map has none.
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::<u32, u32>::with_capacity(100).named("users");
    /// assert_eq!(map.stats().name, "users");
    /// ```
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.table.set_name(name.into());
        self
    }

    /// Exact numbers of this map. One system call for each 4 MiB of its arenas; if it has a name also O(heap / 64 KiB), for
    /// what it [keeps](MapStats::kept_bytes).
    ///
    /// # Examples
    /// ```
    /// let map: ebbtide_map::HashMap<u64, u64> = (0..100).map(|i| (i, i)).collect();
    /// assert_eq!(map.stats().logical_bytes, 1600);
    /// ```
    #[must_use]
    pub fn stats(&self) -> MapStats {
        self.table.stats()
    }

    /// How many entries the map can hold before it grows.
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::<u64, u64>::with_capacity(100);
    /// assert!(map.capacity() >= 100);
    /// ```
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.table.capacity()
    }

    /// Number of entries.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(ebbtide_map::HashMap::from([(1, "a")]).len(), 1);
    /// ```
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is no entry.
    ///
    /// # Examples
    /// ```
    /// assert!(ebbtide_map::HashMap::<u64, u64>::new().is_empty());
    /// ```
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// The hash builder.
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::<u64, u64>::new();
    /// let _: &std::hash::RandomState = map.hasher();
    /// ```
    #[inline]
    #[must_use]
    pub const fn hasher(&self) -> &S {
        &self.hash_builder
    }

    /// Whether removing entries makes the map shrink, which it does unless told otherwise. Without it a map only
    /// grows, until [`shrink_to_fit`](Self::shrink_to_fit) or [`shrink_to`](Self::shrink_to).
    ///
    /// A shrink under way goes on.
    ///
    /// # Examples
    /// ```
    /// let mut map: ebbtide_map::HashMap<u64, u64> = (0..100_000).map(|i| (i, i)).collect();
    /// map.set_auto_shrink(false);
    /// let capacity = map.capacity();
    /// map.retain(|&key, _| key < 10);
    /// assert!(map.capacity() > capacity / 2);
    /// ```
    pub fn set_auto_shrink(&mut self, on: bool) {
        self.table.set_auto_shrink(on);
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> HashMap<K, V, S> {
    /// Makes room for `additional` more entries, so that inserting them does not change the capacity.
    ///
    /// O(1) if no change is under way: entries move over with later writes. Otherwise that change ends first, at once,
    /// unless the entries fit as it is: O(entries that have not moved yet). The map does not shrink by itself below the
    /// size that is reserved.
    ///
    /// # Panics
    /// If the capacity overflows.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<&str, i32>::new();
    /// map.reserve(10);
    /// assert!(map.capacity() >= 10);
    /// ```
    pub fn reserve(&mut self, additional: usize) {
        self.try_reserve(additional).unwrap_or_else(|error| error.raise());
    }

    /// As [`reserve`](Self::reserve), but returns an error instead.
    ///
    /// # Errors
    /// If the capacity overflows or there is no memory. No entry is lost.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<&str, i32>::new();
    /// map.try_reserve(10).expect("why is this failing on ten entries?");
    /// ```
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), TryReserveError> {
        self.table.reserve(additional, &entry_hasher(&self.hash_builder))?;
        self.table.raise_floor(self.table.len() + additional)
    }

    /// Gives up as much capacity as possible, at once. O(capacity).
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<i32, i32>::with_capacity(100);
    /// map.insert(1, 2);
    /// map.shrink_to_fit();
    /// assert!(map.capacity() < 100);
    /// ```
    pub fn shrink_to_fit(&mut self) {
        self.shrink_to(0);
    }

    /// Gives up capacity beyond `min_capacity`, at once. Does nothing if there is no more than that. O(capacity).
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<i32, i32>::with_capacity(100);
    /// map.shrink_to(10);
    /// assert!(map.capacity() >= 10 && map.capacity() < 100);
    /// ```
    pub fn shrink_to(&mut self, min_capacity: usize) {
        // Without memory for a smaller table the larger one still works.
        drop(self.table.shrink_to(min_capacity, &entry_hasher(&self.hash_builder)));
    }

    /// Moves on with growing or shrinking, by `buckets` buckets of 16 slots, rounded up to whole steps. Returns how
    /// many are left; 0 if no change is under way (any more).
    ///
    /// A change goes on with each insert and remove. A map that is only read for long would keep both bucket arrays:
    /// this finishes.
    ///
    /// # Examples
    /// ```
    /// let mut map: ebbtide_map::HashMap<u64, u64> = (0..100_000).map(|i| (i, i)).collect();
    /// while map.rehash_step(64) > 0 {}
    /// assert_eq!(map.stats().old_buckets, 0);
    /// ```
    pub fn rehash_step(&mut self, buckets: usize) -> usize {
        let hasher = entry_hasher(&self.hash_builder);
        self.table.rehash_step(buckets, &hasher)
    }
}
