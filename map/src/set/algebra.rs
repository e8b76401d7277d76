//! What two sets have in common and what not: the methods, their lazy iterators, and the operators.
//!
//! Each looks the elements of one set up in the other: O(capacity of the first) expected, without any memory.

use core::fmt;
use core::hash::{BuildHasher, Hash};
use core::iter::{Chain, FusedIterator};
use core::ops::{BitAnd, BitOr, BitXor, Sub};

use super::HashSet;
use super::iter::Iter;

/// Elements that are in both sets. See [`HashSet::intersection`].
#[must_use = "this returns the intersection as an iterator, without modifying either input set"]
pub struct Intersection<'a, T: 'a, S: 'a> {
    iter: Iter<'a, T>,
    other: &'a HashSet<T, S>,
}

/// Elements of one set that are not in the other. See [`HashSet::difference`].
#[must_use = "this returns the difference as an iterator, without modifying either input set"]
pub struct Difference<'a, T: 'a, S: 'a> {
    iter: Iter<'a, T>,
    other: &'a HashSet<T, S>,
}

/// Elements that are in one of the sets only. See [`HashSet::symmetric_difference`].
#[must_use = "this returns the difference as an iterator, without modifying either input set"]
pub struct SymmetricDifference<'a, T: 'a, S: 'a>(Chain<Difference<'a, T, S>, Difference<'a, T, S>>);

/// Elements of both sets, each once. See [`HashSet::union`].
#[must_use = "this returns the union as an iterator, without modifying either input set"]
pub struct Union<'a, T: 'a, S: 'a>(Chain<Iter<'a, T>, Difference<'a, T, S>>);

impl<T: Eq + Hash, S: BuildHasher> HashSet<T, S> {
    /// The elements of this set that are not in `other`.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashSet;
    /// let (a, b) = (HashSet::from([1, 2, 3]), HashSet::from([4, 2, 3]));
    /// assert_eq!(a.difference(&b).collect::<Vec<_>>(), [&1]);
    /// ```
    #[inline]
    pub fn difference<'a>(&'a self, other: &'a Self) -> Difference<'a, T, S> {
        Difference { iter: self.iter(), other }
    }

    /// The elements that are in this set or in `other`, but not in both.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashSet;
    /// let (a, b) = (HashSet::from([1, 2, 3]), HashSet::from([4, 2, 3]));
    /// assert_eq!(a.symmetric_difference(&b).collect::<HashSet<_>>(), HashSet::from([&1, &4]));
    /// ```
    #[inline]
    pub fn symmetric_difference<'a>(&'a self, other: &'a Self) -> SymmetricDifference<'a, T, S> {
        SymmetricDifference(self.difference(other).chain(other.difference(self)))
    }

    /// The elements that are in both sets, as one of them has them: it goes over the smaller one.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashSet;
    /// let (a, b) = (HashSet::from([1, 2, 3]), HashSet::from([4, 2, 3]));
    /// assert_eq!(a.intersection(&b).collect::<HashSet<_>>(), HashSet::from([&2, &3]));
    /// ```
    #[inline]
    pub fn intersection<'a>(&'a self, other: &'a Self) -> Intersection<'a, T, S> {
        let (smaller, larger) = self.by_size(other);
        Intersection { iter: smaller.iter(), other: larger }
    }

    /// The elements of both sets, each once.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashSet;
    /// let (a, b) = (HashSet::from([1, 2, 3]), HashSet::from([4, 2, 3]));
    /// assert_eq!(a.union(&b).count(), 4);
    /// ```
    #[inline]
    pub fn union<'a>(&'a self, other: &'a Self) -> Union<'a, T, S> {
        // Of the larger one no element needs to be looked up.
        let (larger, smaller) = if self.len() >= other.len() { (self, other) } else { (other, self) };
        Union(larger.iter().chain(smaller.difference(larger)))
    }

    /// Whether the sets have no element in common.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashSet;
    /// assert!(HashSet::from([1, 2]).is_disjoint(&HashSet::from([3])));
    /// ```
    pub fn is_disjoint(&self, other: &Self) -> bool {
        let (smaller, larger) = self.by_size(other);
        !smaller.iter().any(|element| larger.contains(element))
    }

    /// Whether all elements are in `other`, too.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashSet;
    /// assert!(HashSet::from([1, 2]).is_subset(&HashSet::from([1, 2, 3])));
    /// ```
    pub fn is_subset(&self, other: &Self) -> bool {
        self.len() <= other.len() && self.iter().all(|element| other.contains(element))
    }

    /// Whether all elements of `other` are here, too.
    ///
    /// # Examples
    /// ```
    /// use ebbtide_map::HashSet;
    /// assert!(HashSet::from([1, 2, 3]).is_superset(&HashSet::from([1, 2])));
    /// ```
    #[inline]
    pub fn is_superset(&self, other: &Self) -> bool {
        other.is_subset(self)
    }

    fn by_size<'a>(&'a self, other: &'a Self) -> (&'a Self, &'a Self) {
        if self.len() <= other.len() { (self, other) } else { (other, self) }
    }
}

impl<'a, T: Eq + Hash, S: BuildHasher> Iterator for Intersection<'a, T, S> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        self.iter.find(|element| self.other.contains(*element))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, self.iter.size_hint().1)
    }
}

impl<'a, T: Eq + Hash, S: BuildHasher> Iterator for Difference<'a, T, S> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        self.iter.find(|element| !self.other.contains(*element))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.iter.len().saturating_sub(self.other.len()), self.iter.size_hint().1)
    }
}

/// Those two that chain others, and what all four share.
macro_rules! lazy {
    ($name:ident) => {
        impl<'a, T: Eq + Hash, S: BuildHasher> Iterator for $name<'a, T, S> {
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
            fn fold<B, F: FnMut(B, &'a T) -> B>(self, init: B, f: F) -> B {
                self.0.fold(init, f)
            }
        }

        impl<T, S> Clone for $name<'_, T, S> {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }

        lazy!(shared $name);
    };
    (shared $name:ident) => {
        impl<T: Eq + Hash, S: BuildHasher> FusedIterator for $name<'_, T, S> {}

        impl<T: fmt::Debug + Eq + Hash, S: BuildHasher> fmt::Debug for $name<'_, T, S> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_list().entries(self.clone()).finish()
            }
        }
    };
}

lazy!(SymmetricDifference);
lazy!(Union);
lazy!(shared Intersection);
lazy!(shared Difference);

impl<T, S> Clone for Intersection<'_, T, S> {
    fn clone(&self) -> Self {
        Self { iter: self.iter.clone(), other: self.other }
    }
}

impl<T, S> Clone for Difference<'_, T, S> {
    fn clone(&self) -> Self {
        Self { iter: self.iter.clone(), other: self.other }
    }
}

/// An operator on references to sets, which collects what a method yields.
macro_rules! operator {
    ($operator:ident, $function:ident, $method:ident, $symbol:literal, $sum:literal) => {
        impl<T: Eq + Hash + Clone, S: BuildHasher + Default> $operator<&HashSet<T, S>> for &HashSet<T, S> {
            type Output = HashSet<T, S>;

            #[doc = concat!("A new set with clones of what [`", stringify!($method), "`](HashSet::", stringify!($method),
                ") yields.\n\n# Examples\n```\nuse ebbtide_map::HashSet;\n",
                "let (a, b) = (HashSet::from([1, 2, 3]), HashSet::from([3, 4]));\n",
                "assert_eq!((&a ", $symbol, " &b).iter().sum::<i32>(), ", $sum, ");\n```")]
            fn $function(self, other: &HashSet<T, S>) -> HashSet<T, S> {
                self.$method(other).cloned().collect()
            }
        }
    };
}

operator!(BitAnd, bitand, intersection, "&", "3");
operator!(BitOr, bitor, union, "|", "10");
operator!(BitXor, bitxor, symmetric_difference, "^", "7");
operator!(Sub, sub, difference, "-", "3");
