//! What a table counts about its changes, and how that reaches the registry and the observer.
//!
//! The counters are plain fields. Named tables write them to their [`Shared`] block on slow paths; unnamed ones add
//! the difference to a global sum when a change begins or ends. Nothing is counted on the way of a write to a table in
//! its steady state, but for the length of a named one. No locks.

use core::time::Duration;
use std::time::Instant;

use ebbtide_alloc::seats::Held;

use crate::stats::observer::{self, MapEvent};
use crate::stats::registry::{self, Keeping};
use crate::stats::{FIGURES, Figures, MapStats, at};
use crate::table::Table;
use crate::table::change::old::Old;
use crate::table::change::pacing::{self, ChangeKind};

/// What each table has, in one word: how it is, how it began, and the changes that it made while it had no [`Extra`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brief {
    /// See the constants of [`Table`].
    pub(crate) flags: u8,
    /// The first bucket array: one more than the exponent of its slots, and [`Self::ASKED`]. 0 before it.
    first: u8,
    /// Changes of each kind, in fields of so many bits as [`Self::field`] says.
    changes: u16,
    evacuated_buckets: u16,
    evacuated_entries: u16,
}

impl Brief {
    /// The first bucket array was made for a capacity that the user asked for.
    const ASKED: u8 = 0x80;

    pub(crate) const fn new() -> Self {
        Self { flags: 0, first: 0, changes: 0, evacuated_buckets: 0, evacuated_entries: 0 }
    }

    /// Where the number of changes of a kind stands, and the most that fits there.
    const fn field(kind: ChangeKind) -> (u32, u16) {
        match kind {
            ChangeKind::Grow => (0, 63),
            ChangeKind::Shrink => (6, 31),
            ChangeKind::SameSize => (11, 31),
        }
    }

    /// Notes the first bucket array, of so many slots.
    #[inline]
    pub(crate) const fn begin(&mut self, slots: usize) {
        if self.first == 0 && slots > 0 {
            self.first = slots.ilog2() as u8 + 1;
        }
    }

    /// Whether there was one.
    pub(crate) const fn has_begun(&self) -> bool {
        self.first != 0
    }

    /// Notes that the first one was made for a capacity that the user asked for.
    pub(crate) const fn ask(&mut self) {
        self.first |= if self.first == 0 { 0 } else { Self::ASKED };
    }

    const fn changes(&self, kind: ChangeKind) -> u64 {
        let (shift, most) = Self::field(kind);
        (self.changes >> shift & most) as u64
    }

    /// Slots of the first bucket array, and whether they were asked for.
    const fn first(&self) -> (usize, bool) {
        let exponent = self.first & !Self::ASKED;
        (if exponent == 0 { 0 } else { 1 << (exponent - 1) }, self.first & Self::ASKED != 0)
    }

    /// Counts a change that evacuated so much, if there is room for it.
    #[inline]
    fn add(&mut self, kind: ChangeKind, buckets: usize, entries: usize) -> bool {
        let (shift, most) = Self::field(kind);
        let all = usize::from(self.evacuated_buckets | self.evacuated_entries) | buckets | entries;
        if all >= 1 << (u16::BITS - 1) || self.changes >> shift & most == most {
            return false;
        }
        self.changes += 1 << shift;
        self.evacuated_buckets += buckets as u16;
        self.evacuated_entries += entries as u16;
        true
    }
}

/// A change that ended.
#[derive(Clone, Copy, Debug)]
struct Change {
    kind: ChangeKind,
    /// Buckets before, all of which were evacuated, and after.
    old_buckets: u64,
    new_buckets: u64,
    /// Entries that moved, and the writes over which they did.
    entries: u64,
    writes: u64,
    /// Bytes of the generation that was left.
    bytes: u64,
}

/// What only tables have that are large, named or changing, or were so.
#[derive(Debug)]
pub(crate) struct Extra<T> {
    /// The generation that is being evacuated.
    pub(crate) old: Option<Old<T>>,
    /// The capacity that the user asked for: no automatic shrink goes below it.
    pub(crate) floor: usize,
    pub(crate) life: Life,
    /// What a named map shows to the registry.
    shared: Option<Held<Box<registry::Shared>>>,
}

impl<T> Extra<T> {
    pub(crate) fn new() -> Self {
        Self { old: None, floor: 0, life: Life::default(), shared: None }
    }
}

/// Number and times of a table's changes, and what it told the registry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    grows: u64,
    shrinks: u64,
    same_size: u64,
    evacuated_buckets: u64,
    evacuated_entries: u64,
    writes: u64,
    evacuation_ns: u64,
    max_pause_ns: u64,
    retired_total: u64,
    shrunk_total: u64,
    /// Buckets before and after the latest of each.
    last_grow: [u64; 2],
    last_shrink: [u64; 2],
    /// What the sum over unnamed tables has from this one.
    reported: Figures,
}

/// Saturates after five centuries.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Life {
    fn add(&mut self, change: &Change) {
        let sizes = [change.old_buckets, change.new_buckets];
        match change.kind {
            ChangeKind::Grow => {
                self.grows += 1;
                self.last_grow = sizes;
            }
            ChangeKind::Shrink => {
                self.shrinks += 1;
                self.last_shrink = sizes;
                self.shrunk_total += change.bytes;
            }
            ChangeKind::SameSize => self.same_size += 1,
        }
        self.evacuated_buckets += change.old_buckets;
        self.evacuated_entries += change.entries;
        self.writes += change.writes;
        self.retired_total += change.bytes;
    }
}

impl<T> Table<T> {
    /// Shows the length, which a named table keeps exact.
    #[cold]
    #[inline(never)]
    pub(crate) fn publish_len(&self) {
        if let Some(shared) = self.shared() {
            shared.publish_len(self.items);
        }
    }

    fn shared(&self) -> Option<&registry::Shared> {
        Some(self.extra.as_ref()?.shared.as_ref()?)
    }

    /// Shows all numbers, if anybody can see them.
    #[inline]
    pub(crate) fn publish_all(&mut self) {
        if self.extra.is_some() {
            self.publish();
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn publish(&mut self) {
        let figures = self.figures(self.estimate_resident());
        let Some(extra) = &mut self.extra else { return };
        if let Some(shared) = &extra.shared {
            shared.publish(&figures);
        } else {
            registry::report(&extra.life.reported, &figures);
            extra.life.reported = figures;
        }
    }

    /// Gives the table a name, or a new one.
    pub(crate) fn set_name(&mut self, name: String) {
        self.withdraw();
        match self.need_extra() {
            Ok(extra) => extra.shared = Some(registry::Shared::register(name)),
            Err(error) => error.raise(),
        }
        self.brief.flags |= Self::NAMED;
        self.claim_arenas();
        self.publish();
    }

    /// Tells the allocator whose the arenas are.
    #[cold]
    #[inline(never)]
    pub(crate) fn claim_arenas(&self) {
        let Some(shared) = self.shared() else { return };
        for generation in self.old().map(|old| &old.generation).into_iter().chain([&self.main]) {
            if let Some(region) = generation.region() {
                region.set_owner(shared.owner());
            }
        }
    }

    /// Takes the table out of the registry.
    #[cold]
    #[inline(never)]
    pub(crate) fn withdraw(&mut self) {
        self.brief.flags &= !Self::NAMED;
        let Some(extra) = &mut self.extra else { return };
        if extra.shared.take().is_none() {
            registry::take_back(&extra.life.reported);
            extra.life.reported = Figures::default();
        }
    }

    /// A change in steps ended: `slots` and `bytes` were the old generation's.
    #[cold]
    pub(crate) fn record(&mut self, old: &Old<T>, slots: usize, bytes: usize) {
        let writes = old.writes.max(1);
        let change = self.ended(old.kind, slots, bytes, old.moved, writes);
        self.count(&change);
        self.record_event(event(&change, old.spent_ns, old.longest_ns), true);
    }

    /// A change in one write ended, which moved so many `entries`.
    #[inline]
    pub(crate) fn record_whole(
        &mut self,
        kind: ChangeKind,
        slots: usize,
        bytes: usize,
        entries: usize,
        started: Option<Instant>,
    ) {
        let brief = self.extra.is_none() && started.is_none() && !observer::is_observed();
        if !brief || !self.brief.add(kind, pacing::buckets(slots), entries) {
            self.record_whole_at_length(kind, slots, bytes, entries, started);
        }
    }

    #[cold]
    #[inline(never)]
    fn record_whole_at_length(
        &mut self,
        kind: ChangeKind,
        slots: usize,
        bytes: usize,
        entries: usize,
        started: Option<Instant>,
    ) {
        let change = self.ended(kind, slots, bytes, entries as u64, 1);
        self.count(&change);
        let ns = started.map_or(0, |started| nanos(started.elapsed()));
        self.record_event(event(&change, ns, ns), started.is_some());
    }

    /// A change to `main`.
    const fn ended(&self, kind: ChangeKind, slots: usize, bytes: usize, entries: u64, writes: u64) -> Change {
        Change {
            kind,
            old_buckets: pacing::buckets(slots) as u64,
            new_buckets: pacing::buckets(self.main.slots()) as u64,
            entries,
            writes,
            bytes: bytes as u64,
        }
    }

    fn count(&mut self, change: &Change) {
        let (buckets, entries) = (change.old_buckets as usize, change.entries as usize);
        if self.extra.is_none() && self.brief.add(change.kind, buckets, entries) {
            return;
        }
        // Without memory for them the numbers of this change are lost, nothing else.
        drop(self.need_extra().map(|extra| extra.life.add(change)));
    }

    #[cold]
    fn record_event(&mut self, event: MapEvent<'_>, timed: bool) {
        if timed {
            // Without memory for them the numbers of this change are lost, nothing else.
            drop(self.need_extra().map(|extra| {
                extra.life.evacuation_ns = extra.life.evacuation_ns.saturating_add(event.elapsed_ns);
                extra.life.max_pause_ns = extra.life.max_pause_ns.max(event.longest_ns);
            }));
        }
        self.publish_all();
        if observer::is_observed() {
            let name = self.shared().map_or("", registry::Shared::name);
            observer::notify(&MapEvent { name, ..event });
        }
    }

    /// Exact numbers.
    pub(crate) fn stats(&self) -> MapStats {
        let old = self.old().map_or(0, |old| old.generation.resident_bytes());
        let figures = self.figures(self.main.resident_bytes() + old);
        let Some(shared) = self.shared() else { return figures.into_stats("") };
        Keeping::of(shared.owner()).told_in(figures.into_stats(shared.name()))
    }

    /// Resident bytes, without a system call: evacuation touches the new generation and retires the old one in step.
    fn estimate_resident(&self) -> usize {
        let Some(old) = self.old() else { return self.main.bytes() };
        let slots = old.generation.slots().max(1) as u128;
        let part = |bytes: usize, homes: usize| (bytes as u128 * homes as u128 / slots) as usize;
        let left = old.generation.slots() - old.nevacuate();
        part(self.main.bytes(), old.nevacuate()) + part(old.generation.bytes(), left)
    }

    fn figures(&self, resident: usize) -> Figures {
        let mut of = [0; FIGURES];
        of[at::LEN] = self.items as u64;
        of[at::CAPACITY] = self.capacity() as u64;
        of[at::BUCKETS] = pacing::buckets(self.main.slots()) as u64;
        of[at::LOGICAL] = (self.items * size_of::<T>()) as u64;
        of[at::LIVE] = self.main.bytes() as u64;
        of[at::RESIDENT] = resident as u64;
        let (slots, asked) = self.brief.first();
        of[at::INITIAL_BUCKETS] = pacing::buckets(slots) as u64;
        of[at::PREALLOCATIONS] = u64::from(asked);
        of[at::GROWS] = self.brief.changes(ChangeKind::Grow);
        of[at::SHRINKS] = self.brief.changes(ChangeKind::Shrink);
        of[at::SAME_SIZE] = self.brief.changes(ChangeKind::SameSize);
        of[at::EVACUATED_BUCKETS] = u64::from(self.brief.evacuated_buckets);
        of[at::EVACUATED_ENTRIES] = u64::from(self.brief.evacuated_entries);
        // These took place in one write each.
        of[at::WRITES] = of[at::GROWS] + of[at::SHRINKS] + of[at::SAME_SIZE];
        if let Some(extra) = &self.extra {
            extra.life.add_to(&mut of);
        }
        // Each change makes one, but for those to nothing, and after each of these there is a first one again. So these
        // two even out, but for the latest.
        of[at::ALLOCATIONS] = of[at::GROWS] + of[at::SHRINKS] + of[at::SAME_SIZE];
        of[at::ALLOCATIONS] += u64::from(self.main.slots() > 0);
        if let Some(old) = self.old() {
            old.add_to(&mut of);
        }
        Figures(of)
    }
}

impl Life {
    fn add_to(&self, of: &mut [u64; FIGURES]) {
        of[at::GROWS] += self.grows;
        of[at::SHRINKS] += self.shrinks;
        of[at::SAME_SIZE] += self.same_size;
        of[at::EVACUATED_BUCKETS] += self.evacuated_buckets;
        of[at::EVACUATED_ENTRIES] += self.evacuated_entries;
        of[at::WRITES] += self.writes;
        of[at::NS] = self.evacuation_ns;
        of[at::MAX_PAUSE] = self.max_pause_ns;
        of[at::RETIRED_TOTAL] = self.retired_total;
        of[at::SHRUNK_TOTAL] = self.shrunk_total;
        of[at::LAST_GROW..][..2].copy_from_slice(&self.last_grow);
        of[at::LAST_SHRINK..][..2].copy_from_slice(&self.last_shrink);
    }
}

impl<T> Old<T> {
    /// The numbers of a change under way.
    fn add_to(&self, of: &mut [u64; FIGURES]) {
        let dead = self.dead_bytes.min(self.generation.bytes());
        of[at::NEVACUATE] = pacing::buckets(self.nevacuate()) as u64;
        of[at::OLD_BUCKETS] = pacing::buckets(self.generation.slots()) as u64;
        of[at::OLD] = (self.generation.bytes() - dead) as u64;
        of[at::RETIRED] = dead as u64;
        of[at::ALLOCATIONS] += 1;
        of[at::EVACUATED_ENTRIES] += self.moved;
        of[at::WRITES] += self.writes;
        of[at::NS] = of[at::NS].saturating_add(self.spent_ns);
        of[at::MAX_PAUSE] = of[at::MAX_PAUSE].max(self.longest_ns);
    }
}

/// What an observer hears of a change.
fn event(change: &Change, elapsed_ns: u64, longest_ns: u64) -> MapEvent<'static> {
    MapEvent {
        name: "",
        kind: change.kind,
        old_buckets: change.old_buckets,
        new_buckets: change.new_buckets,
        evacuated_buckets: change.old_buckets,
        evacuated_entries: change.entries,
        elapsed_ns,
        writes: change.writes,
        longest_ns,
        retired_bytes: change.bytes,
    }
}
