//! Borrowing iterators over a map: [`Iter`], [`IterMut`], [`Keys`], [`Values`], [`ValuesMut`].
//!
//! Invariant: the table is borrowed for `'a`, so it does not change while its entries are visited. No locks.
#![allow(unsafe_code, reason = "borrows entries of the raw table")]

use core::fmt;
use core::iter::FusedIterator;
use core::marker::PhantomData;

use crate::table::Table;
use crate::table::scan::Scan;

/// Entries of a map, borrowed. See [`HashMap::iter`](crate::HashMap::iter).
pub struct Iter<'a, K, V> {
    scan: Scan<(K, V)>,
    marker: PhantomData<&'a (K, V)>,
}

/// Entries of a map with values to change. See [`HashMap::iter_mut`](crate::HashMap::iter_mut).
pub struct IterMut<'a, K, V> {
    scan: Scan<(K, V)>,
    /// Values are handed out mutably: invariant in `V`.
    marker: PhantomData<(&'a K, &'a mut V)>,
}

// SAFETY: it stands for a shared borrow of the entries.
unsafe impl<K: Sync, V: Sync> Send for Iter<'_, K, V> {}
// SAFETY: it stands for a shared borrow of the entries.
unsafe impl<K: Sync, V: Sync> Sync for Iter<'_, K, V> {}
// SAFETY: it stands for a mutable borrow of the entries.
unsafe impl<K: Send, V: Send> Send for IterMut<'_, K, V> {}
// SAFETY: it stands for a mutable borrow of the entries, and through a shared reference they are only read.
unsafe impl<K: Sync, V: Sync> Sync for IterMut<'_, K, V> {}

impl<'a, K, V> Iter<'a, K, V> {
    #[inline]
    pub(crate) fn new(table: &'a Table<(K, V)>) -> Self {
        Self { scan: Scan::new(table), marker: PhantomData }
    }
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self { scan: self.scan.clone(), marker: PhantomData }
    }
}

impl<K, V> Default for Iter<'_, K, V> {
    fn default() -> Self {
        Self { scan: Scan::nothing(), marker: PhantomData }
    }
}

impl<K, V> Default for IterMut<'_, K, V> {
    fn default() -> Self {
        Self { scan: Scan::nothing(), marker: PhantomData }
    }
}

impl<'a, K, V> IterMut<'a, K, V> {
    #[inline]
    pub(crate) fn new(table: &'a mut Table<(K, V)>) -> Self {
        Self { scan: Scan::new(table), marker: PhantomData }
    }

    /// What is left, to look at.
    pub(crate) fn rest(&self) -> Iter<'_, K, V> {
        Iter { scan: self.scan.clone(), marker: PhantomData }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the scan yields full slots of a table that is borrowed for `'a`.
        self.scan.next().map(|entry| unsafe {
            let (key, value) = entry.as_ref();
            (key, value)
        })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.scan.size_hint()
    }

    #[inline]
    fn count(self) -> usize {
        self.scan.len()
    }

    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(self, init: B, mut f: F) -> B {
        // SAFETY: as in `next`.
        self.scan.fold(init, |folded, entry| unsafe {
            let (key, value) = entry.as_ref();
            f(folded, (key, value))
        })
    }
}

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the scan yields full slots of a table that is borrowed mutably for `'a`, each once, so no two
        // references to one value are given out.
        self.scan.next().map(|mut entry| unsafe {
            let (key, value) = entry.as_mut();
            (&*key, value)
        })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.scan.size_hint()
    }

    #[inline]
    fn count(self) -> usize {
        self.scan.len()
    }

    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(self, init: B, mut f: F) -> B {
        // SAFETY: as in `next`.
        self.scan.fold(init, |folded, mut entry| unsafe {
            let (key, value) = entry.as_mut();
            f(folded, (&*key, value))
        })
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}
impl<K, V> FusedIterator for Iter<'_, K, V> {}
impl<K, V> ExactSizeIterator for IterMut<'_, K, V> {}
impl<K, V> FusedIterator for IterMut<'_, K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for IterMut<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rest()).finish()
    }
}

/// Keys of a map, borrowed. See [`HashMap::keys`](crate::HashMap::keys).
pub struct Keys<'a, K, V>(pub(crate) Iter<'a, K, V>);

/// Values of a map, borrowed. See [`HashMap::values`](crate::HashMap::values).
pub struct Values<'a, K, V>(pub(crate) Iter<'a, K, V>);

/// Values of a map, to change. See [`HashMap::values_mut`](crate::HashMap::values_mut).
pub struct ValuesMut<'a, K, V>(pub(crate) IterMut<'a, K, V>);

impl<K: fmt::Debug, V> fmt::Debug for Keys<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K, V: fmt::Debug> fmt::Debug for Values<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<K, V: fmt::Debug> fmt::Debug for ValuesMut<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.rest().map(|(_, value)| value)).finish()
    }
}

/// The part of an iterator that all three share: one half of another's entries.
macro_rules! half {
    ($name:ident, $item:ty, $half:tt) => {
        impl<'a, K, V> Iterator for $name<'a, K, V> {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<$item> {
                self.0.next().map(|entry| entry.$half)
            }

            #[inline]
            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }

            #[inline]
            fn count(self) -> usize {
                self.0.count()
            }

            #[inline]
            fn fold<B, F: FnMut(B, $item) -> B>(self, init: B, mut f: F) -> B {
                self.0.fold(init, |folded, entry| f(folded, entry.$half))
            }
        }

        impl<K, V> ExactSizeIterator for $name<'_, K, V> {}
        impl<K, V> FusedIterator for $name<'_, K, V> {}

        impl<K, V> Default for $name<'_, K, V> {
            fn default() -> Self {
                Self(Default::default())
            }
        }
    };
}

half!(Keys, &'a K, 0);
half!(Values, &'a V, 1);
half!(ValuesMut, &'a mut V, 1);

impl<K, V> Clone for Keys<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> Clone for Values<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}
