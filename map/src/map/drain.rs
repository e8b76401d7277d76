//! [`Drain`]: takes all entries out of a map and gives it its memory back.
//!
//! Invariant: while the iterator lives the map holds an empty table without memory. So a leaked iterator leaks the
//! entries and the memory, and the map is sound. No locks.
#![allow(unsafe_code, reason = "gives the table back through a pointer, to be covariant")]

use core::fmt;
use core::iter::FusedIterator;
use core::marker::PhantomData;
use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr::NonNull;

use crate::map::into_iter::IntoIter;
use crate::table::Table;

/// Entries taken out of a map. See [`HashMap::drain`](crate::HashMap::drain).
pub struct Drain<'a, K, V> {
    entries: IntoIter<K, V>,
    /// Where the table came from. A pointer, since `&'a mut` would make the type invariant.
    home: NonNull<Table<(K, V)>>,
    marker: PhantomData<&'a (K, V)>,
}

// SAFETY: it owns the entries, and borrows the map mutably.
unsafe impl<K: Send, V: Send> Send for Drain<'_, K, V> {}
// SAFETY: through a shared reference the entries are only read.
unsafe impl<K: Sync, V: Sync> Sync for Drain<'_, K, V> {}
impl<K: RefUnwindSafe, V: RefUnwindSafe> UnwindSafe for Drain<'_, K, V> {}
impl<K: RefUnwindSafe, V: RefUnwindSafe> RefUnwindSafe for Drain<'_, K, V> {}
impl<K, V> Unpin for Drain<'_, K, V> {}

impl<'a, K, V> Drain<'a, K, V> {
    #[inline]
    pub(crate) fn new(table: &'a mut Table<(K, V)>) -> Self {
        let home = NonNull::from_mut(&mut *table);
        let taken = core::mem::replace(table, Table::new());
        Self { entries: IntoIter::new(taken), home, marker: PhantomData }
    }

    /// Passes all entries on: they are the caller's. Nothing must have been yielded yet.
    #[cfg(feature = "rayon")]
    pub(crate) fn hand_out(&mut self) -> crate::table::pieces::Pieces<(K, V)> {
        self.entries.hand_out()
    }

    /// What is left, to look at.
    pub(crate) fn rest(&self) -> impl Iterator<Item = &(K, V)> {
        self.entries.rest()
    }
}

impl<K, V> Drop for Drain<'_, K, V> {
    fn drop(&mut self) {
        /// Gives the table back even if dropping an entry panics. The entries not reached then leak.
        struct GiveBack<'d, 'a, K, V>(&'d mut Drain<'a, K, V>);
        impl<K, V> Drop for GiveBack<'_, '_, K, V> {
            fn drop(&mut self) {
                let table = core::mem::replace(self.0.entries.forget_rest(), Table::new());
                // SAFETY: the map is borrowed mutably for as long as the iterator lives. It holds a table without
                // memory or entries, which is dropped.
                unsafe { *self.0.home.as_mut() = table };
            }
        }
        let guard = GiveBack(self);
        if core::mem::needs_drop::<(K, V)>() {
            for entry in &mut guard.0.entries {
                drop(entry);
            }
        }
    }
}

impl<K, V> Iterator for Drain<'_, K, V> {
    type Item = (K, V);

    #[inline]
    fn next(&mut self) -> Option<(K, V)> {
        self.entries.next()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl<K, V> ExactSizeIterator for Drain<'_, K, V> {}
impl<K, V> FusedIterator for Drain<'_, K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Drain<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.rest()).finish()
    }
}
