//! A fake OS for tests: it records what was asked and refuses what it is told to refuse.
//!
//! It behaves like the worst kernel that is supported: a move takes one mapping at a time, and one that fails has
//! unmapped its target.
//!
//! Invariants: released pages are zero; no call reaches beyond a reservation or into a hole, and nobody writes to a
//! hole. Its memory is
//! ordinary heap memory as long as there is not too much of it, so the layers above run on it under any checker.

#![allow(unsafe_code, reason = "hands out memory")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Mutex;

use super::api::{AtThreadEnd, Errno, ForkHandlers, Life, Moved, Os, PageRange, ThreadMark};
use super::call::map;
use super::moves::{Remap, move_front};
use super::support::{KernelSupport, Sandbox};
use crate::base::sync::{AtomicPtr, AtomicU32};
use crate::base::units::{PAGE, PageGroup, UNIT};

/// What lies in a hole.
const POISON: u8 = 0xdb;

/// Kinds of calls that can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Reserve,
    Commit,
    Release,
    ReleaseMany,
    Move,
    Refill,
    Metadata,
    Residency,
    Barrier,
    HasBarrier,
    Rss,
}

#[derive(Default)]
struct State {
    mappings: Vec<(usize, usize)>,
    calls: Vec<(Call, usize, usize)>,
    /// Refuse calls of this kind with this errno after so many more have passed, forever or once.
    refuse: Option<(Call, i32, usize, bool)>,
    /// How many were refused so.
    refusals: usize,
    /// Reservations above this many bytes do not fit.
    address_space: usize,
    /// Whether pages are resident as soon as they are committed.
    populates: bool,
    /// Pages in this range refuse release with `EINVAL`, as locked ones do.
    locked: (usize, usize),
    /// Pages in this range are not resident. All others are.
    absent: (usize, usize),
    /// Where one mapping ends and the next begins, besides the ends of reservations.
    bounds: Vec<usize>,
    /// The move after so many more fails and loses its target, since filling the hole is refused with this errno.
    loses: Option<(usize, i32)>,
    /// The hole that it left, and that errno.
    lost: Option<(usize, i32)>,
    /// How many attempts at filling it fail from here on.
    losses: u32,
    denies_after_loss: bool,
    /// What moves that failed have unmapped.
    holes: Vec<(usize, usize)>,
}

impl State {
    /// Whether a range touches what is not mapped any more.
    fn is_holed(&self, addr: usize, bytes: usize) -> bool {
        self.holes.iter().any(|hole| addr < hole.0 + hole.1 && hole.0 < addr + bytes)
    }

    /// Puts bounds between mappings around a range.
    fn set_apart(&mut self, addr: usize, bytes: usize) {
        self.bounds.retain(|bound| !(addr..=addr + bytes).contains(bound));
        self.bounds.extend([addr, addr + bytes]);
    }
}

/// Memory from the test's own heap, under the test's control.
pub(crate) struct Fake {
    state: Mutex<State>,
    clock: AtomicU64,
    page_size: AtomicUsize,
}

#[cfg_attr(loom, allow(dead_code, reason = "models refuse nothing"))]
impl Fake {
    pub(crate) fn new(address_space: usize) -> Self {
        let state = State { address_space, ..State::default() };
        Self { state: Mutex::new(state), clock: AtomicU64::new(0), page_size: AtomicUsize::new(PAGE) }
    }

    /// Has the kernel's pages be of so many bytes. Before the first use.
    pub(crate) fn set_page_size(&self, bytes: usize) {
        // Relaxed: set before the heap is shared.
        self.page_size.store(bytes, Ordering::Relaxed);
    }

    /// Refuses the calls of `kind` after `passing` more of them.
    pub(crate) fn refuse(&self, kind: Call, errno: i32, passing: usize, forever: bool) {
        self.state.lock().unwrap().refuse = Some((kind, errno, passing, forever));
    }

    /// Refuses nothing any more.
    pub(crate) fn relent(&self) {
        self.state.lock().unwrap().refuse = None;
    }

    /// How many calls were refused as [`refuse`](Self::refuse) had it.
    pub(crate) fn refusals(&self) -> usize {
        self.state.lock().unwrap().refusals
    }

    /// Has pages be resident as soon as they are committed.
    pub(crate) fn populate(&self) {
        self.state.lock().unwrap().populates = true;
    }

    /// Locks the pages of a range.
    pub(crate) fn lock_pages(&self, addr: usize, bytes: usize) {
        self.state.lock().unwrap().locked = (addr, addr + bytes);
    }

    /// Has the pages of a range be not resident.
    pub(crate) fn absent_pages(&self, addr: usize, bytes: usize) {
        self.state.lock().unwrap().absent = (addr, addr + bytes);
    }

    /// Splits a mapping at an address.
    pub(crate) fn split_mapping(&self, at: usize) {
        self.state.lock().unwrap().bounds.push(at);
    }

    /// Has the move after `passing` others fail, and filling the hole that it leaves.
    pub(crate) fn lose_target(&self, passing: usize, errno: i32) {
        self.lose_target_for(passing, errno, u32::MAX);
    }

    /// The same, but so many attempts at filling the hole fail, and no more.
    pub(crate) fn lose_target_for(&self, passing: usize, errno: i32, attempts: u32) {
        let mut state = self.state.lock().unwrap();
        (state.loses, state.losses) = (Some((passing, errno)), attempts);
    }

    /// Refuses all commits once a target is lost.
    pub(crate) fn deny_after_loss(&self) {
        self.state.lock().unwrap().denies_after_loss = true;
    }

    /// Whether this move is the one to lose its target.
    fn is_losing(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        match &mut state.loses {
            Some((0, _)) => true,
            Some((passing, _)) => {
                *passing -= 1;
                false
            }
            None => false,
        }
    }

    /// How many holes there are.
    pub(crate) fn holes(&self) -> usize {
        self.state.lock().unwrap().holes.len()
    }

    /// The address and length of each call of `kind` so far.
    pub(crate) fn calls(&self, kind: Call) -> Vec<(usize, usize)> {
        let state = self.state.lock().unwrap();
        state.calls.iter().filter(|call| call.0 == kind).map(|call| (call.1, call.2)).collect()
    }

    fn ask(&self, kind: Call, addr: usize, bytes: usize) -> Result<(), Errno> {
        let mut state = self.state.lock().unwrap();
        state.calls.push((kind, addr, bytes));
        if let Some((refused, errno, passing, forever)) = state.refuse
            && refused == kind
        {
            if passing > 0 {
                state.refuse = Some((refused, errno, passing - 1, forever));
            } else {
                if !forever {
                    state.refuse = None;
                }
                state.refusals += 1;
                return Err(Errno(errno));
            }
        }
        assert!(!state.is_holed(addr, bytes), "{kind:?} in a hole");
        let inside = matches!(kind, Call::Commit | Call::Release | Call::Move);
        if inside || kind == Call::Residency {
            assert!(self.pages().divides(addr, bytes), "{kind:?} of a part of a page");
        }
        if inside {
            let inside = state.mappings.iter().any(|m| m.0 <= addr && addr + bytes <= m.0 + m.1);
            assert!(inside, "{kind:?} outside");
        }
        Ok(())
    }

    fn map(&self, bytes: usize) -> Result<NonNull<u8>, Errno> {
        let addr = memory(bytes).ok_or(Errno::ENOMEM)?;
        self.state.lock().unwrap().mappings.push((addr.as_ptr() as usize, bytes));
        Ok(addr)
    }
}

/// From this many bytes on memory is mapped: what is not touched costs nothing.
const MAPPED_FROM: usize = 1 << 28;

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes, UNIT).ok()
}

/// Zeroed memory, aligned to the largest page that a kernel has.
fn memory(bytes: usize) -> Option<NonNull<u8>> {
    let layout = layout(bytes)?;
    if bytes < MAPPED_FROM {
        // SAFETY: the callers ask for at least a page.
        return NonNull::new(unsafe { alloc_zeroed(layout) });
    }
    let room = bytes.checked_add(UNIT)?;
    let start = map(core::ptr::null_mut(), room, libc::PROT_READ | libc::PROT_WRITE, 0).ok()?;
    let before = start.as_ptr().align_offset(UNIT);
    // SAFETY: the two ends of the mapping, which nobody uses, around the `bytes` from its first aligned address on.
    unsafe {
        libc::munmap(start.as_ptr().cast(), before);
        libc::munmap(start.as_ptr().add(before + bytes).cast(), UNIT - before);
        Some(start.add(before))
    }
}

/// # Safety
/// [`memory`] made it with this size, and nobody uses it.
unsafe fn give_up(addr: *mut u8, bytes: usize) {
    match layout(bytes) {
        // SAFETY: as `memory` allocated it.
        Some(layout) if bytes < MAPPED_FROM => unsafe { dealloc(addr, layout) },
        // SAFETY: as `memory` mapped it.
        _ => drop(unsafe { libc::munmap(addr.cast(), bytes) }),
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        for (addr, bytes) in self.state.get_mut().unwrap().holes.drain(..) {
            // SAFETY: what was unmapped is memory of a reservation here all the same.
            let hole = unsafe { core::slice::from_raw_parts(addr as *const u8, bytes) };
            assert!(std::thread::panicking() || hole.iter().all(|byte| *byte == POISON), "written to a hole");
        }
        for (addr, bytes) in self.state.get_mut().unwrap().mappings.drain(..) {
            // SAFETY: `map` made it of this size, and nothing outlives the fake.
            unsafe { give_up(addr as *mut u8, bytes) };
        }
    }
}

impl Remap for Fake {
    fn may_move(&self) -> bool {
        true
    }

    fn is_one_mapping(&self, addr: NonNull<u8>, bytes: usize) -> bool {
        let start = addr.as_ptr() as usize;
        let state = self.state.lock().unwrap();
        !state.is_holed(start, bytes)
            && !state.bounds.iter().any(|at| (start + 1..start + bytes).contains(at))
    }

    fn is_locked(&self, addr: NonNull<u8>) -> bool {
        let locked = self.state.lock().unwrap().locked;
        (locked.0..locked.1).contains(&(addr.as_ptr() as usize))
    }

    unsafe fn remap(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        let (source, target) = (from.as_ptr() as usize, to.as_ptr() as usize);
        assert!(self.is_one_mapping(from, bytes), "a move of several mappings loses its target");
        assert!(!self.state.lock().unwrap().is_holed(target, bytes), "a move into a hole");
        let losing = self.is_losing();
        let refused = self.ask(Call::Move, source, bytes).err();
        if let Some(errno) = refused.or(losing.then_some(Errno::ENOMEM)) {
            self.state.lock().unwrap().holes.push((target, bytes));
            // SAFETY: the caller gave up what the target holds.
            unsafe { to.as_ptr().write_bytes(POISON, bytes) };
            return Err(errno);
        }
        self.state.lock().unwrap().set_apart(target, bytes);
        // SAFETY: as the caller vouches.
        unsafe {
            to.as_ptr().copy_from_nonoverlapping(from.as_ptr(), bytes);
            from.as_ptr().write_bytes(0, bytes);
        }
        Ok(())
    }

    unsafe fn refill(&self, addr: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        let hole = (addr.as_ptr() as usize, bytes);
        assert!(self.state.lock().unwrap().holes.contains(&hole), "there is no such hole");
        self.ask(Call::Refill, 0, 0)?;
        let mut state = self.state.lock().unwrap();
        if let Some((0, errno)) = state.loses {
            state.loses = None;
            state.lost = Some((hole.0, errno));
            if state.denies_after_loss {
                state.refuse = Some((Call::Commit, libc::ENOMEM, 0, true));
            }
        }
        if let Some((at, errno)) = state.lost
            && at == hole.0
            && state.losses > 0
        {
            state.losses -= 1;
            return Err(Errno(errno));
        }
        drop(state);
        self.state.lock().unwrap().holes.retain(|other| *other != hole);
        // SAFETY: the place is memory of a reservation, and nobody uses it.
        unsafe { addr.as_ptr().write_bytes(0, bytes) };
        Ok(())
    }

    fn is_short_of_mappings(&self) -> bool {
        false
    }
}

impl Os for Fake {
    fn pages(&self) -> PageGroup {
        // Relaxed: see `set_page_size`.
        PageGroup::new(self.page_size.load(Ordering::Relaxed))
    }

    fn reserve(&self, bytes: usize) -> Result<NonNull<u8>, Errno> {
        self.ask(Call::Reserve, 0, bytes)?;
        let mut state = self.state.lock().unwrap();
        if bytes > state.address_space {
            return Err(Errno::ENOMEM);
        }
        state.address_space -= bytes;
        drop(state);
        self.map(bytes)
    }

    unsafe fn unreserve(&self, addr: NonNull<u8>, bytes: usize) {
        let mut state = self.state.lock().unwrap();
        let at = state.mappings.iter().position(|m| *m == (addr.as_ptr() as usize, bytes)).unwrap();
        state.mappings.swap_remove(at);
        state.address_space += bytes;
        // SAFETY: it was one mapping of this size, and the caller no longer uses it.
        unsafe { give_up(addr.as_ptr(), bytes) };
    }

    unsafe fn commit(&self, addr: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        self.ask(Call::Commit, addr.as_ptr() as usize, bytes)
    }

    fn populates(&self, _page: NonNull<u8>) -> bool {
        self.state.lock().unwrap().populates
    }

    unsafe fn release(&self, addr: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        let start = addr.as_ptr() as usize;
        self.ask(Call::Release, start, bytes)?;
        let locked = self.state.lock().unwrap().locked;
        if start < locked.1 && locked.0 < start + bytes {
            return Err(Errno::EINVAL);
        }
        #[cfg(loom)]
        crate::models::pages_leave(start, bytes);
        for word in (0..bytes).step_by(size_of::<u64>()) {
            // As the kernel does it: who looks at a table whose page leaves sees old words, or zeros, and it is no race.
            // SAFETY: the range lies in a mapping (checked above), in whole pages, whose contents the caller gave up.
            unsafe { AtomicU64::from_ptr(addr.as_ptr().add(word).cast()).store(0, Ordering::Relaxed) };
        }
        Ok(())
    }

    unsafe fn release_many(&self, ranges: &[PageRange]) -> Result<(), Errno> {
        self.ask(Call::ReleaseMany, 0, ranges.len())?;
        for range in ranges {
            // SAFETY: as the caller vouches.
            unsafe { self.release(NonNull::new(range.addr).unwrap(), range.bytes)? };
        }
        Ok(())
    }

    unsafe fn move_pages(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Moved {
        // SAFETY: passed on to the caller.
        unsafe { move_front(self, from, to, bytes) }
    }

    unsafe fn advise_huge(&self, _addr: NonNull<u8>, _bytes: usize, _wanted: bool) {}

    fn residency(&self, addr: NonNull<u8>, pages: &mut [u8]) -> Result<(), Errno> {
        self.ask(Call::Residency, addr.as_ptr() as usize, pages.len() * PAGE)?;
        let absent = self.state.lock().unwrap().absent;
        for (number, page) in pages.iter_mut().enumerate() {
            let at = addr.as_ptr() as usize + number * PAGE;
            *page = u8::from(!(absent.0..absent.1).contains(&at));
        }
        Ok(())
    }

    fn metadata(&self, bytes: usize) -> Result<NonNull<u8>, Errno> {
        self.ask(Call::Metadata, 0, bytes)?;
        self.map(bytes)
    }

    #[cfg(not(loom))]
    fn wait(&self, _word: &AtomicU32, _expected: u32) {
        std::thread::yield_now();
    }

    #[cfg(not(loom))]
    fn wake(&self, _word: &AtomicU32) {}

    #[cfg(loom)]
    fn wait(&self, word: &AtomicU32, expected: u32) {
        crate::models::wait(word, expected);
    }

    #[cfg(loom)]
    fn wake(&self, word: &AtomicU32) {
        crate::models::wake(word);
    }

    fn support(&self) -> KernelSupport {
        KernelSupport { page_size: self.pages().bytes() as u64, ..KernelSupport::default() }
    }

    fn sandbox(&self) -> Sandbox {
        Sandbox::None
    }

    fn lock_in(&self) {}

    fn rss(&self) -> u64 {
        self.ask(Call::Rss, 0, 0).map_or(0, |()| 1 << 20)
    }

    fn now(&self) -> u64 {
        // Relaxed: a counter that only has to move.
        self.clock.fetch_add(1000, Ordering::Relaxed)
    }

    fn prepare_barrier(&self) {}

    fn has_barrier(&self) -> bool {
        self.ask(Call::HasBarrier, 0, 0).is_ok()
    }

    fn barrier(&self) -> bool {
        #[cfg(loom)]
        crate::base::sync::compiler_fence(Ordering::SeqCst);
        self.ask(Call::Barrier, 0, 0).is_ok()
    }

    fn watch_forks(&self, _handlers: ForkHandlers) {}

    fn mark_thread(&self) -> ThreadMark {
        ThreadMark { process: 1, thread: 1, robust_list: 1 }
    }

    /// A test has a thread be over by the number -1, and be unknown by -2.
    fn thread_life(&self, mark: ThreadMark) -> Life {
        match mark.thread {
            -1 => Life::Over,
            -2 => Life::Unknown,
            _ => Life::Lives,
        }
    }

    unsafe fn set_bit<T>(&self, pointer: *mut AtomicPtr<T>, mask: usize) -> bool {
        // SAFETY: tests and models keep the thread locals that they name.
        let pointer = unsafe { &*pointer };
        // Relaxed: the caller's lock orders it.
        let set = pointer.load(Ordering::Relaxed).map_addr(|addr| addr | mask);
        pointer.store(set, Ordering::Relaxed);
        true
    }

    fn watch_thread_exit(&self, _at_end: AtThreadEnd) -> bool {
        true
    }

    fn fatal(&self, line: &[u8]) -> ! {
        panic!("{}", String::from_utf8_lossy(line));
    }
}
