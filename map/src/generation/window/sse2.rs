//! [`Window`] with SSE2, which every x86-64 processor has.
#![allow(unsafe_code, reason = "loads sixteen bytes through a pointer")]

use core::arch::x86_64::{
    __m128i, _mm_and_si128, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_loadu_si128,
    _mm_movemask_epi8, _mm_or_si128, _mm_set1_epi8, _mm_setzero_si128, _mm_storeu_si128,
};

use super::Matches;
use crate::generation::tag::Tag;

/// Brings the cache line at `address` nearer. Any address will do.
#[cfg(not(feature = "portable"))]
#[inline]
pub(crate) fn prefetch(address: *const u8) {
    // SAFETY: SSE is on where SSE2 is. The instruction never faults.
    unsafe { core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address.cast()) };
}

/// Sixteen tags in a vector register.
#[derive(Clone, Copy)]
pub(crate) struct Window(__m128i);

impl Window {
    /// Loads the tags at `tags`, which need no alignment.
    ///
    /// # Safety
    /// Sixteen bytes are readable there.
    #[inline]
    pub(crate) unsafe fn load(tags: *const u8) -> Self {
        // SAFETY: the caller vouches for sixteen readable bytes; `loadu` needs no alignment.
        Self(unsafe { _mm_loadu_si128(tags.cast()) })
    }

    /// Slots whose tag is `tag`.
    #[inline]
    pub(crate) fn equal(self, tag: Tag) -> Matches {
        // SAFETY: SSE2 is on: the module is compiled only then.
        let mask = unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(self.0, _mm_set1_epi8(tag.0.cast_signed()))) };
        Matches(mask as u16)
    }

    /// Slots that were never used.
    #[inline]
    pub(crate) fn empty(self) -> Matches {
        // SAFETY: SSE2 is on: the module is compiled only then.
        let mask = unsafe { _mm_movemask_epi8(_mm_cmpeq_epi8(self.0, _mm_setzero_si128())) };
        Matches(mask as u16)
    }

    /// Slots that hold an entry: those with the sign bit.
    #[inline]
    pub(crate) fn full(self) -> Matches {
        // SAFETY: SSE2 is on: the module is compiled only then.
        Matches(unsafe { _mm_movemask_epi8(self.0) } as u16)
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
        // SAFETY: SSE2 is on: the module is compiled only then. The caller vouches for the bytes; `storeu` needs no
        // alignment.
        unsafe {
            let full = _mm_cmpgt_epi8(_mm_setzero_si128(), self.0);
            let tombstones = _mm_and_si128(full, _mm_set1_epi8(Tag::TOMBSTONE.0.cast_signed()));
            _mm_storeu_si128(tags.cast(), _mm_or_si128(_mm_andnot_si128(full, self.0), tombstones));
        }
    }
}
