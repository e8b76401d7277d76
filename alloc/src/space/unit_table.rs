//! What is known of each unit: [`UnitMeta`], one dense row per unit, outside the units themselves.
//!
//! Invariants, under the lock of their zone:
//! - the first unit of a run has the kind of the run and its `len`; all others are `Body`;
//! - the last unit of a free run repeats `len`, so that a neighbour behind finds its head;
//! - a bit of `resident` is clear only while the page is not resident and reads as zero.
//!
//! So the rows inside a free run all of whose pages have left are zero, as those of units never used: the pages of the
//! table that hold only such rows can leave too.

use crate::base::sync::{AtomicU8, AtomicU16, AtomicU32, Ordering};
use crate::base::units::PageMask;
use crate::space::size_class::SizeClass;

/// What a run of units is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RunKind {
    /// Not the head of a run.
    Body = 0,
    /// Free, in the tree of its zone.
    Free,
    /// Free, but taken out of the tree while its pages are given back.
    Leaving,
    /// Slots of one size class.
    Small,
    /// One large block.
    Large,
    /// An arena.
    Region,
    /// Address space that the heap has lost: nobody may touch it, and it stays so.
    Lost,
}

impl RunKind {
    const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Free,
            2 => Self::Leaving,
            3 => Self::Small,
            4 => Self::Large,
            5 => Self::Region,
            6 => Self::Lost,
            _ => Self::Body,
        }
    }
}

/// The row of one unit. All zero for a unit that was never used.
///
/// The fields are atomic since snapshots read them without the lock that guards their changes. Relaxed is enough
/// wherever no order is named: the lock orders the writers, and a snapshot may be stale.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct UnitMeta {
    kind: AtomicU8,
    /// A release works on pages of this run without the lock: a free of the run is left to that release.
    pub(crate) pinned: AtomicU8,
    /// Pages that may be resident. All others read as zero.
    resident: AtomicU16,
    /// Pages of a region that were retired.
    retired: AtomicU16,
    /// Which of the (at most two) pages under this unit's span record may be resident, the first in the lowest bit.
    record: AtomicU8,
    /// One more than the class of the span that the unit lies in; 0 where a large block begins. What it holds in other
    /// units means nothing.
    class: AtomicU8,
    /// Units of the run.
    len: AtomicU32,
    /// For a large block or region: the pages that its owner asked for; those behind are idle. For a free run: the
    /// pages that may be resident.
    pages: AtomicU32,
    /// Links of the tree of free runs.
    pub(crate) left: AtomicU32,
    pub(crate) right: AtomicU32,
    /// The owner of the region that the unit is or was part of, by its number; 0 for none. Set in the first unit of a
    /// live region, and in each unit of free memory that nothing has used since.
    owner: AtomicU32,
    reserve: AtomicU32,
}

#[cfg(not(loom))]
static_assertions::const_assert_eq!(size_of::<UnitMeta>(), 32);

impl UnitMeta {
    pub(crate) fn kind(&self) -> RunKind {
        // Acquire: what was set up before the kind is seen with it.
        RunKind::from_byte(self.kind.load(Ordering::Acquire))
    }

    pub(crate) fn set_kind(&self, kind: RunKind) {
        // Release: pairs with the load above.
        self.kind.store(kind as u8, Ordering::Release);
    }

    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    pub(crate) fn set_len(&self, len: u32) {
        self.len.store(len, Ordering::Relaxed);
    }

    /// The pages of a large block or region that its owner asked for.
    pub(crate) fn owned_pages(&self) -> usize {
        self.pages.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn set_owned_pages(&self, pages: usize) {
        debug_assert!(u32::try_from(pages).is_ok());
        self.pages.store(pages as u32, Ordering::Relaxed);
    }

    /// The pages of a free run that may be resident.
    pub(crate) fn resident_pages(&self) -> u32 {
        self.pages.load(Ordering::Relaxed)
    }

    pub(crate) fn set_resident_pages(&self, pages: u32) {
        self.pages.store(pages, Ordering::Relaxed);
    }

    /// Pages that are not resident and read as zero.
    pub(crate) fn released(&self) -> PageMask {
        // Acquire: a clear bit means that the release of the page has happened.
        !self.resident.load(Ordering::Acquire)
    }

    /// Marks pages as given back; returns those of them that were not so marked.
    pub(crate) fn add_released(&self, pages: PageMask) -> PageMask {
        // Release: pairs with the load above.
        self.resident.fetch_and(!pages, Ordering::Release) & pages
    }

    /// Marks pages as in use; returns those of them that were released.
    pub(crate) fn reacquire(&self, pages: PageMask) -> PageMask {
        // Acquire: the release of the page happens before its new use. Who owns the pages need not write what is so.
        if self.released() & pages == 0 {
            return 0;
        }
        !self.resident.fetch_or(pages, Ordering::Acquire) & pages
    }

    /// As [`reacquire`](Self::reacquire) of all pages of a unit that the caller alone uses: without an atomic operation.
    pub(crate) fn reacquire_whole(&self) -> PageMask {
        let released = self.released();
        self.resident.store(PageMask::MAX, Ordering::Relaxed);
        released
    }

    /// The pages under the unit's span record that may be resident.
    pub(crate) fn record_pages(&self) -> u8 {
        self.record.load(Ordering::Relaxed)
    }

    pub(crate) fn set_record_pages(&self, pages: u8) {
        self.record.store(pages, Ordering::Relaxed);
    }

    /// The class of the slots in this unit, which lies in a span; `None` where a large block begins.
    #[inline]
    pub(crate) fn class(&self) -> Option<SizeClass> {
        let class = usize::from(self.class.load(Ordering::Relaxed));
        class.checked_sub(1).map(SizeClass::from_index)
    }

    pub(crate) fn set_class(&self, class: Option<SizeClass>) {
        self.class.store(class.map_or(0, |class| class.index() as u8 + 1), Ordering::Relaxed);
    }

    pub(crate) fn owner(&self) -> u32 {
        self.owner.load(Ordering::Relaxed)
    }

    pub(crate) fn set_owner(&self, owner: u32) {
        // Units are reset when they are taken, and most have no owner: then nothing is written.
        if self.owner() != owner {
            self.owner.store(owner, Ordering::Relaxed);
        }
    }

    /// Whether the row means the same as a row of zeros: part of a free run, with nothing resident.
    pub(crate) fn is_idle(&self) -> bool {
        self.kind() == RunKind::Body && self.released() == PageMask::MAX && self.record_pages() == 0
    }

    pub(crate) fn retired(&self) -> PageMask {
        // Acquire: pairs with the store below.
        self.retired.load(Ordering::Acquire)
    }

    /// Marks pages as retired; returns those of them that were not.
    pub(crate) fn add_retired(&self, pages: PageMask) -> PageMask {
        // Release: who sees the bit knows that the owner's last access is over.
        pages & !self.retired.fetch_or(pages, Ordering::Release)
    }

    pub(crate) fn clear_retired(&self) {
        self.retired.store(0, Ordering::Relaxed);
    }
}
