//! Size classes: the slot sizes of small objects, and the geometry of the spans that hold them.
//!
//! Classes are 16 bytes apart up to 256 bytes and then eight to each doubling, so the slack inside a slot is at most
//! 1/9 of it above 128 bytes. A slot size is a multiple of the distance to its neighbours. Therefore a size that was
//! rounded up to a multiple of its alignment falls into a class whose slots keep that alignment: either the distance
//! is a multiple of the alignment, or the rounded size is itself a class.

use static_assertions::const_assert;

use crate::base::units::UNIT;

/// The largest size of a small object, in bytes.
pub(crate) const MAX_SMALL: usize = 32 * 1024;
/// The largest size whose class follows from the layout alone. A larger block that shrinks may stay in a slot of up to
/// twice its size.
pub(crate) const EXACT: usize = 4096;
/// How many classes there are.
pub(crate) const CLASSES: usize = 72;
/// Words of the largest span bitmap.
pub(crate) const MAX_WORDS: usize = UNIT / 16 / 64;

/// The distance of the smallest slots, and the alignment that every slot has.
pub(crate) const QUANTUM: usize = 16;
/// Fractional bits of [`Geometry::reciprocal`].
const RECIPROCAL_BITS: u32 = 40;

/// A class of slots of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SizeClass(u8);

/// How a span of one class is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Bytes of a slot.
    pub(crate) size: u32,
    /// Slots of a span.
    pub(crate) slots: u32,
    /// Units of a span: a power of two, to which the span is aligned, so that its head needs no lookup.
    pub(crate) units: u32,
    /// Slots that a magazine may hold at most.
    pub(crate) magazine: u32,
    /// `2^40 / size`, rounded up: turns the offset of a slot into its number.
    reciprocal: u64,
}

impl SizeClass {
    /// The class for a layout; `None` if it needs a large block.
    #[inline]
    pub(crate) const fn of(size: usize, align: usize) -> Option<Self> {
        Self::of_size(padded(size, align))
    }

    /// The class of every block of such a size, if there is only one: at most [`EXACT`] bytes.
    #[inline(always)]
    pub(crate) const fn exact(size: usize) -> Option<Self> {
        let last = size.wrapping_sub(1);
        if last >= EXACT {
            return None;
        }
        Some(Self(CLASS_OF[last / QUANTUM]))
    }

    /// The class for a size whose alignment every slot has: at most [`QUANTUM`].
    #[inline(always)]
    pub(crate) const fn of_size(size: usize) -> Option<Self> {
        let last = size.wrapping_sub(1);
        if last >= MAX_SMALL {
            return None;
        }
        // One load from a table whose first line serves sizes to 1 KiB beats the arithmetic that fills it.
        Some(Self(CLASS_OF[last / QUANTUM]))
    }

    /// The class with this number.
    pub(crate) const fn from_index(index: usize) -> Self {
        debug_assert!(index < CLASSES);
        Self(index as u8)
    }

    #[inline(always)]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// All classes, the smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        #[cfg(not(loom))]
        let classes = 0..CLASSES;
        // Models use 2, 4 and 8 KiB: a class that nobody uses would only cost them steps.
        #[cfg(loom)]
        let classes = (39..56).step_by(8);
        classes.map(Self::from_index)
    }

    pub(crate) fn geometry(self) -> &'static Geometry {
        &GEOMETRY[self.index()]
    }

    /// Whether a block of more than [`EXACT`] bytes may lie in a slot of this class: it stays there when it shrinks, as
    /// long as it fills more than half.
    pub(crate) fn may_hold(self, size: usize) -> bool {
        size <= self.size() && size > self.size() / 2
    }

    /// Bytes of a slot.
    pub(crate) fn size(self) -> usize {
        self.geometry().size as usize
    }
}

/// The size that decides the class of a layout.
#[inline(always)]
pub(crate) const fn padded(size: usize, align: usize) -> usize {
    if align > QUANTUM { (size + (align - 1)) & !(align - 1) } else { size }
}

impl Geometry {
    /// The number of the slot that holds the byte at `offset` from the start of the span.
    #[inline(always)]
    pub(crate) const fn slot_at(&self, offset: usize) -> usize {
        ((offset as u64 * self.reciprocal) >> RECIPROCAL_BITS) as usize
    }

    /// Words of the bitmap in use.
    pub(crate) const fn words(&self) -> usize {
        (self.slots as usize).div_ceil(64)
    }

    /// The bits of `word` that stand for slots.
    #[inline(always)]
    pub(crate) const fn full_word(&self, word: usize) -> u64 {
        let left = self.slots as usize - word * 64;
        if left >= 64 { u64::MAX } else { (1 << left) - 1 }
    }
}

/// The class of each size, by `(size - 1) / 16`.
static CLASS_OF: [u8; MAX_SMALL / QUANTUM] = {
    let mut table = [0; MAX_SMALL / QUANTUM];
    let mut at = 0;
    while at < table.len() {
        let last = (at * QUANTUM) | 128;
        let log = last.ilog2();
        table[at] = ((log as usize - 7) * 8 + ((at * QUANTUM) >> (log - 3))) as u8;
        at += 1;
    }
    table
};

const fn slot_size(index: usize) -> usize {
    if index < 16 {
        (index + 1) * QUANTUM
    } else {
        let log = 7 + index / 8 - 1;
        ((index % 8) + 8 + 1) << (log - 3)
    }
}

/// Units of a span: the fewest that hold eight slots and waste at most 1/24 at the end.
const fn span_units(size: usize) -> usize {
    let mut units = 1;
    while units < 8 && (units * UNIT / size < 8 || (units * UNIT) % size * 24 > units * UNIT) {
        units *= 2;
    }
    units
}

/// A magazine holds at most 1,024 slots and 64 KiB, but at least four slots.
const fn magazine_slots(size: usize) -> usize {
    let slots = 64 * 1024 / size;
    if slots > 1024 {
        1024
    } else if slots < 4 {
        4
    } else {
        slots
    }
}

const fn geometry(index: usize) -> Geometry {
    let size = slot_size(index);
    let units = span_units(size);
    Geometry {
        size: size as u32,
        slots: (units * UNIT / size) as u32,
        units: units as u32,
        magazine: magazine_slots(size) as u32,
        reciprocal: (1u64 << RECIPROCAL_BITS).div_ceil(size as u64),
    }
}

static GEOMETRY: [Geometry; CLASSES] = GEOMETRY_TABLE;
const GEOMETRY_TABLE: [Geometry; CLASSES] = {
    let mut table = [geometry(0); CLASSES];
    let mut index = 1;
    while index < CLASSES {
        table[index] = geometry(index);
        index += 1;
    }
    table
};

/// Slots of all magazines of one thread together.
pub(crate) const MAGAZINE_SLOTS: usize = {
    let mut sum = 0;
    let mut index = 0;
    while index < CLASSES {
        sum += GEOMETRY_TABLE[index].magazine as usize;
        index += 1;
    }
    sum
};

const_assert!(slot_size(CLASSES - 1) == MAX_SMALL);
const_assert!(GEOMETRY_TABLE[0].slots as usize == MAX_WORDS * 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_gets_the_smallest_slot_that_holds_it() {
        let mut previous = 0;
        for class in SizeClass::all() {
            assert_eq!(SizeClass::of(class.size(), 1), Some(class));
            assert_eq!(SizeClass::of(previous + 1, 1), Some(class));
            previous = class.size();
        }
        assert_eq!(previous, MAX_SMALL);
        assert_eq!(SizeClass::of(MAX_SMALL + 1, 1), None);
        assert_eq!(SizeClass::of(0, 1), None);
        assert_eq!(SizeClass::of(isize::MAX as usize, 1), None);
    }

    #[test]
    fn slack_is_at_most_an_eighth_above_128_bytes() {
        for size in 129..=MAX_SMALL {
            let slot = SizeClass::of(size, 1).unwrap().size();
            assert!((slot - size) * 8 <= slot, "{size} in {slot}");
        }
    }

    #[test]
    fn slots_keep_every_alignment() {
        for log in 0..=15 {
            let align = 1usize << log;
            for size in (1..=MAX_SMALL).step_by(7).chain([align, align + 1]) {
                if let Some(class) = SizeClass::of(size, align) {
                    assert!(
                        class.size() >= size && class.size().is_multiple_of(align),
                        "{size} align {align}"
                    );
                }
            }
        }
        assert_eq!(SizeClass::of(1, 64 * 1024), None);
    }

    #[test]
    fn the_reciprocal_finds_the_slot_of_every_byte() {
        for class in SizeClass::all() {
            let geometry = class.geometry();
            for slot in 0..geometry.slots as usize {
                let start = slot * class.size();
                assert_eq!(geometry.slot_at(start), slot);
                assert_eq!(geometry.slot_at(start + class.size() - 1), slot);
            }
        }
    }

    #[test]
    fn spans_waste_little_and_bitmaps_fit() {
        for class in SizeClass::all() {
            let geometry = class.geometry();
            let bytes = geometry.units as usize * UNIT;
            let used = geometry.slots as usize * class.size();
            assert!((bytes - used) * 24 <= bytes, "{geometry:?}");
            assert!(geometry.words() <= MAX_WORDS);
            let ones: u32 = (0..geometry.words()).map(|word| geometry.full_word(word).count_ones()).sum();
            assert_eq!(ones, geometry.slots);
        }
    }
}
