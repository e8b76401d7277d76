//! [`Pieces`]: a scan that can be split, first by generations, then by chunks, then by windows.
//!
//! Invariant: the pieces that a split leaves visit the same full slots as the whole, each once, and in order they visit
//! them in the order of [`Scan`](super::scan::Scan), whose reasons hold here as well. They hold pointers, no borrow:
//! who makes one keeps the table unchanged and alive meanwhile. No locks.
#![allow(unsafe_code, reason = "walks over raw memory of the table")]

use core::ops::Range;
use core::ptr::NonNull;

use crate::generation::Generation;
use crate::generation::window::{Matches, WIDTH, Window};
use crate::table::Table;
use crate::table::scan::Course;

/// Some chunks of one generation, or some windows of one chunk.
#[derive(Debug)]
struct Piece {
    course: Course,
    /// Numbers of the chunks to visit, the first of which is under way.
    chunks: Range<usize>,
    /// Windows to visit of the chunk under way. All of them, if there is more than one chunk and nothing is visited yet.
    windows: Range<usize>,
    /// Windows of a whole chunk.
    of_chunk: usize,
    /// Full slots of the window under way that were not yielded yet, and its position.
    full: Matches,
    position: usize,
}

impl Piece {
    fn whole<T>(generation: &Generation<T>) -> Self {
        let course = Course::of(generation);
        // A small table is one chunk that is not full.
        let of_chunk = course.size().min(generation.slots()).div_ceil(WIDTH);
        let (chunks, windows) = (0..course.chunks(), 0..of_chunk);
        Self { course, chunks, windows, of_chunk, full: Matches(0), position: 0 }
    }

    /// Leaves the first half, if there are halves. Returns the second.
    fn split(&mut self) -> Option<Self> {
        debug_assert!(!self.full.any());
        let (chunks, windows) = if self.chunks.len() > 1 {
            (halve(&mut self.chunks)?, 0..self.of_chunk)
        } else {
            (self.chunks.clone(), halve(&mut self.windows)?)
        };
        Some(Self { chunks, windows, ..*self })
    }

    /// The next full slot.
    fn next_slot(&mut self) -> Option<usize> {
        loop {
            if let Some(offset) = self.full.next() {
                return Some(self.position + offset);
            }
            if let Some(window) = self.windows.next() {
                self.position = self.course.position_of(self.chunks.start) + window * WIDTH;
                // SAFETY: chunks and windows are those of the generation, so there are sixteen tags at the position.
                self.full = unsafe { Window::load(self.course.base().add(self.position).as_ptr()) }.full();
                continue;
            }
            if self.chunks.len() <= 1 {
                return None;
            }
            self.chunks.start += 1;
            self.windows = 0..self.of_chunk;
        }
    }
}

/// Leaves the first half of a range of more than one. Returns the second.
fn halve(range: &mut Range<usize>) -> Option<Range<usize>> {
    let second = (range.len() > 1).then(|| range.start + range.len() / 2..range.end)?;
    range.end = second.start;
    Some(second)
}

/// Pointers to the entries of a part of a table.
#[derive(Debug)]
pub(crate) struct Pieces<T> {
    first: Piece,
    /// To visit after the first.
    second: Option<Piece>,
    marker: core::marker::PhantomData<NonNull<T>>,
}

impl<T> Pieces<T> {
    /// All entries of `table`, whose old generation counts if `with_old`: it must not be looked at once it is drained.
    pub(crate) fn whole(table: &Table<T>, with_old: bool) -> Self {
        let old = table.old().filter(|_| with_old);
        let second = old.map(|old| Piece::whole(&old.generation));
        Self { first: Piece::whole(&table.current.generation), second, marker: core::marker::PhantomData }
    }

    /// Leaves the first half, if there are halves. Returns the second.
    pub(crate) fn split(&mut self) -> Option<Self> {
        let first = match self.second.take() {
            Some(second) => second,
            None => self.first.split()?,
        };
        Some(Self { first, second: None, marker: core::marker::PhantomData })
    }
}

impl<T> Iterator for Pieces<T> {
    type Item = NonNull<T>;

    #[inline]
    fn next(&mut self) -> Option<NonNull<T>> {
        loop {
            if let Some(slot) = self.first.next_slot() {
                // SAFETY: the slot is one of the generation, so its entry is in the allocation below the tags.
                return Some(unsafe { self.first.course.base().cast::<T>().sub(slot + 1) });
            }
            self.first = self.second.take()?;
        }
    }
}
