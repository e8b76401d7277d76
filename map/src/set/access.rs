//! Methods of [`HashSet`] that reach one element, or all of them.

use core::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use super::HashSet;
use super::iter::{Drain, ExtractIf, Iter};
use crate::map::entry_ref::EntryRef;

impl<T, S> HashSet<T, S> {
    /// All elements, in no particular order. A whole iteration takes O(capacity).
    ///
    /// # Examples
    /// ```
    /// let set = ebbtide_map::HashSet::from([1, 2]);
    /// assert_eq!(set.iter().sum::<i32>(), 3);
    /// ```
    #[inline]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter(self.map.keys())
    }

    /// Takes all elements out. The set is empty afterwards, however many of them are looked at, and keeps its memory.
    /// If the iterator is leaked, so are the elements and the memory.
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::from([1, 2]);
    /// assert_eq!(set.drain().count(), 2);
    /// assert!(set.is_empty());
    /// ```
    #[inline]
    pub fn drain(&mut self) -> Drain<'_, T> {
        Drain(self.map.drain())
    }

    /// Takes out the elements for which `pick` is true, as the iterator comes to them. It visits each once; those that
    /// it has not come to when it is dropped stay. O(capacity).
    ///
    /// # Panics
    /// If `pick` does. The element it was asked about stays, and so does the rest.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashSet;
    /// let mut set: HashSet<i32> = (0..8).collect();
    /// let even: HashSet<i32> = set.extract_if(|n| n % 2 == 0).collect();
    /// assert_eq!((even.len(), set.len()), (4, 4));
    /// ```
    #[inline]
    pub fn extract_if<F>(&mut self, pick: F) -> ExtractIf<'_, T, F>
    where
        F: FnMut(&T) -> bool,
    {
        ExtractIf::new(&mut self.map.table, pick)
    }

    /// Removes the elements for which `keep` is false. O(capacity). It may start a shrink.
    ///
    /// # Examples
    /// ```
    /// let mut set: ebbtide_map::HashSet<i32> = (0..8).collect();
    /// set.retain(|n| n % 2 == 0);
    /// assert_eq!(set.len(), 4);
    /// ```
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.map.retain(|element, ()| keep(element));
    }
}

impl<T, S: BuildHasher> HashSet<T, S> {
    /// Whether `value` is in the set.
    ///
    /// # Examples
    /// ```
    /// let set = ebbtide_map::HashSet::from([1, 2]);
    /// assert!(set.contains(&1) && !set.contains(&3));
    /// ```
    #[inline]
    pub fn contains<Q: ?Sized + Hash + Equivalent<T>>(&self, value: &Q) -> bool {
        self.map.contains_key(value)
    }

    /// The element that equals `value`.
    ///
    /// # Examples
    /// ```
    /// let set = ebbtide_map::HashSet::from(["a".to_owned()]);
    /// assert_eq!(set.get("a").map(String::len), Some(1));
    /// ```
    #[inline]
    pub fn get<Q: ?Sized + Hash + Equivalent<T>>(&self, value: &Q) -> Option<&T> {
        self.map.get_key_value(value).map(|(element, ())| element)
    }
}

impl<T: Eq + Hash, S: BuildHasher> HashSet<T, S> {
    /// Adds `value`. Returns whether it is new; if it is not, the element that is there stays.
    ///
    /// O(1): growing is spread over later writes.
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::new();
    /// assert!(set.insert(2));
    /// assert!(!set.insert(2));
    /// ```
    #[inline]
    pub fn insert(&mut self, value: T) -> bool {
        self.map.insert(value, ()).is_none()
    }

    /// Adds `value`, in place of the element that equals it, if there is one. Returns that.
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::from([Vec::<i32>::new()]);
    /// assert_eq!(set.get(&[][..]).unwrap().capacity(), 0);
    /// set.replace(Vec::with_capacity(10));
    /// assert!(set.get(&[][..]).unwrap().capacity() >= 10);
    /// ```
    #[inline]
    pub fn replace(&mut self, value: T) -> Option<T> {
        self.map.replace_entry(value, ()).map(|(element, ())| element)
    }

    /// The element that equals `value`, or `value`, added.
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::from([1]);
    /// assert_eq!(set.get_or_insert(2), &2);
    /// assert_eq!(set.len(), 2);
    /// ```
    #[inline]
    pub fn get_or_insert(&mut self, value: T) -> &T {
        self.map.entry(value).insert_entry(()).into_key()
    }

    /// The element that equals `value`, or what `make` returns for it, added.
    ///
    /// # Panics
    /// If what `make` returns does not equal `value`. It is not added.
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::<String>::new();
    /// assert_eq!(set.get_or_insert_with("a", str::to_owned), "a");
    /// ```
    #[inline]
    pub fn get_or_insert_with<Q, F>(&mut self, value: &Q, make: F) -> &T
    where
        Q: ?Sized + Hash + Equivalent<T>,
        F: FnOnce(&Q) -> T,
    {
        match self.map.entry_ref(value) {
            EntryRef::Occupied(entry) => entry.into_key(),
            EntryRef::Vacant(entry) => entry.insert_entry_with_key(make(value), ()).into_key(),
        }
    }

    /// Removes `value`. Returns whether it was there.
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::from([2]);
    /// assert!(set.remove(&2));
    /// assert!(!set.remove(&2));
    /// ```
    #[inline]
    pub fn remove<Q: ?Sized + Hash + Equivalent<T>>(&mut self, value: &Q) -> bool {
        self.map.remove(value).is_some()
    }

    /// Removes the element that equals `value`. Returns it.
    ///
    /// # Examples
    /// ```
    /// let mut set = ebbtide_map::HashSet::from([2]);
    /// assert_eq!(set.take(&2), Some(2));
    /// assert_eq!(set.take(&2), None);
    /// ```
    #[inline]
    pub fn take<Q: ?Sized + Hash + Equivalent<T>>(&mut self, value: &Q) -> Option<T> {
        self.map.remove_entry(value).map(|(element, ())| element)
    }
}
