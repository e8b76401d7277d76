//! The arithmetic of growing and shrinking: load limits, when to change, how much to move per write.
//!
//! Pure functions of sizes; no memory, no clock, no locks.
//!
//! # Why a change always ends in time
//! Let n be the slots of the old generation, L(n) = 7n/8 its load limit, and let every write (insert or remove) move
//! at least [`HOMES_PER_WRITE`] = 16 homes on average. Then a change takes at most n/16 writes.
//! - *The old generation keeps room.* It starts with at most L(n) slots used, so with at least n/8 empty ones. A
//!   write uses up at most one, so at least n/8 - n/16 = n/16 stay empty ([`headroom`]), which is 2 at the smallest
//!   size that changes in steps. So every probe ends. Moved slots become tombstones, which inserts reuse, and half of
//!   the homes are past on average, so the real load stays far below 15/16.
//! - *The new generation keeps room.* Call its slack the load limit less the entries at the start. Moving uses one
//!   slot for each old entry, a write at most one of the slack, so n/16 must fit. Growing: the slack is
//!   L(2n) - L(n) = 7n/8. Same size: at most L(n)/2 entries, so 7n/16. Halving: fewer than L(n)/4 entries, so more
//!   than L(n/2) - L(n)/4 = 7n/32. A reservation: the slack is what was reserved, which can be less than n/16, and
//!   then running out of it ends the change at once.
//!
//! Behind the last slot a second round goes over the first slots again, for entries whose probes wrapped around the end.
//! It ends with the last of these entries: after a few windows, or after n slots for a hasher that clusters.
//! All homes are passed then, so that the old generation takes no entry any more; the slack of the new one, at least
//! three times n/16, is what these writes use.
//!
//! The table checks both bounds on each insert all the same, since a hasher that answers differently each time
//! can leave entries behind.

/// Constants that shrink under test, so that small inputs reach every branch.
#[cfg(not(any(test, fuzzing)))]
mod tuning {
    /// Tables of at most this many slots move whole, in one write: some 20 us.
    pub(crate) const WHOLE_SLOTS: usize = 2048;
    /// And at most this many bytes of entries, since copying and first touching them takes time, too.
    pub(crate) const WHOLE_BYTES: usize = 128 << 10;
    /// Homes moved by one step: seven windows.
    pub(crate) const STEP_HOMES: usize = 112;
    /// Writes per step.
    pub(crate) const STEP_WRITES: u32 = 2;
    /// Entries above this many bytes move in steps of 16 homes, one step a write.
    pub(crate) const STEP_ENTRY_BYTES: usize = 256;
    /// Fewest slots of a table that shrinks by itself: 2^8 buckets.
    pub(crate) const SHRINK_SLOTS: usize = 4096;
    /// Bytes behind the frontier that are retired at once. One call costs about 1.2 us and 0.27 us a page.
    pub(crate) const RETIRE_BYTES: usize = 128 << 10;
    /// How far ahead of the place they leave, in bytes of entries, pages are handed on: beyond what a step fills.
    pub(crate) const HAND_ON_AHEAD: usize = 2 * RETIRE_BYTES;
    /// Low slots that are never retired early: see the module `evacuate`.
    pub(crate) const WRAP_SLOTS: usize = 1024;
    /// Changes of tables with fewer slots are counted but not timed.
    pub(crate) const TIMED_SLOTS: usize = 2048;
}
#[cfg(any(test, fuzzing))]
mod tuning {
    pub(crate) const WHOLE_SLOTS: usize = 16;
    pub(crate) const WHOLE_BYTES: usize = 4096;
    pub(crate) const STEP_HOMES: usize = 16;
    pub(crate) const STEP_WRITES: u32 = 1;
    pub(crate) const STEP_ENTRY_BYTES: usize = 64;
    pub(crate) const SHRINK_SLOTS: usize = 64;
    pub(crate) const RETIRE_BYTES: usize = 256;
    pub(crate) const HAND_ON_AHEAD: usize = 2 * RETIRE_BYTES;
    pub(crate) const WRAP_SLOTS: usize = 256;
    pub(crate) const TIMED_SLOTS: usize = 16;
}
pub(crate) use tuning::{HAND_ON_AHEAD, RETIRE_BYTES, STEP_HOMES, TIMED_SLOTS, WRAP_SLOTS};

use crate::generation::window::WIDTH;
use crate::stats::observer::ChangeKind;

/// Homes that a change moves for each write, at least and on average.
pub(crate) const HOMES_PER_WRITE: usize = 16;
/// Fewest slots that change in steps. Windows of two homes of one step must not overlap around the end.
const STEPPED_SLOTS: usize = 32;
/// Slots of a table for its first entry.
pub(crate) const FIRST_SLOTS: usize = 4;
/// No automatic shrink goes below this capacity.
pub(crate) const LEAST_FLOOR: usize = load_limit(tuning::SHRINK_SLOTS / 2);

static_assertions::const_assert!(STEP_HOMES >= HOMES_PER_WRITE * tuning::STEP_WRITES as usize);
static_assertions::const_assert!(STEP_HOMES + WIDTH <= tuning::WHOLE_BYTES / tuning::STEP_ENTRY_BYTES);
static_assertions::const_assert!(STEP_HOMES + WIDTH <= 2 * tuning::WHOLE_SLOTS);
static_assertions::const_assert!(HOMES_PER_WRITE.is_multiple_of(WIDTH) && STEP_HOMES.is_multiple_of(WIDTH));
static_assertions::const_assert!(HOMES_PER_WRITE + WIDTH <= STEPPED_SLOTS);
static_assertions::const_assert!(tuning::SHRINK_SLOTS >= 2 * STEPPED_SLOTS);

/// Slots of `slots` that may be used: 7/8, or all but one of few.
#[inline]
pub(crate) const fn load_limit(slots: usize) -> usize {
    if slots < 8 { slots.saturating_sub(1) } else { slots / 8 * 7 }
}

/// Fewest slots whose load limit is `capacity` or more. `None` if that does not fit the address space.
pub(crate) const fn slots_for(capacity: usize) -> Option<usize> {
    match capacity {
        0 => Some(0),
        1..=3 => Some(4),
        4..=7 => Some(8),
        8..=14 => Some(16),
        _ => match capacity.checked_mul(8) {
            Some(eighths) => (eighths.div_ceil(7)).checked_next_power_of_two(),
            None => None,
        },
    }
}

/// Buckets of 16 slots; the few slots of a small table count as one.
pub(crate) const fn buckets(slots: usize) -> usize {
    slots.div_ceil(WIDTH)
}

/// Whether a table moves whole, in the write that starts the change.
pub(crate) const fn moves_whole(slots: usize, entry_bytes: usize) -> bool {
    slots < STEPPED_SLOTS
        || (slots <= tuning::WHOLE_SLOTS && slots.saturating_mul(entry_bytes) <= tuning::WHOLE_BYTES)
}

/// Homes that one step moves.
pub(crate) const fn step_homes(entry_bytes: usize) -> usize {
    if entry_bytes <= tuning::STEP_ENTRY_BYTES { STEP_HOMES } else { HOMES_PER_WRITE }
}

/// Writes for each step.
pub(crate) const fn step_writes(entry_bytes: usize) -> u32 {
    if entry_bytes <= tuning::STEP_ENTRY_BYTES { tuning::STEP_WRITES } else { 1 }
}

/// Empty slots that inserts may use up in an old generation of `slots`.
pub(crate) const fn headroom(slots: usize) -> usize {
    slots / HOMES_PER_WRITE
}

/// What to do when the load limit is reached by `len` entries: shed tombstones if they are half, else double.
/// `None` if doubling does not fit the address space.
pub(crate) const fn at_limit(len: usize, slots: usize) -> Option<(ChangeKind, usize)> {
    if slots == 0 {
        return Some((ChangeKind::Grow, FIRST_SLOTS));
    }
    if len <= load_limit(slots) / 2 {
        return Some((ChangeKind::SameSize, slots));
    }
    match slots.checked_mul(2) {
        Some(double) => Some((ChangeKind::Grow, double)),
        None => None,
    }
}

/// A table of `slots` shrinks when fewer entries than this are left. 0, so never, when it is small or half of it
/// cannot hold `floor`, the capacity that the user asked for.
pub(crate) const fn shrink_below(slots: usize, floor: usize) -> usize {
    if slots < tuning::SHRINK_SLOTS || load_limit(slots / 2) < floor { 0 } else { load_limit(slots) / 4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_what_was_asked_and_no_power_of_two_less() {
        for capacity in 1..5000 {
            let slots = slots_for(capacity).unwrap();
            assert!(slots.is_power_of_two() && load_limit(slots) >= capacity, "{capacity}");
            assert!(slots == 4 || load_limit(slots / 2) < capacity, "{capacity}");
        }
        assert_eq!([3, 7, 14, 28, 56].map(|c| load_limit(slots_for(c).unwrap())), [3, 7, 14, 28, 56]);
        assert_eq!([4, 8, 15, 29].map(|c| load_limit(slots_for(c).unwrap())), [7, 14, 28, 56]);
    }

    #[test]
    fn edges_of_the_address_space() {
        assert_eq!(slots_for(0), Some(0));
        assert_eq!(load_limit(0), 0);
        assert_eq!(slots_for(usize::MAX), None);
        assert_eq!(slots_for(usize::MAX / 8), Some(1 << 62));
        assert_eq!(at_limit(load_limit(1 << 63), 1 << 63), None);
        assert!(!moves_whole(1 << 62, usize::MAX));
    }

    #[test]
    fn a_change_has_room_for_all_writes_it_takes() {
        for exponent in 5..60 {
            let slots = 1_usize << exponent;
            let writes = slots.div_ceil(step_homes(8)) * step_writes(8) as usize;
            assert!(writes <= headroom(slots), "{slots}");
            assert!(headroom(slots) < slots - load_limit(slots), "one slot stays empty");
            let (_, same) = at_limit(load_limit(slots) / 2, slots).unwrap();
            assert!(load_limit(same) - load_limit(slots) / 2 >= writes);
            let (_, double) = at_limit(load_limit(slots), slots).unwrap();
            assert!(load_limit(double) - load_limit(slots) >= writes);
            let below = shrink_below(slots, 0);
            assert!(below == 0 || load_limit(slots / 2) - (below - 1) >= writes);
        }
    }

    #[test]
    fn growing_and_shrinking_do_not_chase_each_other() {
        for exponent in 6..40 {
            let slots = 1_usize << exponent;
            let full = load_limit(slots);
            assert!(shrink_below(slots * 2, 0) < full, "just grown: no shrink");
            assert!(shrink_below(slots, 0) < load_limit(slots / 2), "just shrunk: no growth");
        }
    }

    #[test]
    fn shrinking_respects_the_floor() {
        let slots = 1024;
        assert_eq!(shrink_below(slots, load_limit(512)), load_limit(1024) / 4);
        assert_eq!(shrink_below(slots, load_limit(512) + 1), 0);
        assert_eq!(shrink_below(tuning::SHRINK_SLOTS / 2, 0), 0);
        assert_ne!(shrink_below(tuning::SHRINK_SLOTS, 0), 0);
    }

    #[test]
    fn at_the_limit_tombstones_decide() {
        assert_eq!(at_limit(0, 0), Some((ChangeKind::Grow, 4)));
        assert_eq!(at_limit(28, 64), Some((ChangeKind::SameSize, 64)));
        assert_eq!(at_limit(29, 64), Some((ChangeKind::Grow, 128)));
    }
}
