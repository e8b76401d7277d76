//! [`Window`]: sixteen neighbouring tags, compared at once. One implementation for SSE2, one for all other targets.
//!
//! Both give exact answers, bit i for tag i, and a test compares them.

#[cfg(any(test, feature = "portable", not(target_feature = "sse2")))]
mod portable;
#[cfg(target_feature = "sse2")]
#[cfg(any(test, not(feature = "portable")))]
mod sse2;
#[cfg(test)]
mod tests;

#[cfg(any(feature = "portable", not(target_feature = "sse2")))]
pub(crate) use portable::Window;
#[cfg(all(target_feature = "sse2", not(feature = "portable")))]
pub(crate) use sse2::{Window, prefetch};

/// Brings the cache line at `address` nearer, where that can be said. Any address will do.
#[cfg(any(feature = "portable", not(target_feature = "sse2")))]
#[inline]
pub(crate) fn prefetch(_address: *const u8) {}

/// Tags in a window.
pub(crate) const WIDTH: usize = 16;

/// The tags of a window that matched: bit i for tag i. As an iterator it yields their numbers, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matches(pub(crate) u16);

impl Matches {
    /// Whether any tag matched.
    #[inline]
    pub(crate) const fn any(self) -> bool {
        self.0 != 0
    }

    /// How many tags matched.
    #[inline]
    pub(crate) const fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Number of the first match. Sixteen if there is none.
    #[inline]
    pub(crate) const fn first(self) -> usize {
        self.0.trailing_zeros() as usize
    }

    /// The matches but for the first. There must be one.
    #[inline]
    pub(crate) const fn without_first(self) -> Self {
        Self(self.0 & (self.0 - 1))
    }

    /// How many tags after the last match do not match.
    #[inline]
    pub(crate) const fn trailing_misses(self) -> usize {
        self.0.leading_zeros() as usize
    }
}

impl Iterator for Matches {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let first = self.first();
        *self = self.without_first();
        Some(first)
    }
}
