//! [`Scan`]: visits each entry of a table once, in both generations during a change.
//!
//! # Order
//! Entries come a chunk of some hundreds to tens of thousands of slots at a time, and chunks in an order that jumps through
//! the table. In the order of slots, which is nearly that of hashes, putting the entries of one map into another one with the same
//! hasher fills a part of that one's homes twice before the rest is filled once. Its probes then grow with the square
//! root of its size (rust-lang/rust#36481 tells of the like). A chunk is a page or more of entries, so memory is read
//! as fast as in order.
//!
//! It holds pointers, no borrow: who makes one keeps the table unchanged and alive, apart from dropping or moving out
//! entries already yielded. No locks.
#![allow(unsafe_code, reason = "walks over raw memory of the table")]

use core::ptr::NonNull;

use crate::generation::Generation;
use crate::generation::window::{Matches, WIDTH, Window};
use crate::table::{Place, Table};

/// Fewest and most slots that a scan visits in order before it jumps, and the fewest jumps of one between. Smaller under
/// test.
const CHUNKS: (usize, usize, usize) =
    if cfg!(any(test, fuzzing)) { (64, 256, 16) } else { (256, 32768, 128) };

static_assertions::const_assert!(CHUNKS.0.is_power_of_two() && CHUNKS.1.is_power_of_two());
static_assertions::const_assert!(WIDTH <= CHUNKS.0 && CHUNKS.0 <= CHUNKS.1);

/// Slots that a scan of a table visits in order before it jumps: a power of two. The longer, the faster it reads; the
/// shorter, the more evenly it fills another table. A constant bound keeps the latter's probes short at any size.
const fn scan_chunk(slots: usize) -> usize {
    let (fewest, most, jumps) = CHUNKS;
    let chunk = slots / jumps;
    if chunk < fewest {
        fewest
    } else if chunk > most {
        most
    } else {
        chunk
    }
}

/// Where a scan is in one generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Course {
    /// The first tag.
    base: NonNull<u8>,
    /// Slots of a chunk.
    size: usize,
    /// Chunks less one.
    mask: usize,
    /// The chunk under way.
    chunk: usize,
}

impl Course {
    pub(crate) fn of<T>(generation: &Generation<T>) -> Self {
        let size = scan_chunk(generation.slots()).min(generation.slots().max(WIDTH));
        Self { base: generation.tags(), size, mask: (generation.slots() / size).max(1) - 1, chunk: 0 }
    }

    /// From one chunk to the next: an odd step visits each of a power of two once. It is the golden section of their
    /// number, so that the chunks visited so far always lie evenly.
    #[inline]
    const fn step(&self) -> usize {
        let bits = (self.mask + 1).ilog2();
        0x9e37_79b9_7f4a_7c15_u64.unbounded_shr(u64::BITS - bits) as usize | 1
    }

    /// Goes on to the next chunk.
    #[inline]
    const fn advanced(self) -> Self {
        Self { chunk: (self.chunk + self.step()) & self.mask, ..self }
    }

    /// The first tag of the chunk under way.
    #[inline]
    const fn tags(&self) -> NonNull<u8> {
        // SAFETY: chunks lie within the tags.
        unsafe { self.base.add(self.position()) }
    }

    /// Position of the chunk under way.
    #[inline]
    const fn position(&self) -> usize {
        self.chunk * self.size
    }
}

#[cfg(feature = "rayon")]
impl Course {
    /// The first tag.
    pub(crate) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Slots of a chunk; more than there are in a small table.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// Number of chunks.
    pub(crate) const fn chunks(&self) -> usize {
        self.mask + 1
    }

    /// Position of the chunk that is visited as number `number`, from 0 on.
    pub(crate) const fn position_of(&self, number: usize) -> usize {
        (number.wrapping_mul(self.step()) & self.mask) * self.size
    }
}

/// Where a scan goes after its chunk. Apart from the rest, which loops keep in registers.
#[derive(Clone, Copy, Debug)]
struct Rest {
    course: Course,
    /// The generation to visit after this one, and its full slots.
    next: Option<(Course, usize)>,
}

impl Rest {
    /// Goes on to the next chunk. Returns its first tag.
    #[cold]
    #[inline(never)]
    fn next_chunk(&mut self) -> NonNull<u8> {
        self.course = self.course.advanced();
        self.course.tags()
    }

    /// Goes on to the next generation. Returns its full slots.
    #[cold]
    #[inline(never)]
    fn next_generation(&mut self) -> usize {
        let Some((course, left)) = self.next.take() else { return 0 };
        self.course = course;
        left
    }
}

/// Pointers to the entries of a table.
#[derive(Debug)]
pub(crate) struct Scan<T> {
    /// Full slots of the window at `tags` that were not yielded yet.
    full: Matches,
    tags: NonNull<u8>,
    /// Entries of the window at `tags` end here, growing down.
    entries: NonNull<T>,
    /// Windows of the chunk after this one.
    windows: usize,
    /// Full slots of this generation that were not yielded yet.
    left: usize,
    rest: Rest,
}

impl<T> Scan<T> {
    /// Visits all entries of `table`.
    #[inline]
    pub(crate) fn new(table: &Table<T>) -> Self {
        let old = table.old().filter(|old| old.items > 0);
        let next = old.map(|old| (Course::of(&old.generation), old.items));
        Self::start(Course::of(&table.current.generation), table.items - table.old_items(), next)
    }

    /// Visits nothing.
    pub(crate) fn nothing() -> Self {
        Self::start(Course::of(&Generation::<T>::without_slots()), 0, None)
    }

    #[inline]
    fn start(course: Course, left: usize, next: Option<(Course, usize)>) -> Self {
        let rest = Rest { course, next };
        let (full, windows, tags) = (Matches(0), 0, course.base);
        let mut scan = Self { full, tags, entries: tags.cast(), windows, left, rest };
        scan.enter(course.tags());
        scan
    }

    /// Enters the chunk of the course under way, whose first tag is at `tags`.
    #[inline]
    fn enter(&mut self, tags: NonNull<u8>) {
        let course = &self.rest.course;
        self.tags = tags;
        self.windows = course.size / WIDTH - 1;
        // SAFETY: the chunk is one of the generation, which has sixteen tags and more, and as many entries as slots. A
        // small table is one chunk, of one window.
        unsafe {
            self.entries = course.base.cast::<T>().sub(course.position());
            self.full = Window::load(tags.as_ptr()).full();
        }
    }

    /// Enters the next window of the chunk.
    ///
    /// # Safety
    /// There is one, and the generation reaches so far.
    #[inline]
    unsafe fn enter_window(&mut self) {
        self.windows -= 1;
        // SAFETY: the caller vouches for sixteen more tags and entries.
        unsafe {
            self.tags = self.tags.add(WIDTH);
            self.entries = self.entries.sub(WIDTH);
            self.full = Window::load(self.tags.as_ptr()).full();
        }
    }

    /// Goes on to the next window with a full slot. There must be one.
    #[inline]
    fn find_full(&mut self) {
        while !self.full.any() {
            if self.windows == 0 {
                let tags = self.rest.next_chunk();
                self.enter(tags);
            } else {
                // SAFETY: the chunk has one more window.
                unsafe { self.enter_window() };
            }
        }
    }

    /// Whether entries of the old generation are still to come.
    #[cfg(feature = "rayon")]
    pub(crate) const fn is_before_old(&self) -> bool {
        self.rest.next.is_some()
    }

    /// Entries not yielded yet.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.left + self.rest.next.map_or(0, |(_, entries)| entries)
    }

    /// The place of the next entry in `table`, which this scan visits.
    #[inline]
    pub(crate) fn next_place(&mut self, table: &Table<T>) -> Option<Place> {
        let offset = self.next_offset()?;
        let base = self.rest.course.base;
        let slot = self.tags.addr().get() - base.addr().get() + offset;
        Some(Place { slot, in_old: base != table.current.generation.tags() })
    }

    /// Goes on to the next full slot. Returns its offset in the window at `tags`.
    #[inline(always)]
    fn next_offset(&mut self) -> Option<usize> {
        if self.left == 0 {
            self.left = self.rest.next_generation();
            if self.left == 0 {
                return None;
            }
            self.enter(self.rest.course.tags());
        }
        self.left -= 1;
        self.find_full();
        let offset = self.full.first();
        self.full = self.full.without_first();
        Some(offset)
    }
}

impl<T> Clone for Scan<T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<T> Iterator for Scan<T> {
    type Item = NonNull<T>;

    #[inline]
    fn next(&mut self) -> Option<NonNull<T>> {
        // SAFETY: the slot is one of the generation, so its entry is in the allocation.
        self.next_offset().map(|offset| unsafe { self.entries.sub(offset + 1) })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }

    /// In loops of their own over generations, windows and entries.
    #[inline]
    fn fold<B, F: FnMut(B, NonNull<T>) -> B>(mut self, init: B, mut f: F) -> B {
        let mut folded = init;
        loop {
            // To the end of the generation, where the order of chunks comes back to the first: without counting.
            while self.left > 0 {
                let (mut full, mut entries, mut tags) = (self.full, self.entries, self.tags);
                for window in (0..=self.windows).rev() {
                    for offset in full {
                        // SAFETY: as in `next`.
                        folded = f(folded, unsafe { entries.sub(offset + 1) });
                    }
                    if window > 0 {
                        // SAFETY: the chunk has one more window.
                        unsafe {
                            tags = tags.add(WIDTH);
                            entries = entries.sub(WIDTH);
                            full = Window::load(tags.as_ptr()).full();
                        }
                    }
                }
                let tags = self.rest.next_chunk();
                if self.rest.course.chunk == 0 {
                    break;
                }
                self.enter(tags);
            }
            self.left = self.rest.next_generation();
            if self.left == 0 {
                return folded;
            }
            self.enter(self.rest.course.tags());
        }
    }
}
