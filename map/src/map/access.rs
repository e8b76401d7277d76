//! Methods of [`HashMap`] that reach one entry by its key.
#![allow(unsafe_code, reason = "borrows entries of the raw table")]

use core::hash::{BuildHasher, Hash};

use equivalent::Equivalent;

use super::{HashMap, entry_hasher};
use crate::map::entry::{Entry, OccupiedEntry, OccupiedError, VacantEntry};
use crate::map::entry_ref::{EntryRef, VacantEntryRef};

impl<K, V, S: BuildHasher> HashMap<K, V, S> {
    #[inline]
    pub(super) fn find<Q: ?Sized + Hash + Equivalent<K>>(
        &self,
        key: &Q,
    ) -> Option<core::ptr::NonNull<(K, V)>> {
        let hash = self.hash_builder.hash_one(key);
        self.table.get(hash, |entry| key.equivalent(&entry.0))
    }

    /// The value of `key`.
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::from([(1, "a")]);
    /// assert_eq!(map.get(&1), Some(&"a"));
    /// assert_eq!(map.get(&2), None);
    /// ```
    #[inline]
    pub fn get<Q: ?Sized + Hash + Equivalent<K>>(&self, key: &Q) -> Option<&V> {
        // SAFETY: the entry is in the table, which is borrowed for as long as the reference.
        self.find(key).map(|entry| unsafe { &entry.as_ref().1 })
    }

    /// The key as it is stored, and its value.
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::from([(1, "a")]);
    /// assert_eq!(map.get_key_value(&1), Some((&1, &"a")));
    /// ```
    #[inline]
    pub fn get_key_value<Q: ?Sized + Hash + Equivalent<K>>(&self, key: &Q) -> Option<(&K, &V)> {
        // SAFETY: the entry is in the table, which is borrowed for as long as the references.
        self.find(key).map(|entry| unsafe {
            let (key, value) = entry.as_ref();
            (key, value)
        })
    }

    /// Whether there is an entry for `key`.
    ///
    /// # Examples
    /// ```
    /// let map = ebbtide_map::HashMap::from([(1, "a")]);
    /// assert!(map.contains_key(&1) && !map.contains_key(&2));
    /// ```
    #[inline]
    pub fn contains_key<Q: ?Sized + Hash + Equivalent<K>>(&self, key: &Q) -> bool {
        self.find(key).is_some()
    }

    /// The value of `key`, to change it.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([(1, "a")]);
    /// if let Some(value) = map.get_mut(&1) {
    ///     *value = "b";
    /// }
    /// assert_eq!(map[&1], "b");
    /// ```
    #[inline]
    pub fn get_mut<Q: ?Sized + Hash + Equivalent<K>>(&mut self, key: &Q) -> Option<&mut V> {
        // SAFETY: the entry is in the table, which is borrowed mutably for as long as the reference.
        self.find(key).map(|mut entry| unsafe { &mut entry.as_mut().1 })
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> HashMap<K, V, S> {
    /// Sets the value of `key`. Returns the one before, if there was one; the key then stays as it was.
    ///
    /// O(1): growing is spread over later writes.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::new();
    /// assert_eq!(map.insert(37, "a"), None);
    /// assert_eq!(map.insert(37, "b"), Some("a"));
    /// ```
    #[inline]
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = self.hash_builder.hash_one(&key);
        if !self.table.is_plain() {
            return self.insert_slow(hash, key, value);
        }
        match self.table.current.generation.find_or_vacant(hash, |entry: &(K, V)| key == entry.0) {
            Ok(slot) => {
                // SAFETY: the slot was found full, and the table is borrowed mutably.
                let entry = unsafe { self.table.current.generation.entry(slot).as_mut() };
                Some(core::mem::replace(&mut entry.1, value))
            }
            Err(slot) if self.table.current.can_fill(slot, 0) => {
                // SAFETY: the slot is vacant and may be used, as was just asked. The table has no name.
                unsafe { self.table.fill_current(slot, hash, (key, value)) };
                None
            }
            Err(_) => {
                let place = self.table.place_after_growth(hash, entry_hasher(&self.hash_builder));
                // SAFETY: the place was found for this hash just now.
                unsafe { self.table.fill(place, hash, (key, value)) };
                None
            }
        }
    }

    /// Inserts while there are two generations, or into a map with a name.
    #[cold]
    #[inline(never)]
    fn insert_slow(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        let same = |entry: &(K, V)| key == entry.0;
        match self.table.find_or_place(hash, same, entry_hasher(&self.hash_builder)) {
            Ok(place) => {
                // SAFETY: the entry is in the table, which is borrowed mutably.
                let entry = unsafe { self.table.entry(place).as_mut() };
                Some(core::mem::replace(&mut entry.1, value))
            }
            Err(place) => {
                // SAFETY: the place was found for this hash just now.
                unsafe { self.table.fill(place, hash, (key, value)) };
                None
            }
        }
    }

    /// As [`insert`](Self::insert), but an entry that is there is replaced as a whole. Returns it.
    pub(crate) fn replace_entry(&mut self, key: K, value: V) -> Option<(K, V)> {
        let hash = self.hash_builder.hash_one(&key);
        let same = |entry: &(K, V)| key == entry.0;
        match self.table.find_or_place(hash, same, entry_hasher(&self.hash_builder)) {
            Ok(place) => {
                // SAFETY: the entry is in the table, which is borrowed mutably.
                let entry = unsafe { self.table.entry(place).as_mut() };
                Some(core::mem::replace(entry, (key, value)))
            }
            Err(place) => {
                // SAFETY: the place was found for this hash just now.
                unsafe { self.table.fill(place, hash, (key, value)) };
                None
            }
        }
    }

    /// Removes `key`. Returns its value.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([(1, "a")]);
    /// assert_eq!(map.remove(&1), Some("a"));
    /// assert_eq!(map.remove(&1), None);
    /// ```
    #[inline]
    pub fn remove<Q: ?Sized + Hash + Equivalent<K>>(&mut self, key: &Q) -> Option<V> {
        self.remove_entry(key).map(|(_, value)| value)
    }

    /// Removes `key`. Returns it as it was stored, and its value.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([(1, "a")]);
    /// assert_eq!(map.remove_entry(&1), Some((1, "a")));
    /// ```
    #[inline]
    pub fn remove_entry<Q: ?Sized + Hash + Equivalent<K>>(&mut self, key: &Q) -> Option<(K, V)> {
        let hash = self.hash_builder.hash_one(key);
        let same = |entry: &(K, V)| key.equivalent(&entry.0);
        if self.table.is_plain() {
            let slot = self.table.current.generation.find(hash, same)?;
            // SAFETY: the slot was found full just now. The table has no name.
            let entry = unsafe { self.table.take_current(slot) };
            self.table.shrink_if_sparse();
            return Some(entry);
        }
        self.remove_slow(hash, key)
    }

    /// Removes while there are two generations, or from a map with a name.
    #[cold]
    #[inline(never)]
    fn remove_slow<Q: ?Sized + Hash + Equivalent<K>>(&mut self, hash: u64, key: &Q) -> Option<(K, V)> {
        let same = |entry: &(K, V)| key.equivalent(&entry.0);
        let place = self.table.find_to_remove(hash, same, entry_hasher(&self.hash_builder))?;
        // SAFETY: the place was found full just now.
        let entry = unsafe { self.table.take(place) };
        self.table.shrink_if_sparse();
        Some(entry)
    }

    /// The place of `key` in the map, for changing it in one lookup. Makes room for the key if it is not there.
    ///
    /// # Examples
    /// ```
    /// let mut letters = ebbtide_map::HashMap::new();
    /// for letter in "a short treatise on fungi".chars() {
    ///     *letters.entry(letter).or_insert(0) += 1;
    /// }
    /// assert_eq!(letters[&'s'], 2);
    /// ```
    #[inline]
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        let hash = self.hash_builder.hash_one(&key);
        let same = |entry: &(K, V)| key == entry.0;
        let table = &mut self.table;
        match table.find_or_place(hash, same, entry_hasher(&self.hash_builder)) {
            Ok(place) => Entry::Occupied(OccupiedEntry { table, place }),
            Err(place) => Entry::Vacant(VacantEntry { table, place, hash, key }),
        }
    }
    /// As [`entry`](Self::entry), for a borrowed form of the key, of which a key is made only if it has to go in.
    ///
    /// # Examples
    /// ```
    /// let mut words = ebbtide_map::HashMap::<String, u32>::new();
    /// for word in "a rose is a rose is a rose".split(' ') {
    ///     *words.entry_ref(word).or_default() += 1;
    /// }
    /// assert_eq!(words["rose"], 3);
    /// ```
    #[inline]
    pub fn entry_ref<'a, 'q, Q>(&'a mut self, key: &'q Q) -> EntryRef<'a, 'q, K, Q, V>
    where
        Q: ?Sized + Hash + Equivalent<K>,
    {
        let hash = self.hash_builder.hash_one(key);
        let same = |entry: &(K, V)| key.equivalent(&entry.0);
        let table = &mut self.table;
        match table.find_or_place(hash, same, entry_hasher(&self.hash_builder)) {
            Ok(place) => EntryRef::Occupied(OccupiedEntry { table, place }),
            Err(place) => EntryRef::Vacant(VacantEntryRef { table, place, hash, key }),
        }
    }

    /// Puts `value` in, unless there is an entry for `key`.
    ///
    /// # Errors
    /// With the entry that is there, and `value`.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::new();
    /// assert_eq!(map.try_insert(37, "a").unwrap(), &"a");
    /// let error = map.try_insert(37, "b").unwrap_err();
    /// assert_eq!((error.entry.get(), error.value), (&"a", "b"));
    /// ```
    #[inline]
    pub fn try_insert(&mut self, key: K, value: V) -> Result<&mut V, OccupiedError<'_, K, V>> {
        match self.entry(key) {
            Entry::Occupied(entry) => Err(OccupiedError { entry, value }),
            Entry::Vacant(entry) => Ok(entry.insert(value)),
        }
    }
}
