//! What a table counts about its changes, and how that reaches the registry and the observer.
//!
//! The counters are plain fields. Named tables write them to their [`Shared`] block on slow paths; unnamed ones add
//! the difference to a global sum when a change begins or ends. Locks: none here; a table that ends takes the
//! registry's.

use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use crate::observer::{self, MapEvent};
use crate::old::Old;
use crate::pacing::{self, ChangeKind};
use crate::registry;
use crate::stats::{Figures, MapStats};
use crate::table::Table;

/// What each table has, in one word: how it is, and the changes that it made while it had no [`Extra`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brief {
    /// See the constants of [`Table`].
    pub(crate) flags: u8,
    grows: u8,
    shrinks: u8,
    same_size: u8,
    evacuated_buckets: u32,
}

impl Brief {
    pub(crate) const fn new() -> Self {
        Self { flags: 0, grows: 0, shrinks: 0, same_size: 0, evacuated_buckets: 0 }
    }

    fn add(&mut self, kind: ChangeKind, buckets: usize) {
        let count = match kind {
            ChangeKind::Grow => &mut self.grows,
            ChangeKind::Shrink => &mut self.shrinks,
            ChangeKind::SameSize => &mut self.same_size,
        };
        *count = count.saturating_add(1);
        self.evacuated_buckets = self.evacuated_buckets.saturating_add(buckets as u32);
    }
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
    shared: Option<Arc<registry::Shared>>,
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
    evacuation_ns: u64,
    max_pause_ns: u64,
    /// What the sum over unnamed tables has from this one.
    reported: Figures,
}

/// Saturates after five centuries.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Life {
    fn add(&mut self, kind: ChangeKind, buckets: usize) {
        match kind {
            ChangeKind::Grow => self.grows += 1,
            ChangeKind::Shrink => self.shrinks += 1,
            ChangeKind::SameSize => self.same_size += 1,
        }
        self.evacuated_buckets += buckets as u64;
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

    fn shared(&self) -> Option<&Arc<registry::Shared>> {
        self.extra.as_ref()?.shared.as_ref()
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
        self.publish();
    }

    /// Takes the table out of the registry.
    #[cold]
    #[inline(never)]
    pub(crate) fn withdraw(&mut self) {
        self.brief.flags &= !Self::NAMED;
        let Some(extra) = &mut self.extra else { return };
        if let Some(shared) = extra.shared.take() {
            shared.withdraw();
        } else {
            registry::take_back(&extra.life.reported);
            extra.life.reported = Figures::default();
        }
    }

    /// A change in steps ended: `slots` and `bytes` were the old generation's.
    #[cold]
    pub(crate) fn record(&mut self, old: &Old<T>, slots: usize, bytes: usize) {
        let event = MapEvent {
            name: "",
            kind: old.kind,
            old_buckets: pacing::buckets(slots) as u64,
            new_buckets: pacing::buckets(self.main.slots()) as u64,
            evacuated_buckets: pacing::buckets(slots) as u64,
            elapsed_ns: old.spent_ns,
            writes: old.writes.max(1),
            longest_ns: old.longest_ns,
            retired_bytes: bytes as u64,
        };
        self.count(old.kind, pacing::buckets(slots));
        self.record_event(event, true);
    }

    /// A change in one write ended.
    pub(crate) fn record_whole(
        &mut self,
        kind: ChangeKind,
        slots: usize,
        bytes: usize,
        started: Option<Instant>,
    ) {
        let buckets = pacing::buckets(slots);
        self.count(kind, buckets);
        if started.is_some() || self.is_named() || observer::is_observed() {
            self.record_whole_event(kind, buckets, bytes, started);
        }
    }

    #[inline]
    fn count(&mut self, kind: ChangeKind, buckets: usize) {
        match &mut self.extra {
            Some(extra) => extra.life.add(kind, buckets),
            None => self.brief.add(kind, buckets),
        }
    }

    #[cold]
    #[inline(never)]
    fn record_whole_event(
        &mut self,
        kind: ChangeKind,
        buckets: usize,
        bytes: usize,
        started: Option<Instant>,
    ) {
        let ns = started.map_or(0, |started| nanos(started.elapsed()));
        let event = MapEvent {
            name: "",
            kind,
            old_buckets: buckets as u64,
            new_buckets: pacing::buckets(self.main.slots()) as u64,
            evacuated_buckets: buckets as u64,
            elapsed_ns: ns,
            writes: 1,
            longest_ns: ns,
            retired_bytes: bytes as u64,
        };
        self.record_event(event, started.is_some());
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
            // The name outlives the call though the observer cannot reach the map.
            let shared = self.shared().cloned();
            let name = shared.as_ref().map_or("", |shared| shared.name());
            observer::notify(&MapEvent { name, ..event });
        }
    }

    /// Exact numbers.
    pub(crate) fn stats(&self) -> MapStats {
        let old = self.old().map_or(0, |old| old.generation.resident_bytes());
        let name = self.shared().map_or("", |shared| shared.name());
        self.figures(self.main.resident_bytes() + old).into_map_stats(name)
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
        let old = self.old();
        let life = self.extra.as_ref().map_or_else(Life::default, |extra| extra.life);
        let (spent, longest) = old.map_or((0, 0), |old| (old.spent_ns, old.longest_ns));
        let old_slots = old.map_or(0, |old| old.generation.slots());
        Figures([
            self.items as u64,
            self.capacity() as u64,
            old.map_or(0, |old| pacing::buckets(old.nevacuate())) as u64,
            pacing::buckets(self.main.slots()) as u64,
            pacing::buckets(old_slots) as u64,
            (self.items * size_of::<T>()) as u64,
            (self.main.bytes() + old.map_or(0, |old| old.generation.bytes())) as u64,
            resident as u64,
            life.grows + u64::from(self.brief.grows),
            life.shrinks + u64::from(self.brief.shrinks),
            life.same_size + u64::from(self.brief.same_size),
            life.evacuated_buckets + u64::from(self.brief.evacuated_buckets),
            life.evacuation_ns.saturating_add(spent),
            life.max_pause_ns.max(longest),
        ])
    }
}
