//! Parallel iterators over sets: those of the maps, without the values.

use core::fmt;
use core::hash::{BuildHasher, Hash};

use rayon::iter::plumbing::UnindexedConsumer;
use rayon::iter::{
    FromParallelIterator, IntoParallelIterator, ParallelDrainFull, ParallelExtend, ParallelIterator,
};

use super::map;
use crate::set::HashSet;

/// Elements of a set, borrowed, in parallel.
///
/// # Examples
/// ```
/// use rayon::prelude::*;
/// let set: ebbtide_map::HashSet<u64> = (0..1000).collect();
/// assert_eq!(set.par_iter().sum::<u64>(), 499_500);
/// ```
pub struct ParIter<'a, T>(map::ParIter<'a, T, ()>);

/// Elements of a set, owned, in parallel.
///
/// # Examples
/// ```
/// use rayon::prelude::*;
/// let set: ebbtide_map::HashSet<u64> = (0..1000).collect();
/// assert_eq!(set.into_par_iter().max(), Some(999));
/// ```
pub struct IntoParIter<T>(map::IntoParIter<T, ()>);

/// Elements taken out of a set, in parallel. The set is empty afterwards and keeps its memory.
///
/// # Examples
/// ```
/// use rayon::prelude::*;
/// let mut set: ebbtide_map::HashSet<u64> = (0..1000).collect();
/// assert_eq!(set.par_drain().count(), 1000);
/// assert!(set.is_empty());
/// ```
pub struct ParDrain<'a, T>(map::ParDrain<'a, T, ()>);

impl<'a, T: Sync> ParallelIterator for ParIter<'a, T> {
    type Item = &'a T;

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
        self.0.map(|(element, ())| element).drive_unindexed(consumer)
    }
}

impl<T: Send> ParallelIterator for IntoParIter<T> {
    type Item = T;

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
        self.0.map(|(element, ())| element).drive_unindexed(consumer)
    }
}

impl<T: Send> ParallelIterator for ParDrain<'_, T> {
    type Item = T;

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
        self.0.map(|(element, ())| element).drive_unindexed(consumer)
    }
}

impl<'a, T: Sync, S> IntoParallelIterator for &'a HashSet<T, S> {
    type Item = &'a T;
    type Iter = ParIter<'a, T>;

    fn into_par_iter(self) -> ParIter<'a, T> {
        ParIter((&self.map).into_par_iter())
    }
}

impl<T: Send, S> IntoParallelIterator for HashSet<T, S> {
    type Item = T;
    type Iter = IntoParIter<T>;

    fn into_par_iter(self) -> IntoParIter<T> {
        IntoParIter(self.map.into_par_iter())
    }
}

impl<'a, T: Send, S> ParallelDrainFull for &'a mut HashSet<T, S> {
    type Item = T;
    type Iter = ParDrain<'a, T>;

    fn par_drain(self) -> ParDrain<'a, T> {
        ParDrain(self.map.par_drain())
    }
}

impl<T: Eq + Hash + Send, S: BuildHasher> ParallelExtend<T> for HashSet<T, S> {
    fn par_extend<I: IntoParallelIterator<Item = T>>(&mut self, elements: I) {
        self.map.par_extend(elements.into_par_iter().map(|element| (element, ())));
    }
}

impl<'a, T: Eq + Hash + Copy + Send + Sync, S: BuildHasher> ParallelExtend<&'a T> for HashSet<T, S> {
    fn par_extend<I: IntoParallelIterator<Item = &'a T>>(&mut self, elements: I) {
        self.par_extend(elements.into_par_iter().map(|&element| element));
    }
}

impl<T: Eq + Hash + Send, S: BuildHasher + Default> FromParallelIterator<T> for HashSet<T, S> {
    fn from_par_iter<I: IntoParallelIterator<Item = T>>(elements: I) -> Self {
        let mut set = Self::default();
        set.par_extend(elements);
        set
    }
}

impl<T> Clone for ParIter<'_, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for ParIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> fmt::Debug for IntoParIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> fmt::Debug for ParDrain<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
