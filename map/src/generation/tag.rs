//! [`Tag`]: the byte kept beside each slot.
//!
//! Invariant: a byte of a tag array is `EMPTY`, `TOMBSTONE`, or has its sign bit set. Empty is zero, so that fresh
//! zero pages are an empty table. The sign bit means full, so that one move-mask finds the full slots.

/// State of one slot; for a full one also seven bits of its key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Tag(pub(crate) u8);

impl Tag {
    /// Never used since the table was made, or not passed over by any probe.
    pub(crate) const EMPTY: Self = Self(0);
    /// Vacant, but a probe for another key may have passed over it.
    pub(crate) const TOMBSTONE: Self = Self(1);

    /// The tag of a full slot: the top seven bits of the hash. Homes come from the low bits, so the two are
    /// independent.
    #[inline]
    pub(crate) const fn full(hash: u64) -> Self {
        Self((hash >> 57) as u8 | 0x80)
    }

    /// Whether the slot holds an entry.
    #[inline]
    pub(crate) const fn is_full(self) -> bool {
        self.0 & 0x80 != 0
    }

    /// Whether a probe ends here.
    #[inline]
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
