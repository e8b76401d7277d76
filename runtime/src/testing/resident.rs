//! [`resident`]: how much of a range of addresses is in memory, by mincore. No locks.

use crate::kernel::{self, PAGE};
use core::fmt;
use core::ops::Range;

/// Pages asked about in one call.
const BATCH: usize = 1024;

/// Resident bytes of the pages that `range` touches, counted whole: a range of one byte has 4096 of them or none.
///
/// The range may be any memory of the process, not only ebbtide's. Pages that were never touched are not resident; those of
/// files may be resident because another process reads them.
///
/// # Errors
/// [`ResidentError`] if part of the range is not mapped.
///
/// # Complexity
/// A system call for each 4 MiB.
///
/// # Examples
/// ```
/// use ebbtide::testing::resident;
///
/// let touched = vec![1_u8; 1 << 20];
/// assert!(resident(touched.as_ptr_range())? >= 1 << 20);
/// assert!(resident(std::ptr::null::<u8>()..std::ptr::without_provenance(4096)).is_err());
/// # Ok::<(), ebbtide::testing::ResidentError>(())
/// ```
pub fn resident<T>(range: Range<*const T>) -> Result<u64, ResidentError> {
    let end = range.end.addr();
    if range.start.addr() >= end {
        return Ok(0);
    }
    let mut at = range.start.addr() & !(PAGE - 1);
    let mut states = [0_u8; BATCH];
    let mut pages = 0;
    while at < end {
        let count = (end - at).div_ceil(PAGE).min(BATCH);
        let states = &mut states[..count];
        kernel::resident_pages(at, states).map_err(|errno| ResidentError { address: at, errno })?;
        pages += states.iter().filter(|&&state| state & 1 == 1).count();
        // The last page of the address space is not a program's.
        at = at.saturating_add(count * PAGE);
    }
    Ok((pages * PAGE) as u64)
}

/// Why [`resident`] cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidentError {
    address: usize,
    errno: i32,
}

impl ResidentError {
    /// Where the part of the range begins that the kernel refused.
    #[must_use]
    pub const fn address(&self) -> usize {
        self.address
    }

    /// The kernel's error: `ENOMEM` (12) where nothing is mapped.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        self.errno
    }
}

impl fmt::Display for ResidentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = std::io::Error::from_raw_os_error(self.errno);
        write!(f, "the range from {:#x} on is not all mapped memory: {reason}", self.address)
    }
}

impl core::error::Error for ResidentError {}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::without_provenance;

    #[test]
    fn pages_are_counted_whole_and_an_empty_range_has_none() {
        let block = vec![1_u8; 3 * PAGE];
        let start = block.as_ptr();
        assert_eq!(resident(start..start), Ok(0));
        assert_eq!(resident(start..start.wrapping_add(1)), Ok(PAGE as u64));
        let all = resident(block.as_ptr_range()).expect("mapped");
        assert!((3 * PAGE as u64..=4 * PAGE as u64).contains(&all), "{all}");
        let words = [0_u64; 4];
        assert!(resident(words.as_ptr_range()).is_ok_and(|bytes| bytes >= PAGE as u64));
    }

    #[test]
    fn ranges_of_several_batches_are_added_up() {
        let block = vec![1_u8; (2 * BATCH + 7) * PAGE];
        let all = resident(block.as_ptr_range()).expect("mapped");
        assert!((block.len() as u64..=(block.len() + PAGE) as u64).contains(&all), "{all}");
    }

    #[test]
    fn what_is_not_mapped_is_an_error_that_says_where() {
        let error = resident(without_provenance::<u8>(0)..without_provenance(1)).expect_err("page 0");
        assert_eq!((error.address(), error.errno()), (0, libc::ENOMEM));
        assert!(error.to_string().starts_with("the range from 0x0 on is not all mapped memory: "), "{error}");
        let top = without_provenance::<u8>(usize::MAX - 10)..without_provenance(usize::MAX);
        assert!(resident(top).is_err());
        assert!(resident(without_provenance::<u8>(4096 * 5)..without_provenance(4096)) == Ok(0), "backwards");
    }
}
