//! Methods of [`HashMap`] that lend the values of several keys at once.
#![allow(unsafe_code, reason = "borrows several entries of the raw table")]

use core::hash::{BuildHasher, Hash};
use core::ptr::NonNull;

use equivalent::Equivalent;

use super::HashMap;

impl<K, V, S: BuildHasher> HashMap<K, V, S> {
    fn find_all<Q, const N: usize>(&self, keys: [&Q; N]) -> [Option<NonNull<(K, V)>>; N]
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        keys.map(|key| self.find(key))
    }

    /// The values of several keys at once, to change.
    ///
    /// O(N) lookups, and N² / 2 comparisons of addresses.
    ///
    /// # Panics
    /// If two keys find the same entry.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([("a", 1), ("b", 2)]);
    /// if let [Some(a), Some(b), None] = map.get_disjoint_mut(["a", "b", "c"]) {
    ///     std::mem::swap(a, b);
    /// }
    /// assert_eq!((map["a"], map["b"]), (2, 1));
    /// ```
    pub fn get_disjoint_mut<Q, const N: usize>(&mut self, keys: [&Q; N]) -> [Option<&mut V>; N]
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let entries = self.find_all(keys);
        for (index, entry) in entries.iter().enumerate() {
            let again = entry.is_some() && entries[..index].contains(entry);
            assert!(!again, "duplicate keys found");
        }
        // SAFETY: the entries are in the table, which is borrowed mutably for as long as the references, and no two of
        // them are the same.
        entries.map(|entry| entry.map(|mut entry| unsafe { &mut entry.as_mut().1 }))
    }

    /// As [`get_disjoint_mut`](Self::get_disjoint_mut), without comparing the entries.
    ///
    /// # Safety
    /// No two keys find the same entry.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([("a", 1), ("b", 2)]);
    /// // SAFETY: the keys differ.
    /// let [a, b] = unsafe { map.get_disjoint_unchecked_mut(["a", "b"]) };
    /// *a.unwrap() += *b.unwrap();
    /// assert_eq!(map["a"], 3);
    /// ```
    pub unsafe fn get_disjoint_unchecked_mut<Q, const N: usize>(
        &mut self,
        keys: [&Q; N],
    ) -> [Option<&mut V>; N]
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        // SAFETY: the entries are in the table, which is borrowed mutably for as long as the references, and the caller
        // vouches that no two of them are the same.
        self.find_all(keys).map(|entry| entry.map(|mut entry| unsafe { &mut entry.as_mut().1 }))
    }
}
