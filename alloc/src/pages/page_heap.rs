//! The page heap: runs of units for spans, large blocks and regions.
//!
//! Best fit: the shortest free run that has room, the lowest of these, and only then fresh address space. Freed runs
//! coalesce with their neighbours. All of it works under one lock; no call here gives memory back to the OS.

use crate::base::units::{HUGE, PAGE, UNIT, UnitCount, UnitIndex};
use crate::os::Os;
use crate::pages::zone::{Purpose, Refusal, Zone, resident_pages};
use crate::space::Space;
use crate::space::unit_table::RunKind;

/// Three zones in a segment that has room for them, one in any other.
const MAX_ZONES: usize = 3 + 31;
/// A segment with fewer units than this is one zone for all purposes: 4 GiB, and less under test, so that tests need little
/// memory.
const DIVIDED_FROM: u32 = if cfg!(test) { 1 << 11 } else { 1 << 16 };
const ALL: u8 = Purpose::Spans as u8 | Purpose::Huge as u8 | Purpose::Arena as u8;

/// What is asked of the page heap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) units: UnitCount,
    /// Free units wanted behind them. Where no free run has these, fresh address space is taken.
    pub(crate) room: UnitCount,
    /// In units; a power of two.
    pub(crate) align: u32,
    pub(crate) purpose: Purpose,
    pub(crate) kind: RunKind,
    /// Rather fresh address space than a run whose pages would have to be cleared, as long as the dirty runs
    /// that are passed over do not add up to more than the request.
    pub(crate) prefer_zero: bool,
}

#[derive(Debug)]
pub(crate) struct PageHeap {
    zones: [Zone; MAX_ZONES],
    count: usize,
}

impl PageHeap {
    pub(crate) const fn new() -> Self {
        const EMPTY: Zone = Zone::new(0, UnitIndex(0), UnitIndex(0));
        Self { zones: [EMPTY; MAX_ZONES], count: 0 }
    }

    pub(crate) fn zones(&self) -> &[Zone] {
        &self.zones[..self.count]
    }

    pub(crate) fn zone_mut(&mut self, index: usize) -> Option<&mut Zone> {
        self.zones[..self.count].get_mut(index)
    }

    /// A run, or `None` when no memory is to be had. Its pages keep their `released` bits: the caller clears them.
    pub(crate) fn allocate<O: Os>(&mut self, space: &Space<O>, request: Request) -> Option<UnitIndex> {
        let run = match self.allocate_here(space, request) {
            Err(Refusal::NoRoom) => {
                let needed = request.units.0.checked_add(request.align)?;
                self.add_segment(space, needed)?;
                self.allocate_here(space, request).ok()?
            }
            result => result.ok()?,
        };
        space.counters.runs.run_bytes.add(request.units.bytes());
        Some(run)
    }

    fn allocate_here<O: Os>(&mut self, space: &Space<O>, request: Request) -> Result<UnitIndex, Refusal> {
        let Request { units: UnitCount(units), room, align, purpose, kind, prefer_zero } = request;
        let mut refusal = Refusal::NoRoom;
        for zone in self.zones[..self.count].iter_mut().filter(|zone| zone.serves(purpose)) {
            let roomy = zone.find(space, units.saturating_add(room.0), align);
            // Behind the frontier there is room as well.
            let tight = if roomy.is_none() && room.0 > 0 { zone.find(space, units, align) } else { None };
            if let Some(run) = roomy
                && !(prefer_zero && has_dirt(space, run, units))
            {
                return Ok(zone.carve(space, run, units, align, kind));
            }
            match (zone.extend(space, units, align, kind, prefer_zero), roomy.or(tight)) {
                (Ok(fresh), _) => return Ok(fresh),
                (Err(_), Some(run)) => return Ok(zone.carve(space, run, units, align, kind)),
                (Err(reason), None) if reason == Refusal::NoMemory => refusal = reason,
                (Err(_), None) => {}
            }
        }
        Err(refusal)
    }

    /// Gives back a run of any kind.
    pub(crate) fn free<O: Os>(&mut self, space: &Space<O>, run: UnitIndex) {
        space.counters.runs.run_bytes.sub(UnitCount(space.segments.meta(run).len()).bytes());
        self.put(space, run, true);
    }

    /// Puts a run that was [`RunKind::Leaving`] back among the free ones.
    /// Without `join_next` the unit behind it remains a head, from which the release can go on.
    pub(crate) fn put<O: Os>(&mut self, space: &Space<O>, run: UnitIndex, join_next: bool) {
        if let Some(zone) = self.zone_of(run) {
            zone.free(space, run, join_next);
        }
    }

    /// Lengthens a run without moving it, if it can be.
    pub(crate) fn grow_in_place<O: Os>(
        &mut self,
        space: &Space<O>,
        run: UnitIndex,
        units: UnitCount,
    ) -> bool {
        let more = UnitCount(units.0 - space.segments.meta(run).len());
        let grown = self.zone_of(run).is_some_and(|zone| zone.grow_in_place(space, run, units.0));
        if grown {
            space.counters.runs.run_bytes.add(more.bytes());
        }
        grown
    }

    /// Shortens a run and frees its end.
    pub(crate) fn shrink<O: Os>(&mut self, space: &Space<O>, run: UnitIndex, units: UnitCount) {
        let len = space.segments.meta(run).len();
        debug_assert!(0 < units.0 && units.0 < len);
        let kind = space.segments.meta(run).kind();
        let tail = run.plus(units.0);
        space.segments.meta(run).set_len(units.0);
        space.segments.meta(tail).set_len(len - units.0);
        space.segments.meta(tail).set_kind(kind);
        self.free(space, tail);
    }

    /// Whether a run lies where runs for `purpose` may lie.
    pub(crate) fn serves(&self, run: UnitIndex, purpose: Purpose) -> bool {
        self.zones().iter().any(|zone| zone.holds(run) && zone.serves(purpose))
    }

    fn zone_of(&mut self, run: UnitIndex) -> Option<&mut Zone> {
        self.zones[..self.count].iter_mut().find(|zone| zone.holds(run))
    }

    fn add_segment<O: Os>(&mut self, space: &Space<O>, needed: u32) -> Option<()> {
        if self.count + 3 > MAX_ZONES {
            return None;
        }
        let segment = space.reserve(needed)?;
        let (first, units) = (segment.first(), segment.units());
        if units < DIVIDED_FROM || needed > units / 4 {
            self.push(Zone::new(ALL, first, first.plus(units)));
            space.advise_huge(first, first.plus(units), false);
            return Some(());
        }
        // Blocks of huge pages lie apart, so that one advice covers them all and splits no mapping.
        let huge_units = (HUGE / UNIT) as u32;
        let spans_end = first.plus(units / 4 / huge_units * huge_units);
        let huge_end = spans_end.plus(units / 8 * 3 / huge_units * huge_units);
        self.push(Zone::new(Purpose::Spans as u8, first, spans_end));
        self.push(Zone::new(Purpose::Huge as u8, spans_end, huge_end));
        self.push(Zone::new(Purpose::Arena as u8, huge_end, first.plus(units)));
        // Elsewhere a huge page would bring pages in that nobody touched, and fill holes that were given back.
        space.advise_huge(first, spans_end, false);
        space.advise_huge(spans_end, huge_end, true);
        space.advise_huge(huge_end, first.plus(units), false);
        Some(())
    }

    fn push(&mut self, zone: Zone) {
        self.zones[self.count] = zone;
        self.count += 1;
    }
}

/// Whether most of the run would have to be cleared: then fresh address space is cheaper.
fn has_dirt<O: Os>(space: &Space<O>, run: UnitIndex, units: u32) -> bool {
    let dirty = resident_pages(&space.segments, run, units) as usize * PAGE;
    let idle = space.counters.runs.free_resident.get();
    dirty > UNIT && idle <= 2 * UnitCount(units).bytes() as u64
}
