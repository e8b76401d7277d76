//! With the feature `hardened`: which slots of a span the program has, as a second bitmap.
//!
//! Invariant: the bit of a slot is set only while neither a magazine nor its span has the slot as free.

use super::size_class::MAX_WORDS;
use crate::base::sync::{AtomicU64, Ordering};

/// Whether every free is checked. Where it is not, the checks (`spans/hardened.rs`) are removed as dead code.
pub(crate) const HARDENED: bool = cfg!(feature = "hardened");

/// Words of [`LiveBits`].
pub(crate) const LIVE_WORDS: usize = if HARDENED { MAX_WORDS } else { 0 };

/// A bit for each slot of a span that an owner outside the allocator has. Without the feature it takes no room, and
/// says that all of them are.
#[derive(Debug)]
pub(crate) struct LiveBits([AtomicU64; LIVE_WORDS]);

// Relaxed throughout: a bit orders nothing, and changes of one bit are ordered by what hands the slot on. From a free to
// the next allocation that is the magazine of one thread, or the span's bitmap; from an allocation to the free, the
// program, which would otherwise free what it cannot know of. Each change is a read-modify-write, so of two threads that
// clear a bit at once only one sees it set.
impl LiveBits {
    #[cfg(test)]
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; LIVE_WORDS])
    }

    /// The live slots of a word.
    pub(crate) fn look(&self, word: usize) -> u64 {
        if HARDENED { self.0[word].load(Ordering::Relaxed) } else { u64::MAX }
    }

    /// Sets a bit. False if it was set already.
    pub(crate) fn set(&self, word: usize, bit: u64) -> bool {
        !HARDENED || self.0[word].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Clears a bit. False if it was clear already.
    pub(crate) fn clear(&self, word: usize, bit: u64) -> bool {
        !HARDENED || self.0[word].fetch_and(!bit, Ordering::Relaxed) & bit != 0
    }
}

#[cfg(all(test, feature = "hardened"))]
mod tests {
    use super::*;

    #[test]
    fn bits_of_one_word_change_apart() {
        let (bits, start) = (LiveBits::new(), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            for bit in [1, 2] {
                let (bits, start) = (&bits, &start);
                scope.spawn(move || {
                    start.wait();
                    // Long enough that the two overlap on a busy machine.
                    for _ in 0..2_000_000 {
                        assert!(bits.set(7, bit), "nobody else sets or clears this bit");
                        assert!(bits.clear(7, bit), "nobody else sets or clears this bit");
                    }
                });
            }
        });
        assert_eq!(bits.look(7), 0);
        assert!(!bits.clear(7, 1) && bits.set(7, 1) && !bits.set(7, 1));
    }
}
