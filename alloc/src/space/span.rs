//! The record of a span of small slots: which of them are free, outside the span itself.
//!
//! A set bit is a free slot that no cache holds. Bits are taken and given with one atomic operation a word, by any
//! thread, without a lock: whoever clears a bit owns the slot. The state says who looks for room in the span:
//! - `Owned`: one thread's cache allocates from it; it is in no list;
//! - `Listed`: in its class's list of spans with room;
//! - `Full`: neither; the next thread that frees into it lists it.
//!
//! Invariants: a span leaves `Listed` and `Full` only under the lock of its class; a span goes back to the
//! page heap only when all its bits were taken at once, so a taken bit keeps the span what it is.

use crate::base::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use crate::base::units::PAGE;
use crate::space::live_bits::LiveBits;
use crate::space::size_class::{Geometry, MAX_WORDS, SizeClass};

/// Who looks for room in a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SpanState {
    /// No span begins here.
    None = 0,
    Owned,
    Listed,
    Full,
}

#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct SpanRecord {
    free: [AtomicU64; MAX_WORDS],
    /// Which slots the program has; without the feature `hardened` this takes no room.
    pub(crate) live: LiveBits,
    /// The class in the high byte, the state in the low one: they are read together, since a record that is not of
    /// the class whose lock one holds may change at any time.
    tag: AtomicU16,
    /// Links of the list of spans with room.
    pub(crate) left: AtomicU32,
    pub(crate) right: AtomicU32,
}

// Nine cache lines, or 17 with the feature `hardened`: an odd number, so that the first lines of neighbouring records
// fall into different cache sets.
#[cfg(not(loom))]
static_assertions::const_assert_eq!(size_of::<SpanRecord>(), 576 + crate::space::live_bits::LIVE_WORDS * 8);

fn tag(class: SizeClass, state: SpanState) -> u16 {
    u16::from_be_bytes([class.index() as u8, state as u8])
}

/// Who may change bits meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Any thread.
    Shared,
    /// Only the caller: see [`Sharing`](crate::cache::sharing::Sharing).
    Alone,
}

/// What giving slots back to a word changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// The word had no free slot before.
    pub(crate) was_empty: bool,
    /// All slots of the word are free now.
    pub(crate) is_full: bool,
    /// The slots that were free already: somebody freed them twice.
    pub(crate) twice: u64,
}

impl SpanRecord {
    /// Begins a span of `class` that the caller owns. All slots are free. No bit may be set.
    pub(crate) fn begin(&self, class: SizeClass) {
        // Relaxed, and Release on the bits: who takes one sees class and state.
        self.tag.store(tag(class, SpanState::Owned), Ordering::Relaxed);
        let geometry = class.geometry();
        for word in 0..geometry.words() {
            debug_assert_eq!(self.free[word].load(Ordering::Relaxed), 0);
            self.free[word].store(geometry.full_word(word), Ordering::Release);
        }
    }

    /// The class of the span that begins here. It stands still for who owns a slot of the span, or its class's lock.
    pub(crate) fn class(&self) -> SizeClass {
        self.class_and_state().0
    }

    pub(crate) fn state(&self) -> SpanState {
        self.class_and_state().1
    }

    pub(crate) fn class_and_state(&self) -> (SizeClass, SpanState) {
        // SeqCst: a thread that frees stores a bit, then reads the state; a thread that lets go of the span stores
        // the state, then reads the bits. One of them must see the other, or the span is lost to its class.
        let [class, state] = self.tag.load(Ordering::SeqCst).to_be_bytes();
        let state = match state {
            1 => SpanState::Owned,
            2 => SpanState::Listed,
            3 => SpanState::Full,
            _ => SpanState::None,
        };
        (SizeClass::from_index(class as usize), state)
    }

    /// Changes the state. The caller owns the span, or holds the lock of its class.
    pub(crate) fn set_state(&self, class: SizeClass, state: SpanState) {
        debug_assert_eq!(self.class(), class);
        // SeqCst: see `class_and_state`.
        self.tag.store(tag(class, state), Ordering::SeqCst);
    }

    /// The free slots of a word, which may change at any time.
    pub(crate) fn look(&self, word: usize) -> u64 {
        // SeqCst: see `class_and_state`.
        self.free[word].load(Ordering::SeqCst)
    }

    /// Takes those slots of `mask` that are free.
    #[inline]
    pub(crate) fn take(&self, word: usize, mask: u64, access: Access) -> u64 {
        let word = &self.free[word];
        if access == Access::Alone {
            // Relaxed: there is nobody to order it for.
            let free = word.load(Ordering::Relaxed);
            word.store(free & !mask, Ordering::Relaxed);
            return free & mask;
        }
        // Acquire: the last owner's use of the slot happens before ours.
        word.fetch_and(!mask, Ordering::Acquire) & mask
    }

    /// Gives slots back. The caller owns them.
    #[inline(always)]
    pub(crate) fn give(&self, word: usize, mask: u64, geometry: &Geometry, access: Access) -> Given {
        // All bits of the mask are clear, so a sum sets them: one instruction that never has to be tried again.
        let before = if access == Access::Alone {
            // Relaxed as above.
            let before = self.free[word].load(Ordering::Relaxed);
            self.free[word].store(before.wrapping_add(mask), Ordering::Relaxed);
            before
        } else {
            // Release: our use of the slot happens before the next owner's; SeqCst: see `class_and_state`.
            self.free[word].fetch_add(mask, Ordering::SeqCst)
        };
        Given {
            was_empty: before == 0,
            is_full: before | mask == geometry.full_word(word),
            twice: before & mask,
        }
    }

    /// Puts a word right after [`give`](Self::give) found slots in it that were free: no carry may free what is in use.
    #[cold]
    pub(crate) fn mend(&self, word: usize, twice: u64) {
        // SeqCst as above.
        self.free[word].fetch_sub(twice, Ordering::SeqCst);
    }

    pub(crate) fn has_room(&self, geometry: &Geometry) -> bool {
        (0..geometry.words()).any(|word| self.look(word) != 0)
    }

    /// Whether all slots are free. Looks first behind `hint`, where a run of frees is likely to be unfinished.
    pub(crate) fn is_wholly_free(&self, geometry: &Geometry, hint: usize) -> bool {
        let words = geometry.words();
        (hint + 1..words).chain(0..=hint).all(|word| self.look(word) == geometry.full_word(word))
    }

    /// Takes all slots at once, or none.
    pub(crate) fn take_all(&self, geometry: &Geometry) -> bool {
        for word in 0..geometry.words() {
            let full = geometry.full_word(word);
            let taken = self.take(word, full, Access::Shared);
            if taken != full {
                self.give(word, taken, geometry, Access::Shared);
                for earlier in 0..word {
                    self.give(earlier, geometry.full_word(earlier), geometry, Access::Shared);
                }
                return false;
            }
        }
        true
    }
}

/// The slots that overlap page `page` of a span, as a range of numbers.
pub(crate) fn slots_of_page(geometry: &Geometry, page: usize) -> core::ops::Range<usize> {
    let slots = geometry.slots as usize;
    let first = geometry.slot_at(page * PAGE);
    let last = geometry.slot_at(page * PAGE + PAGE - 1);
    first.min(slots)..(last + 1).min(slots)
}

/// The words and masks of a range of slots.
pub(crate) fn masks(slots: core::ops::Range<usize>) -> impl Iterator<Item = (usize, u64)> + Clone {
    let words = if slots.is_empty() { 0..0 } else { slots.start / 64..(slots.end - 1) / 64 + 1 };
    words.map(move |word| {
        let from = slots.start.saturating_sub(word * 64);
        let to = (slots.end - word * 64).min(64);
        (word, (u64::MAX >> (64 - (to - from))) << from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pages that slot `slot` overlaps.
    fn pages_of_slot(geometry: &Geometry, slot: usize) -> core::ops::RangeInclusive<usize> {
        let size = geometry.size as usize;
        slot * size / PAGE..=((slot + 1) * size - 1) / PAGE
    }

    fn record() -> SpanRecord {
        SpanRecord {
            free: [const { AtomicU64::new(0) }; MAX_WORDS],
            live: LiveBits::new(),
            tag: AtomicU16::new(0),
            left: AtomicU32::new(0),
            right: AtomicU32::new(0),
        }
    }

    #[test]
    fn every_class_counts_its_slots_and_pages() {
        for class in SizeClass::all() {
            let geometry = class.geometry();
            let pages = geometry.units as usize * 16;
            let mut seen = vec![0u32; geometry.slots as usize];
            for page in 0..pages {
                for slot in slots_of_page(geometry, page) {
                    assert!(pages_of_slot(geometry, slot).contains(&page));
                    seen[slot] += 1;
                }
            }
            for (slot, count) in seen.into_iter().enumerate() {
                assert_eq!(count as usize, pages_of_slot(geometry, slot).count(), "{geometry:?} slot {slot}");
            }
        }
    }

    #[test]
    fn masks_cover_exactly_the_range() {
        for (start, end) in [(0, 0), (0, 1), (0, 64), (3, 64), (63, 65), (5, 200), (64, 128)] {
            let mut bits = Vec::new();
            for (word, mask) in masks(start..end) {
                bits.extend((0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| word * 64 + bit));
            }
            assert_eq!(bits, (start..end).collect::<Vec<_>>());
        }
    }

    #[test]
    fn giving_tells_of_first_last_and_double() {
        let class = SizeClass::of(8192, 1).unwrap();
        let geometry = class.geometry();
        let record = record();
        record.begin(class);
        assert_eq!(record.class_and_state(), (class, SpanState::Owned));
        assert!(record.is_wholly_free(geometry, 0) && record.take_all(geometry));
        assert!(!record.has_room(geometry) && !record.take_all(geometry));
        let all = geometry.full_word(0);
        assert_eq!(
            record.give(0, 1, geometry, Access::Shared),
            Given { was_empty: true, is_full: false, twice: 0 }
        );
        assert_eq!(
            record.give(0, 1, geometry, Access::Shared),
            Given { was_empty: false, is_full: false, twice: 1 }
        );
        record.mend(0, 1);
        assert_eq!(
            record.give(0, all & !1, geometry, Access::Shared),
            Given { was_empty: false, is_full: true, twice: 0 }
        );
    }

    #[test]
    fn taking_all_takes_none_when_one_is_missing() {
        let class = SizeClass::of(16, 1).unwrap();
        let geometry = class.geometry();
        let record = record();
        record.begin(class);
        assert_eq!(record.take(40, 1 << 7, Access::Shared), 1 << 7);
        assert!(!record.take_all(geometry));
        record.give(40, 1 << 7, geometry, Access::Shared);
        assert!(record.is_wholly_free(geometry, 40), "nothing was lost");
    }
}
