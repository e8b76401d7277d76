//! Children of forks that are whole programs: threads that allocate while others release, and forks of their own.
#![allow(unsafe_code, reason = "fork, thread keys and raw system calls are libc functions")]

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;

use ebbtide::{Event, Policy};
use ebbtide_alloc::Region;
use ebbtide_tests::block::Block;
use ebbtide_tests::rng::Rng;

use crate::fork::{BROKEN, CORRUPT, in_child, status_of};
use crate::harness::{Case, StopOnDrop, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "a_child_releases_while_its_first_thread_allocates", run: forks_of_the_main_thread },
    Case { name: "a_child_of_another_thread_is_a_whole_program", run: forks_of_another_thread },
    Case { name: "grandchildren_are_whole_programs", run: forks_of_children },
    Case { name: "a_thread_forks_from_its_last_destructors", run: forks_from_destructors },
    Case { name: "a_callback_forks", run: forks_from_a_callback },
    Case { name: "a_child_without_handlers_is_left_whole", run: forks_without_handlers },
];

/// A child could not start a thread or fork.
const REFUSED: i32 = 4;

/// Allocates and frees blocks with patterns, and checks them. False if one was written to by anybody else.
fn churn(seed: u64, rounds: usize) -> bool {
    let mut rng = Rng::new(seed);
    let mut kept: Vec<(Block, u64)> = Vec::new();
    let mut whole = true;
    for round in 0..rounds as u64 {
        let size = if rng.below(200) == 0 { 100_000 } else { rng.log_uniform(0, 12) };
        kept.push((Block::filled(size, round), round));
        if kept.len() > 300 {
            let (block, seed) = kept.swap_remove(rng.below(300));
            whole &= block.holds(seed, block.size());
        }
    }
    whole && kept.iter().all(|(block, seed)| block.holds(*seed, block.size()))
}

/// What a whole program does: its first thread allocates while a second one releases without pause and a third one
/// allocates too. Then it forks, `depth` times.
fn whole_program(depth: u32) -> i32 {
    let stop = AtomicBool::new(false);
    let whole = thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let releaser = scope.spawn(|| {
            // Relaxed: only a flag.
            while !stop.load(Ordering::Relaxed) {
                ebbtide::free_os_memory();
            }
        });
        let other = scope.spawn(|| churn(2, 6_000));
        let first = churn(1, 10_000);
        let second = other.join().unwrap_or(false);
        drop(stopping);
        first && second && releaser.join().is_ok()
    });
    if !whole {
        return CORRUPT;
    }
    if depth > 0 {
        match in_child(|| whole_program(depth - 1)) {
            Ok(0) => {}
            Ok(status) if libc::WIFEXITED(status) => return libc::WEXITSTATUS(status),
            Ok(_) | Err(_) => return REFUSED,
        }
    }
    drop(Region::new(1 << 20));
    if churn(3, 1_000) && ebbtide_alloc::verify().is_ok() { 0 } else { BROKEN }
}

/// Blocks in this thread's cache and in those of threads that are gone.
fn warm_up() {
    start(Policy::Percent(10));
    assert!(churn(9, 5_000));
    let others: Vec<_> = (0..3).map(|seed| thread::spawn(move || churn(seed, 3_000))).collect();
    others.into_iter().for_each(|other| assert!(other.join().expect("it only allocates")));
}

/// Fails where a release in the child takes the cache of the thread that forked for that of one that is gone.
fn forks_of_the_main_thread() {
    warm_up();
    for _ in 0..5 {
        assert_eq!(in_child(|| whole_program(0)), Ok(0));
    }
    assert_eq!(whole_program(0), 0);
}

fn forks_of_another_thread() {
    warm_up();
    let forking = || {
        assert!(churn(4, 5_000));
        for _ in 0..3 {
            assert_eq!(in_child(|| whole_program(0)), Ok(0));
        }
        // One that has no cache yet.
        thread::spawn(|| assert_eq!(in_child(|| whole_program(0)), Ok(0)))
            .join()
            .expect("the child ends well");
    };
    thread::spawn(forking).join().expect("the children end well");
    assert_eq!(whole_program(0), 0);
}

fn forks_of_children() {
    warm_up();
    assert_eq!(in_child(|| whole_program(2)), Ok(0));
    assert_eq!(whole_program(0), 0);
}

/// The wait statuses of children that destructors forked; 1 for each that is still missing.
static FROM_LOCAL: AtomicI32 = AtomicI32::new(1);
static FROM_KEY: AtomicI32 = AtomicI32::new(1);

/// Forks when the thread's locals go, with the cache still there.
struct ForksLast;

impl Drop for ForksLast {
    fn drop(&mut self) {
        FROM_LOCAL.store(in_child(|| whole_program(1)).unwrap_or(-1), Ordering::SeqCst);
    }
}

/// Forks in the last round of destructors of keys, when the thread has given up its cache. Asks for `value` rounds.
unsafe extern "C" fn forks_in_the_last_round(value: *mut c_void) {
    match value.addr() {
        0 | 1 => FROM_KEY.store(in_child(|| whole_program(1)).unwrap_or(-1), Ordering::SeqCst),
        rounds => set_last_key(rounds - 1),
    }
}

static LAST_KEY: AtomicI32 = AtomicI32::new(0);

fn set_last_key(rounds: usize) {
    let key = LAST_KEY.load(Ordering::SeqCst) as libc::pthread_key_t;
    // SAFETY: the key was made and is never deleted; its value is a number, not used as a pointer.
    assert_eq!(unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(rounds)) }, 0);
}

fn forks_from_destructors() {
    thread_local!(static LAST: RefCell<Option<ForksLast>> = const { RefCell::new(None) });
    warm_up();
    let mut key = 0;
    // SAFETY: `key` is valid for writes, and the destructor stays.
    assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(forks_in_the_last_round)) }, 0);
    LAST_KEY.store(key as i32, Ordering::SeqCst);
    let dying = || {
        assert!(churn(5, 2_000));
        LAST.set(Some(ForksLast));
        set_last_key(4);
    };
    thread::spawn(dying).join().expect("it ends well");
    assert_eq!(FROM_LOCAL.load(Ordering::SeqCst), 0, "wait status of a child");
    assert_eq!(FROM_KEY.load(Ordering::SeqCst), 0, "wait status of a child");
    assert_eq!(whole_program(0), 0);
}

/// The callback runs inside a free, or inside a release.
fn forks_from_a_callback() {
    static STATUS: AtomicI32 = AtomicI32::new(1);
    static FORKED: AtomicBool = AtomicBool::new(false);
    warm_up();
    let subscription = ebbtide::on_event(|event| {
        // Children, whose threads are called too, fork no more here.
        if matches!(event, Event::Release { .. }) && !FORKED.swap(true, Ordering::SeqCst) {
            STATUS.store(in_child(|| whole_program(0)).unwrap_or(-1), Ordering::SeqCst);
        }
    });
    // By policy: inside a free.
    drop((0..400).map(|_| Block::filled(100_000, 1)).collect::<Vec<_>>());
    assert_eq!(STATUS.swap(1, Ordering::SeqCst), 0, "wait status of a child, forked inside a free");
    FORKED.store(false, Ordering::SeqCst);
    ebbtide::free_os_memory();
    assert_eq!(STATUS.load(Ordering::SeqCst), 0, "wait status of a child, forked inside a release");
    drop(subscription);
    assert_eq!(whole_program(0), 0);
}

/// A fork by a bare system call runs no handlers. With one thread at work no lock is taken then: the child's heap is
/// whole, and no release of another thread of the child may take its first thread for one that is gone.
fn forks_without_handlers() {
    start(Policy::Off);
    assert!(churn(6, 5_000));
    // SAFETY: as fork; the child uses the allocator and threads and leaves by _exit.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) } as libc::pid_t;
    assert!(pid >= 0, "clone: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let code = whole_program(0);
        // SAFETY: _exit ends the child without running anything of the parent's.
        unsafe { libc::_exit(code) };
    }
    assert_eq!(status_of(pid), Ok(0));
    assert_eq!(whole_program(0), 0);
}
