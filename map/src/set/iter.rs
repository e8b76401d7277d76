//! Iterators over a set: [`Iter`], [`IntoIter`], [`Drain`], [`ExtractIf`]. Each is the map's, without the values.

use core::fmt;
use core::iter::FusedIterator;

use crate::map::{drain, extract_if, into_iter, iter};
use crate::table::Table;

/// Elements of a set, borrowed. See [`HashSet::iter`](crate::HashSet::iter).
pub struct Iter<'a, T>(pub(super) iter::Keys<'a, T, ()>);

/// Elements of a set, owned. See [`HashSet::into_iter`](crate::HashSet#impl-IntoIterator-for-HashSet<T,+S>).
pub struct IntoIter<T>(pub(super) into_iter::IntoKeys<T, ()>);

/// Elements taken out of a set. See [`HashSet::drain`](crate::HashSet::drain).
pub struct Drain<'a, T>(pub(super) drain::Drain<'a, T, ()>);

/// Elements that a closure picks, taken out of a set. See [`HashSet::extract_if`](crate::HashSet::extract_if).
///
/// When it is dropped, the elements it did not come to stay.
#[must_use = "iterators are lazy and do nothing unless consumed; use `retain` to remove and discard elements"]
pub struct ExtractIf<'a, T, F>(extract_if::ExtractIf<'a, T, (), F>);

impl<T> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Iter<'_, T> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> Default for IntoIter<T> {
    fn default() -> Self {
        Self(Default::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Debug> fmt::Debug for Drain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.rest().map(|(element, ())| element)).finish()
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        self.0.next()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }

    #[inline]
    fn count(self) -> usize {
        self.0.count()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.next()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> Iterator for Drain<'_, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.next().map(|(element, ())| element)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> ExactSizeIterator for Iter<'_, T> {}
impl<T> FusedIterator for Iter<'_, T> {}
impl<T> ExactSizeIterator for IntoIter<T> {}
impl<T> FusedIterator for IntoIter<T> {}
impl<T> ExactSizeIterator for Drain<'_, T> {}
impl<T> FusedIterator for Drain<'_, T> {}

impl<'a, T, F> ExtractIf<'a, T, F> {
    #[inline]
    pub(super) fn new(table: &'a mut Table<(T, ())>, pick: F) -> Self {
        Self(extract_if::ExtractIf::new(table, pick))
    }
}

impl<T, F: FnMut(&T) -> bool> Iterator for ExtractIf<'_, T, F> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.next_where(|pick, element, ()| pick(element)).map(|(element, ())| element)
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.bounds()
    }
}

impl<T, F: FnMut(&T) -> bool> FusedIterator for ExtractIf<'_, T, F> {}

impl<T: fmt::Debug, F> fmt::Debug for ExtractIf<'_, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtractIf").finish_non_exhaustive()
    }
}
