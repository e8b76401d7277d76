//! What a snapshot of the heap says, [`MemStats`], and what its running totals say, [`Usage`].
//!
//! All byte counts obey three identities in every snapshot:
//! `heap_sys = heap_inuse + heap_idle`, `heap_idle = heap_free + heap_released` and
//! `heap_inuse = heap_alloc + heap_cached + heap_unused`.

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

/// What the kernel lets the allocator use, beyond mmap, munmap, mprotect, madvise with `MADV_DONTNEED` and futex, without
/// which nothing works. Found out once, at start; where a seccomp filter comes later, all of it is given up for good.
///
/// ```
/// # #[global_allocator]
/// # static GLOBAL: ebbtide_alloc::Allocator = ebbtide_alloc::Allocator::new();
/// let kernel = ebbtide_alloc::mem_stats().kernel;
/// assert!(kernel.page_size.is_power_of_two());
/// if !kernel.residency {
///     println!("reports may count pages as released that nobody had touched");
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelSupport {
    /// Bytes of a page. Nothing smaller goes back, though all figures count pages of 4 KiB.
    pub page_size: u64,
    /// Large blocks that grow, and maps, move their pages instead of copying (`mremap`, Linux 5.7).
    pub moves_pages: bool,
    /// Many ranges go back in one call (`process_madvise`, Linux 6.14).
    pub releases_many: bool,
    /// A release takes free slots out of the caches of other threads (`membarrier`, Linux 4.14).
    pub barrier: bool,
    /// Resident pages are told from others (`mincore`). Otherwise reports take all pages for resident.
    pub residency: bool,
    /// Huge pages are advised for and against (`madvise`).
    pub huge_page_advice: bool,
    /// Locked pages could go back (`MADV_DONTNEED_LOCKED`, Linux 5.18). They are left alone nevertheless.
    pub releases_locked: bool,
    /// The resident set size is read (`/proc/self/statm`). Otherwise it is 0 in all figures.
    pub rss: bool,
    /// There is a seccomp filter.
    pub sandboxed: bool,
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

/// Whether a filter of system calls is in force, as far as the process can tell. For the layer above.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    /// There is none.
    None,
    /// There was one at the start. Whether another one came since is told by `no_new_privs` alone.
    FromStart,
    /// One has come since, or the program or its environment said that one will.
    Later,
}
