//! [`OwnLine`]: keeps what one thread writes off the cache lines that others use.

/// A value that shares no cache line with its neighbours.
///
/// 128 bytes: Intel's processors fetch lines in pairs, so the other half of a pair is as good as shared; and lines of some
/// aarch64 processors are that long.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct OwnLine<T>(pub(crate) T);

impl<T> core::ops::Deref for OwnLine<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        &self.0
    }
}
