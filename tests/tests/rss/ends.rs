//! Allocation at the ends of life: before `main` and after it, and in the last moments of a thread.
#![allow(
    unsafe_code,
    reason = "a link section runs code before main; atexit and thread keys are libc functions"
)]

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide::Policy;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::anonymous;
use ebbtide_tests::patience::fewer;

use crate::harness::{Case, MIB, StopOnDrop, at_most, is_trial, start};
use crate::{fork_handlers, limits};

pub(crate) const CASES: &[Case] = &[
    Case { name: "allocation_before_and_after_main", run: before_and_after_main },
    Case { name: "allocation_in_the_last_moments_of_a_thread", run: last_moments },
    Case { name: "a_first_allocation_when_all_destructors_ran", run: first_allocation_in_the_last_round },
];

/// Runs before the other constructors of this program, the start of ebbtide's runtime among them, but for the one that
/// watches forks.
extern "C" fn before_main() {
    if is_trial(c"allocation_before_and_after_main") {
        allocate_before_main();
    } else if is_trial(c"allocation_in_the_last_moments_of_a_thread") {
        FIRST_KEY.store(new_key() as usize + 1, Ordering::SeqCst);
    } else if is_trial(limits::NO_KEYS) {
        limits::start_without_thread_keys();
    } else if is_trial(fork_handlers::EARLY) {
        fork_handlers::register();
    } else if is_trial(fork_handlers::OUTLIVED) {
        fork_handlers::register_outlived();
    }
}

#[used]
// SAFETY: the loader calls each pointer in these sections once, as a C function whose arguments may be ignored, after
// libc is ready. What runs here uses libc, the allocator, and of std only what needs no start-up: locks and vectors.
#[unsafe(link_section = ".init_array.00101")]
static BEFORE_MAIN: extern "C" fn() = before_main;

/// Blocks that were allocated before `main`. The number of each is its seed.
static EARLY: Mutex<Vec<Block>> = Mutex::new(Vec::new());
static BUSY_AT_THE_END: AtomicU32 = AtomicU32::new(0);

fn early_blocks() -> impl Iterator<Item = Block> {
    (0..200).map(|seed| Block::filled(20 + seed as usize * seed as usize * 3, seed))
}

#[track_caller]
fn all_hold(blocks: &[Block]) {
    assert!(blocks.iter().enumerate().all(|(seed, block)| block.holds(seed as u64, block.size())));
}

fn allocate_before_main() {
    let mut early = EARLY.lock().expect("one thread");
    early.extend(early_blocks());
    // Some frees, too, and a release.
    drop(early_blocks().collect::<Vec<_>>());
    let report = ebbtide_alloc::release(ebbtide::ReleaseOptions::new());
    assert!(report.released_bytes > 0, "{report}");
    // Registered first, it is called last: after main has returned, and after its thread locals are gone.
    // SAFETY: the function stays for the life of the program.
    assert_eq!(unsafe { libc::atexit(after_main) }, 0);
}

/// A panic here aborts the process, and so fails the trial. Other threads still run.
extern "C" fn after_main() {
    let rounds = BUSY_AT_THE_END.load(Ordering::SeqCst);
    assert!(rounds > 0, "a thread is busy while the process ends");
    let late: Vec<Block> = early_blocks().collect();
    let mut early = EARLY.lock().expect("no thread panics");
    all_hold(&early);
    early.truncate(100);
    ebbtide::free_os_memory();
    all_hold(&early);
    all_hold(&late);
    early.clear();
    drop(late);
    let report = ebbtide::free_os_memory();
    assert!(!report.stopped_early);
}

/// Frees and allocates when the main thread's locals go, which is after `main` and before `after_main`.
struct AtTheEndOfMain;

impl Drop for AtTheEndOfMain {
    fn drop(&mut self) {
        all_hold(&early_blocks().collect::<Vec<_>>());
    }
}

/// Fails where the allocator needs anything that is set up before `main`, or torn down after it.
fn before_and_after_main() {
    thread_local!(static LAST: RefCell<Option<AtTheEndOfMain>> = const { RefCell::new(None) });
    let early = EARLY.lock().expect("no thread panics");
    assert_eq!(early.len(), 200, "blocks were allocated before main");
    all_hold(&early);
    drop(early);
    start(Policy::Percent(10));
    // What was allocated before main is freed by a thread of main, in part.
    thread::spawn(|| EARLY.lock().expect("no thread panics").truncate(150)).join().expect("it only frees");
    LAST.set(Some(AtTheEndOfMain));
    let busy = || {
        loop {
            all_hold(&early_blocks().collect::<Vec<_>>());
            BUSY_AT_THE_END.fetch_add(1, Ordering::SeqCst);
        }
    };
    // Never joined: it allocates while the process ends.
    drop(thread::spawn(busy));
    while BUSY_AT_THE_END.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
}

/// A thread key that was made before the allocator's own, plus one. Destructors run in the order of the keys.
static FIRST_KEY: AtomicUsize = AtomicUsize::new(0);
/// One that was made after it, plus one.
static SECOND_KEY: AtomicUsize = AtomicUsize::new(0);
/// Blocks of the main thread, for dying threads to free; and theirs, for the main thread to free.
static GIVEN: Mutex<Vec<Block>> = Mutex::new(Vec::new());
static MADE: Mutex<Vec<Block>> = Mutex::new(Vec::new());
static MOMENTS: AtomicU32 = AtomicU32::new(0);

fn new_key() -> libc::pthread_key_t {
    let mut key = 0;
    // SAFETY: `key` is valid for writes, and the destructor stays.
    assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(last_moment)) }, 0);
    key
}

/// Has [`last_moment`] run so many times as this thread ends, once in each round of destructors.
fn set(key: &AtomicUsize, rounds: usize) {
    let key = (key.load(Ordering::SeqCst) - 1) as libc::pthread_key_t;
    // SAFETY: the key was made and is never deleted; its value is a number, not used as a pointer.
    assert_eq!(unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(rounds)) }, 0);
}

/// A destructor of both keys. Its value says how many rounds are left, and which key it belongs to.
unsafe extern "C" fn last_moment(value: *mut c_void) {
    use_the_heap();
    let (rounds, second) = (value.addr() / 2, value.addr() % 2);
    if rounds > 1 {
        let key = if second == 1 { &SECOND_KEY } else { &FIRST_KEY };
        set(key, value.addr() - 2);
    }
}

/// Allocates, frees its own and another thread's, and leaves a block behind.
fn use_the_heap() {
    let blocks: Vec<Block> = (0..60).map(|seed| Block::filled(10 + seed as usize * 90, seed)).collect();
    all_hold(&blocks);
    let given = GIVEN.lock().expect("no thread panics").pop();
    assert!(given.is_none_or(|block| block.holds(4, block.size())));
    MADE.lock().expect("no thread panics").push(Block::filled(700, 9));
    MOMENTS.fetch_add(1, Ordering::SeqCst);
}

struct Late;

impl Drop for Late {
    fn drop(&mut self) {
        use_the_heap();
    }
}

/// A thread of C: nothing of Rust's runs in it before its keys' destructors.
extern "C" fn allocates_first_as_it_ends(_: *mut c_void) -> *mut c_void {
    set(&SECOND_KEY, 2 * 2 + 1);
    std::ptr::null_mut()
}

fn thread_of_c() {
    let mut thread = 0;
    let (attributes, argument) = (std::ptr::null(), std::ptr::null_mut());
    // SAFETY: `thread` is valid for writes, the function needs no argument.
    let made =
        unsafe { libc::pthread_create(&raw mut thread, attributes, allocates_first_as_it_ends, argument) };
    assert_eq!(made, 0);
    // SAFETY: the thread was made above and is joined once.
    assert_eq!(unsafe { libc::pthread_join(thread, std::ptr::null_mut()) }, 0);
}

const THREADS: usize = 150;
/// Destructors of keys run in so many rounds as long as they set values anew.
const ROUNDS: usize = 4;

/// Fails where a thread takes a cache that nobody empties any more, where a release reaches for the cache of a thread
/// that is gone, and where an allocation needs what a dying thread no longer has.
fn last_moments() {
    thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
    let before = start(Policy::Off);
    SECOND_KEY.store(new_key() as usize + 1, Ordering::SeqCst);
    GIVEN.lock().expect("one thread").extend((0..2000).map(|_| Block::filled(300, 4)));
    MADE.lock().expect("one thread").reserve(20_000);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let releaser = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                ebbtide::free_os_memory();
            }
        });
        for _ in 0..THREADS {
            let dying = || {
                LATE.set(Some(Late));
                set(&FIRST_KEY, 2 * ROUNDS);
                set(&SECOND_KEY, 2 * ROUNDS + 1);
                all_hold(&early_blocks().take(60).collect::<Vec<_>>());
            };
            thread::spawn(dying).join().expect("destructors may allocate");
            thread_of_c();
        }
        drop(stopping);
        releaser.join().expect("it only releases");
    });
    let each = 1 + 2 * ROUNDS as u32 + 2;
    assert_eq!(MOMENTS.load(Ordering::SeqCst), each * THREADS as u32, "each destructor ran in each round");
    let made = std::mem::take(&mut *MADE.lock().expect("no thread panics"));
    assert!(made.iter().all(|block| block.holds(9, 700)), "blocks outlive their threads");
    drop(made);
    GIVEN.lock().expect("no thread panics").clear();
    ebbtide::free_os_memory();
    at_most("cached by threads that are gone", ebbtide::mem_stats().heap_cached, 0, MIB / 4);
    at_most("resident after all threads died", anonymous(), before, 4 * MIB);
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}

/// The key whose destructor makes its thread's first allocation, in the last round of destructors.
static LAST_ROUND_KEY: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" fn allocates_in_the_last_round(value: *mut c_void) {
    match value.addr() {
        0 | 1 => drop(Block::filled(100, 1)),
        rounds => set(&LAST_ROUND_KEY, rounds - 1),
    }
}

extern "C" fn allocates_nothing_until_then(_: *mut c_void) -> *mut c_void {
    set(&LAST_ROUND_KEY, ROUNDS);
    std::ptr::null_mut()
}

/// What three seconds allow.
const LAST_THREADS: usize = 4_000;

/// Nobody tells the allocator of the end of such a thread any more. Its stack is large, so libc unmaps it at once, and
/// its thread locals with it, while the kernel still knows the thread's number. Fails, by a segmentation fault, where a
/// release reaches for these.
fn first_allocation_in_the_last_round() {
    start(Policy::Off);
    let mut key = 0;
    // SAFETY: `key` is a valid place, and the destructor stays.
    assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(allocates_in_the_last_round)) }, 0);
    LAST_ROUND_KEY.store(key as usize + 1, Ordering::SeqCst);
    one_thread_of_the_last_round();
    assert!(ebbtide::mem_stats().heap_cached > 0, "the thread has left a cache behind");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let releaser = scope.spawn(|| {
            // Relaxed: only a flag.
            while !stop.load(Ordering::Relaxed) {
                ebbtide_alloc::release(ebbtide::ReleaseOptions::new());
            }
        });
        for _ in 0..fewer(LAST_THREADS) {
            one_thread_of_the_last_round();
            // At once: the kernel may still know the thread's number.
            ebbtide_alloc::release(ebbtide::ReleaseOptions::new());
        }
        drop(stopping);
        releaser.join().expect("it only releases");
    });
    let joined = Instant::now();
    // The kernel may know the last thread for a moment yet.
    while ebbtide::mem_stats().heap_cached > 0 {
        assert!(joined.elapsed() < Duration::from_secs(10), "a release inherits it");
        ebbtide::free_os_memory();
    }
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}

fn one_thread_of_the_last_round() {
    let mut thread = 0;
    // SAFETY: the attributes are set up before they are used, and the thread is joined once.
    unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        assert_eq!(libc::pthread_attr_init(&raw mut attributes), 0);
        assert_eq!(libc::pthread_attr_setstacksize(&raw mut attributes, 64 << 20), 0);
        let begin = allocates_nothing_until_then;
        let made = libc::pthread_create(&raw mut thread, &raw const attributes, begin, std::ptr::null_mut());
        assert_eq!(made, 0);
        assert_eq!(libc::pthread_join(thread, std::ptr::null_mut()), 0);
    }
}
