//! [`Window`] in plain integer arithmetic: two words of eight tags.
//!
//! The comparison is exact, without the false positives of the shorter well-known trick, so that both
//! implementations can be tested against each other bit by bit.
#![allow(unsafe_code, reason = "loads sixteen bytes through a pointer")]

use super::Matches;
use crate::generation::tag::Tag;

const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const SIGN_BITS: u64 = 0x8080_8080_8080_8080;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Sixteen tags in two words.
#[derive(Clone, Copy)]
pub(crate) struct Window([u64; 2]);

impl Window {
    /// Loads the tags at `tags`, which need no alignment.
    ///
    /// # Safety
    /// Sixteen bytes are readable there.
    #[inline]
    pub(crate) unsafe fn load(tags: *const u8) -> Self {
        // SAFETY: the caller vouches for sixteen readable bytes; `read_unaligned` needs no alignment, and any bytes
        // are a valid array of integers.
        let words = unsafe { tags.cast::<[u64; 2]>().read_unaligned() };
        Self([u64::from_le(words[0]), u64::from_le(words[1])])
    }

    /// Slots whose tag is `tag`.
    #[inline]
    pub(crate) fn equal(self, tag: Tag) -> Matches {
        let pattern = u64::from(tag.0) * ONES;
        self.signs(|word| zero_bytes(word ^ pattern))
    }

    /// Slots that were never used.
    #[inline]
    pub(crate) fn empty(self) -> Matches {
        self.signs(zero_bytes)
    }

    /// Slots that hold an entry: those with the sign bit.
    #[inline]
    pub(crate) fn full(self) -> Matches {
        self.signs(|word| word & SIGN_BITS)
    }

    /// Slots that can take an entry.
    #[inline]
    pub(crate) fn vacant(self) -> Matches {
        Matches(!self.full().0)
    }

    /// Writes the tags to `tags`, with tombstones for all that are full.
    ///
    /// # Safety
    /// Sixteen bytes are writable there.
    #[inline]
    pub(crate) unsafe fn store_buried(self, tags: *mut u8) {
        let buried = self.0.map(|word| {
            let full = (word & SIGN_BITS) >> 7;
            // 0xff in each full byte.
            let bytes = (full << 8).wrapping_sub(full);
            ((word & !bytes) | (full * u64::from(Tag::TOMBSTONE.0))).to_le()
        });
        // SAFETY: the caller vouches for sixteen writable bytes; `write_unaligned` needs no alignment.
        unsafe { tags.cast::<[u64; 2]>().write_unaligned(buried) };
    }

    #[inline]
    fn signs(self, test: impl Fn(u64) -> u64) -> Matches {
        Matches(gather(test(self.0[0])) | gather(test(self.0[1])) << 8)
    }
}

/// The sign bit of each byte of `word` that is zero. Adding 0x7f carries into the sign bit unless the low seven bits
/// are zero, and never into the next byte.
#[inline]
const fn zero_bytes(word: u64) -> u64 {
    !(((word & LOW_BITS) + LOW_BITS) | word | LOW_BITS)
}

/// The eight sign bits of `signs`, side by side. The multiplication moves the bit of byte i to bit 56 + i; no two of
/// its partial products meet.
#[inline]
const fn gather(signs: u64) -> u16 {
    ((signs >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u16
}
