//! The page heap: runs of units for spans, large blocks and regions.
//!
//! Best fit: the shortest free run that has room, the lowest of these, and only then fresh address space. Freed runs
//! coalesce with their neighbours. Each zone has a lock, so spans, huge blocks and regions do not wait for each other;
//! another lock is held while segments are added. No call here gives memory back to the OS.

use crate::base::own_line::OwnLine;
use crate::base::sync::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use crate::base::units::{HUGE, PAGE, UNIT, UnitCount, UnitIndex};
use crate::os::{Guard, Lock, Os};
use crate::pages::zone::{Purpose, Refusal, Zone, resident_pages};
use crate::space::Space;
use crate::space::unit_table::RunKind;

/// Three zones in a segment that has room for them, one in any other.
const MAX_ZONES: usize = if cfg!(loom) { 4 } else { 3 + 31 };
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

/// Which units a zone has, and what for. Written once, before the zone is counted.
#[derive(Debug)]
struct Bounds {
    /// The first unit in the high half, the one behind the last in the low half.
    units: AtomicU64,
    purposes: AtomicU8,
}

impl Bounds {
    const fn new() -> Self {
        Self { units: AtomicU64::new(0), purposes: AtomicU8::new(0) }
    }

    // Relaxed: who counts the zone has acquired the count.

    fn hold(&self, unit: UnitIndex) -> bool {
        let units = self.units.load(Ordering::Relaxed);
        units >> 32 <= u64::from(unit.0) && unit.0 < units as u32
    }

    fn serve(&self, purpose: Purpose) -> bool {
        self.purposes.load(Ordering::Relaxed) & purpose as u8 != 0
    }
}

pub(crate) struct PageHeap {
    bounds: [Bounds; MAX_ZONES],
    count: AtomicUsize,
    zones: [OwnLine<Lock<Zone>>; MAX_ZONES],
    /// Held while a segment is added. Taken before the lock of any zone.
    growing: OwnLine<Lock<()>>,
}

impl PageHeap {
    pub(crate) const fn new() -> Self {
        Self {
            bounds: [const { Bounds::new() }; MAX_ZONES],
            count: AtomicUsize::new(0),
            zones: [const { OwnLine(Lock::new(Zone::new(0, UnitIndex(0), UnitIndex(0)))) }; MAX_ZONES],
            growing: OwnLine(Lock::new(())),
        }
    }

    /// The number of zones. It only grows.
    pub(crate) fn zones(&self) -> usize {
        // Acquire: a counted zone is set up.
        self.count.load(Ordering::Acquire)
    }

    fn bounds(&self) -> &[Bounds] {
        &self.bounds[..self.zones().min(MAX_ZONES)]
    }

    /// The zone of that number. `None` if there are not so many.
    pub(crate) fn zone<'a, O: Os>(&'a self, os: &'a O, number: usize) -> Option<Guard<'a, Zone, O>> {
        self.zones[..self.bounds().len()].get(number).map(|zone| zone.lock(os))
    }

    /// The zone of a unit.
    pub(crate) fn zone_of<'a, O: Os>(&'a self, os: &'a O, unit: UnitIndex) -> Option<Guard<'a, Zone, O>> {
        self.zone(os, self.bounds().iter().position(|bounds| bounds.hold(unit))?)
    }

    /// Whether a run lies where runs for `purpose` may lie.
    pub(crate) fn serves(&self, run: UnitIndex, purpose: Purpose) -> bool {
        self.bounds().iter().any(|bounds| bounds.hold(run) && bounds.serve(purpose))
    }

    /// All locks, in their order.
    pub(crate) fn locks(&self) -> (&Lock<()>, impl DoubleEndedIterator<Item = &Lock<Zone>>) {
        (&self.growing, self.zones.iter().map(|zone| &zone.0))
    }

    /// A run and its zone, or `None` when no memory is to be had. Its pages keep their `released` bits: the caller
    /// clears them.
    pub(crate) fn allocate<'a, O: Os>(
        &'a self,
        space: &'a Space<O>,
        request: Request,
    ) -> Option<(Guard<'a, Zone, O>, UnitIndex)> {
        let taken = match self.allocate_here(space, request) {
            Err(Refusal::NoRoom) => self.allocate_in_more(space, request)?,
            result => result.ok()?,
        };
        space.counters.runs.run_bytes.add(request.units.bytes());
        Some(taken)
    }

    fn allocate_in_more<'a, O: Os>(
        &'a self,
        space: &'a Space<O>,
        request: Request,
    ) -> Option<(Guard<'a, Zone, O>, UnitIndex)> {
        let growing = self.growing.lock(&space.os);
        // Another thread may have added a segment while this one waited.
        match self.allocate_here(space, request) {
            Err(Refusal::NoRoom) => {}
            result => return result.ok(),
        }
        let needed = request.units.0.checked_add(request.align)?;
        match self.add_segment(&growing, space, needed, request.purpose) {
            Some(mut zone) => allocate_in(&mut zone, space, request).ok().map(|run| (zone, run)),
            // What another thread has freed in one zone, while this one looked at the next, may be enough.
            None => self.allocate_here(space, request).ok(),
        }
    }

    fn allocate_here<'a, O: Os>(
        &'a self,
        space: &'a Space<O>,
        request: Request,
    ) -> Result<(Guard<'a, Zone, O>, UnitIndex), Refusal> {
        let mut refusal = Refusal::NoRoom;
        for (bounds, zone) in self.bounds().iter().zip(&self.zones) {
            if !bounds.serve(request.purpose) {
                continue;
            }
            let mut zone = zone.lock(&space.os);
            match allocate_in(&mut zone, space, request) {
                Ok(run) => return Ok((zone, run)),
                Err(Refusal::NoRoom) => {}
                Err(Refusal::NoMemory) => refusal = Refusal::NoMemory,
            }
        }
        Err(refusal)
    }

    /// Adds a segment. Returns its zone for `purpose`, of which nobody has taken anything yet.
    fn add_segment<'a, O: Os>(
        &'a self,
        _growing: &Guard<'_, (), O>,
        space: &'a Space<O>,
        needed: u32,
        purpose: Purpose,
    ) -> Option<Guard<'a, Zone, O>> {
        let number = self.zones();
        if number + 3 > MAX_ZONES {
            return None;
        }
        let segment = space.reserve(needed)?;
        let (first, units) = (segment.first(), segment.units());
        let end = first.plus(units);
        let huge_units = (HUGE / UNIT) as u32;
        let spans_end = first.plus(units / 4 / huge_units * huge_units);
        let huge_end = spans_end.plus(units / 8 * 3 / huge_units * huge_units);
        // Blocks of huge pages lie apart, so that one advice covers them all and splits no mapping. Elsewhere a huge page would
        // bring pages in that nobody touched, and fill holes that were given back.
        let divided = [
            (Purpose::Spans as u8, first, spans_end),
            (Purpose::Huge as u8, spans_end, huge_end),
            (Purpose::Arena as u8, huge_end, end),
        ];
        let whole = [(ALL, first, end)];
        let parts = if units < DIVIDED_FROM || needed > units / 4 { &whole[..] } else { &divided[..] };
        for (at, (purposes, first, limit)) in parts.iter().enumerate() {
            space.advise_huge(*first, *limit, *purposes == Purpose::Huge as u8);
            self.set_up(space, number + at, *purposes, *first, *limit);
        }
        let own = parts.iter().position(|(purposes, ..)| purposes & purpose as u8 != 0)?;
        // Taken before anybody else knows of it, so that others cannot use it up first.
        let own = self.zones[number + own].lock(&space.os);
        // Release: publishes what `set_up` wrote.
        self.count.store(number + parts.len(), Ordering::Release);
        Some(own)
    }

    fn set_up<O: Os>(
        &self,
        space: &Space<O>,
        number: usize,
        purposes: u8,
        first: UnitIndex,
        limit: UnitIndex,
    ) {
        *self.zones[number].lock(&space.os) = Zone::new(purposes, first, limit);
        let bounds = &self.bounds[number];
        bounds.units.store(u64::from(first.0) << 32 | u64::from(limit.0), Ordering::Relaxed);
        bounds.purposes.store(purposes, Ordering::Relaxed);
    }
}

fn allocate_in<O: Os>(zone: &mut Zone, space: &Space<O>, request: Request) -> Result<UnitIndex, Refusal> {
    let Request { units: UnitCount(units), room, align, kind, prefer_zero, purpose: _ } = request;
    let roomy = zone.find(space, units.saturating_add(room.0), align);
    // Behind the frontier there is room as well.
    let tight = if roomy.is_none() && room.0 > 0 { zone.find(space, units, align) } else { None };
    if let Some(run) = roomy
        && !(prefer_zero && has_dirt(space, run, units))
    {
        return Ok(zone.carve(space, run, units, align, kind));
    }
    match (zone.extend(space, units, align, kind, prefer_zero), roomy.or(tight)) {
        (Err(_), Some(run)) => Ok(zone.carve(space, run, units, align, kind)),
        (result, _) => result,
    }
}

/// Whether most of the run would have to be cleared: then fresh address space is cheaper.
fn has_dirt<O: Os>(space: &Space<O>, run: UnitIndex, units: u32) -> bool {
    let dirty = resident_pages(&space.segments, run, units) as usize * PAGE;
    let idle = space.counters.runs.free_resident.get();
    dirty > UNIT && idle <= 2 * UnitCount(units).bytes() as u64
}
