//! [`Brief`]: what a small table counts about its changes, in seven bytes. No locks.

use crate::stats::MapStats;
use crate::stats::observer::ChangeKind;

/// How a table began, and the changes that it made while it had nothing larger to count in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Brief {
    /// The first bucket array: one more than the exponent of its slots, and [`Self::ASKED`]. 0 before it.
    first: u8,
    grows: u8,
    shrinks: u8,
    same_size: u8,
    evacuated_buckets: u8,
    /// Two bytes, so that a table's flags fit into the word.
    evacuated_entries: [u8; 2],
}

static_assertions::const_assert_eq!(size_of::<Brief>(), 7);

impl Brief {
    /// The first bucket array was made for a capacity that the user asked for.
    const ASKED: u8 = 0x80;

    pub(crate) const fn new() -> Self {
        Self { first: 0, grows: 0, shrinks: 0, same_size: 0, evacuated_buckets: 0, evacuated_entries: [0; 2] }
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

    /// Slots of the first bucket array. 0 before it.
    pub(crate) const fn first_slots(&self) -> usize {
        match self.first & !Self::ASKED {
            0 => 0,
            exponent => 1 << (exponent - 1),
        }
    }

    /// Counts a change in one write that evacuated so much, if there is room for it.
    #[inline]
    pub(crate) fn add(&mut self, kind: ChangeKind, buckets: usize, entries: usize) -> bool {
        let mut after = *self;
        let count = match kind {
            ChangeKind::Grow => &mut after.grows,
            ChangeKind::Shrink => &mut after.shrinks,
            ChangeKind::SameSize => &mut after.same_size,
        };
        let Some(changes) = count.checked_add(1) else { return false };
        *count = changes;
        let buckets = usize::from(self.evacuated_buckets).saturating_add(buckets);
        let entries = usize::from(u16::from_ne_bytes(self.evacuated_entries)).saturating_add(entries);
        let (Ok(buckets), Ok(entries)) = (u8::try_from(buckets), u16::try_from(entries)) else {
            return false;
        };
        after.evacuated_buckets = buckets;
        after.evacuated_entries = entries.to_ne_bytes();
        *self = after;
        true
    }

    /// Adds the counts to those of `stats`.
    pub(crate) fn add_to(&self, stats: &mut MapStats) {
        stats.preallocations = u64::from(self.first & Self::ASKED != 0);
        stats.grows += u64::from(self.grows);
        stats.shrinks += u64::from(self.shrinks);
        stats.same_size_grows += u64::from(self.same_size);
        stats.evacuated_buckets += u64::from(self.evacuated_buckets);
        stats.evacuated_entries += u64::from(u16::from_ne_bytes(self.evacuated_entries));
        // These took place in one write each.
        let changes = [self.grows, self.shrinks, self.same_size];
        stats.evacuation_writes += changes.map(u64::from).iter().sum::<u64>();
    }
}
