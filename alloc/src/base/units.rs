//! The measures of the heap as types: OS pages, units, and indices of units.
//!
//! A page is what is accounted, and what madvise works on where the kernel has pages of 4 KiB. Where these are larger,
//! only whole pages of the kernel, each a group of ours, ever reach it. A unit is what the page heap hands out. Neither is
//! ever mixed with a bare count of bytes.

use static_assertions::const_assert;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a unit.
pub(crate) const UNIT: usize = 64 * 1024;
/// `log2(UNIT)`.
pub(crate) const UNIT_SHIFT: u32 = UNIT.trailing_zeros();
/// Pages of a unit: as many as the bits of a [`PageMask`].
pub(crate) const PAGES_PER_UNIT: usize = UNIT / PAGE;
/// Bytes of a huge page.
pub(crate) const HUGE: usize = 2 * 1024 * 1024;

/// One bit for each page of one unit, the lowest page in the lowest bit.
pub(crate) type PageMask = u16;

const_assert!(PAGES_PER_UNIT == PageMask::BITS as usize);
const_assert!(HUGE.is_multiple_of(UNIT));

/// Units of one block or region, at most: 8 TiB. Larger ones are refused at once.
pub(crate) const MOST_OF_RUN: u32 = 1 << 27;
/// Units of a segment, at most, and of a free run with it: their pages can be counted in 32 bits.
pub(crate) const MOST_OF_SEGMENT: u32 = u32::MAX / PAGES_PER_UNIT as u32;
/// The largest alignment of a run in units: 1 TiB.
const MOST_ALIGNED: u32 = 1 << 24;
const_assert!(MOST_OF_RUN + MOST_ALIGNED < MOST_OF_SEGMENT);

/// A number of units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnitCount(pub(crate) u32);

impl UnitCount {
    /// The units that `bytes` need; `None` beyond [`MOST_OF_RUN`].
    pub(crate) fn covering(bytes: usize) -> Option<Self> {
        u32::try_from(bytes.div_ceil(UNIT)).ok().filter(|units| *units <= MOST_OF_RUN).map(Self)
    }

    /// The units of an alignment; `None` beyond what is granted.
    pub(crate) fn of_align(align: usize) -> Option<u32> {
        u32::try_from(align.div_ceil(UNIT)).ok().filter(|units| *units <= MOST_ALIGNED)
    }

    pub(crate) const fn bytes(self) -> usize {
        self.0 as usize * UNIT
    }
}

/// The number of a unit, counted over all segments. Segments leave a gap of one, so runs never join across them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnitIndex(pub(crate) u32);

impl UnitIndex {
    /// No unit: the end of a list.
    pub(crate) const NIL: Self = Self(u32::MAX);

    pub(crate) fn is_nil(self) -> bool {
        self == Self::NIL
    }

    pub(crate) const fn plus(self, units: u32) -> Self {
        Self(self.0 + units)
    }
}

/// The mask of pages `from..to` of a unit.
pub(crate) const fn page_mask(from: usize, to: usize) -> PageMask {
    debug_assert!(from <= to && to <= PAGES_PER_UNIT);
    let below_to = (1u32 << to) - 1;
    let below_from = (1u32 << from) - 1;
    (below_to & !below_from) as PageMask
}

/// Calls `each` with the number of a unit and the mask of its pages, for the pages `from..to` of a run.
pub(crate) fn for_each_unit(from: usize, to: usize, mut each: impl FnMut(usize, PageMask)) {
    let mut page = from;
    while page < to {
        let unit = page / PAGES_PER_UNIT;
        let end = to.min((unit + 1) * PAGES_PER_UNIT);
        each(unit, page_mask(page - unit * PAGES_PER_UNIT, end - unit * PAGES_PER_UNIT));
        page = end;
    }
}

/// Our pages in one of the kernel's, of which a unit holds whole ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageGroup(usize);

impl PageGroup {
    /// For a kernel with pages of so many bytes.
    pub(crate) const fn new(page_size: usize) -> Self {
        debug_assert!(page_size.is_power_of_two() && PAGE <= page_size && page_size <= UNIT);
        Self(page_size / PAGE)
    }

    /// How many of our pages it is.
    pub(crate) const fn len(self) -> usize {
        self.0
    }

    pub(crate) const fn bytes(self) -> usize {
        self.0 * PAGE
    }

    const fn mask(self) -> PageMask {
        PageMask::MAX >> (PAGES_PER_UNIT - self.0)
    }

    fn filter(self, pages: PageMask, wanted: impl Fn(PageMask) -> bool) -> PageMask {
        let groups = (0..PAGES_PER_UNIT).step_by(self.0).map(|first| self.mask() << first);
        groups.filter(|group| wanted(pages & group)).fold(0, |all, group| all | group)
    }

    /// Of the pages of a unit that nobody uses, those that can leave: of whole groups, unless all of one has left.
    pub(crate) fn leaving(self, idle: PageMask, released: PageMask) -> PageMask {
        if self.0 == 1 {
            return idle & !released;
        }
        let dirty = self.filter(idle & !released, |pages| pages != 0);
        let used = self.filter(!idle, |pages| pages != 0);
        dirty & !used
    }

    /// The whole groups inside a range of addresses.
    pub(crate) const fn inside(self, range: &core::ops::Range<usize>) -> core::ops::Range<usize> {
        let start = range.start.next_multiple_of(self.bytes());
        let end = range.end & !(self.bytes() - 1);
        if end < start { start..start } else { start..end }
    }

    /// The whole groups that a range of addresses touches.
    pub(crate) const fn around(self, range: &core::ops::Range<usize>) -> core::ops::Range<usize> {
        range.start & !(self.bytes() - 1)..range.end.next_multiple_of(self.bytes())
    }

    /// Whether a range of addresses is whole groups.
    pub(crate) const fn divides(self, addr: usize, bytes: usize) -> bool {
        (addr | bytes).is_multiple_of(self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_masks_cover_exactly_their_pages() {
        assert_eq!(page_mask(0, 0), 0);
        assert_eq!(page_mask(0, 16), 0xffff);
        assert_eq!(page_mask(3, 5), 0b11000);
        assert_eq!(page_mask(15, 16), 0x8000);
    }

    #[test]
    fn units_of_a_page_range() {
        let mut seen = Vec::new();
        for_each_unit(14, 33, |unit, mask| seen.push((unit, mask)));
        assert_eq!(seen, [(0, 0xc000), (1, 0xffff), (2, 1)]);
    }

    #[test]
    fn only_whole_groups_leave() {
        let [small, middle, large] = [4096, 16384, 65536].map(PageGroup::new);
        assert_eq!(small.leaving(0b0110_1111, 0b0000_0011), 0b0110_1100);
        assert_eq!(middle.leaving(0b1111_0111_1111, 0), 0b1111_0000_1111);
        assert_eq!(middle.leaving(0b1111_1111, 0b1111_0111), 0b1111, "one of four has not left");
        assert_eq!(middle.leaving(0b1111_1111, 0b1111_1111), 0);
        assert_eq!(
            [large.leaving(0xffff, 0xfffe), large.leaving(0x7fff, 0), large.leaving(0xffff, 0xffff)],
            [0xffff, 0, 0]
        );
        assert_eq!(small.inside(&(1..3 * PAGE + 1)), PAGE..3 * PAGE);
        assert_eq!(small.inside(&(PAGE..2 * PAGE)), PAGE..2 * PAGE);
        assert!(small.inside(&(1..PAGE)).is_empty() && small.inside(&(1..PAGE - 1)).is_empty());
        assert_eq!(middle.inside(&(PAGE..9 * PAGE)), 4 * PAGE..8 * PAGE);
        assert!(large.inside(&(PAGE..9 * PAGE)).is_empty());
        assert_eq!(middle.around(&(3 * PAGE..9 * PAGE)), 0..12 * PAGE);
        assert!(
            middle.divides(8 * PAGE, 4 * PAGE)
                && !middle.divides(4 * PAGE, PAGE)
                && !middle.divides(PAGE, 4 * PAGE)
        );
    }

    #[test]
    fn units_cover_bytes_and_refuse_what_no_index_names() {
        assert_eq!(UnitCount::covering(0), Some(UnitCount(0)));
        assert_eq!(UnitCount::covering(1), Some(UnitCount(1)));
        assert_eq!(UnitCount::covering(UNIT), Some(UnitCount(1)));
        assert_eq!(UnitCount::covering(UNIT + 1), Some(UnitCount(2)));
        assert_eq!(UnitCount::covering(MOST_OF_RUN as usize * UNIT), Some(UnitCount(MOST_OF_RUN)));
        for bytes in [MOST_OF_RUN as usize * UNIT + 1, 16 << 40, 20 << 40, 100 << 40, usize::MAX] {
            assert_eq!(UnitCount::covering(bytes), None, "{bytes}");
        }
        assert_eq!([1, UNIT, 1 << 40].map(UnitCount::of_align), [Some(1), Some(1), Some(1 << 24)]);
        assert_eq!([1 << 41, 1 << 63].map(UnitCount::of_align), [None; 2]);
    }
}
