//! What a snapshot of the heap says, [`MemStats`], and what its running totals say, [`Usage`].
//!
//! All byte counts obey three identities in every snapshot:
//! `heap_sys = heap_inuse + heap_idle`, `heap_idle = heap_free + heap_released` and
//! `heap_inuse = heap_alloc + heap_cached + heap_unused`.

use crate::os::KernelSupport;

/// A snapshot of where the memory of this process's heap is. All sizes are in bytes.
///
/// It is taken without stopping other threads: what they do meanwhile may or may not be seen, but the three
/// identities of the fields always hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemStats {
    /// Address space that was made readable and writable for the heap: `heap_inuse + heap_idle`.
    pub heap_sys: u64,
    /// Pages that a live or cached object touches: `heap_alloc + heap_cached + heap_unused`.
    pub heap_inuse: u64,
    /// Bytes in live objects, rounded up to their size class, or to pages for large blocks and regions.
    pub heap_alloc: u64,
    /// Bytes in free slots that thread caches hold.
    pub heap_cached: u64,
    /// The rest of the pages that live and cached objects touch: free slots beside them, and tails.
    pub heap_unused: u64,
    /// Pages that nothing live or cached touches: `heap_free + heap_released`.
    pub heap_idle: u64,
    /// Idle pages that may be resident.
    pub heap_free: u64,
    /// Idle pages that are not resident: given back with madvise, or never touched since they were reserved.
    pub heap_released: u64,
    /// Bytes made writable for the allocator's own tables.
    pub metadata_sys: u64,
    /// The soft memory limit on `heap_sys - heap_released + metadata_sys`, if there is one.
    pub limit: Option<u64>,
    /// Resident set size of the whole process, as the kernel counts it. 0 where it cannot be read.
    pub rss: u64,
    /// Bytes of pages given back to the OS since the start, including pages of theirs that were never touched.
    pub released_total: u64,
    /// Bytes of released pages that were taken into use again since the start.
    pub reacquired_total: u64,
    /// Objects allocated since the start, counted when they pass a thread cache: what a cache holds is not yet seen.
    pub mallocs_total: u64,
    /// Objects freed since the start, counted likewise.
    pub frees_total: u64,
    /// Releases that ran since the start.
    pub releases_total: u64,
    /// What the kernel lets the allocator use.
    pub kernel: KernelSupport,
}

/// What the heap's running totals say without a walk. All sizes are in bytes.
///
/// Thread caches count what they hand out in portions, so each thread may blur it by 32 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Slots that are live or in thread caches, and the pages that large blocks and regions own.
    pub handed: u64,
    /// Pages that may be resident: `heap_inuse + heap_free`.
    pub resident: u64,
    /// Runs in use, resident or not: those with a live or cached slot, large blocks, regions.
    pub runs: u64,
    /// Resident pages of free runs: the part of what is idle that can surely leave.
    pub free_runs: u64,
    /// Bytes made writable for the allocator's own tables.
    pub metadata: u64,
}

impl Usage {
    /// What is resident and not handed out: free runs, free pages between live objects, and the free parts of pages that
    /// hold live objects. The last cannot leave.
    #[must_use]
    pub const fn idle(&self) -> u64 {
        self.resident.saturating_sub(self.handed)
    }

    /// What a memory limit is about: `heap_sys - heap_released + metadata_sys`.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.resident.saturating_add(self.metadata)
    }
}
