//! A walk that checks the invariants of the whole heap. For tests, and for programs that suspect corruption.
//!
//! It needs a heap at rest: what other threads change meanwhile may look like a fault.

use core::fmt;

use crate::base::sync::Ordering;
use crate::base::units::{PAGE, PAGES_PER_UNIT, UNIT, UnitIndex};
use crate::cache::Caches;
use crate::cache::magazine::ThreadCache;
use crate::os::Os;
use crate::pages::zone::{Zone, resident_pages};
use crate::space::live_bits::HARDENED;
use crate::space::segment::Segments;
use crate::space::size_class::SizeClass;
use crate::space::span::{SpanState, masks, slots_of_page};
use crate::space::unit_table::RunKind;
use crate::spans::Spans;

/// What is wrong with the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Runs do not tile their zone.
    BrokenRun,
    /// Two neighbouring free runs were not joined.
    UnjoinedRuns,
    /// A free run is missing from the tree of its zone, or miscounts its resident pages.
    FreeRun,
    /// A run that is used is still being released.
    Pinned,
    /// A span's state and the list of its class do not agree.
    SpanList,
    /// A bitmap has bits for slots that do not exist, or a free slot is also marked as handed out.
    Bitmap,
    /// A released page holds a slot that is not free.
    ReleasedInUse,
    /// A cached slot is not one of its class, is also free in its span, or is cached twice.
    CachedSlot,
    /// The running totals do not agree with the walk.
    Counters,
}

/// Where a walk found the heap broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapError {
    /// What is wrong.
    pub fault: Fault,
    /// The number of the 64 KiB unit where it showed.
    pub unit: u32,
}

impl fmt::Display for HeapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the heap is broken at unit {}: {:?}", self.unit, self.fault)
    }
}

impl core::error::Error for HeapError {}

const fn fault(fault: Fault, unit: UnitIndex) -> HeapError {
    HeapError { fault, unit: unit.0 }
}

/// Totals of one walk, to compare with the counters.
#[derive(Default)]
struct Totals {
    runs: u64,
    free_resident: u64,
}

/// See [`crate::verify`].
pub(crate) fn verify<O: Os>(caches: &Caches<O>, cache: Option<&ThreadCache>) -> Result<(), HeapError> {
    let (spans, pages) = (caches.spans(), caches.spans().pages());
    let mut totals = Totals::default();
    for zone in (0..pages.zones()).filter_map(|number| pages.zone(number)) {
        verify_zone(pages.segments(), &zone, &mut totals)?;
    }
    for (run, _) in pages.runs() {
        if pages.segments().meta(run).kind() == RunKind::Small {
            verify_span(spans, run)?;
        }
    }
    if let Some(cache) = cache {
        SizeClass::all().try_for_each(|class| verify_magazine(spans, cache, class))?;
    }
    let counters = caches.counters();
    let agree = counters.runs.run_bytes.get() == totals.runs
        && counters.runs.free_resident.get() == totals.free_resident;
    if agree { Ok(()) } else { Err(fault(Fault::Counters, UnitIndex::NIL)) }
}

fn verify_zone(segments: &Segments, zone: &Zone, totals: &mut Totals) -> Result<(), HeapError> {
    let range = zone.used();
    let mut at = UnitIndex(range.start);
    let mut after_free = false;
    while at.0 < range.end {
        let meta = segments.meta(at);
        let (kind, len) = (meta.kind(), meta.len());
        let bodies = (1..len).all(|unit| segments.meta(at.plus(unit)).kind() == RunKind::Body);
        let fits = len > 0 && len <= range.end - at.0;
        if !fits || !bodies || matches!(kind, RunKind::Body | RunKind::Leaving) {
            return Err(fault(Fault::BrokenRun, at));
        }
        if kind == RunKind::Free {
            let resident = resident_pages(segments, at, len);
            let tail = segments.meta(at.plus(len - 1)).len();
            if after_free {
                return Err(fault(Fault::UnjoinedRuns, at));
            }
            if resident != meta.resident_pages() || tail != len || !zone.in_tree(segments, at) {
                return Err(fault(Fault::FreeRun, at));
            }
            totals.free_resident += u64::from(resident) * PAGE as u64;
        } else if kind != RunKind::Lost {
            totals.runs += (len as usize * UNIT) as u64;
            if meta.pinned.load(Ordering::Relaxed) != 0 {
                return Err(fault(Fault::Pinned, at));
            }
        }
        after_free = kind == RunKind::Free;
        at = at.plus(len);
    }
    Ok(())
}

fn verify_span<O: Os>(spans: &Spans<O>, span: UnitIndex) -> Result<(), HeapError> {
    let segments = spans.segments();
    let record = segments.span(span);
    let class = record.class();
    let geometry = class.geometry();
    let listed = spans.list_of(class).is_listed(segments, span);
    let full_with_room = record.state() == SpanState::Full && record.has_room(geometry);
    let wrong_list = listed != (record.state() == SpanState::Listed);
    if wrong_list || full_with_room || record.state() == SpanState::None {
        return Err(fault(Fault::SpanList, span));
    }
    let mut words = 0..geometry.words();
    let live = |word| if HARDENED { record.live.look(word) } else { 0 };
    if words.any(|word| record.look(word) & (!geometry.full_word(word) | live(word)) != 0) {
        return Err(fault(Fault::Bitmap, span));
    }
    let released = spans.released_pages(span, geometry);
    for page in (0..geometry.units as usize * PAGES_PER_UNIT).filter(|page| released >> page & 1 == 1) {
        let slots = slots_of_page(geometry, page);
        if !masks(slots).all(|(word, mask)| record.look(word) & mask == mask) {
            return Err(fault(Fault::ReleasedInUse, span));
        }
    }
    Ok(())
}

fn verify_magazine<O: Os>(spans: &Spans<O>, cache: &ThreadCache, class: SizeClass) -> Result<(), HeapError> {
    let segments = spans.segments();
    let held = cache.magazine(class).held();
    for (at, slot) in held.iter().enumerate() {
        let nowhere = fault(Fault::CachedSlot, UnitIndex::NIL);
        let place = segments.slot_at(class, *slot as usize).ok_or(nowhere)?;
        let record = segments.span(place.span);
        let small = segments.meta(place.span).kind() == RunKind::Small && record.class() == class;
        let (word, bit) = place.bit();
        let live = if HARDENED { record.live.look(word) } else { 0 };
        let free = (record.look(word) | live) & bit != 0;
        if !place.is_start || !small || free || held[..at].contains(slot) {
            return Err(fault(Fault::CachedSlot, place.span));
        }
    }
    Ok(())
}
