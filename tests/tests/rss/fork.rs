//! Forks of a threaded program: the child goes on with one thread, whatever the others were in the midst of.
#![allow(unsafe_code, reason = "fork and waitpid are libc functions")]

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ebbtide::Policy;
use ebbtide_alloc::{Fault, Region};
use ebbtide_tests::block::Block;
use ebbtide_tests::patience::patient;
use ebbtide_tests::rng::Rng;

use crate::harness::{Case, StopOnDrop, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "forks_amid_allocation_leave_the_child_usable", run: forks_amid_allocation },
    Case { name: "forks_of_a_heap_at_rest_leave_it_whole", run: forks_at_rest },
];

const WORKERS: u64 = 4;
const FORKS: u64 = 50;
/// A child is done in milliseconds. One that is not by then waits for a lock that nobody frees.
const PATIENCE: Duration = Duration::from_secs(20);
/// Blocks of each worker that the main thread, and so each child, frees.
const GIVEN: u64 = 200;

/// More than libc keeps for later threads.
const STACK: usize = 64 << 20;

/// What a child reports by its exit status.
pub(crate) const CORRUPT: i32 = 2;
pub(crate) const BROKEN: i32 = 3;

fn given(seed: u64) -> Block {
    Block::filled(50 + seed as usize * 7, seed)
}

fn are_whole(blocks: &[Block]) -> bool {
    blocks.iter().enumerate().all(|(at, block)| block.holds(at as u64 % GIVEN, block.size()))
}

/// All that a program does with its heap, in a child. Allocates what its parent's threads may have been allocating
/// too, so that it needs every lock that they may have had.
fn live_on(blocks: &mut Vec<Block>, others_rested: bool) -> i32 {
    let mut rng = Rng::new(3);
    let mut more: Vec<Block> = (0..1000).map(|_| Block::filled(rng.log_uniform(0, 13), 5)).collect();
    more.extend((0..2).map(|_| Block::filled(300_000, 5)));
    drop(Block::new(3 << 20));
    let region = Region::new(2 << 20);
    if !are_whole(blocks) {
        return CORRUPT;
    }
    // Half of what the parent's other threads allocated, from the end, so that the numbers of the rest stay.
    blocks.truncate(blocks.len() / 2);
    ebbtide::free_os_memory();
    // Threads of the child: they find caches that the parent's threads never gave back.
    let threads: Vec<_> =
        (0..2).map(|_| thread::spawn(|| (0..GIVEN).map(given).collect::<Vec<_>>())).collect();
    let mut made = true;
    for thread in threads {
        made &= thread.join().is_ok_and(|blocks| are_whole(&blocks));
    }
    if !made || !are_whole(blocks) || !more.iter().all(|block| block.holds(5, block.size())) {
        return CORRUPT;
    }
    drop((more, region));
    blocks.clear();
    ebbtide::free_os_memory();
    match ebbtide_alloc::verify() {
        Ok(()) => 0,
        // What a thread that is gone was in the midst of stays so: a span on its way to the page heap or to a list,
        // slots taken whose pages were not marked yet. Nobody can have these; they are lost to the child.
        Err(error) if !others_rested && matches!(error.fault, Fault::SpanList | Fault::ReleasedInUse) => 0,
        Err(_) => BROKEN,
    }
}

/// Forks, has the child do `work` and end with the status that it returns, and waits for the child's wait status. Ends a
/// child that hangs.
pub(crate) fn in_child(work: impl FnOnce() -> i32) -> Result<i32, String> {
    // SAFETY: the child uses the allocator and threads, which must work after fork, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let code = work();
        // SAFETY: _exit ends the child without running anything of the parent's.
        unsafe { libc::_exit(code) };
    }
    status_of(pid)
}

/// Waits for a child, and ends one that hangs.
pub(crate) fn status_of(pid: libc::pid_t) -> Result<i32, String> {
    let (mut status, started) = (0, Instant::now());
    loop {
        // SAFETY: `status` is valid for writes, and `pid` is a child of this process that was not waited for yet.
        match unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } {
            0 if started.elapsed() < patient(PATIENCE) => thread::sleep(Duration::from_millis(1)),
            0 => {
                // SAFETY: as above; the child is still there.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                // SAFETY: as above.
                unsafe { libc::waitpid(pid, &raw mut status, 0) };
                return Err(format!("a child hung for {:?}", patient(PATIENCE)));
            }
            waited => {
                assert_eq!(waited, pid, "waitpid: {}", std::io::Error::last_os_error());
                return Ok(status);
            }
        }
    }
}

fn child_status(blocks: &mut Vec<Block>, others_rested: bool) -> Result<i32, String> {
    in_child(|| live_on(blocks, others_rested))
}

fn fork_and_judge(blocks: &mut Vec<Block>, others_rested: bool) {
    match child_status(blocks, others_rested) {
        Ok(0) => assert!(are_whole(blocks), "what the child does is its own affair"),
        Ok(status) => {
            panic!("wait status {status:#x} of a child; {CORRUPT}: lost contents, {BROKEN}: broken heap")
        }
        Err(hung) => panic!("{hung}"),
    }
}

/// Blocks that other threads allocated, some of which have ended since.
fn blocks_of_other_threads() -> Vec<Block> {
    let makers: Vec<_> = (0..WORKERS).map(|_| thread::spawn(|| (0..GIVEN).map(given).collect())).collect();
    makers.into_iter().flat_map(|maker| -> Vec<Block> { maker.join().expect("it only allocates") }).collect()
}

/// Uses every lock of the allocator: refills and flushes, whole spans, large blocks, regions, releases.
fn be_busy(me: u64, stop: &AtomicBool, rounds: &AtomicU64) {
    let mut rng = Rng::new(me);
    // Relaxed: flag and count carry no data.
    while !stop.load(Ordering::Relaxed) {
        let blocks: Vec<Block> = (0..300).map(|_| Block::new(rng.log_uniform(0, 17))).collect();
        drop(blocks);
        drop(Region::new(1 << 20));
        if rng.below(4) == 0 {
            ebbtide::free_os_memory();
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// Fails where a lock of the allocator stays taken in the child, where the child takes over what a thread was changing,
/// and where a release in it reaches for threads that are not there.
fn forks_amid_allocation() {
    start(Policy::Percent(10));
    let mut blocks = blocks_of_other_threads();
    let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let busy = |me| {
            let (stop, rounds) = (&stop, &rounds);
            scope.spawn(move || be_busy(me, stop, rounds))
        };
        let workers: Vec<_> = (0..WORKERS).map(busy).collect();
        for _ in 0..FORKS {
            fork_and_judge(&mut blocks, false);
        }
        drop(stopping);
        // The scope itself does not wait for the ends of its threads, in which they empty their caches.
        workers.into_iter().for_each(|worker| worker.join().expect("it only allocates"));
    });
    assert!(rounds.into_inner() > FORKS, "the other threads worked");
    drop(blocks);
    ebbtide::free_os_memory();
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}

/// The other threads hold caches and rest between two operations: the child's heap must be whole.
fn forks_at_rest() {
    start(Policy::Off);
    let mut blocks = blocks_of_other_threads();
    let barrier = Barrier::new(WORKERS as usize + 1);
    thread::scope(|scope| {
        for me in 0..WORKERS {
            let barrier = &barrier;
            let resting = move || {
                let mut rng = Rng::new(me);
                let blocks: Vec<Block> =
                    (0..3000).map(|_| Block::filled(rng.log_uniform(0, 15), 5)).collect();
                let kept: Vec<Block> = blocks.into_iter().step_by(2).collect();
                barrier.wait();
                barrier.wait();
                assert!(kept.iter().all(|block| block.holds(5, block.size())));
            };
            // With large stacks: libc unmaps those, and the thread locals in them, when a thread of the child ends.
            let builder = thread::Builder::new().stack_size(STACK);
            builder.spawn_scoped(scope, resting).expect("address space for a stack");
        }
        barrier.wait();
        let statuses: Vec<_> = (0..5).map(|_| child_status(&mut blocks, true)).collect();
        // Before anything is said of them: the threads must be let go.
        barrier.wait();
        assert!(statuses.iter().all(|status| *status == Ok(0)), "{statuses:?}");
    });
    assert!(are_whole(&blocks));
}
