//! What the kernel offers beyond mmap, munmap, mprotect, madvise with `MADV_DONTNEED`, and futex.
//!
//! Probed once, when something of it is first needed, on a mapping of its own; what is refused then is never called.
//! A seccomp filter may kill where it refuses. So where one is in force at that time, a child process tries, and each
//! call that ends the child is one that is refused. Where a filter comes later, nothing but the above is called any
//! more: whether one has come is asked before each such call.
//!
//! The child is a plain copy of the process, not one that shares its memory: before Linux 5.16 a process that dumps core
//! takes those with it that share its memory. It allocates nothing, runs no handler, and its end raises no signal.
//!
//! Some filters are seen too late. One on top of a filter that was there at the start is told only by the flag
//! `no_new_privs` that comes with it, so not where that was set at the start already. And one that kills where the process
//! asks for its filters (prctl with `PR_GET_SECCOMP`), or, if it is there at the start, for a child process and waiting for
//! it (clone, wait4). For these there are [`crate::enter_sandbox`] and `EBBTIDE_KERNEL=plain`: then nothing is asked.

#![allow(unsafe_code, reason = "system calls")]

use core::ptr::NonNull;

use super::api::{Errno, PageRange};
use super::call::{
    PRIVATE_EXPEDITED, REGISTER_PRIVATE_EXPEDITED, checked, fatal, is_locked, is_unlimited, map, membarrier,
    process_madvise, read_rss, unmap,
};
use super::support::{KernelSupport, Sandbox};
use super::threads;
use crate::base::sync::{AtomicU32, Ordering};
use crate::base::units::{PAGE, PageGroup, UNIT};

/// A call, or several that are only of use together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Feature {
    /// mincore.
    Residency,
    /// process_madvise on the process itself.
    ReleaseMany,
    /// membarrier, and looking whether a thread lives.
    Barrier,
    /// Advice about huge pages.
    HugeAdvice,
    /// Giving locked pages back.
    ReleaseLocked,
    /// mremap with `MREMAP_DONTUNMAP`, of memory that is not charged, and msync to tell whether it is locked.
    Moves,
    /// Opening a file of /proc.
    Rss,
}

const FEATURES: [Feature; 7] = [
    Feature::Residency,
    Feature::ReleaseMany,
    Feature::Barrier,
    Feature::HugeAdvice,
    Feature::ReleaseLocked,
    Feature::Moves,
    Feature::Rss,
];

/// What may be called: a bit for each feature, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offers(u32);

impl Offers {
    /// Set once probed, so that nothing known is 0.
    const PROBED: u32 = 1 << 31;
    /// There was a filter at the start.
    const FILTERED: u32 = 1 << 30;
    /// The process had given up privileges at the start.
    const NO_NEW_PRIVS: u32 = 1 << 29;
    /// A filter has come since.
    const SANDBOXED: u32 = 1 << 28;
    /// Moves were tried, which takes as long as all else together: not before the first is wanted.
    const MOVES_TRIED: u32 = 1 << 27;

    /// Nothing.
    const BASIC: Self = Self(Self::PROBED | Self::SANDBOXED | Self::MOVES_TRIED);

    pub(super) const fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }

    const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u8)
    }

    /// Whether a filter may have come since the start.
    fn is_outdated(self) -> bool {
        match self.0 & (Self::FILTERED | Self::NO_NEW_PRIVS | Self::SANDBOXED) {
            0 | Self::NO_NEW_PRIVS => has_filter(),
            Self::FILTERED => has_no_new_privs(),
            _ => false,
        }
    }
}

/// Whether the answer is not 0. A kernel without what is asked for says `EINVAL`; any other refusal is a filter's.
fn prctl(option: i32) -> bool {
    // SAFETY: these options take no pointers.
    let answer = checked(|| i64::from(unsafe { libc::prctl(option, 0, 0, 0, 0) }));
    answer.map_or_else(|errno| errno != Errno::EINVAL, |mode| mode > 0)
}

fn has_filter() -> bool {
    prctl(libc::PR_GET_SECCOMP)
}

fn has_no_new_privs() -> bool {
    prctl(libc::PR_GET_NO_NEW_PRIVS)
}

/// Whether the environment says that nothing beyond the basic calls may be tried: `EBBTIDE_KERNEL=plain`.
fn is_plain() -> bool {
    // SAFETY: the name ends with a 0. Nobody may change the environment meanwhile, as for every reader of it.
    let value = unsafe { libc::getenv(c"EBBTIDE_KERNEL".as_ptr()) };
    // SAFETY: what getenv returns ends with a 0, and stays as it is during this call.
    !value.is_null() && unsafe { core::ffi::CStr::from_ptr(value) } == c"plain"
}

/// The running kernel, as far as it was asked.
#[derive(Debug)]
pub(super) struct Probe {
    /// Bytes of a page of the kernel; 0 before anybody has asked.
    page_size: AtomicU32,
    /// See [`Offers`]. 0 before the probe.
    offers: AtomicU32,
}

impl Probe {
    pub(super) const fn new() -> Self {
        Self { page_size: AtomicU32::new(0), offers: AtomicU32::new(0) }
    }

    /// See [`Os::pages`](super::api::Os::pages).
    pub(super) fn pages(&self) -> PageGroup {
        match self.page_size.load(Ordering::Relaxed) {
            0 => PageGroup::new(self.ask_page_size()),
            bytes => PageGroup::new(bytes as usize),
        }
    }

    #[cold]
    fn ask_page_size(&self) -> usize {
        // SAFETY: the call only reads what the kernel gave the process at its start.
        let bytes = unsafe { libc::getauxval(libc::AT_PAGESZ) } as usize;
        if !bytes.is_power_of_two() || !(PAGE..=UNIT).contains(&bytes) {
            fatal(b"ebbtide: the kernel's pages are not of 4 to 64 KiB\n");
        }
        // Relaxed: whoever asks too gets the same answer.
        self.page_size.store(bytes as u32, Ordering::Relaxed);
        bytes
    }

    /// What may be called now.
    pub(super) fn offers(&self) -> Offers {
        // Relaxed, here and below: the value stands for itself.
        let known = Offers(self.offers.load(Ordering::Relaxed));
        if known.0 == 0 {
            return self.probe();
        }
        if !known.is_outdated() {
            return known;
        }
        self.lock_in();
        Offers::BASIC
    }

    /// Has nothing but the basic calls made from now on, and does not even ask for filters.
    pub(super) fn lock_in(&self) {
        self.offers.store(Offers::BASIC.0, Ordering::Relaxed);
    }

    pub(super) fn sandbox(&self) -> Sandbox {
        match self.offers().0 & (Offers::FILTERED | Offers::SANDBOXED) {
            0 => Sandbox::None,
            Offers::FILTERED => Sandbox::FromStart,
            _ => Sandbox::Later,
        }
    }

    pub(super) fn has(&self, feature: Feature) -> bool {
        self.offers().has(feature)
    }

    /// Whether pages can be moved.
    pub(super) fn has_moves(&self) -> bool {
        let known = self.offers();
        if known.0 & Offers::MOVES_TRIED != 0 {
            return known.has(Feature::Moves);
        }
        if !is_unlimited() {
            // Asked again when a move is wanted next: the trial counts against the limits, too.
            return false;
        }
        let works = self.with_scratch(|scratch| self.works(Feature::Moves, scratch)).unwrap_or(false);
        let tried = Offers(known.0 | Offers::MOVES_TRIED);
        let tried = if works { tried.with(Feature::Moves) } else { tried };
        // What another thread found or saw meanwhile stands.
        match self.offers.compare_exchange(known.0, tried.0, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => works,
            Err(now) => Offers(now).has(Feature::Moves),
        }
    }

    /// See [`crate::MemStats::kernel`].
    pub(super) fn support(&self) -> KernelSupport {
        let moves_pages = self.has_moves();
        let offers = self.offers();
        KernelSupport {
            page_size: self.pages().bytes() as u64,
            moves_pages,
            releases_many: offers.has(Feature::ReleaseMany),
            barrier: offers.has(Feature::Barrier),
            residency: offers.has(Feature::Residency),
            huge_page_advice: offers.has(Feature::HugeAdvice),
            releases_locked: offers.has(Feature::ReleaseLocked),
            rss: offers.has(Feature::Rss) && read_rss(self.pages().bytes()).is_some(),
            sandboxed: offers.0 & (Offers::FILTERED | Offers::SANDBOXED) != 0,
        }
    }

    #[cold]
    fn probe(&self) -> Offers {
        let mut offers = Offers(Offers::PROBED);
        if is_plain() {
            offers = Offers::BASIC;
        } else if has_filter() {
            offers.0 |= Offers::FILTERED;
            offers.0 |= if has_no_new_privs() { Offers::NO_NEW_PRIVS } else { 0 };
            offers.0 |= Offers::MOVES_TRIED;
            offers = self.try_in_children(offers);
        } else {
            let found = self.with_scratch(|scratch| {
                let now = FEATURES.into_iter().filter(|feature| match feature {
                    Feature::Moves => false,
                    // Nothing but a filter keeps a process from its own file.
                    Feature::Rss => true,
                    other => self.works(*other, scratch),
                });
                now.fold(offers, Offers::with)
            });
            offers = found.unwrap_or(offers);
        }
        // Two threads may probe at once, and a filter may come meanwhile: the first word stands.
        match self.offers.compare_exchange(0, offers.0, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => offers,
            Err(first) => Offers(first),
        }
    }

    /// Has `work` use four pages that nothing else uses. `None` without memory.
    fn with_scratch<R>(&self, work: impl FnOnce(NonNull<u8>) -> R) -> Option<R> {
        let bytes = 4 * self.pages().bytes();
        let scratch = map(core::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, 0).ok()?;
        let result = work(scratch);
        // SAFETY: mapped above, and nobody else knows it.
        unsafe { unmap(scratch, bytes) };
        Some(result)
    }

    /// Tries a feature on four pages that nothing else uses.
    fn works(&self, feature: Feature, scratch: NonNull<u8>) -> bool {
        let page = self.pages().bytes();
        let advise = |advice| {
            // SAFETY: a page that nothing else uses.
            checked(|| i64::from(unsafe { libc::madvise(scratch.as_ptr().cast(), page, advice) })).is_ok()
        };
        match feature {
            Feature::Residency => is_resident(scratch, page).is_ok(),
            Feature::ReleaseMany => {
                let range = PageRange { addr: scratch.as_ptr(), bytes: page };
                // SAFETY: a page that nothing else uses.
                let done = unsafe { process_madvise(&[range]) };
                done == Ok(page)
            }
            Feature::Barrier => {
                let needed = (PRIVATE_EXPEDITED | REGISTER_PRIVATE_EXPEDITED) as i64;
                membarrier(0).is_ok_and(|commands| commands & needed == needed)
                    && threads::can_be_identified()
            }
            Feature::HugeAdvice => advise(libc::MADV_NOHUGEPAGE),
            Feature::ReleaseLocked => advise(MADV_DONTNEED_LOCKED),
            // What is locked must not move, and only mincore tells so without a trial that would fill memory.
            Feature::Moves => {
                is_unlimited()
                    && is_resident(scratch, page) == Ok(false)
                    && !is_locked(scratch, page)
                    && moves(scratch, page)
            }
            Feature::Rss => read_rss(self.pages().bytes()).is_some(),
        }
    }

    /// Tries each feature in a child process that the filter may kill.
    fn try_in_children(&self, offers: Offers) -> Offers {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let bytes = self.pages().bytes();
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        let shared =
            checked(|| unsafe { libc::mmap(core::ptr::null_mut(), bytes, access, flags, -1, 0) as i64 });
        let Some(shared) = shared.ok().and_then(|addr| NonNull::new(addr as *mut u8)) else { return offers };
        let found = self.with_scratch(|scratch| {
            let state = |feature: Feature| {
                // SAFETY: the page has a byte for each feature.
                unsafe { shared.add(feature as usize) }
            };
            // SAFETY: as above; the child that writes it has ended, or this is the child.
            let is = |feature: &Feature, wanted: u8| unsafe { state(*feature).read_volatile() } == wanted;
            // Each child but the last is ended by a feature that those before it did not come to.
            while let Some(first) = FEATURES.into_iter().find(|feature| is(feature, UNTRIED)) {
                let ended = in_child(|| {
                    for feature in FEATURES.into_iter().filter(|feature| is(feature, UNTRIED)) {
                        // SAFETY: as above.
                        unsafe { state(feature).write_volatile(BEGUN) };
                        if self.works(feature, scratch) {
                            // SAFETY: as above.
                            unsafe { state(feature).write_volatile(WORKS) };
                        }
                    }
                });
                if !ended || is(&first, UNTRIED) {
                    break;
                }
            }
            FEATURES.into_iter().filter(|feature| is(feature, WORKS)).fold(offers, Offers::with)
        });
        // SAFETY: mapped above; the children that shared it have ended.
        unsafe { unmap(shared, bytes) };
        found.unwrap_or(offers)
    }
}

/// What has come of a feature, as the children leave it.
const UNTRIED: u8 = 0;
const BEGUN: u8 = 1;
const WORKS: u8 = 2;

/// Linux has it since 5.18.
const MADV_DONTNEED_LOCKED: i32 = 24;

/// More than any machine has, and little enough for any address space of 47 bits.
const UNCHARGED: usize = 1 << 42;

fn is_resident(page: NonNull<u8>, bytes: usize) -> Result<bool, Errno> {
    let mut seen = 0_u8;
    // SAFETY: `seen` has the byte for one page.
    checked(|| i64::from(unsafe { libc::mincore(page.as_ptr().cast(), bytes, &raw mut seen) }))?;
    Ok(seen & 1 == 1)
}

/// Whether memory is not charged, and the first of four pages moves to the third. Where memory is charged, under strict
/// overcommit, a move charges it anew after its target is unmapped, and may be refused.
fn moves(scratch: NonNull<u8>, page: usize) -> bool {
    let Ok(uncharged) = map(core::ptr::null_mut(), UNCHARGED, libc::PROT_READ | libc::PROT_WRITE, 0) else {
        return false;
    };
    // SAFETY: mapped above, and nobody else knows it.
    unsafe { unmap(uncharged, UNCHARGED) };
    // SAFETY: inside the four pages.
    let target = unsafe { scratch.add(2 * page) };
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
    // SAFETY: pages that nothing else uses.
    let moved = checked(|| unsafe {
        libc::mremap(scratch.as_ptr().cast(), page, page, flags, target.as_ptr()) as i64
    });
    moved == Ok(target.as_ptr() as i64)
}

/// Runs `work` in a copy of this process, and waits for its end. False if there is no child to be had.
fn in_child(work: impl FnOnce()) -> bool {
    let mut all = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: valid places. No handler of a signal may run in the child.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    // SAFETY: without flags the child has a copy of everything. It makes system calls alone, and ends by one. Its end
    // raises no signal, so nothing but the call below waits for it.
    let child = checked(|| unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) });
    if child == Ok(0) {
        // SAFETY: these calls take no pointers; the second does not return. Where the filter has it end otherwise, it has.
        unsafe {
            libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
            work();
            libc::syscall(libc::SYS_exit_group, 0);
            libc::abort();
        }
    }
    let ended = child.is_ok_and(wait_for);
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), core::ptr::null_mut()) };
    ended
}

fn wait_for(child: i64) -> bool {
    loop {
        let (status, usage) = (core::ptr::null_mut::<i32>(), core::ptr::null_mut::<libc::rusage>());
        // SAFETY: null for what nobody needs.
        match checked(|| unsafe { libc::syscall(libc::SYS_wait4, child, status, libc::__WALL, usage) }) {
            Err(Errno(libc::EINTR)) => {}
            // Whoever waits for all children of whatever kind may have had it.
            answer => return matches!(answer, Ok(_) | Err(Errno(libc::ECHILD))),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::base::units::UNIT;
    use crate::os::moves::Remap;
    use crate::os::{Linux, Os};

    #[test]
    fn what_is_offered_is_asked_once() {
        let os = Linux::new();
        let support = os.support();
        assert_eq!(support.page_size, os.pages().bytes() as u64);
        assert_eq!(os.support(), support);
        let known = Offers(os.kernel.offers.load(Ordering::Relaxed));
        assert!(known.has(Feature::Moves) == support.moves_pages && known.0 & Offers::MOVES_TRIED != 0);
        assert!(known.0 & Offers::PROBED != 0 && !known.is_outdated());
        // Nothing is called that was refused.
        os.kernel.offers.store(Offers::PROBED | Offers::SANDBOXED | Offers::MOVES_TRIED, Ordering::Relaxed);
        let place = os.reserve(UNIT).unwrap();
        assert_eq!(os.residency(place, &mut [0; 16]), Err(Errno(libc::ENOSYS)));
        // SAFETY: the reservation made above, unused.
        unsafe { unmap(place, UNIT) };
        assert!(!os.barrier() && !os.has_barrier() && os.rss() == 0 && !os.kernel.may_move());
        // SAFETY: no ranges.
        assert_eq!(unsafe { os.release_many(&[]) }, Err(Errno(libc::ENOSYS)));
    }

    #[test]
    fn a_child_tries_as_the_process_would() {
        let os = Linux::new();
        os.kernel.has_moves();
        let mut direct = os.kernel.offers();
        if direct.0 & Offers::FILTERED == 0 {
            assert_eq!(Probe::new().try_in_children(Offers(Offers::PROBED | Offers::MOVES_TRIED)), direct);
            direct.0 |= Offers::FILTERED;
            // A filter on top of one is told by what comes with it.
            assert_eq!(direct.is_outdated(), has_no_new_privs());
        }
    }

    #[test]
    fn a_child_that_is_killed_is_no_more_than_gone() {
        assert!(in_child(|| {}));
        // SAFETY: the signal ends the child.
        let kill = || unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        assert!(in_child(|| assert_eq!(kill(), 0)));
        let status = core::ptr::null_mut::<i32>();
        // SAFETY: null for what nobody needs.
        let left = unsafe { libc::waitpid(-1, status, libc::WNOHANG) };
        assert!(left <= 0, "nobody who waits for any child sees one");
    }
}
