//! [`TryReserveError`], and what becomes of it where the caller cannot handle it.

use core::alloc::Layout;
use core::fmt;

/// Why memory for more entries could not be had. The map is as it was before.
///
/// # Examples
/// ```
/// let mut map = ebbtide_map::HashMap::<u64, u64>::new();
/// assert_eq!(map.try_reserve(usize::MAX), Err(ebbtide_map::TryReserveError::CapacityOverflow));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryReserveError {
    /// The capacity asked for does not fit the address space.
    CapacityOverflow,
    /// The allocator or the operating system had no memory.
    AllocError {
        /// What was asked for.
        layout: Layout,
    },
}

impl fmt::Display for TryReserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory allocation failed because ")?;
        match self {
            Self::CapacityOverflow => f.write_str("the computed capacity exceeded the address space"),
            Self::AllocError { layout } => write!(f, "the allocator had no {} bytes", layout.size()),
        }
    }
}

impl core::error::Error for TryReserveError {}

impl TryReserveError {
    /// Ends an operation that has no way to return the error, as the collections of std do.
    #[cold]
    #[inline(never)]
    pub(crate) fn raise(self) -> ! {
        match self {
            #[expect(clippy::panic, reason = "the collections of std panic here")]
            Self::CapacityOverflow => panic!("Hash table capacity overflow"),
            Self::AllocError { layout } => std::alloc::handle_alloc_error(layout),
        }
    }
}
