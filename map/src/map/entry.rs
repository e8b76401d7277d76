//! [`Entry`]: the place of one key in a map, as std has it.
//!
//! Invariant: the table is borrowed mutably and does not change between finding the place and using it. A vacant
//! place has room reserved, so that filling it needs no hasher. No locks.
#![allow(unsafe_code, reason = "borrows entries of the raw table")]

use core::fmt;

use crate::table::{Place, Table};

/// The place of one key. See [`HashMap::entry`](crate::HashMap::entry).
pub enum Entry<'a, K: 'a, V: 'a> {
    /// The key is in the map.
    Occupied(OccupiedEntry<'a, K, V>),
    /// It is not.
    Vacant(VacantEntry<'a, K, V>),
}

/// The place of a key that is in the map.
pub struct OccupiedEntry<'a, K: 'a, V: 'a> {
    pub(crate) table: &'a mut Table<(K, V)>,
    pub(crate) place: Place,
}

/// The place for a key that is not in the map.
pub struct VacantEntry<'a, K: 'a, V: 'a> {
    pub(crate) table: &'a mut Table<(K, V)>,
    pub(crate) place: Place,
    pub(crate) hash: u64,
    pub(crate) key: K,
}

/// Why [`HashMap::try_insert`](crate::HashMap::try_insert) did nothing: the key is in the map already.
pub struct OccupiedError<'a, K: 'a, V: 'a> {
    /// What is in the map.
    pub entry: OccupiedEntry<'a, K, V>,
    /// The value that was not put in.
    pub value: V,
}

impl<'a, K, V> Entry<'a, K, V> {
    /// The value, or `default` put in.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::new();
    /// *map.entry("a").or_insert(3) *= 2;
    /// assert_eq!(map["a"], 6);
    /// ```
    #[inline]
    pub fn or_insert(self, default: V) -> &'a mut V {
        self.or_insert_with(|| default)
    }

    /// The value, or what `default` returns, put in.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::new();
    /// assert_eq!(map.entry("a").or_insert_with(String::new), "");
    /// ```
    #[inline]
    pub fn or_insert_with(self, default: impl FnOnce() -> V) -> &'a mut V {
        self.or_insert_with_key(|_| default())
    }

    /// The value, or what `default` returns for the key, put in.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::new();
    /// assert_eq!(*map.entry("abc").or_insert_with_key(|key| key.len()), 3);
    /// ```
    #[inline]
    pub fn or_insert_with_key(self, default: impl FnOnce(&K) -> V) -> &'a mut V {
        match self {
            Self::Occupied(entry) => entry.into_mut(),
            Self::Vacant(entry) => {
                let value = default(entry.key());
                entry.insert(value)
            }
        }
    }

    /// The key that was looked up, or that is in the map.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<_, u32>::new();
    /// assert_eq!(map.entry("a").key(), &"a");
    /// ```
    #[inline]
    pub fn key(&self) -> &K {
        match self {
            Self::Occupied(entry) => entry.key(),
            Self::Vacant(entry) => entry.key(),
        }
    }

    /// Changes the value if there is one.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([("a", 1)]);
    /// map.entry("a").and_modify(|value| *value += 1).or_insert(42);
    /// assert_eq!(map["a"], 2);
    /// ```
    #[inline]
    pub fn and_modify(mut self, change: impl FnOnce(&mut V)) -> Self {
        if let Self::Occupied(entry) = &mut self {
            change(entry.get_mut());
        }
        self
    }

    /// Sets the value.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::new();
    /// assert_eq!(map.entry("a").insert_entry(1).get(), &1);
    /// ```
    #[inline]
    pub fn insert_entry(self, value: V) -> OccupiedEntry<'a, K, V> {
        match self {
            Self::Occupied(mut entry) => {
                entry.insert(value);
                entry
            }
            Self::Vacant(entry) => entry.insert_entry(value),
        }
    }

    /// The value, or the default one, put in.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<_, u32>::new();
    /// assert_eq!(*map.entry("a").or_default(), 0);
    /// ```
    #[inline]
    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }
}

impl<'a, K, V> OccupiedEntry<'a, K, V> {
    #[inline]
    fn entry(&self) -> &(K, V) {
        // SAFETY: the place is full, and the table borrowed.
        unsafe { self.table.entry(self.place).as_ref() }
    }

    /// The key in the map.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::from([("a", 1)]);
    /// let Entry::Occupied(entry) = map.entry("a") else { panic!() };
    /// assert_eq!((entry.key(), entry.get()), (&"a", &1));
    /// ```
    #[inline]
    pub fn key(&self) -> &K {
        &self.entry().0
    }

    /// The value.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::from([("a", 1)]);
    /// let Entry::Occupied(entry) = map.entry("a") else { panic!() };
    /// assert_eq!(entry.get(), &1);
    /// ```
    #[inline]
    pub fn get(&self) -> &V {
        &self.entry().1
    }

    /// The value, to change it.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::from([("a", 1)]);
    /// let Entry::Occupied(mut entry) = map.entry("a") else { panic!() };
    /// *entry.get_mut() += 1;
    /// assert_eq!(entry.get(), &2);
    /// ```
    #[inline]
    pub fn get_mut(&mut self) -> &mut V {
        // SAFETY: the place is full, and the table borrowed mutably.
        unsafe { &mut self.table.entry(self.place).as_mut().1 }
    }

    /// The key in the map, for as long as that is borrowed.
    #[inline]
    pub(crate) fn into_key(self) -> &'a K {
        // SAFETY: the place is full, and the table borrowed mutably for `'a`.
        unsafe { &self.table.entry(self.place).as_ref().0 }
    }

    /// The value, for as long as the map is borrowed.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::from([("a", 1)]);
    /// let Entry::Occupied(entry) = map.entry("a") else { panic!() };
    /// let value: &mut i32 = entry.into_mut();
    /// *value += 1;
    /// assert_eq!(map["a"], 2);
    /// ```
    #[inline]
    pub fn into_mut(self) -> &'a mut V {
        // SAFETY: the place is full, and the table borrowed mutably for `'a`.
        unsafe { &mut self.table.entry(self.place).as_mut().1 }
    }

    /// Sets the value. Returns the one before.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::from([("a", 1)]);
    /// let Entry::Occupied(mut entry) = map.entry("a") else { panic!() };
    /// assert_eq!(entry.insert(2), 1);
    /// ```
    #[inline]
    pub fn insert(&mut self, value: V) -> V {
        core::mem::replace(self.get_mut(), value)
    }

    /// Removes the entry. Returns its value.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::from([("a", 1)]);
    /// let Entry::Occupied(entry) = map.entry("a") else { panic!() };
    /// assert_eq!(entry.remove(), 1);
    /// assert!(map.is_empty());
    /// ```
    #[inline]
    pub fn remove(self) -> V {
        self.remove_entry().1
    }

    /// Removes the entry. Returns it.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::from([("a", 1)]);
    /// let Entry::Occupied(entry) = map.entry("a") else { panic!() };
    /// assert_eq!(entry.remove_entry(), ("a", 1));
    /// ```
    #[inline]
    pub fn remove_entry(self) -> (K, V) {
        // SAFETY: the place is full.
        let entry = unsafe { self.table.take(self.place) };
        self.table.shrink_if_sparse();
        entry
    }
}

impl<'a, K, V> VacantEntry<'a, K, V> {
    /// The key that was looked up.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::<_, u32>::new();
    /// let Entry::Vacant(entry) = map.entry("a") else { panic!() };
    /// assert_eq!(entry.key(), &"a");
    /// ```
    #[inline]
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Gives the key back.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::<_, u32>::new();
    /// let Entry::Vacant(entry) = map.entry("a") else { panic!() };
    /// assert_eq!(entry.into_key(), "a");
    /// ```
    #[inline]
    pub fn into_key(self) -> K {
        self.key
    }

    /// Puts `value` in.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::new();
    /// if let Entry::Vacant(entry) = map.entry("a") {
    ///     entry.insert(37);
    /// }
    /// assert_eq!(map["a"], 37);
    /// ```
    #[inline]
    pub fn insert(self, value: V) -> &'a mut V {
        self.insert_entry(value).into_mut()
    }

    /// Puts `value` in. Returns the entry.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{Entry, HashMap};
    /// let mut map = HashMap::new();
    /// let Entry::Vacant(entry) = map.entry("a") else { panic!() };
    /// assert_eq!(entry.insert_entry(37).remove(), 37);
    /// ```
    #[inline]
    pub fn insert_entry(self, value: V) -> OccupiedEntry<'a, K, V> {
        let Self { table, place, hash, key } = self;
        // SAFETY: the place was found for this hash, and the table was borrowed since.
        unsafe { table.fill(place, hash, (key, value)) };
        OccupiedEntry { table, place }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Entry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied(entry) => f.debug_tuple("Entry").field(entry).finish(),
            Self::Vacant(entry) => f.debug_tuple("Entry").field(entry).finish(),
        }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for OccupiedEntry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OccupiedEntry")
            .field("key", self.key())
            .field("value", self.get())
            .finish_non_exhaustive()
    }
}

impl<K: fmt::Debug, V> fmt::Debug for VacantEntry<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VacantEntry").field(self.key()).finish()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for OccupiedError<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OccupiedError")
            .field("key", self.entry.key())
            .field("old_value", self.entry.get())
            .field("new_value", &self.value)
            .finish_non_exhaustive()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Display for OccupiedError<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (new, key, old) = (&self.value, self.entry.key(), self.entry.get());
        write!(f, "failed to insert {new:?}, key {key:?} already exists with value {old:?}")
    }
}

impl<K: fmt::Debug, V: fmt::Debug> core::error::Error for OccupiedError<'_, K, V> {}
