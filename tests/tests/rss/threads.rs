//! Memory that other threads allocated, freed or cached.

use std::cell::RefCell;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use ebbtide::Policy;
use ebbtide_tests::block::Block;
use ebbtide_tests::memory::anonymous;
use ebbtide_tests::patience::fewer;
use ebbtide_tests::rng::Rng;

use crate::harness::{Case, KIB, MIB, at_most, start};

pub(crate) const CASES: &[Case] = &[
    Case { name: "thread_exit_returns_memory", run: thread_exit_returns_memory },
    Case { name: "parked_threads_return_memory", run: parked_threads_return_memory },
    Case { name: "busy_threads_do_not_stop_a_release", run: busy_threads_do_not_stop_a_release },
    Case { name: "freed_by_another_thread", run: freed_by_another_thread },
    Case { name: "freed_after_the_owner_exited", run: freed_after_the_owner_exited },
    Case { name: "allocation_while_thread_locals_are_destroyed", run: thread_local_destructors },
    Case { name: "short_threads_do_not_pile_up", run: short_threads_do_not_pile_up },
    Case { name: "ten_thousand_threads_leave_nothing", run: ten_thousand_threads_leave_nothing },
];

/// Stacks and thread control blocks that glibc keeps for the next threads, and the allocator's tables.
const REST: u64 = 4 * MIB;

/// About 25 MiB in small blocks.
fn burst(seed: u64) -> Vec<Block> {
    let mut rng = Rng::new(seed);
    (0..100_000).map(|i| Block::filled(rng.range(16, 512), i)).collect()
}

fn thread_exit_returns_memory() {
    let before = start(Policy::Off);
    let workers: Vec<_> = (0..4).map(|seed| thread::spawn(move || drop(burst(seed)))).collect();
    for worker in workers {
        worker.join().expect("it only allocates");
    }
    ebbtide::free_os_memory();
    at_most("resident after the threads exited", anonymous(), before, REST);
    at_most("cached by threads that are gone", ebbtide::mem_stats().heap_cached, 0, MIB);
}

fn parked_threads_return_memory() {
    let before = start(Policy::Off);
    let barrier = Arc::new(Barrier::new(5));
    let worker = |seed| {
        let barrier = Arc::clone(&barrier);
        thread::spawn(move || {
            drop(burst(seed));
            barrier.wait();
            barrier.wait();
            // Its cache was emptied under it: it must work as before.
            let blocks = burst(seed);
            assert!(blocks.iter().enumerate().all(|(i, block)| block.holds(i as u64, block.size())));
        })
    };
    let workers: Vec<_> = (0..4).map(worker).collect();
    barrier.wait();
    let report = ebbtide::free_os_memory();
    at_most("resident while the threads are parked", anonymous(), before, REST);
    at_most("blocked", report.blocked_bytes(), 0, REST);
    barrier.wait();
    for worker in workers {
        worker.join().expect("the parked threads go on");
    }
}

/// A thread that allocates and frees all the time may keep its own cache, and no more than that.
fn busy_threads_do_not_stop_a_release() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let before = start(Policy::Off);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for seed in 0..2 {
            let stop = &stop;
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                // Relaxed: the flag carries no data.
                while !stop.load(Ordering::Relaxed) {
                    drop(Block::filled(rng.range(16, 512), seed));
                }
            });
        }
        for seed in 0..4 {
            drop(burst(seed));
            ebbtide::free_os_memory();
            at_most("resident beside busy threads", anonymous(), before, REST);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn freed_by_another_thread() {
    let before = start(Policy::Off);
    for seed in 0..3 {
        let blocks = burst(seed);
        thread::spawn(move || drop(blocks)).join().expect("it only frees");
        ebbtide::free_os_memory();
        at_most("resident after another thread freed", anonymous(), before, REST);
    }
}

fn freed_after_the_owner_exited() {
    let before = start(Policy::Off);
    for seed in 0..3 {
        let blocks = thread::spawn(move || burst(seed)).join().expect("it only allocates");
        assert!(blocks.iter().enumerate().all(|(i, block)| block.holds(i as u64, block.size())));
        drop(blocks);
        ebbtide::free_os_memory();
        at_most("resident after the main thread freed", anonymous(), before, REST);
    }
}

/// Allocates when the thread dies, and hands what it made to the main thread.
struct Late(Arc<Mutex<Vec<Block>>>);

impl Drop for Late {
    fn drop(&mut self) {
        let kept = Block::filled(700, 9);
        let mut passing: Vec<Block> = (0..50).map(|seed| Block::filled(1300, seed)).collect();
        passing.retain(|block| block.address() % 3 == 0);
        self.0.lock().expect("no thread panics").push(kept);
    }
}

fn thread_local_destructors() {
    thread_local! {
        static EARLY: RefCell<Option<Late>> = const { RefCell::new(None) };
        static LATE: RefCell<Option<Late>> = const { RefCell::new(None) };
    }
    let before = start(Policy::Off);
    let made = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..300 {
        let made = Arc::clone(&made);
        // One destructor is registered before the thread's first allocation of its own and one after. `ends.rs` has
        // those that run when the allocator's own thread state is torn down already.
        let worker = thread::spawn(move || {
            EARLY.set(Some(Late(Arc::clone(&made))));
            drop(burst_of(200));
            LATE.set(Some(Late(made)));
        });
        worker.join().expect("destructors may allocate");
    }
    let made = std::mem::take(&mut *made.lock().expect("no thread panics"));
    assert_eq!(made.len(), 600);
    assert!(made.iter().all(|block| block.holds(9, 700)), "blocks outlive their threads");
    drop(made);
    ebbtide::free_os_memory();
    at_most("resident after all threads died", anonymous(), before, REST);
}

fn burst_of(len: u64) -> Vec<Block> {
    (0..len).map(|seed| Block::filled(100 + seed as usize, seed)).collect()
}

/// Caches of dead threads are used again: a thousand threads need no more than ten.
fn short_threads_do_not_pile_up() {
    let before = start(Policy::Off);
    let run = |threads: u64| {
        for seed in 0..threads {
            thread::spawn(move || drop(burst_of(300 + seed % 7))).join().expect("it only allocates");
        }
        ebbtide::mem_stats()
    };
    let few = run(10);
    let many = run(1000);
    at_most("heap_sys after 1,010 threads", many.heap_sys, few.heap_sys, 2 * MIB);
    at_most("metadata after 1,010 threads", many.metadata_sys, few.metadata_sys, 2 * MIB);
    ebbtide::free_os_memory();
    at_most("resident after all threads exited", anonymous(), before, REST);
}

/// How many threads of the trial below live at a time.
const AT_A_TIME: usize = 16;

/// Threads of mixed sizes that hand some of their blocks on. All of the first wave are alive at once, so that later
/// ones need no more caches than these.
fn waves(threads: usize, all_at_once: bool) -> (ebbtide::MemStats, u64) {
    let handed: Mutex<Vec<(Block, u64)>> = Mutex::new(Vec::with_capacity(100 * AT_A_TIME));
    let barrier = Barrier::new(AT_A_TIME);
    for wave in 0..threads / AT_A_TIME {
        thread::scope(|scope| {
            let start = |number| {
                let (handed, barrier) = (&handed, &barrier);
                scope.spawn(move || {
                    let mut rng = Rng::new((wave * AT_A_TIME + number) as u64);
                    let made = |seed| (Block::filled(rng.log_uniform(0, 14), seed), seed);
                    let mut blocks: Vec<(Block, u64)> = (0..60).map(made).collect();
                    if all_at_once && wave == 0 {
                        barrier.wait();
                    }
                    let mut desk = handed.lock().expect("no thread panics");
                    let taken = desk.len().min(25);
                    let given: Vec<_> = blocks.drain(..20).collect();
                    blocks.extend(desk.drain(..taken));
                    desk.extend(given);
                    drop(desk);
                    assert!(blocks.iter().all(|(block, seed)| block.holds(*seed, block.size())));
                })
            };
            let threads: Vec<_> = (0..AT_A_TIME).map(start).collect();
            // The scope itself does not wait for the ends of its threads, in which they give their caches back.
            threads.into_iter().for_each(|thread| thread.join().expect("it only allocates"));
        });
    }
    drop(handed);
    ebbtide::free_os_memory();
    (ebbtide::mem_stats(), anonymous())
}

/// Fails where a thread's end loses its cache, a span, or slots that another thread freed.
fn ten_thousand_threads_leave_nothing() {
    let before = start(Policy::Off);
    let (warm, warm_resident) = waves(50 * AT_A_TIME, true);
    let (all, resident) = waves(fewer(10_000), false);
    // A cache with its stacks takes more than this, and they are made eight at a time.
    at_most("metadata after 10,000 threads", all.metadata_sys, warm.metadata_sys, 128 * KIB);
    at_most("heap_sys after 10,000 threads", all.heap_sys, warm.heap_sys, 4 * MIB);
    at_most("in use after 10,000 threads", all.heap_inuse, warm.heap_inuse, MIB / 4);
    at_most("resident after 10,000 threads", resident, warm_resident, MIB);
    at_most("resident against the start", resident, before, REST);
    assert_eq!(ebbtide_alloc::verify(), Ok(()));
}
