//! [`ExtractIf`]: takes those entries out that a closure picks, one at a time.
//!
//! Invariant: the table is borrowed mutably and changes no generation meanwhile, so the scan stays valid while entries
//! it has passed are taken out. It needs no `Drop`, as std's: one that is dropped early, or leaked, leaves the rest in the
//! map, which then merely starts no shrink until the next removal. No locks.
#![allow(unsafe_code, reason = "takes entries out of the raw table")]

use core::fmt;
use core::iter::FusedIterator;

use crate::table::Table;
use crate::table::scan::Scan;

/// Entries that a closure picks, taken out of a map. See [`HashMap::extract_if`](crate::HashMap::extract_if).
///
/// When it is dropped, the entries it did not come to stay.
#[must_use = "iterators are lazy and do nothing unless consumed; use `retain` to remove and discard elements"]
pub struct ExtractIf<'a, K, V, F> {
    scan: Scan<(K, V)>,
    table: &'a mut Table<(K, V)>,
    pick: F,
}

// SAFETY: it stands for a mutable borrow of the table and owns the closure.
unsafe impl<K: Send, V: Send, F: Send> Send for ExtractIf<'_, K, V, F> {}
// SAFETY: through a shared reference nothing can be reached but numbers.
unsafe impl<K: Sync, V: Sync, F: Sync> Sync for ExtractIf<'_, K, V, F> {}

impl<'a, K, V, F> ExtractIf<'a, K, V, F> {
    #[inline]
    pub(crate) fn new(table: &'a mut Table<(K, V)>, pick: F) -> Self {
        // What an iterator before this one left undone, that was dropped early.
        table.shrink_if_sparse();
        Self { scan: Scan::new(table), table, pick }
    }
}

impl<K, V, F> ExtractIf<'_, K, V, F> {
    /// The next entry that `picks`, which is the closure, or made of it.
    #[inline]
    pub(crate) fn next_where(&mut self, mut picks: impl FnMut(&mut F, &K, &mut V) -> bool) -> Option<(K, V)> {
        while let Some(place) = self.scan.next_place(self.table) {
            // SAFETY: the scan yields places of full slots, each once. Only this loop vacates slots, each after its
            // one visit; so the slot is full still, and the borrow ends before the entry is taken.
            unsafe {
                let (key, value) = self.table.entry(place).as_mut();
                if picks(&mut self.pick, key, value) {
                    return Some(self.table.take(place));
                }
            }
        }
        // The scan is at its end and does not look at the table again.
        self.table.shrink_if_sparse();
        None
    }

    /// Bounds of how many are still to come.
    #[inline]
    pub(crate) fn bounds(&self) -> (usize, Option<usize>) {
        (0, Some(self.scan.len()))
    }
}

impl<K, V, F: FnMut(&K, &mut V) -> bool> Iterator for ExtractIf<'_, K, V, F> {
    type Item = (K, V);

    #[inline]
    fn next(&mut self) -> Option<(K, V)> {
        self.next_where(|pick, key, value| pick(key, value))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.bounds()
    }
}

impl<K, V, F: FnMut(&K, &mut V) -> bool> FusedIterator for ExtractIf<'_, K, V, F> {}

impl<K: fmt::Debug, V: fmt::Debug, F> fmt::Debug for ExtractIf<'_, K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtractIf").finish_non_exhaustive()
    }
}
