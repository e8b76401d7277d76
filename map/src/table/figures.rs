//! The figures of a [`Table`], and when they reach the registry and the observers.
//!
//! Named tables show all on slow paths, and with each write their length; unnamed ones add the difference to a sum when a
//! change begins or ends. Nothing is counted on the way of a write to an unnamed table in its steady state. No locks.

use std::time::Instant;

use crate::stats::life::{Life, nanos};
use crate::stats::observer::{ChangeKind, MapEvent, is_observed, notify};
use crate::stats::{MapStats, exponent};
use crate::table::Table;
use crate::table::change::{Change, pacing};

impl<T> Table<T> {
    fn life(&self) -> Option<&Life> {
        self.extra.as_ref().map(|extra| &extra.life)
    }

    /// Shows the length, which a named table keeps exact.
    #[cold]
    #[inline(never)]
    pub(super) fn publish_len(&self) {
        if let Some(life) = self.life() {
            life.listing.publish_len(self.items);
        }
    }

    /// Shows all numbers, if anybody can see them.
    #[inline]
    pub(super) fn publish_all(&mut self) {
        if self.extra.is_some() {
            self.publish();
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn publish(&mut self) {
        let figures = self.figures(self.estimate_resident());
        if let Some(extra) = &mut self.extra {
            extra.life.listing.publish(&figures);
        }
    }

    /// Gives the table a name, or a new one.
    pub(crate) fn set_name(&mut self, name: String) {
        match self.need_extra() {
            Ok(extra) => extra.life.listing.set_name(name),
            Err(error) => error.raise(),
        }
        self.flags |= Self::NAMED;
        self.claim_arenas();
        self.publish();
    }

    /// Tells the allocator whose the arenas are.
    #[cold]
    #[inline(never)]
    pub(super) fn claim_arenas(&self) {
        let Some(life) = self.life() else { return };
        let old = self.old().map(|old| &old.generation);
        for generation in old.into_iter().chain([&self.current.generation]) {
            if let Some(region) = generation.region() {
                region.set_owner(life.listing.owner());
            }
        }
    }

    /// Counts a change in steps that ended: `slots` and `bytes` were the old generation's.
    pub(super) fn record(&mut self, change: &Change<T>, slots: usize, bytes: usize) {
        let times = Some([change.spent_ns, change.longest_ns]);
        self.publish_change(
            change.kind,
            (slots, bytes),
            change.old.moved,
            change.writes.max(1),
            times,
            false,
        );
    }

    /// Counts a change that ended in the write in which it began, and moved so many `entries`.
    #[inline]
    pub(super) fn record_whole(
        &mut self,
        kind: ChangeKind,
        slots: usize,
        bytes: usize,
        entries: usize,
        started: Option<Instant>,
    ) {
        let counted = self.extra.is_none() && self.brief.add(kind, pacing::buckets(slots), entries);
        if !counted || started.is_some() || is_observed() {
            let times = started.map(|started| [nanos(started.elapsed()); 2]);
            self.publish_change(kind, (slots, bytes), entries as u64, 1, times, counted);
        }
    }

    /// Publishes a change from a generation of so many slots and bytes to the current one, and counts it unless that is
    /// done. `times` are the time spent on it, and its longest piece, in nanoseconds.
    #[cold]
    #[inline(never)]
    fn publish_change(
        &mut self,
        kind: ChangeKind,
        (slots, bytes): (usize, usize),
        entries: u64,
        writes: u64,
        times: Option<[u64; 2]>,
        counted: bool,
    ) {
        let buckets = pacing::buckets(slots);
        let [elapsed_ns, longest_ns] = times.unwrap_or_default();
        let event = MapEvent {
            name: "",
            kind,
            old_buckets: buckets as u64,
            new_buckets: pacing::buckets(self.current.generation.slots()) as u64,
            evacuated_buckets: buckets as u64,
            evacuated_entries: entries,
            elapsed_ns,
            writes,
            longest_ns,
            retired_bytes: bytes as u64,
        };
        if !counted || times.is_some() {
            // Without memory for them the numbers of this change are lost, nothing else.
            drop(self.need_extra().map(|extra| {
                if !counted {
                    extra.life.count(&event);
                }
                if times.is_some() {
                    extra.life.count_time(&event);
                }
            }));
        }
        self.publish_all();
        let name = self.life().map_or("", |life| life.listing.name());
        notify(&MapEvent { name, ..event });
    }

    /// Exact numbers.
    pub(crate) fn stats(&self) -> MapStats {
        let old = self.old().map_or(0, |old| old.generation.resident_bytes());
        let figures = self.figures(self.current.generation.resident_bytes() + old);
        match self.life() {
            Some(life) => life.listing.complete(&figures),
            None => MapStats::of_numbers("", figures.numbers()),
        }
    }

    /// Resident bytes, without a system call: evacuation touches the new generation and retires the old one in step.
    fn estimate_resident(&self) -> usize {
        let bytes = self.current.generation.bytes();
        let Some(old) = self.old() else { return bytes };
        let slots = old.generation.slots().max(1) as u128;
        let part = |bytes: usize, homes: usize| (bytes as u128 * homes as u128 / slots) as usize;
        let left = old.generation.slots() - old.nevacuate();
        part(bytes, old.nevacuate()) + part(old.generation.bytes(), left)
    }

    /// All that is published.
    fn figures(&self, resident: usize) -> MapStats {
        let buckets = |slots: usize| pacing::buckets(slots) as u64;
        let slots = self.current.generation.slots();
        let mut stats = MapStats {
            len: self.items as u64,
            capacity: self.capacity() as u64,
            buckets: buckets(slots),
            logical_bytes: (self.items * size_of::<T>()) as u64,
            live_bytes: self.current.generation.bytes() as u64,
            resident_bytes: resident as u64,
            initial_b: exponent(buckets(self.brief.first_slots())),
            ..self.life().map(Life::counted).unwrap_or_default()
        };
        self.brief.add_to(&mut stats);
        // Each change makes one, but for those to nothing, and after each of these there is a first one again. So these
        // two even out, but for the latest.
        stats.allocations = stats.grows + stats.shrinks + stats.same_size_grows + u64::from(slots > 0);
        let Some(change) = self.change() else { return stats };
        let dead = change.old.dead_bytes();
        stats.nevacuate = buckets(change.old.nevacuate());
        stats.old_buckets = buckets(change.old.generation.slots());
        stats.old_bytes = (change.old.generation.bytes() - dead) as u64;
        stats.retired_bytes = dead as u64;
        stats.allocations += 1;
        stats.evacuated_entries += change.old.moved;
        stats.evacuation_writes += change.writes;
        stats.evacuation_ns = stats.evacuation_ns.saturating_add(change.spent_ns);
        stats.max_pause_ns = stats.max_pause_ns.max(change.longest_ns);
        stats
    }
}
