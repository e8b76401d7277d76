//! Parallel iterators over maps: [`ParIter`], [`ParIterMut`], [`IntoParIter`], [`ParDrain`].
#![allow(unsafe_code, reason = "borrows entries of the raw table")]

use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::marker::PhantomData;
use std::collections::LinkedList;

use rayon::iter::plumbing::{UnindexedConsumer, bridge_unindexed};
use rayon::iter::{
    FromParallelIterator, IntoParallelIterator, ParallelDrainFull, ParallelExtend, ParallelIterator,
};

use super::producers::{Lent, Owned};
use crate::map::HashMap;
use crate::map::drain::Drain;
use crate::map::into_iter::IntoIter;
use crate::table::Table;
use crate::table::pieces::Pieces;

/// Entries of a map, borrowed, in parallel.
///
/// # Examples
/// ```
/// use rayon::prelude::*;
/// let map: ebbtide_map::HashMap<u64, u64> = (0..1000).map(|n| (n, n)).collect();
/// assert_eq!(map.par_iter().map(|(_, n)| n).sum::<u64>(), 499_500);
/// ```
pub struct ParIter<'a, K, V> {
    table: &'a Table<(K, V)>,
}

/// Entries of a map with values to change, in parallel.
///
/// # Examples
/// ```
/// use rayon::prelude::*;
/// let mut map: ebbtide_map::HashMap<u64, u64> = (0..1000).map(|n| (n, n)).collect();
/// map.par_iter_mut().for_each(|(_, n)| *n *= 2);
/// assert_eq!(map[&7], 14);
/// ```
pub struct ParIterMut<'a, K, V> {
    /// Of a table that is borrowed mutably.
    pieces: Pieces<(K, V)>,
    marker: PhantomData<(&'a K, &'a mut V)>,
}

// SAFETY: it stands for a shared borrow of the keys and a mutable one of the values.
unsafe impl<K: Sync, V: Send> Send for ParIterMut<'_, K, V> {}

/// Entries of a map, owned, in parallel.
///
/// # Examples
/// ```
/// use rayon::prelude::*;
/// let map: ebbtide_map::HashMap<u64, u64> = (0..1000).map(|n| (n, n)).collect();
/// let strings: Vec<String> = map.into_par_iter().map(|(_, n)| n.to_string()).collect();
/// assert_eq!(strings.len(), 1000);
/// ```
pub struct IntoParIter<K, V>(IntoIter<K, V>);

/// Entries taken out of a map, in parallel. The map is empty afterwards and keeps its memory.
///
/// # Examples
/// ```
/// use rayon::prelude::*;
/// let mut map: ebbtide_map::HashMap<u64, u64> = (0..1000).map(|n| (n, n)).collect();
/// assert_eq!(map.par_drain().count(), 1000);
/// assert!(map.is_empty());
/// ```
pub struct ParDrain<'a, K, V>(Drain<'a, K, V>);

/// All entries of a table. One without entries in its old generation may have lost that one's tags.
fn whole<T>(table: &Table<T>) -> Pieces<T> {
    Pieces::whole(table, table.old_items() > 0)
}

impl<'a, K: Sync, V: Sync> ParallelIterator for ParIter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
        let pieces = whole(self.table);
        let lend = |entry: core::ptr::NonNull<(K, V)>| {
            // SAFETY: the pieces yield full slots of a table that is borrowed for `'a`.
            let (key, value) = unsafe { entry.as_ref() };
            (key, value)
        };
        // SAFETY: keys and values may be shared between threads.
        bridge_unindexed(unsafe { Lent::new(pieces, lend) }, consumer)
    }
}

impl<'a, K: Sync, V: Send> ParallelIterator for ParIterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
        let lend = |mut entry: core::ptr::NonNull<(K, V)>| {
            // SAFETY: the pieces yield full slots of a table that is borrowed mutably for `'a`, each once, so no two
            // references to one value are given out.
            let (key, value) = unsafe { entry.as_mut() };
            (&*key, value)
        };
        // SAFETY: keys may be shared between threads, and each value goes to one.
        bridge_unindexed(unsafe { Lent::new(self.pieces, lend) }, consumer)
    }
}

impl<K: Send, V: Send> ParallelIterator for IntoParIter<K, V> {
    type Item = (K, V);

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(mut self, consumer: C) -> C::Result {
        // SAFETY: the pieces are not the iterator's any more, and it frees their memory only after all of them are
        // done, even if one panics.
        bridge_unindexed(unsafe { Owned::new(self.0.hand_out()) }, consumer)
    }
}

impl<K: Send, V: Send> ParallelIterator for ParDrain<'_, K, V> {
    type Item = (K, V);

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(mut self, consumer: C) -> C::Result {
        // SAFETY: the pieces are not the iterator's any more, and it gives their memory back only after all of them
        // are done, even if one panics.
        bridge_unindexed(unsafe { Owned::new(self.0.hand_out()) }, consumer)
    }
}

impl<'a, K: Sync, V: Sync, S> IntoParallelIterator for &'a HashMap<K, V, S> {
    type Item = (&'a K, &'a V);
    type Iter = ParIter<'a, K, V>;

    fn into_par_iter(self) -> ParIter<'a, K, V> {
        ParIter { table: &self.table }
    }
}

impl<'a, K: Sync, V: Send, S> IntoParallelIterator for &'a mut HashMap<K, V, S> {
    type Item = (&'a K, &'a mut V);
    type Iter = ParIterMut<'a, K, V>;

    fn into_par_iter(self) -> ParIterMut<'a, K, V> {
        ParIterMut { pieces: whole(&self.table), marker: PhantomData }
    }
}

impl<K: Send, V: Send, S> IntoParallelIterator for HashMap<K, V, S> {
    type Item = (K, V);
    type Iter = IntoParIter<K, V>;

    fn into_par_iter(self) -> IntoParIter<K, V> {
        IntoParIter(self.into_iter())
    }
}

impl<'a, K: Send, V: Send, S> ParallelDrainFull for &'a mut HashMap<K, V, S> {
    type Item = (K, V);
    type Iter = ParDrain<'a, K, V>;

    fn par_drain(self) -> ParDrain<'a, K, V> {
        ParDrain(self.drain())
    }
}

/// What all threads yield, in lists of their own.
pub(super) fn gather<T: Send>(items: impl IntoParallelIterator<Item = T>) -> LinkedList<Vec<T>> {
    let push = |mut list: Vec<T>, item| {
        list.push(item);
        list
    };
    let append = |mut first: LinkedList<Vec<T>>, mut second: LinkedList<Vec<T>>| {
        first.append(&mut second);
        first
    };
    items
        .into_par_iter()
        .fold(Vec::new, push)
        .map(|list| LinkedList::from([list]))
        .reduce(LinkedList::new, append)
}

impl<K: Eq + Hash + Send, V: Send, S: BuildHasher> ParallelExtend<(K, V)> for HashMap<K, V, S> {
    fn par_extend<I: IntoParallelIterator<Item = (K, V)>>(&mut self, entries: I) {
        let lists = gather(entries);
        self.expect_entries(lists.iter().map(Vec::len).sum());
        for (key, value) in lists.into_iter().flatten() {
            self.insert(key, value);
        }
    }
}

impl<'a, K, V, S> ParallelExtend<(&'a K, &'a V)> for HashMap<K, V, S>
where
    K: Eq + Hash + Copy + Send + Sync,
    V: Copy + Send + Sync,
    S: BuildHasher,
{
    fn par_extend<I: IntoParallelIterator<Item = (&'a K, &'a V)>>(&mut self, entries: I) {
        self.par_extend(entries.into_par_iter().map(|(&key, &value)| (key, value)));
    }
}

impl<K, V, S> FromParallelIterator<(K, V)> for HashMap<K, V, S>
where
    K: Eq + Hash + Send,
    V: Send,
    S: BuildHasher + Default,
{
    fn from_par_iter<I: IntoParallelIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        map.par_extend(entries);
        map
    }
}

impl<K, V> Clone for ParIter<'_, K, V> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

/// Says no more than its name: the entries may be anywhere.
macro_rules! debug {
    ($name:ident $(, $life:lifetime)?) => {
        impl<K, V> fmt::Debug for $name<$($life,)? K, V> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    };
}

debug!(ParIter, '_);
debug!(ParIterMut, '_);
debug!(IntoParIter);
debug!(ParDrain, '_);
