//! A fake OS for tests: it records what was asked and refuses what it is told to refuse.
//!
//! Invariants: released pages are zero; commit and release reach only reservations that exist. Its memory is
//! ordinary heap memory, so the layers above run on it under any checker.

#![allow(unsafe_code, reason = "hands out memory")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::Mutex;

use super::{Errno, Life, Os, PageRange, ThreadMark};
use crate::sync::AtomicU32;
use crate::units::PAGE;

/// Kinds of calls that can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Reserve,
    Commit,
    Release,
    ReleaseMany,
    Move,
    Metadata,
    Residency,
    Barrier,
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
}

/// Memory from the test's own heap, under the test's control.
pub(crate) struct Fake {
    state: Mutex<State>,
    clock: AtomicU64,
}

#[cfg_attr(loom, allow(dead_code, reason = "models refuse nothing"))]
impl Fake {
    pub(crate) fn new(address_space: usize) -> Self {
        let state = State { address_space, ..State::default() };
        Self { state: Mutex::new(state), clock: AtomicU64::new(0) }
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
        if matches!(kind, Call::Commit | Call::Release) {
            let inside = state.mappings.iter().any(|m| m.0 <= addr && addr + bytes <= m.0 + m.1);
            assert!(inside && addr.is_multiple_of(PAGE) && bytes.is_multiple_of(PAGE), "{kind:?} outside");
        }
        Ok(())
    }

    fn map(&self, bytes: usize) -> Result<NonNull<u8>, Errno> {
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: the callers ask for at least a page.
        let addr = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(Errno::ENOMEM)?;
        self.state.lock().unwrap().mappings.push((addr.as_ptr() as usize, bytes));
        Ok(addr)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        for (addr, bytes) in self.state.get_mut().unwrap().mappings.drain(..) {
            // SAFETY: `map` made it with this layout, and nothing outlives the fake.
            unsafe { dealloc(addr as *mut u8, Layout::from_size_align(bytes, PAGE).unwrap()) };
        }
    }
}

impl Os for Fake {
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
        // SAFETY: it was one mapping of this layout, and the caller no longer uses it.
        unsafe { dealloc(addr.as_ptr(), Layout::from_size_align(bytes, PAGE).unwrap()) };
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
        // SAFETY: the range lies in a mapping (checked above) whose contents the caller gave up.
        unsafe { addr.as_ptr().write_bytes(0, bytes) };
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

    unsafe fn move_pages(&self, from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> Result<(), Errno> {
        self.ask(Call::Move, from.as_ptr() as usize, bytes)?;
        // SAFETY: as the caller vouches.
        unsafe {
            to.as_ptr().copy_from_nonoverlapping(from.as_ptr(), bytes);
            from.as_ptr().write_bytes(0, bytes);
        }
        Ok(())
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

    fn rss(&self) -> u64 {
        self.ask(Call::Rss, 0, 0).map_or(0, |()| 1 << 20)
    }

    fn now(&self) -> u64 {
        // Relaxed: a counter that only has to move.
        self.clock.fetch_add(1000, Ordering::Relaxed)
    }

    fn prepare_barrier(&self) {}

    fn barrier(&self) -> bool {
        #[cfg(loom)]
        crate::sync::compiler_fence(Ordering::SeqCst);
        self.ask(Call::Barrier, 0, 0).is_ok()
    }

    fn watch_forks(&self) {}

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

    fn watch_thread_exit(&self) -> bool {
        true
    }

    fn fatal(&self, line: &[u8]) -> ! {
        panic!("{}", String::from_utf8_lossy(line));
    }
}
