//! Releases that run inside an allocation or a free, or on the background thread: they open no file.
//!
//! The resident set size, which a report of the program's own releases has, stands in a file of `/proc`. While releases are
//! traced that file is held open from the start and read again; otherwise it is not read, and the report says 0.
//!
//! Locks: none. [`HELD`] has one writer at a time, by [`OPENING`].

use crate::kernel::files::HeldFile;
use crate::kernel::sandbox::is_locked_in;
use core::sync::atomic::{AtomicBool, Ordering};
use ebbtide_alloc::{ReleaseOptions, ReleaseReport};

// All orderings are SeqCst: rare.
/// `/proc/self/statm`.
static HELD: HeldFile = HeldFile::new();
/// Whether it is wanted and not open, or open and of the process that this one was forked from.
static STALE: AtomicBool = AtomicBool::new(false);
static OPENING: AtomicBool = AtomicBool::new(false);

/// Reads the resident set size from now on. Called once, at the start.
pub(super) fn begin() {
    STALE.store(true, Ordering::SeqCst);
    reopen();
}

/// Opens the file if that is due. For calls that the program makes itself.
pub(super) fn reopen() {
    if !STALE.load(Ordering::SeqCst) || is_locked_in() || OPENING.swap(true, Ordering::SeqCst) {
        return;
    }
    if HELD.open(c"/proc/self/statm").is_ok() {
        STALE.store(false, Ordering::SeqCst);
    }
    OPENING.store(false, Ordering::SeqCst);
}

/// In a forked child: the open file is the parent's. Stores to atomics only.
pub(super) fn begin_in_child(traced: bool) {
    STALE.store(traced, Ordering::SeqCst);
    OPENING.store(false, Ordering::SeqCst);
}

/// Gives memory back without opening anything.
pub(super) fn release(options: ReleaseOptions) -> ReleaseReport {
    let before = resident();
    let mut report = ebbtide_alloc::release(options.without_rss());
    (report.rss_before, report.rss_after) = (before, resident());
    report
}

/// The resident set size of the process in bytes; 0 where it is not read.
fn resident() -> u64 {
    if !HELD.is_held() || STALE.load(Ordering::SeqCst) || is_locked_in() {
        return 0;
    }
    let mut text = [0; 128];
    let len = HELD.read(&mut text).unwrap_or(0);
    resident_in(text.get(..len).unwrap_or_default())
}

/// The second number of statm is the resident pages.
fn resident_in(statm: &[u8]) -> u64 {
    let word = statm.split(|byte| *byte == b' ').nth(1).and_then(|word| core::str::from_utf8(word).ok());
    let pages: u64 = word.and_then(|word| word.parse().ok()).unwrap_or(0);
    pages.saturating_mul(crate::kernel::PAGE as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statm_has_the_resident_pages_second() {
        assert_eq!(resident_in(b"100 25 3 4 0 5 0\n"), 25 * 4096);
        for text in ["", "100", "100 x", "100 -1 2", "100 99999999999999999999 1"] {
            assert_eq!(resident_in(text.as_bytes()), 0, "{text:?}");
        }
    }

    #[test]
    fn it_is_read_while_it_is_traced() {
        assert_eq!(resident(), 0);
        begin();
        assert!(resident() > 1 << 20, "{}", resident());
        begin_in_child(true);
        assert_eq!(resident(), 0, "that of the parent");
        reopen();
        assert!(resident() > 1 << 20);
        let report = release(ReleaseOptions::new().max_bytes(1));
        assert!(report.rss_before > 0 && report.rss_after > 0);
        HELD.close();
        assert_eq!(resident(), 0);
        let report = release(ReleaseOptions::new().max_bytes(1));
        assert_eq!((report.rss_before, report.rss_after), (0, 0));
    }
}
