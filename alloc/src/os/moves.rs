//! Page moves: the pages of one range go to another without a copy, by mremap(2) with `MREMAP_DONTUNMAP` (Linux 5.7).
//!
//! Before it moves anything, mremap unmaps the target. What fails after that leaves a hole there, which is a fault for
//! whoever touches it, and a place for any other mapping. So a move
//! - takes one mapping at a time: before Linux 6.17 a source of several is such a failure. The kernel is asked first;
//! - is not tried where a limit is known to refuse it: see [`Remap::may_move`];
//! - fills the hole again if it fails all the same, with memory like the one that was there.
//!
//! Invariant: after a move the target is committed memory of the heap, whatever came of the move, unless the outcome
//! is [`Moved::Lost`].

#![allow(unsafe_code, reason = "moves pages")]

use core::ffi::c_void;
use core::ptr::NonNull;

use super::api::{Errno, Moved};
use super::call::{checked, is_locked, is_unlimited, map, unmap};
use super::probe::Probe;
use crate::base::units::{HUGE, PAGE, UNIT};

/// What a move asks of the kernel.
pub(super) trait Remap {
    /// Whether nothing is known that would refuse a move after its target is unmapped.
    fn may_move(&self) -> bool;

    /// Whether a range lies in one mapping.
    fn is_one_mapping(&self, addr: NonNull<u8>, bytes: usize) -> bool;

    /// Whether the mapping that holds an address is locked in memory. A move would unlock all of it.
    fn is_locked(&self, addr: NonNull<u8>) -> bool;

    /// Moves the pages of one mapping. After an error the target may be a hole.
    ///
    /// # Safety
    /// As for [`Os::move_pages`](super::api::Os::move_pages).
    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Result<(), Errno>;

    /// Maps fresh memory at a hole. Refuses with `EEXIST` where anything is mapped already.
    ///
    /// # Safety
    /// Nobody uses the range, if it is a hole.
    unsafe fn refill(&self, addr: NonNull<u8>, bytes: usize) -> Result<(), Errno>;

    /// Whether the process has nearly as many mappings as it may: then mremap fails before it changes anything.
    fn is_short_of_mappings(&self) -> bool;
}

/// Moves the longest front of a range that lies in one mapping. See [`Os::move_pages`](super::api::Os::move_pages).
///
/// # Safety
/// As for that.
pub(super) unsafe fn move_front<K: Remap>(
    kernel: &K,
    from: NonNull<u8>,
    to: NonNull<u8>,
    bytes: usize,
) -> Moved {
    if !kernel.may_move() {
        return Moved::Refused(bytes);
    }
    let front = front_in_one_mapping(kernel, from, bytes);
    if front == 0 {
        return Moved::Refused(granule(bytes).min(bytes));
    }
    if kernel.is_locked(from) {
        return Moved::Refused(front);
    }
    // SAFETY: parts of the caller's ranges.
    let Err(errno) = (unsafe { kernel.remap(from, to, front) }) else { return Moved::There(front) };
    // SAFETY: the caller gave up what lay at the target, so nobody uses it.
    let mut refilled = unsafe { kernel.refill(to, front) };
    for _ in 0..REFILLS {
        if refilled != Err(Errno::ENOMEM) {
            break;
        }
        // SAFETY: as above.
        refilled = unsafe { kernel.refill(to, front) };
    }
    match refilled {
        Ok(()) => Moved::Refilled(front),
        // It is mapped, by us or by others. Only what may fail for want of memory or by a mapping that has changed
        // fails after the target is gone.
        Err(Errno::EEXIST) if !unmaps_first(errno) || kernel.is_short_of_mappings() => Moved::Refused(front),
        Err(_) => Moved::Lost,
    }
}

/// How often to try again to fill a hole: a limit may have been in the way for a moment.
const REFILLS: u32 = 8;

/// Whether mremap may answer so after it has unmapped its target.
const fn unmaps_first(errno: Errno) -> bool {
    matches!(errno.0, libc::ENOMEM | libc::EFAULT | libc::EAGAIN)
}

/// Bounds between mappings are looked for at multiples of this: pieces that are not worth a call are copied.
const fn granule(bytes: usize) -> usize {
    if bytes >= HUGE { HUGE } else { UNIT }
}

/// The length of the longest front of a range that lies in one mapping, in whole granules; 0 if its first does not.
/// Asks O(log) times.
fn front_in_one_mapping<K: Remap>(kernel: &K, from: NonNull<u8>, bytes: usize) -> usize {
    if kernel.is_one_mapping(from, bytes) {
        return bytes;
    }
    let step = granule(bytes);
    // `within` granules lie in one mapping, `beyond` do not.
    let (mut within, mut beyond) = (0, bytes.div_ceil(step));
    while beyond - within > 1 {
        let middle = within.midpoint(beyond);
        if kernel.is_one_mapping(from, middle * step) {
            within = middle;
        } else {
            beyond = middle;
        }
    }
    within * step
}

impl Remap for Probe {
    fn may_move(&self) -> bool {
        self.has_moves() && is_unlimited()
    }

    fn is_one_mapping(&self, addr: NonNull<u8>, bytes: usize) -> bool {
        // A mapping that may not move cannot grow by a page where another page is mapped behind it. Every kernel looks
        // first whether the old range lies in one mapping, and says EFAULT if not. What else it says is that the mapping
        // cannot grow. Behind a block of a segment there is a page; if that is a hole that a lost move has left, the
        // mapping does grow, into a place that nobody uses.
        // SAFETY: without MREMAP_MAYMOVE nothing moves, and a longer mapping loses nothing.
        let asked = checked(|| unsafe { libc::mremap(addr.as_ptr().cast(), bytes, bytes + PAGE, 0) as i64 });
        !matches!(asked, Err(Errno(libc::EFAULT | libc::EINVAL | libc::EPERM | libc::ENOSYS)))
    }

    fn is_locked(&self, addr: NonNull<u8>) -> bool {
        is_locked(addr, self.pages().bytes())
    }

    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        let places = (from.as_ptr().cast::<c_void>(), to.as_ptr().cast::<c_void>());
        // SAFETY: the caller gives up what lies at `to`, and expects `from` to be empty.
        checked(|| unsafe { libc::mremap(places.0, bytes, bytes, flags, places.1) as i64 }).map(|_| ())
    }

    unsafe fn refill(&self, addr: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        // Linux has MAP_FIXED_NOREPLACE since 4.17, so wherever pages can be moved.
        let access = libc::PROT_READ | libc::PROT_WRITE;
        match map(addr.as_ptr(), bytes, access, libc::MAP_FIXED_NOREPLACE)? {
            there if there == addr => Ok(()),
            // It was taken for a hint.
            elsewhere => {
                // SAFETY: the mapping was made just now, and nobody else knows it.
                unsafe { unmap(elsewhere, bytes) };
                Err(Errno::EEXIST)
            }
        }
    }

    fn is_short_of_mappings(&self) -> bool {
        // mremap wants room for five more mappings. These pages are eleven.
        let page_size = self.pages().bytes();
        let bytes = 11 * page_size;
        let Ok(addr) = map(core::ptr::null_mut(), bytes, libc::PROT_NONE, 0) else { return true };
        let odd = (1..11).step_by(2);
        let split = odd.into_iter().all(|page| {
            // SAFETY: a page of the mapping just made.
            let page = unsafe { addr.add(page * page_size) };
            // SAFETY: as above; nobody else knows it.
            checked(|| i64::from(unsafe { libc::mprotect(page.as_ptr().cast(), page_size, libc::PROT_READ) }))
                .is_ok()
        });
        // SAFETY: the mapping was made above, and nobody else knows it.
        let _ = checked(|| i64::from(unsafe { libc::munmap(addr.as_ptr().cast(), bytes) }));
        !split
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::os::resident_bytes;
    use crate::os::{Linux, Os};

    /// A reservation of twice `bytes`, all of it writable, with a page left behind it.
    fn two_halves(os: &Linux, bytes: usize) -> (NonNull<u8>, NonNull<u8>) {
        let start = os.reserve(2 * bytes + HUGE).unwrap();
        // SAFETY: inside the reservation just made; likewise below.
        unsafe { os.commit(start, 2 * bytes).unwrap() };
        // SAFETY: as above.
        (start, unsafe { start.add(bytes) })
    }

    const fn mark(at: usize) -> u8 {
        (at / PAGE % 251) as u8 | 1
    }

    #[test]
    fn the_kernel_tells_whether_a_range_lies_in_one_mapping() {
        let os = Linux::new();
        let bytes = 16 * UNIT;
        let (start, middle) = two_halves(&os, bytes);
        assert!(
            os.kernel.is_one_mapping(start, 2 * bytes),
            "the last page of it is followed by another mapping"
        );
        assert!(
            !os.kernel.is_one_mapping(start, 2 * bytes + UNIT),
            "what is not writable is another mapping"
        );
        assert_eq!(front_in_one_mapping(&os.kernel, start, 2 * bytes + UNIT), 2 * bytes);
        // SAFETY: the range is this test's.
        unsafe { os.advise_huge(middle, 2 * UNIT, false) };
        assert!(!os.kernel.is_one_mapping(start, 2 * bytes));
        assert!(
            os.kernel.is_one_mapping(middle, 2 * UNIT) && !os.kernel.is_one_mapping(middle, 2 * UNIT + PAGE)
        );
        assert_eq!(front_in_one_mapping(&os.kernel, start, 20 * UNIT), bytes);
        // SAFETY: the range is this test's.
        let last = unsafe { middle.add(2 * UNIT - PAGE) };
        assert_eq!(front_in_one_mapping(&os.kernel, last, 4 * UNIT), 0, "the first unit is in two");
        // SAFETY: as above.
        unsafe { os.unreserve(start, 2 * bytes + HUGE) };
    }

    #[test]
    fn pages_move_mapping_by_mapping() {
        let os = Linux::new();
        let bytes = 16 * UNIT;
        let (from, to) = two_halves(&os, bytes);
        // SAFETY: both halves are this test's.
        unsafe {
            (0..bytes).step_by(PAGE).for_each(|at| from.add(at).write(mark(at)));
            os.advise_huge(from.add(4 * UNIT), 4 * UNIT, false);
            let mut at = 0;
            let mut pieces = Vec::new();
            while at < bytes {
                let Moved::There(piece) = os.move_pages(from.add(at), to.add(at), bytes - at) else {
                    panic!("at {at}")
                };
                pieces.push(piece / UNIT);
                at += piece;
            }
            assert_eq!(pieces, [4, 4, 8]);
            assert!((0..bytes).step_by(PAGE).all(|at| to.add(at).read() == mark(at)));
            assert_eq!(resident_bytes(&os, from, bytes), Ok(0));
            assert_eq!(from.read(), 0, "and what they left can be used");
            os.unreserve(from, 2 * bytes + HUGE);
        }
    }

    #[test]
    fn locked_pages_do_not_move() {
        let os = Linux::new();
        let bytes = 4 * UNIT;
        let (from, to) = two_halves(&os, bytes);
        // SAFETY: both halves are this test's.
        unsafe {
            from.write(5);
            // By number: AddressSanitizer makes nothing of libc's function.
            if libc::syscall(libc::SYS_mlock, from.as_ptr(), UNIT) == 0 {
                assert_eq!(os.move_pages(from, to, UNIT), Moved::Refused(UNIT));
                assert_eq!((from.read(), to.read()), (5, 0));
                assert_eq!(libc::syscall(libc::SYS_munlock, from.as_ptr(), UNIT), 0);
            }
            os.unreserve(from, 2 * bytes + HUGE);
        }
    }

    #[test]
    fn a_hole_is_filled_and_what_is_mapped_is_left() {
        let os = Linux::new();
        let (start, middle) = two_halves(&os, UNIT);
        assert!(!os.kernel.is_short_of_mappings());
        // SAFETY: both halves are this test's.
        unsafe {
            start.write(5);
            assert_eq!(os.kernel.refill(start, UNIT), Err(Errno::EEXIST));
            assert_eq!(start.read(), 5);
            assert_eq!(libc::munmap(middle.as_ptr().cast(), UNIT), 0);
            assert_eq!(os.kernel.refill(middle, UNIT), Ok(()));
            middle.write(6);
            os.unreserve(start, 2 * UNIT + HUGE);
        }
    }
}
