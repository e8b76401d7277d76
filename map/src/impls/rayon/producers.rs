//! Producers of entries for rayon, which split as [`Pieces`] do: [`Lent`], [`Owned`].
#![allow(unsafe_code, reason = "hands out entries of the raw table")]

use core::ptr::NonNull;

use rayon::iter::plumbing::{Folder, UnindexedProducer};

use crate::table::pieces::Pieces;

/// Yields what `lend` makes of each entry.
pub(crate) struct Lent<T, F> {
    pieces: Pieces<T>,
    lend: F,
}

// SAFETY: it holds pointers to entries, and who makes one vouches that other threads may do with them what `lend` does.
unsafe impl<T, F: Send> Send for Lent<T, F> {}

impl<T, F> Lent<T, F> {
    /// # Safety
    /// The entries may be reached from any thread as `lend` reaches them, for as long as the producer and what it
    /// yields are around.
    pub(crate) unsafe fn new(pieces: Pieces<T>, lend: F) -> Self {
        Self { pieces, lend }
    }
}

impl<T, I, F: Fn(NonNull<T>) -> I + Clone + Send> UnindexedProducer for Lent<T, F> {
    type Item = I;

    fn split(mut self) -> (Self, Option<Self>) {
        let second = self.pieces.split().map(|pieces| Self { pieces, lend: self.lend.clone() });
        (self, second)
    }

    fn fold_with<G: Folder<I>>(self, folder: G) -> G {
        folder.consume_iter(self.pieces.map(self.lend))
    }
}

/// Yields the entries themselves, and drops those that nobody asks for.
pub(crate) struct Owned<T>(Pieces<T>);

// SAFETY: it owns the entries.
unsafe impl<T: Send> Send for Owned<T> {}

impl<T> Owned<T> {
    /// # Safety
    /// The entries are the producer's from here on, and their memory outlives it.
    pub(crate) unsafe fn new(pieces: Pieces<T>) -> Self {
        Self(pieces)
    }
}

impl<T> Iterator for Owned<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        // SAFETY: the entry is the producer's, and each is yielded once.
        self.0.next().map(|entry| unsafe { entry.read() })
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if core::mem::needs_drop::<T>() {
            self.for_each(drop);
        }
    }
}

impl<T: Send> UnindexedProducer for Owned<T> {
    type Item = T;

    fn split(mut self) -> (Self, Option<Self>) {
        let second = self.0.split().map(Self);
        (self, second)
    }

    fn fold_with<G: Folder<T>>(self, folder: G) -> G {
        folder.consume_iter(self)
    }
}
