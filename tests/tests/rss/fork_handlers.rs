//! Forks beside handlers of others that allocate, free, release, fork, and start threads: whichever side of ours they
//! run on.
#![allow(unsafe_code, reason = "a link section runs code before main; pthread_atfork is a libc function")]

use std::ffi::CStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use ebbtide::{Policy, on_event};
use ebbtide_alloc::Region;
use ebbtide_tests::block::Block;
use ebbtide_tests::patience::fewer;
use ebbtide_tests::rng::Rng;

use crate::fork::in_child;
use crate::harness::{Case, StopOnDrop, is_trial, start};

/// Its handlers are registered by a constructor, before anything was allocated.
pub(crate) const EARLY: &CStr = c"handlers_of_a_constructor_start_threads_that_allocate";
/// Its handlers are registered before ours can be.
const EARLIEST: &CStr = c"handlers_registered_before_all_others_allocate";
/// The same, and they fork.
const NESTED: &CStr = c"handlers_registered_before_all_others_fork";

/// Its handler in the child is registered by a constructor, and leaves a thread at work.
pub(crate) const OUTLIVED: &CStr = c"threads_of_a_handler_outlive_it";

pub(crate) const CASES: &[Case] = &[
    Case { name: "threads_of_a_handler_outlive_it", run: outlived },
    Case { name: "handlers_of_a_constructor_start_threads_that_allocate", run: early },
    Case { name: "handlers_registered_before_all_others_allocate", run: earliest },
    Case { name: "handlers_registered_before_all_others_fork", run: nested },
    Case { name: "handlers_registered_in_main_allocate", run: late },
];

/// How often each of the three handlers ran.
static RAN: [AtomicU32; 3] = [const { AtomicU32::new(0) }; 3];
/// Whether handlers start threads, which allocate too.
static STARTS_THREADS: AtomicBool = AtomicBool::new(false);
/// Whether the first handler forks.
static FORKS: AtomicBool = AtomicBool::new(false);
/// Blocks that one handler leaves to the next.
static LEFT: Mutex<Vec<Block>> = Mutex::new(Vec::new());

extern "C" fn before_all() {
    if is_trial(EARLIEST) || is_trial(NESTED) {
        register();
    }
}

#[used]
// SAFETY: the loader calls each pointer in this section once, as a C function whose arguments may be ignored, before
// any other constructor. What runs here calls libc alone.
#[unsafe(link_section = ".init_array.00001")]
static BEFORE_ALL: extern "C" fn() = before_all;

pub(crate) fn register() {
    // SAFETY: the handlers have the signature asked for and stay for the life of the program.
    let refused = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    assert_eq!(refused, 0);
}

unsafe extern "C" fn prepare() {
    work(0);
    if FORKS.swap(false, Ordering::SeqCst) {
        assert_eq!(in_child(|| i32::from(!use_heap(7))), Ok(0), "a child of a handler's");
        FORKS.store(true, Ordering::SeqCst);
    }
}

unsafe extern "C" fn parent() {
    work(1);
}

unsafe extern "C" fn child() {
    work(2);
}

/// What each handler does. A panic here aborts the process, and so fails the trial.
fn work(handler: usize) {
    RAN[handler].fetch_add(1, Ordering::SeqCst);
    let left = std::mem::take(&mut *LEFT.lock().expect("no handler panics"));
    assert!(left.iter().all(|block| block.holds(8, block.size())), "blocks of another handler are whole");
    drop(left);
    assert!(use_heap(handler as u64));
    if STARTS_THREADS.load(Ordering::SeqCst) {
        assert!(thread::spawn(|| use_heap(3)).join().expect("it only allocates"));
    }
    let sizes = [20, 3000, 30_000, 400_000];
    LEFT.lock().expect("no handler panics").extend(sizes.map(|size| Block::filled(size, 8)));
}

/// Needs every lock of the allocator: spans of many classes, large blocks, regions, a release, statistics.
fn use_heap(seed: u64) -> bool {
    let mut rng = Rng::new(seed);
    let blocks: Vec<Block> = (0..400).map(|_| Block::filled(rng.log_uniform(0, 16), seed)).collect();
    let region = Region::new(2 << 20);
    let whole = blocks.iter().all(|block| block.holds(seed, block.size()));
    drop(blocks);
    drop(region);
    ebbtide::free_os_memory();
    whole && ebbtide::mem_stats().heap_sys > 0
}

const FORKS_OF_A_TRIAL: usize = 25;

/// Forks while other threads use every lock.
fn forks_amid_work() {
    start(Policy::Percent(10));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        for seed in 0..2 {
            let stop = &stop;
            // Relaxed: only a flag.
            scope.spawn(move || while !stop.load(Ordering::Relaxed) && use_heap(seed) {});
        }
        for _ in 0..fewer(FORKS_OF_A_TRIAL) {
            let code = || {
                let threads = [5, 6].map(|seed| thread::spawn(move || use_heap(seed)));
                let whole = threads.into_iter().all(|thread| thread.join().unwrap_or(false));
                i32::from(!(whole && use_heap(4)))
            };
            assert_eq!(in_child(code), Ok(0));
        }
        drop(stopping);
    });
    let ran = [0, 1].map(|handler| RAN[handler].load(Ordering::SeqCst));
    assert!(ran.iter().all(|times| *times as usize >= fewer(FORKS_OF_A_TRIAL)), "{ran:?}");
    LEFT.lock().expect("no handler panics").clear();
    ebbtide::free_os_memory();
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}

/// The handlers run while no lock of ours is held, so that threads they start can allocate. Fails, by a hang, where the
/// allocator registers its own handlers later than a constructor of the program can register others.
fn early() {
    STARTS_THREADS.store(true, Ordering::SeqCst);
    forks_amid_work();
}

/// Nobody can come before the handlers of this trial: they run while the forking thread holds all locks.
fn earliest() {
    forks_amid_work();
}

fn nested() {
    FORKS.store(true, Ordering::SeqCst);
    forks_amid_work();
}

fn late() {
    register();
    STARTS_THREADS.store(true, Ordering::SeqCst);
    forks_amid_work();
}

/// Releases of the thread that a handler left in a child.
static RELEASES: AtomicU32 = AtomicU32::new(0);
const RELEASES_OF_A_CHILD: u32 = 300;
/// Whether a callback is being called.
static INSIDE: AtomicBool = AtomicBool::new(false);
static DROPPED_INSIDE: AtomicBool = AtomicBool::new(false);

pub(crate) fn register_outlived() {
    // SAFETY: the handler has the signature asked for and stays for the life of the program.
    assert_eq!(unsafe { libc::pthread_atfork(None, None, Some(leave_a_thread)) }, 0);
}

unsafe extern "C" fn leave_a_thread() {
    thread::spawn(|| {
        for _ in 0..RELEASES_OF_A_CHILD {
            ebbtide::free_os_memory();
            RELEASES.fetch_add(1, Ordering::SeqCst);
        }
    });
    while RELEASES.load(Ordering::SeqCst) < 3 {
        thread::yield_now();
    }
}

/// Part of a callback, which may go when nobody is inside any more.
struct Part;

impl Drop for Part {
    fn drop(&mut self) {
        DROPPED_INSIDE.fetch_or(INSIDE.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// Fails where the runtime puts its books in order in a child when other threads are at work there already: one that is in
/// a callback would be taken for one of the parent's, and one in a release would be counted out twice.
fn outlived() {
    start(Policy::Percent(10));
    for _ in 0..5 {
        let part = Part;
        let subscription = on_event(move |_| {
            let _ = &part;
            INSIDE.store(true, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(2));
            INSIDE.store(false, Ordering::SeqCst);
        });
        let code = move || {
            drop(subscription);
            while RELEASES.load(Ordering::SeqCst) < RELEASES_OF_A_CHILD {
                thread::sleep(Duration::from_millis(1));
            }
            drop((0..1024).map(|_| vec![1_u8; 64 << 10]).collect::<Vec<_>>());
            let idle = ebbtide::mem_stats().heap_free;
            i32::from(DROPPED_INSIDE.load(Ordering::SeqCst)) + 2 * i32::from(idle > 32 << 20)
        };
        assert_eq!(in_child(code), Ok(0), "256: a callback went while it was called; 512: the policy rests");
    }
}
