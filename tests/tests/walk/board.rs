//! The board: one page table of shared memory in which every process of a tree shows what its threads are doing.
//!
//! Shared, so that a parent can say what a child was doing that died or hangs. Only atomics, and no pointers: a process
//! may die anywhere. All orderings are Relaxed unless said otherwise: each number stands for itself.
//!
//! Invariant: a row is claimed by the process that is about to fork, and freed by it when it has waited for the child. The
//! root has row 0.
#![allow(unsafe_code, reason = "mmap is a libc function")]

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

use ebbtide_tests::signal::now;

/// Processes of one tree that are alive at a time.
pub(crate) const PROCESSES: usize = 8;
/// Threads of one process that walk.
pub(crate) const SLOTS: usize = 8;
/// Operations that can be counted.
const COUNTED: usize = 64;

/// The states of a row.
const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Its process is being waited for.
const REAPED: u32 = 2;

/// What a thread does between operations. Smaller numbers are operations.
pub(crate) const RESTING: u32 = 1000;
pub(crate) const ENDING: u32 = 1001;
pub(crate) const QUIET: u32 = 1002;
pub(crate) const WAITING: u32 = 1003;
pub(crate) const STARTING: u32 = 1004;

/// One thread.
pub(crate) struct Slot {
    taken: AtomicBool,
    /// Operation or state.
    pub(crate) doing: AtomicU32,
    /// How many operations the thread has begun.
    pub(crate) number: AtomicU32,
    /// When it began this one, in nanoseconds of the monotonic clock. 0 while it may take as long as it likes.
    pub(crate) since: AtomicU64,
}

/// One process.
pub(crate) struct Row {
    state: AtomicU32,
    pub(crate) parent: AtomicUsize,
    /// 0 until the parent knows it.
    pub(crate) pid: AtomicI32,
    pub(crate) depth: AtomicU32,
    pub(crate) seed: AtomicU64,
    /// Operations that were finished, and signs of life of children.
    pub(crate) beats: AtomicU64,
    pub(crate) slots: [Slot; SLOTS],
}

pub(crate) struct Board {
    pub(crate) rows: [Row; PROCESSES],
    /// Something was found wrong: the other processes end.
    pub(crate) failed: AtomicBool,
    pub(crate) processes: AtomicU64,
    pub(crate) deepest: AtomicU32,
    pub(crate) verified: AtomicU64,
    /// Walks of the heap that a fork beside running threads excuses.
    pub(crate) excused: AtomicU64,
    pub(crate) done: [AtomicU64; COUNTED],
}

static BOARD: AtomicPtr<Board> = AtomicPtr::new(std::ptr::null_mut());
/// The row of this process.
static OWN: AtomicUsize = AtomicUsize::new(0);

/// Maps the board. Once, in the root, before anything else is used.
pub(crate) fn set_up() {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a fresh mapping touches nothing that exists.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Board>(), protection, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
    // Release: pairs with `board`.
    BOARD.store(at.cast(), Release);
    let root = &board().rows[0];
    root.state.store(TAKEN, Relaxed);
    root.clear(usize::MAX, 0, 0);
    become_row(0);
}

pub(crate) fn board() -> &'static Board {
    // Acquire: see `set_up`.
    let at = BOARD.load(Acquire);
    assert!(!at.is_null(), "the root sets the board up first");
    // SAFETY: the mapping is never unmapped and is all zeros at first, which is valid for atomics.
    unsafe { &*at }
}

/// The row of this process.
pub(crate) fn own() -> &'static Row {
    &board().rows[own_index()]
}

pub(crate) fn own_index() -> usize {
    OWN.load(Relaxed)
}

/// In a child: from now on it has this row.
pub(crate) fn become_row(index: usize) {
    OWN.store(index, Relaxed);
    // The parent stores it as well, whoever comes first.
    own().pid.store(std::process::id() as i32, Relaxed);
}

/// Takes a row for a child. `None` while there are enough processes.
pub(crate) fn claim_row(depth: u32, seed: u64) -> Option<usize> {
    let board = board();
    // Acquire: the row is as who freed it left it.
    let index = board
        .rows
        .iter()
        .position(|row| row.state.compare_exchange(FREE, REAPED, Acquire, Relaxed).is_ok())?;
    let row = &board.rows[index];
    row.clear(own_index(), depth, seed);
    // Release: publishes the above.
    row.state.store(TAKEN, Release);
    Some(index)
}

impl Row {
    fn clear(&self, parent: usize, depth: u32, seed: u64) {
        self.parent.store(parent, Relaxed);
        self.pid.store(0, Relaxed);
        self.depth.store(depth, Relaxed);
        self.seed.store(seed, Relaxed);
        self.beats.store(0, Relaxed);
        for slot in &self.slots {
            slot.taken.store(false, Relaxed);
            slot.rest(RESTING);
            slot.number.store(0, Relaxed);
        }
    }

    /// Whether this is a child of the calling process that it can wait for. Then nobody else does until
    /// [`put_back`](Self::put_back) or [`free`](Self::free).
    pub(crate) fn take_child(&self) -> Option<i32> {
        let is_child = self.state.load(Relaxed) == TAKEN && self.parent.load(Relaxed) == own_index();
        if !is_child || self.state.compare_exchange(TAKEN, REAPED, Acquire, Relaxed).is_err() {
            return None;
        }
        let pid = self.pid.load(Relaxed);
        if pid == 0 || self.parent.load(Relaxed) != own_index() {
            self.put_back();
            return None;
        }
        Some(pid)
    }

    pub(crate) fn put_back(&self) {
        // Release: pairs with the exchanges.
        self.state.store(TAKEN, Release);
    }

    pub(crate) fn free(&self) {
        self.state.store(FREE, Release);
    }

    /// Whether the calling process has a child in this row, waited for by another thread or not.
    pub(crate) fn is_child(&self) -> bool {
        self.state.load(Acquire) != FREE && self.parent.load(Relaxed) == own_index()
    }

    /// A slot for a thread of this process.
    pub(crate) fn claim_slot(&self) -> Option<usize> {
        let index = self.slots.iter().position(|slot| !slot.taken.swap(true, AcqRel))?;
        self.slots[index].number.store(0, Relaxed);
        self.slots[index].begin(STARTING);
        Some(index)
    }

    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Relaxed);
    }
}

impl Slot {
    /// The thread begins something that must come to an end.
    pub(crate) fn begin(&self, doing: u32) {
        self.doing.store(doing, Relaxed);
        self.since.store(now(), Relaxed);
    }

    /// The thread does something that takes as long as others let it.
    pub(crate) fn rest(&self, doing: u32) {
        self.since.store(0, Relaxed);
        self.doing.store(doing, Relaxed);
    }

    /// The thread is over.
    pub(crate) fn free(&self) {
        self.rest(RESTING);
        self.taken.store(false, Release);
    }
}

/// An operation was finished.
pub(crate) fn count(operation: u32) {
    own().beat();
    board().done[operation as usize].fetch_add(1, Relaxed);
}
