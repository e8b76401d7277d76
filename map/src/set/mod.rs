//! [`HashSet`]: the type, how to make one, and its size. Its other methods are in the files below.
//!
//! A set is a map whose values have no size, so its invariants are the map's. No locks.

mod access;
mod algebra;
mod iter;
mod traits;

use core::hash::{BuildHasher, Hash};
use std::hash::RandomState;

pub use algebra::{Difference, Intersection, SymmetricDifference, Union};
pub use iter::{Drain, ExtractIf, IntoIter, Iter};

use crate::generation::error::TryReserveError;
use crate::map::HashMap;
use crate::stats::MapStats;

/// A hash set with the API of [`std::collections::HashSet`] that grows and shrinks a few buckets at a time.
///
/// It is a [`HashMap`] without values: all that is said there about growing, shrinking and panics holds here.
///
/// # Examples
/// ```
/// use ebbtide_map::HashSet;
///
/// let mut books = HashSet::new();
/// books.insert("A Dance With Dragons");
/// books.insert("To Kill a Mockingbird");
/// assert!(!books.contains("The Winds of Winter"));
/// assert!(books.remove("A Dance With Dragons"));
/// assert_eq!(books.len(), 1);
/// ```
pub struct HashSet<T, S = RandomState> {
    pub(crate) map: HashMap<T, (), S>,
}

impl<T> HashSet<T, RandomState> {
    /// An empty set, without memory.
    ///
    /// # Examples
    /// ```
    /// let set = ebbtide_map::HashSet::<i32>::new();
    /// assert_eq!(set.capacity(), 0);
    /// ```
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self { map: HashMap::new() }
    }

    /// An empty set with room for `capacity` elements. It does not shrink by itself below that.
    ///
    /// # Panics
    /// If the capacity overflows.
    ///
    /// # Examples
    /// ```
    /// let set = ebbtide_map::HashSet::<i32>::with_capacity(10);
    /// assert!(set.capacity() >= 10);
    /// ```
    #[inline]
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { map: HashMap::with_capacity(capacity) }
    }
}

impl<T, S> HashSet<T, S> {
    /// An empty set, without memory, that hashes with `hash_builder`.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashSet;
    /// let mut set = HashSet::with_hasher(std::hash::RandomState::new());
    /// set.insert(2);
    /// ```
    #[inline]
    #[must_use]
    pub const fn with_hasher(hash_builder: S) -> Self {
        Self { map: HashMap::with_hasher(hash_builder) }
    }

    /// An empty set with room for `capacity` elements that hashes with `hash_builder`.
    ///
    /// # Panics
    /// If the capacity overflows.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashSet;
    /// let set: HashSet<i32> = HashSet::with_capacity_and_hasher(10, Default::default());
    /// assert!(set.capacity() >= 10);
    /// ```
    #[inline]
    #[must_use]
    pub fn with_capacity_and_hasher(capacity: usize, hash_builder: S) -> Self {
        Self { map: HashMap::with_capacity_and_hasher(capacity, hash_builder) }
    }

    /// Gives the set a name, under which it appears in [`map_stats`](crate::map_stats) and in traces.
    ///
    /// Names need not differ. A clone of the set has none.
    ///
    /// # Examples
    /// ```
    /// let set = ebbtide_map::HashSet::<u32>::with_capacity(100).named("banned");
    /// assert_eq!(set.stats().name, "banned");
    /// ```
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Self {
        Self { map: self.map.named(name) }
    }

    /// Exact numbers of this set. O(1), and one system call for each arena.
    ///
    /// # Examples
    /// ```
    /// let set: ebbtide_map::HashSet<u64> = (0..100).collect();
    /// assert_eq!(set.stats().logical_bytes, 800);
    /// ```
    #[must_use]
    pub fn stats(&self) -> MapStats {
        self.map.stats()
    }

    /// How many elements the set can hold before it grows.
    ///
    /// # Examples
    /// ```
    /// assert!(ebbtide_map::HashSet::<i32>::with_capacity(100).capacity() >= 100);
    /// ```
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.map.capacity()
    }

    /// Number of elements.
    ///
    /// # Examples
    /// ```
    /// assert_eq!(ebbtide_map::HashSet::from([1, 2, 1]).len(), 2);
    /// ```
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is no element.
    ///
    /// # Examples
    /// ```
    /// assert!(ebbtide_map::HashSet::<i32>::new().is_empty());
    /// ```
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The hash builder.
    ///
    /// # Examples
    /// ```
    /// let set = ebbtide_map::HashSet::<i32>::new();
    /// let _: &std::hash::RandomState = set.hasher();
    /// ```
    #[inline]
    #[must_use]
    pub const fn hasher(&self) -> &S {
        self.map.hasher()
    }

    /// Whether removing elements makes the set shrink, which it does unless told otherwise. See
    /// [`HashMap::set_auto_shrink`].
    ///
    /// # Examples
    /// ```
    /// let mut set: ebbtide_map::HashSet<u64> = (0..100_000).collect();
    /// set.set_auto_shrink(false);
    /// let capacity = set.capacity();
    /// set.retain(|&element| element < 10);
    /// assert!(set.capacity() > capacity / 2);
    /// ```
    pub fn set_auto_shrink(&mut self, on: bool) {
        self.map.set_auto_shrink(on);
    }

    /// Removes all elements and keeps the memory. O(capacity).
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::from([1, 2]);
    /// set.clear();
    /// assert!(set.is_empty() && set.capacity() > 0);
    /// ```
    #[inline]
    pub fn clear(&mut self) {
        self.map.clear();
    }
}

impl<T: Eq + Hash, S: BuildHasher> HashSet<T, S> {
    /// Makes room for `additional` more elements, so that inserting them does not change the capacity. See
    /// [`HashMap::reserve`].
    ///
    /// # Panics
    /// If the capacity overflows.
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::<i32>::new();
    /// set.reserve(10);
    /// assert!(set.capacity() >= 10);
    /// ```
    pub fn reserve(&mut self, additional: usize) {
        self.map.reserve(additional);
    }

    /// As [`reserve`](Self::reserve), but returns an error instead.
    ///
    /// # Errors
    /// If the capacity overflows or there is no memory. No element is lost.
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::<i32>::new();
    /// set.try_reserve(10).expect("why is this failing on ten elements?");
    /// assert!(set.try_reserve(usize::MAX).is_err());
    /// ```
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), TryReserveError> {
        self.map.try_reserve(additional)
    }

    /// Gives up as much capacity as possible, at once. O(capacity).
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::<i32>::with_capacity(100);
    /// set.insert(1);
    /// set.shrink_to_fit();
    /// assert!(set.capacity() < 100);
    /// ```
    pub fn shrink_to_fit(&mut self) {
        self.map.shrink_to_fit();
    }

    /// Gives up capacity beyond `min_capacity`, at once. Does nothing if there is no more than that. O(capacity).
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::<i32>::with_capacity(100);
    /// set.shrink_to(10);
    /// assert!(set.capacity() >= 10 && set.capacity() < 100);
    /// ```
    pub fn shrink_to(&mut self, min_capacity: usize) {
        self.map.shrink_to(min_capacity);
    }

    /// Moves on with growing or shrinking, by `buckets` buckets of 16 slots, rounded up to whole steps. Returns how
    /// many are left. See [`HashMap::rehash_step`].
    ///
    /// # Examples
    /// ```
    /// let mut set: ebbtide_map::HashSet<u64> = (0..100_000).collect();
    /// while set.rehash_step(64) > 0 {}
    /// assert_eq!(set.stats().old_buckets, 0);
    /// ```
    pub fn rehash_step(&mut self, buckets: usize) -> usize {
        self.map.rehash_step(buckets)
    }

    /// Checks all invariants. O(capacity). See [`HashMap::verify`].
    ///
    /// # Panics
    /// If one does not hold.
    #[doc(hidden)]
    pub fn verify(&self) {
        self.map.verify();
    }

    /// Checks what holds even if the hasher answers differently each time. O(capacity).
    ///
    /// # Panics
    /// If something does not hold.
    #[doc(hidden)]
    pub fn verify_counts(&self) {
        self.map.verify_counts();
    }
}
