//! Address space: reservations ("segments") and the tables that describe their units.
//!
//! Normally there is one segment of a terabyte. Where that does not fit (`RLIMIT_AS`), smaller ones follow as needed.
//! A segment is, from its start: the table of [`UnitMeta`], the table of [`SpanRecord`], the units. All of it is
//! inaccessible until the page heap commits it. Segments are only ever added; readers need no lock.

#![allow(unsafe_code, reason = "turns table indices into references")]

use core::ptr::NonNull;

use crate::base::own_line::OwnLine;
use crate::base::sync::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::base::units::{HUGE, MOST_OF_SEGMENT, PAGE, UNIT, UNIT_SHIFT, UnitIndex};
use crate::os::{Errno, Os};
use crate::space::size_class::SizeClass;
use crate::space::span::SpanRecord;
use crate::space::unit_table::UnitMeta;

/// How many segments there can be. Each takes about half of what address space is left.
const MAX_SEGMENTS: usize = 32;
/// A segment below this is not worth its place.
const MIN_SEGMENT: usize = 4 * UNIT + HUGE;
/// Segments from this size on align their units to huge pages. No segment that is divided into zones is smaller.
const HUGE_ALIGNED: usize = if cfg!(test) { 1 << 27 } else { 1 << 30 };
/// Zones of a segment. Each commits its units from the first on.
const MAX_EXTENTS: usize = 3;
const TABLE_BYTES_PER_UNIT: usize = size_of::<UnitMeta>() + size_of::<SpanRecord>();

/// One reservation. Written once, before the count of segments includes it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: AtomicUsize,
    bytes: AtomicUsize,
    first: AtomicU32,
    units: AtomicU32,
    metas: AtomicPtr<UnitMeta>,
    spans: AtomicPtr<SpanRecord>,
    /// Which units are committed: the first of an extent in the high half, the one behind its last in the low half.
    /// Apart from the fields above, which every free reads.
    pub(crate) committed: OwnLine<[AtomicU64; MAX_EXTENTS]>,
}

impl Segment {
    const fn new() -> Self {
        Self {
            base: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            first: AtomicU32::new(0),
            units: AtomicU32::new(0),
            metas: AtomicPtr::new(core::ptr::null_mut()),
            spans: AtomicPtr::new(core::ptr::null_mut()),
            committed: OwnLine([const { AtomicU64::new(0) }; MAX_EXTENTS]),
        }
    }

    // Relaxed in all of these: the fields never change after the segment was published, and whoever holds an
    // address or an index of it got that through a chain that began behind the publication.

    pub(crate) fn first(&self) -> UnitIndex {
        UnitIndex(self.first.load(Ordering::Relaxed))
    }

    pub(crate) fn units(&self) -> u32 {
        self.units.load(Ordering::Relaxed)
    }

    fn is_committed(&self, unit: UnitIndex) -> bool {
        // Acquire: the rows of a unit that is noted are writable.
        let within = |extent: u64| extent >> 32 <= u64::from(unit.0) && unit.0 < extent as u32;
        self.committed.iter().any(|extent| within(extent.load(Ordering::Acquire)))
    }

    /// Notes that units are committed. Callers hold the lock of their zone.
    fn note_committed(&self, from: UnitIndex, units: u32) {
        let behind = u64::from(from.plus(units).0);
        // An extent that ends here is that of the caller's zone, or of the one before it, which is full then and adds no
        // more. Acquire: what that one noted is part of what is published here. Release: pairs with the load above.
        for extent in self.committed.iter() {
            let noted = extent.load(Ordering::Acquire);
            if noted as u32 == from.0 && noted != 0 {
                return extent.store(noted & !u64::from(u32::MAX) | behind, Ordering::Release);
            }
        }
        let own = u64::from(from.0) << 32 | behind;
        let claim = |extent: &AtomicU64| {
            extent.compare_exchange(0, own, Ordering::Release, Ordering::Relaxed).is_ok()
        };
        let noted = self.committed.iter().any(claim);
        debug_assert!(noted, "more extents than zones");
    }

    #[inline(always)]
    fn index_of(&self, addr: usize) -> Option<UnitIndex> {
        let offset = addr.wrapping_sub(self.base.load(Ordering::Relaxed));
        let inside = offset < self.bytes.load(Ordering::Relaxed);
        inside.then(|| UnitIndex((offset >> UNIT_SHIFT) as u32 + self.first.load(Ordering::Relaxed)))
    }
}

/// Where an address lies in a span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotPlace {
    /// The first unit of the span.
    pub(crate) span: UnitIndex,
    /// The number of the slot.
    pub(crate) number: usize,
    /// Whether the slot exists and begins there.
    pub(crate) is_start: bool,
}

impl SlotPlace {
    /// The word of the span's bitmap that has the slot, and its bit.
    pub(crate) const fn bit(&self) -> (usize, u64) {
        (self.number / 64, 1 << (self.number % 64))
    }
}

/// All segments.
#[derive(Debug)]
pub(crate) struct Segments {
    segments: [Segment; MAX_SEGMENTS],
    count: AtomicUsize,
}

impl Segments {
    pub(crate) const fn new() -> Self {
        Self { segments: [const { Segment::new() }; MAX_SEGMENTS], count: AtomicUsize::new(0) }
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        // Acquire: a counted segment is set up.
        &self.segments[..self.count.load(Ordering::Acquire).min(MAX_SEGMENTS)]
    }

    /// The unit that holds `addr`; `None` if it is no address of this heap.
    #[inline(always)]
    pub(crate) fn unit_of(&self, addr: usize) -> Option<UnitIndex> {
        match self.segments[0].index_of(addr) {
            Some(unit) => Some(unit),
            None => self.unit_of_later(addr),
        }
    }

    /// As [`unit_of`](Self::unit_of), for addresses of the first segment, which normally is the only one.
    #[inline(always)]
    pub(crate) fn unit_of_first_segment(&self, addr: usize) -> Option<UnitIndex> {
        self.segments[0].index_of(addr)
    }

    #[cold]
    fn unit_of_later(&self, addr: usize) -> Option<UnitIndex> {
        self.segments().iter().skip(1).find_map(|segment| segment.index_of(addr))
    }

    /// Whether a unit is committed, so that it has a row. For addresses that nobody vouches for.
    pub(crate) fn is_committed(&self, unit: UnitIndex) -> bool {
        self.segments().iter().any(|segment| segment.is_committed(unit))
    }

    #[inline]
    fn segment_of(&self, unit: UnitIndex) -> &Segment {
        let first = &self.segments[0];
        if unit.0 < first.units.load(Ordering::Relaxed) { first } else { self.later_segment_of(unit) }
    }

    #[cold]
    fn later_segment_of(&self, unit: UnitIndex) -> &Segment {
        let mut segments = self.segments().iter();
        let found = segments.find(|segment| unit.0.wrapping_sub(segment.first().0) < segment.units());
        debug_assert!(found.is_some(), "{unit:?} lies in no segment");
        found.unwrap_or(&self.segments[0])
    }

    /// Bytes from an address in a segment to the end of it; 0 for any other address.
    pub(crate) fn bytes_behind(&self, addr: usize) -> usize {
        let behind = |segment: &Segment| {
            let (base, bytes) = (segment.base.load(Ordering::Relaxed), segment.bytes.load(Ordering::Relaxed));
            (base..base + bytes).contains(&addr).then(|| base + bytes - addr)
        };
        self.segments().iter().find_map(behind).unwrap_or(0)
    }

    /// The first byte of a unit.
    pub(crate) fn address(&self, unit: UnitIndex) -> NonNull<u8> {
        let segment = self.segment_of(unit);
        let offset = (unit.0 - segment.first().0) as usize * UNIT;
        let base = segment.base.load(Ordering::Relaxed);
        debug_assert!(base != 0);
        // SAFETY: units lie above the tables of their segment, so no address of one is null.
        unsafe { NonNull::new_unchecked((base + offset) as *mut u8) }
    }

    /// The row of a committed unit.
    #[inline]
    pub(crate) fn meta(&self, unit: UnitIndex) -> &UnitMeta {
        let segment = self.segment_of(unit);
        let row = (unit.0 - segment.first().0) as usize;
        debug_assert!(row < segment.units() as usize);
        // SAFETY: the table has a row for each unit of the segment, zeroed when it was committed, which the page heap
        // does before it hands out the unit's index. Rows are only ever used through shared references.
        unsafe { &*segment.metas.load(Ordering::Relaxed).add(row) }
    }

    /// The record of a committed unit in a zone for spans.
    #[inline]
    pub(crate) fn span(&self, unit: UnitIndex) -> &SpanRecord {
        let segment = self.segment_of(unit);
        let row = (unit.0 - segment.first().0) as usize;
        debug_assert!(row < segment.units() as usize);
        // SAFETY: as in `meta`; the zones that hold spans commit this table too.
        unsafe { &*segment.spans.load(Ordering::Relaxed).add(row) }
    }

    /// Which slot of a span of `class` an address lies in; `None` if it is no address of this heap. Whether the unit is
    /// committed, and begins such a span, the caller must find out.
    pub(crate) fn slot_at(&self, class: SizeClass, addr: usize) -> Option<SlotPlace> {
        let geometry = class.geometry();
        // Spans are aligned to their size.
        let within = geometry.units as usize * UNIT - 1;
        let span = self.unit_of(addr & !within)?;
        let number = geometry.slot_at(addr & within);
        let is_start = number < geometry.slots as usize && number * class.size() == addr & within;
        Some(SlotPlace { span, number, is_start })
    }

    /// The addresses of the rows of some units of one segment.
    pub(crate) fn rows(&self, from: UnitIndex, units: u32) -> core::ops::Range<usize> {
        let segment = self.segment_of(from);
        let table = segment.metas.load(Ordering::Relaxed) as usize;
        let row = (from.0 - segment.first().0) as usize;
        table + row * size_of::<UnitMeta>()..table + (row + units as usize) * size_of::<UnitMeta>()
    }

    /// The addresses of the span records of some units of one segment.
    pub(crate) fn records(&self, from: UnitIndex, units: u32) -> core::ops::Range<usize> {
        let segment = self.segment_of(from);
        let table = segment.spans.load(Ordering::Relaxed) as usize;
        let row = (from.0 - segment.first().0) as usize;
        table + row * size_of::<SpanRecord>()..table + (row + units as usize) * size_of::<SpanRecord>()
    }

    /// Adds a segment: of `wanted` bytes if that fits, else about half of the largest that does, so that stacks and
    /// libraries find room as well; at least `needed` units. Callers keep others from doing the same.
    pub(crate) fn reserve<O: Os>(&self, os: &O, wanted: usize, needed: u32) -> Option<&Segment> {
        let count = self.count.load(Ordering::Relaxed);
        let slot = self.segments.get(count)?;
        let least = (needed as usize).checked_mul(UNIT + TABLE_BYTES_PER_UNIT)?;
        let least = least.checked_add(MIN_SEGMENT)?.next_multiple_of(UNIT);
        let (start, bytes) = find_room(os, wanted, least)?;
        let alignment = if bytes >= HUGE_ALIGNED { HUGE } else { UNIT };
        // Behind the last unit a page is left, so that no mapping of units can grow.
        let units = (bytes - alignment - UNIT) / (UNIT + TABLE_BYTES_PER_UNIT);
        let first = match count.checked_sub(1).map(|last| &self.segments[last]) {
            Some(last) => last.first().0.checked_add(last.units() + 1)?,
            None => 0,
        };
        let units =
            u32::try_from(units).unwrap_or(u32::MAX).min(MOST_OF_SEGMENT).min(UnitIndex::NIL.0 - first - 1);
        if units < needed {
            // SAFETY: the reservation just made, unused.
            unsafe { os.unreserve(start, bytes) };
            return None;
        }
        let metas = start.as_ptr().cast::<UnitMeta>();
        let spans = (start.as_ptr() as usize + units as usize * size_of::<UnitMeta>())
            .next_multiple_of(align_of::<SpanRecord>());
        let base = (spans + units as usize * size_of::<SpanRecord>()).next_multiple_of(alignment);
        debug_assert!(base + units as usize * UNIT + PAGE <= start.as_ptr() as usize + bytes);
        slot.base.store(base, Ordering::Relaxed);
        slot.bytes.store(units as usize * UNIT, Ordering::Relaxed);
        slot.first.store(first, Ordering::Relaxed);
        slot.units.store(units, Ordering::Relaxed);
        slot.metas.store(metas, Ordering::Relaxed);
        slot.spans.store(spans as *mut SpanRecord, Ordering::Relaxed);
        // Release: publishes the fields above.
        self.count.store(count + 1, Ordering::Release);
        Some(slot)
    }

    /// Makes units and their rows writable; with `spans`, their span records too. Returns the bytes of tables.
    pub(crate) fn commit<O: Os>(
        &self,
        os: &O,
        from: UnitIndex,
        units: u32,
        spans: bool,
    ) -> Result<usize, Errno> {
        let segment = self.segment_of(from);
        let row = (from.0 - segment.first().0) as usize;
        debug_assert!(row + units as usize <= segment.units() as usize);
        let metas = segment.metas.load(Ordering::Relaxed) as usize;
        let records = segment.spans.load(Ordering::Relaxed) as usize;
        let rows = row..row + units as usize;
        let mut bytes = commit_rows(os, metas, size_of::<UnitMeta>(), &rows)?;
        if spans {
            bytes += commit_rows(os, records, size_of::<SpanRecord>(), &rows)?;
        }
        // SAFETY: whole units of one segment.
        unsafe { os.commit(self.address(from), units as usize * UNIT)? };
        segment.note_committed(from, units);
        Ok(bytes)
    }
}

/// The largest room up to `wanted`, or part of it.
fn find_room<O: Os>(os: &O, wanted: usize, least: usize) -> Option<(NonNull<u8>, usize)> {
    let mut size = wanted.max(least);
    if let Ok(start) = os.reserve(size) {
        return Some((start, size));
    }
    while size / 2 >= least {
        size /= 2;
        if let Ok(start) = os.reserve(size) {
            let part = (size / 2).max(least).next_multiple_of(UNIT);
            // SAFETY: the reservation just made, unused. What fitted whole fits again in part.
            unsafe { os.unreserve(start, size) };
            return os.reserve(part).ok().map(|start| (start, part));
        }
    }
    os.reserve(least).ok().map(|start| (start, least))
}

/// Makes rows of a table writable. Pages that they share with other rows may be so already.
fn commit_rows<O: Os>(
    os: &O,
    table: usize,
    row: usize,
    rows: &core::ops::Range<usize>,
) -> Result<usize, Errno> {
    let pages = os.pages().around(&(table + rows.start * row..table + rows.end * row));
    // SAFETY: whole pages of the segment's reservation, above its page-aligned start and below its units, which begin at a
    // multiple of any page.
    unsafe { os.commit(NonNull::new_unchecked(pages.start as *mut u8), pages.len())? };
    Ok(rows.len() * row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::fake::Fake;

    #[test]
    fn a_small_address_space_gets_several_small_segments() {
        let os = Fake::new(16 << 20);
        let segments = Segments::new();
        let first = segments.reserve(&os, 1 << 30, 1).unwrap();
        assert!(first.units() as usize * UNIT < 8 << 20, "half is left to others");
        let end = first.first().0 + first.units();
        let second = segments.reserve(&os, 1 << 30, 1).unwrap();
        assert_eq!(second.first().0, end + 1, "a gap keeps runs of two segments apart");
        assert!(segments.reserve(&os, 1 << 30, 1 << 20).is_none(), "no room for 64 GiB");
        let unit = second.first().plus(3);
        let addr = segments.address(unit).as_ptr() as usize;
        assert_eq!(segments.unit_of(addr), Some(unit));
        assert_eq!(segments.unit_of(addr + UNIT - 1), Some(unit));
        assert_eq!(segments.unit_of(addr + UNIT), Some(unit.plus(1)));
        assert_eq!(segments.unit_of(16), None);
    }
}
