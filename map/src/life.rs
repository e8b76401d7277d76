//! What a table counts about its changes, and how that reaches the registry and the observer.
//!
//! The counters are plain fields. Named tables write them to their [`Shared`] block on slow paths; unnamed ones add
//! the difference to a global sum when a change begins or ends. Locks: none here; a table that ends takes the
//! registry's.

use core::time::Duration;
use std::time::Instant;

use crate::boxed::try_box;
use crate::observer::{self, MapEvent};
use crate::old::Old;
use crate::pacing::{self, ChangeKind};
use crate::registry;
use crate::stats::{Figures, MapStats};
use crate::table::Table;

/// Changes of a table since it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    grows: u32,
    shrinks: u32,
    same_size: u32,
    evacuated_buckets: u64,
}

impl Counts {
    pub(crate) const fn new() -> Self {
        Self { grows: 0, shrinks: 0, same_size: 0, evacuated_buckets: 0 }
    }

    fn add(&mut self, kind: ChangeKind, buckets: usize) {
        let count = match kind {
            ChangeKind::Grow => &mut self.grows,
            ChangeKind::Shrink => &mut self.shrinks,
            ChangeKind::SameSize => &mut self.same_size,
        };
        *count = count.saturating_add(1);
        self.evacuated_buckets += buckets as u64;
    }
}

/// Times of a table's changes, and what it told the registry. Only tables that were not always small have one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Life {
    evacuation_ns: u64,
    max_pause_ns: u64,
    /// What the sum over unnamed tables has from this one.
    reported: Figures,
}

/// Saturates after five centuries.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<T> Table<T> {
    /// Shows the length, if anybody can see it.
    #[inline]
    pub(crate) fn publish_len(&self) {
        if let Some(shared) = &self.shared {
            shared.publish_len(self.items);
        }
    }

    /// Shows all numbers.
    #[cold]
    pub(crate) fn publish(&mut self) {
        if self.shared.is_none() && self.life.is_none() {
            return;
        }
        let figures = self.figures(self.estimate_resident());
        if let Some(shared) = &self.shared {
            shared.publish(&figures);
        } else if let Some(life) = &mut self.life {
            registry::report(&life.reported, &figures);
            life.reported = figures;
        }
    }

    /// Gives the table a name, or a new one.
    pub(crate) fn set_name(&mut self, name: String) {
        self.withdraw();
        self.shared = Some(registry::Shared::register(name));
        self.publish();
    }

    /// Takes the table out of the registry.
    #[cold]
    #[inline(never)]
    pub(crate) fn withdraw(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.withdraw();
        } else if let Some(life) = &mut self.life {
            registry::take_back(&life.reported);
            life.reported = Figures::default();
        }
    }

    /// A change in steps ended: `slots` and `bytes` were the old generation's.
    #[cold]
    pub(crate) fn record(&mut self, old: &Old, slots: usize, bytes: usize) {
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
        self.counts.add(old.kind, pacing::buckets(slots));
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
        self.counts.add(kind, buckets);
        if started.is_none() && self.shared.is_none() && !observer::is_observed() {
            return;
        }
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
        if timed && self.life.is_none() {
            // Without memory for them the numbers of this change are lost, nothing else.
            self.life = try_box(Life::default()).ok();
        }
        if let Some(life) = &mut self.life {
            life.evacuation_ns = life.evacuation_ns.saturating_add(event.elapsed_ns);
            life.max_pause_ns = life.max_pause_ns.max(event.longest_ns);
        }
        self.publish();
        if observer::is_observed() {
            // The name outlives the call though the observer cannot reach the map.
            let shared = self.shared.clone();
            let name = shared.as_ref().map_or("", |shared| shared.name());
            observer::notify(&MapEvent { name, ..event });
        }
    }

    /// Exact numbers.
    pub(crate) fn stats(&self) -> MapStats {
        let old = self.old.as_ref().map_or(0, |old| old.generation.resident_bytes());
        let name = self.shared.as_ref().map_or("", |shared| shared.name());
        self.figures(self.main.resident_bytes() + old).into_map_stats(name)
    }

    /// Resident bytes, without a system call: evacuation touches the new generation and retires the old one in step.
    fn estimate_resident(&self) -> usize {
        let Some(old) = &self.old else { return self.main.bytes() };
        let slots = old.generation.slots().max(1) as u128;
        let part = |bytes: usize, homes: usize| (bytes as u128 * homes as u128 / slots) as usize;
        let left = old.generation.slots() - old.nevacuate;
        part(self.main.bytes(), old.nevacuate) + part(old.generation.bytes(), left)
    }

    fn figures(&self, resident: usize) -> Figures {
        let old = self.old.as_ref();
        let life = self.life.as_deref().copied().unwrap_or_default();
        let (spent, longest) = old.map_or((0, 0), |old| (old.spent_ns, old.longest_ns));
        let old_slots = old.map_or(0, |old| old.generation.slots());
        Figures([
            self.items as u64,
            self.capacity() as u64,
            old.map_or(0, |old| pacing::buckets(old.nevacuate)) as u64,
            pacing::buckets(self.main.slots()) as u64,
            pacing::buckets(old_slots) as u64,
            (self.items * size_of::<T>()) as u64,
            (self.main.bytes() + old.map_or(0, |old| old.generation.bytes())) as u64,
            resident as u64,
            u64::from(self.counts.grows),
            u64::from(self.counts.shrinks),
            u64::from(self.counts.same_size),
            self.counts.evacuated_buckets,
            life.evacuation_ns.saturating_add(spent),
            life.max_pause_ns.max(longest),
        ])
    }
}
