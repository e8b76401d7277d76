//! What the kernel lets the allocator use, as it is told to the program.

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
