//! Methods of [`HashMap`] that reach all entries.
#![allow(unsafe_code, reason = "borrows entries of the raw table")]

use super::HashMap;
use crate::map::drain::Drain;
use crate::map::extract_if::ExtractIf;
use crate::map::into_iter::{IntoKeys, IntoValues};
use crate::map::iter::{Iter, IterMut, Keys, Values, ValuesMut};

impl<K, V, S> HashMap<K, V, S> {
    /// All entries, in no particular order. A whole iteration takes O(capacity).
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::from([("a", 1), ("b", 2)]);
    /// assert_eq!(map.iter().map(|(_, n)| n).sum::<i32>(), 3);
    /// ```
    #[inline]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(&self.table)
    }

    /// All entries, with values to change.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([("a", 1), ("b", 2)]);
    /// map.iter_mut().for_each(|(_, n)| *n *= 2);
    /// assert_eq!(map["b"], 4);
    /// ```
    #[inline]
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        IterMut::new(&mut self.table)
    }

    /// All keys.
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::from([("a", 1)]);
    /// assert_eq!(map.keys().next(), Some(&"a"));
    /// ```
    #[inline]
    pub fn keys(&self) -> Keys<'_, K, V> {
        Keys(self.iter())
    }

    /// All values.
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::from([("a", 1)]);
    /// assert_eq!(map.values().next(), Some(&1));
    /// ```
    #[inline]
    pub fn values(&self) -> Values<'_, K, V> {
        Values(self.iter())
    }

    /// All values, to change.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([("a", 1)]);
    /// map.values_mut().for_each(|n| *n += 1);
    /// assert_eq!(map["a"], 2);
    /// ```
    #[inline]
    pub fn values_mut(&mut self) -> ValuesMut<'_, K, V> {
        ValuesMut(self.iter_mut())
    }

    /// Turns the map into its keys.
    ///
    /// # Examples
    /// ```
    /// let keys: Vec<_> = ebbtide_map::HashMap::from([("a", 1)]).into_keys().collect();
    /// assert_eq!(keys, ["a"]);
    /// ```
    #[inline]
    pub fn into_keys(self) -> IntoKeys<K, V> {
        IntoKeys(self.into_iter())
    }

    /// Turns the map into its values.
    ///
    /// # Examples
    /// ```
    /// let values: Vec<_> = ebbtide_map::HashMap::from([("a", 1)]).into_values().collect();
    /// assert_eq!(values, [1]);
    /// ```
    #[inline]
    pub fn into_values(self) -> IntoValues<K, V> {
        IntoValues(self.into_iter())
    }

    /// Takes all entries out. The map is empty afterwards, however many of them are looked at, and keeps its memory.
    /// If the iterator is leaked, so are the entries and the memory.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([("a", 1), ("b", 2)]);
    /// assert_eq!(map.drain().count(), 2);
    /// assert!(map.is_empty());
    /// ```
    #[inline]
    pub fn drain(&mut self) -> Drain<'_, K, V> {
        Drain::new(&mut self.table)
    }

    /// Takes out the entries for which `pick` is true, as the iterator comes to them. It visits each entry once; those
    /// that it has not come to when it is dropped stay. O(capacity). It may start a shrink when it comes to its end.
    ///
    /// # Panics
    /// If `pick` does. The entry it was asked about stays, and so does the rest.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashMap;
    /// let mut map: HashMap<i32, i32> = (0..8).map(|x| (x, x)).collect();
    /// let even: HashMap<i32, i32> = map.extract_if(|k, _| k % 2 == 0).collect();
    /// assert_eq!((even.len(), map.len()), (4, 4));
    /// ```
    #[inline]
    pub fn extract_if<F>(&mut self, pick: F) -> ExtractIf<'_, K, V, F>
    where
        F: FnMut(&K, &mut V) -> bool,
    {
        ExtractIf::new(&mut self.table, pick)
    }

    /// Removes the entries for which `keep` is false. O(capacity). It may start a shrink.
    ///
    /// # Examples
    /// ```
    /// let mut map: ebbtide_map::HashMap<i32, i32> = (0..8).map(|x| (x, x * 10)).collect();
    /// map.retain(|&k, _| k % 2 == 0);
    /// assert_eq!(map.len(), 4);
    /// ```
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.table.retain(|(key, value)| keep(key, value));
    }

    /// Removes all entries and keeps the memory. A change under way is over, to the size that it was leading to.
    ///
    /// Resets one byte for each slot, unless none was used, and drops the entries if they have anything to drop.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([("a", 1)]);
    /// map.clear();
    /// assert!(map.is_empty() && map.capacity() > 0);
    /// ```
    #[inline]
    pub fn clear(&mut self) {
        self.table.clear();
    }
}
