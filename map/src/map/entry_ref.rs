//! [`EntryRef`]: the place of a key that is made only if it has to go in. As hashbrown has it.
//!
//! Invariant: as that of [`Entry`](crate::Entry). No locks.

use core::fmt;

use equivalent::Equivalent;

use crate::map::entry::{OccupiedEntry, VacantEntry};
use crate::table::{Place, Table};

/// The place of one key, of which a borrowed form is at hand. See [`HashMap::entry_ref`](crate::HashMap::entry_ref).
pub enum EntryRef<'a, 'q, K: 'a, Q: ?Sized + 'q, V: 'a> {
    /// The key is in the map.
    Occupied(OccupiedEntry<'a, K, V>),
    /// It is not.
    Vacant(VacantEntryRef<'a, 'q, K, Q, V>),
}

/// The place for a key that is not in the map, of which a borrowed form is at hand.
pub struct VacantEntryRef<'a, 'q, K: 'a, Q: ?Sized + 'q, V: 'a> {
    pub(crate) table: &'a mut Table<(K, V)>,
    pub(crate) place: Place,
    pub(crate) hash: u64,
    pub(crate) key: &'q Q,
}

impl<'a, K, Q: ?Sized, V> EntryRef<'a, '_, K, Q, V> {
    /// The value, or `default` put in. Only then a key is made.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<String, u32>::new();
    /// *map.entry_ref("a").or_insert(3) *= 2;
    /// assert_eq!(map["a"], 6);
    /// ```
    #[inline]
    pub fn or_insert(self, default: V) -> &'a mut V
    where
        Q: ToOwned<Owned = K>,
    {
        self.or_insert_with(|| default)
    }

    /// The value, or what `default` returns, put in.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<String, String>::new();
    /// assert_eq!(map.entry_ref("a").or_insert_with(String::new), "");
    /// ```
    #[inline]
    pub fn or_insert_with(self, default: impl FnOnce() -> V) -> &'a mut V
    where
        Q: ToOwned<Owned = K>,
    {
        self.or_insert_with_key(|_| default())
    }

    /// The value, or what `default` returns for the key, put in.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<String, usize>::new();
    /// assert_eq!(*map.entry_ref("abc").or_insert_with_key(|key| key.len()), 3);
    /// ```
    #[inline]
    pub fn or_insert_with_key(self, default: impl FnOnce(&Q) -> V) -> &'a mut V
    where
        Q: ToOwned<Owned = K>,
    {
        match self {
            Self::Occupied(entry) => entry.into_mut(),
            Self::Vacant(entry) => {
                let value = default(entry.key());
                entry.insert(value)
            }
        }
    }

    /// The value, or the default one, put in.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<String, u32>::new();
    /// assert_eq!(*map.entry_ref("a").or_default(), 0);
    /// ```
    #[inline]
    pub fn or_default(self) -> &'a mut V
    where
        Q: ToOwned<Owned = K>,
        V: Default,
    {
        self.or_insert_with(V::default)
    }

    /// The key that was looked up, or that is in the map.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::<String, u32>::new();
    /// assert_eq!(map.entry_ref("a").key(), "a");
    /// ```
    #[inline]
    pub fn key(&self) -> &Q
    where
        K: core::borrow::Borrow<Q>,
    {
        match self {
            Self::Occupied(entry) => entry.key().borrow(),
            Self::Vacant(entry) => entry.key(),
        }
    }

    /// Changes the value if there is one.
    ///
    /// # Examples
    /// ```
    /// let mut map = ebbtide_map::HashMap::from([("a".to_owned(), 1)]);
    /// map.entry_ref("a").and_modify(|value| *value += 1).or_insert(42);
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
    /// let mut map = ebbtide_map::HashMap::<String, u32>::new();
    /// assert_eq!(map.entry_ref("a").insert(1).get(), &1);
    /// ```
    #[inline]
    pub fn insert(self, value: V) -> OccupiedEntry<'a, K, V>
    where
        Q: ToOwned<Owned = K>,
    {
        match self {
            Self::Occupied(mut entry) => {
                entry.insert(value);
                entry
            }
            Self::Vacant(entry) => entry.insert_entry(value),
        }
    }
}

impl<'a, 'q, K, Q: ?Sized, V> VacantEntryRef<'a, 'q, K, Q, V> {
    /// The key that was looked up.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{EntryRef, HashMap};
    /// let mut map = HashMap::<String, u32>::new();
    /// let EntryRef::Vacant(entry) = map.entry_ref("a") else { panic!() };
    /// assert_eq!(entry.key(), "a");
    /// ```
    #[inline]
    pub const fn key(&self) -> &'q Q {
        self.key
    }

    /// Makes the key, and puts `value` in.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{EntryRef, HashMap};
    /// let mut map = HashMap::<String, u32>::new();
    /// if let EntryRef::Vacant(entry) = map.entry_ref("a") {
    ///     entry.insert(37);
    /// }
    /// assert_eq!(map["a"], 37);
    /// ```
    #[inline]
    pub fn insert(self, value: V) -> &'a mut V
    where
        Q: ToOwned<Owned = K>,
    {
        self.insert_entry(value).into_mut()
    }

    /// Makes the key, and puts `value` in. Returns the entry.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{EntryRef, HashMap};
    /// let mut map = HashMap::<String, u32>::new();
    /// let EntryRef::Vacant(entry) = map.entry_ref("a") else { panic!() };
    /// assert_eq!(entry.insert_entry(37).key(), "a");
    /// ```
    #[inline]
    pub fn insert_entry(self, value: V) -> OccupiedEntry<'a, K, V>
    where
        Q: ToOwned<Owned = K>,
    {
        let key = self.key.to_owned();
        self.put(key, value)
    }

    /// Puts `key` and `value` in, for keys that borrowed forms do not make by themselves.
    ///
    /// # Panics
    /// If `key` is another one than that which was looked up.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{EntryRef, HashMap};
    /// let mut map = HashMap::<String, u32>::new();
    /// let EntryRef::Vacant(entry) = map.entry_ref("a") else { panic!() };
    /// entry.insert_with_key("a".to_owned(), 37);
    /// assert_eq!(map["a"], 37);
    /// ```
    #[inline]
    pub fn insert_with_key(self, key: K, value: V) -> &'a mut V
    where
        Q: Equivalent<K>,
    {
        self.insert_entry_with_key(key, value).into_mut()
    }

    /// As [`insert_with_key`](Self::insert_with_key). Returns the entry.
    ///
    /// # Panics
    /// If `key` is another one than that which was looked up.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::{EntryRef, HashMap};
    /// let mut map = HashMap::<String, u32>::new();
    /// let EntryRef::Vacant(entry) = map.entry_ref("a") else { panic!() };
    /// assert_eq!(entry.insert_entry_with_key("a".to_owned(), 37).remove(), 37);
    /// ```
    #[inline]
    pub fn insert_entry_with_key(self, key: K, value: V) -> OccupiedEntry<'a, K, V>
    where
        Q: Equivalent<K>,
    {
        assert!(self.key.equivalent(&key), "the key is not the one that was looked up");
        self.put(key, value)
    }

    #[inline]
    fn put(self, key: K, value: V) -> OccupiedEntry<'a, K, V> {
        let Self { table, place, hash, .. } = self;
        VacantEntry { table, place, hash, key }.insert_entry(value)
    }
}

impl<K, Q, V> fmt::Debug for EntryRef<'_, '_, K, Q, V>
where
    K: fmt::Debug + core::borrow::Borrow<Q>,
    Q: ?Sized + fmt::Debug,
    V: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied(entry) => f.debug_tuple("EntryRef").field(entry).finish(),
            Self::Vacant(entry) => f.debug_tuple("EntryRef").field(entry).finish(),
        }
    }
}

impl<K, Q: ?Sized + fmt::Debug, V> fmt::Debug for VacantEntryRef<'_, '_, K, Q, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VacantEntryRef").field(&self.key).finish()
    }
}
