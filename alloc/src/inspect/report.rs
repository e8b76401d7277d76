//! What a release did: [`ReleaseReport`], what was asked of it: [`ReleaseOptions`], and why bytes stayed: [`Blocked`].
//!
//! Plain data without heap memory, so that a report can be made and printed where allocation is not allowed.

use core::fmt;
use core::time::Duration;

/// Bounds for one release. The default has none: everything that can leave, leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReleaseOptions {
    /// Stop once this many bytes went back. A release may pass it by less than one batch of pages.
    pub max_bytes: Option<u64>,
    /// Stop once this much time went by. A release may pass it by the length of one madvise call.
    pub deadline: Option<Duration>,
    /// Leave the free slots in the caches of other threads where they are.
    pub spare_caches: bool,
    /// Do not read the resident set size: [`ReleaseReport::rss_before`] and [`ReleaseReport::rss_after`] are 0 then.
    pub without_rss: bool,
    /// One step of a release that is made in many: see [`ReleaseOptions::in_steps`].
    pub in_steps: bool,
}

impl ReleaseOptions {
    /// No bounds.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_bytes: None, deadline: None, spare_caches: false, without_rss: false, in_steps: false }
    }

    /// Bounds the bytes that go back.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Leaves the free slots in the caches of other threads where they are: for one release of many in a row, whose
    /// first has just emptied them. Threads that are busy would only fetch them again.
    #[must_use]
    pub const fn spare_caches(mut self) -> Self {
        self.spare_caches = true;
        self
    }

    /// Does not read the resident set size of the process, which opens a file of `/proc` twice. For releases that a
    /// policy makes inside an allocation or a free: a sandbox may kill a program that opens a file.
    ///
    /// ```
    /// use ebbtide_alloc::ReleaseOptions;
    ///
    /// let report = ebbtide_alloc::release(ReleaseOptions::new().without_rss());
    /// assert_eq!((report.rss_before, report.rss_after), (0, 0));
    /// ```
    #[must_use]
    pub const fn without_rss(mut self) -> Self {
        self.without_rss = true;
        self
    }

    /// Makes it one step of a release that is made in several, each with a deadline or a number of bytes. The first is the one
    /// that does not [spare caches](Self::spare_caches), and all others do. They go on where the one before stopped, amid the
    /// free runs, the used ones or the tables that describe them, so that none passes again what another one has seen; the
    /// one that comes to the end did not [stop early](ReleaseReport::stopped_early). Of all of them only the first counts in
    /// [`MemStats::releases_total`](crate::MemStats::releases_total).
    #[must_use]
    pub const fn in_steps(mut self) -> Self {
        self.in_steps = true;
        self
    }

    /// Bounds the time that the release takes.
    #[must_use]
    pub const fn deadline(mut self, time: Duration) -> Self {
        self.deadline = Some(time);
        self
    }
}

/// Why bytes that no live object holds could not go back to the OS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockReason {
    /// Free bytes in pages that also hold live or cached objects.
    LiveObjects,
    /// Free slots in the caches of other threads.
    ThreadCache,
    /// The pages are locked in memory (`mlock`, `mlockall`).
    Locked,
    /// Another thread took them while the release looked.
    Busy,
    /// The kernel refused with this errno.
    Refused(i32),
}

/// Bytes that stayed for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocked {
    /// Why.
    pub reason: BlockReason,
    /// How many bytes.
    pub bytes: u64,
    /// In how many spans, or for [`BlockReason::ThreadCache`] in how many caches.
    pub spans: u64,
}

const REASONS: usize = 8;

/// The reasons why bytes stayed, as a slice of [`Blocked`] that needs no heap memory.
#[derive(Clone, Copy)]
pub struct BlockedList {
    rows: [Blocked; REASONS],
    len: usize,
}

impl BlockedList {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        let none = Blocked { reason: BlockReason::Busy, bytes: 0, spans: 0 };
        Self { rows: [none; REASONS], len: 0 }
    }

    /// Adds to the row of `reason`. Rows of 0 bytes are not kept. An errno that finds no row left is counted in the
    /// last one.
    pub fn add(&mut self, reason: BlockReason, bytes: u64, spans: u64) {
        if bytes == 0 {
            return;
        }
        let found = self.rows[..self.len].iter().position(|row| row.reason == reason);
        let at = match found {
            Some(at) => at,
            None if self.len < REASONS => {
                self.rows[self.len] = Blocked { reason, bytes: 0, spans: 0 };
                self.len += 1;
                self.len - 1
            }
            None => REASONS - 1,
        };
        self.rows[at].bytes += bytes;
        self.rows[at].spans += spans;
    }

    /// Bytes that stayed for `reason`.
    #[must_use]
    pub fn bytes(&self, reason: BlockReason) -> u64 {
        self.iter().filter(|row| row.reason == reason).map(|row| row.bytes).sum()
    }
}

impl Default for BlockedList {
    fn default() -> Self {
        Self::new()
    }
}

impl core::ops::Deref for BlockedList {
    type Target = [Blocked];

    fn deref(&self) -> &[Blocked] {
        &self.rows[..self.len]
    }
}

impl fmt::Debug for BlockedList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What one release gave back, what it could not, and why. All sizes are in bytes.
///
/// `Display` is one line.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ReleaseReport {
    /// Resident bytes of the heap that this call gave back to the OS. Together with
    /// [`metadata_released_bytes`](Self::metadata_released_bytes) this is what the resident set fell by.
    pub released_bytes: u64,
    /// Resident bytes of the allocator's own tables that went back besides, since what they described is idle.
    pub metadata_released_bytes: u64,
    /// Idle bytes that were not resident before the call: released earlier, or never touched.
    pub already_released_bytes: u64,
    /// Bytes in live objects.
    pub in_use_bytes: u64,
    /// Bytes that no object holds and that stayed nevertheless, by reason.
    pub blocked: BlockedList,
    /// Resident set size of the process when the call began. 0 if it was not read.
    pub rss_before: u64,
    /// Resident set size of the process when it ended. 0 if it was not read.
    pub rss_after: u64,
    /// Bytes of the runs in use that it has looked at: several releases with bounds have seen the whole heap when these add
    /// up to [`Usage::runs`](crate::Usage::runs), since each goes on where the one before stopped.
    pub looked_at_bytes: u64,
    /// System calls that gave memory back.
    pub syscalls: u64,
    /// Time from begin to end, waiting for another release included.
    pub elapsed: Duration,
    /// Whether a bound of [`ReleaseOptions`] ended it before it had seen the whole heap. Then the bytes in use, blocked and
    /// released before are of the part that it has seen.
    pub stopped_early: bool,
}

impl ReleaseReport {
    /// All bytes that stayed though no object holds them.
    #[must_use]
    pub fn blocked_bytes(&self) -> u64 {
        self.blocked.iter().map(|row| row.bytes).sum()
    }
}

/// Bytes that print as MiB with one decimal, as in every line that ebbtide prints.
///
/// ```
/// assert_eq!(ebbtide_alloc::Mib(1_500_000).to_string(), "1.4");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mib(pub u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (u128::from(self.0) * 10 + (1 << 19)) >> 20;
        write!(f, "{}.{}", tenths / 10, tenths % 10)
    }
}

impl fmt::Display for ReleaseReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = self.blocked.bytes(BlockReason::LiveObjects);
        let cached = self.blocked.bytes(BlockReason::ThreadCache);
        let other = self.blocked_bytes() - live - cached;
        write!(
            f,
            "{} MiB released, {} MiB blocked (live {}, cached {}",
            Mib(self.released_bytes),
            Mib(self.blocked_bytes()),
            Mib(live),
            Mib(cached)
        )?;
        if other > 0 {
            write!(f, ", other {}", Mib(other))?;
        }
        let micros = self.elapsed.as_micros();
        write!(f, "), {} MiB in use", Mib(self.in_use_bytes))?;
        if self.rss_before > 0 || self.rss_after > 0 {
            write!(f, ", rss {}->{} MiB", Mib(self.rss_before), Mib(self.rss_after))?;
        }
        write!(f, ", {}.{} ms, {} calls", micros / 1000, micros % 1000 / 100, self.syscalls)
    }
}
