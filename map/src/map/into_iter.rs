//! Iterators that own what they yield: [`IntoIter`], [`IntoKeys`], [`IntoValues`].
//!
//! Invariant: the table counts no entries any more, so that it drops none; those not yielded yet are the iterator's.
//! No locks.
#![allow(unsafe_code, reason = "moves entries out of the raw table")]

use core::fmt;
use core::iter::FusedIterator;
use core::panic::{RefUnwindSafe, UnwindSafe};

use crate::table::Table;
use crate::table::scan::Scan;

/// Entries of a map, owned. See [`HashMap::into_iter`](crate::HashMap#impl-IntoIterator-for-HashMap<K,+V,+S>).
pub struct IntoIter<K, V> {
    scan: Scan<(K, V)>,
    /// Keeps the memory.
    table: Table<(K, V)>,
}

// SAFETY: it owns the entries.
unsafe impl<K: Send, V: Send> Send for IntoIter<K, V> {}
// SAFETY: it owns the entries, and through a shared reference they are only read.
unsafe impl<K: Sync, V: Sync> Sync for IntoIter<K, V> {}
// These bounds are those of std's.
impl<K, V> UnwindSafe for IntoIter<K, V>
where
    K: UnwindSafe + RefUnwindSafe,
    V: UnwindSafe + RefUnwindSafe,
{
}

impl<K, V> IntoIter<K, V> {
    #[inline]
    pub(crate) fn new(mut table: Table<(K, V)>) -> Self {
        let scan = Scan::new(&table);
        table.disown();
        Self { scan, table }
    }

    /// What is left, to look at.
    pub(crate) fn rest(&self) -> impl Iterator<Item = &(K, V)> {
        // SAFETY: the scan yields full slots that were not moved out yet, of a table that this iterator keeps.
        self.scan.clone().map(|entry| unsafe { entry.as_ref() })
    }

    /// Passes all entries on: they are the caller's. Nothing must have been yielded yet.
    #[cfg(feature = "rayon")]
    pub(crate) fn hand_out(&mut self) -> crate::table::pieces::Pieces<(K, V)> {
        let with_old = self.scan.is_before_old();
        self.scan = Scan::nothing();
        crate::table::pieces::Pieces::whole(&self.table, with_old)
    }

    /// Forgets what is left. The table, which has no entry any more, can be taken.
    pub(crate) fn forget_rest(&mut self) -> &mut Table<(K, V)> {
        self.scan = Scan::nothing();
        self.table.forget_entries();
        &mut self.table
    }
}

impl<K, V> Drop for IntoIter<K, V> {
    fn drop(&mut self) {
        if core::mem::needs_drop::<(K, V)>() {
            self.for_each(drop);
        }
    }
}

impl<K, V> Default for IntoIter<K, V> {
    fn default() -> Self {
        Self::new(Table::new())
    }
}

impl<K, V> Iterator for IntoIter<K, V> {
    type Item = (K, V);

    #[inline]
    fn next(&mut self) -> Option<(K, V)> {
        // SAFETY: the scan yields each full slot once, and the table does not drop it.
        self.scan.next().map(|entry| unsafe { entry.read() })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.scan.size_hint()
    }
}

impl<K, V> ExactSizeIterator for IntoIter<K, V> {}
impl<K, V> FusedIterator for IntoIter<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for IntoIter<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rest()).finish()
    }
}

/// Keys of a map, owned. See [`HashMap::into_keys`](crate::HashMap::into_keys).
pub struct IntoKeys<K, V>(pub(crate) IntoIter<K, V>);

/// Values of a map, owned. See [`HashMap::into_values`](crate::HashMap::into_values).
pub struct IntoValues<K, V>(pub(crate) IntoIter<K, V>);

/// The part of an iterator that both share: one half of another's entries.
macro_rules! half {
    ($name:ident, $item:ident, $half:tt) => {
        impl<K, V> Iterator for $name<K, V> {
            type Item = $item;

            #[inline]
            fn next(&mut self) -> Option<$item> {
                self.0.next().map(|entry| entry.$half)
            }

            #[inline]
            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }
        }

        impl<K, V> ExactSizeIterator for $name<K, V> {}
        impl<K, V> FusedIterator for $name<K, V> {}

        impl<K, V> Default for $name<K, V> {
            fn default() -> Self {
                Self(IntoIter::default())
            }
        }

        impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for $name<K, V> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.0.rest().map(|entry| &entry.$half)).finish()
            }
        }
    };
}

half!(IntoKeys, K, 0);
half!(IntoValues, V, 1);
