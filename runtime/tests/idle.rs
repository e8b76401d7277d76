//! `flush_thread_cache`: what a thread's cache holds goes back to the heap. One test, so that nothing else allocates meanwhile.

use ebbtide::{BlockReason, Policy};
use std::sync::{Arc, Barrier};
use std::thread;

#[global_allocator]
static GLOBAL: ebbtide::Ebbtide = ebbtide::Ebbtide::new();

const THREADS: usize = 4;
const KIB: u64 = 1 << 10;

/// Fills the magazines of this thread with free slots of many sizes.
fn fill_cache() {
    for size in (4..15).map(|power| 1_usize << power) {
        drop((0..200).map(|_| vec![1_u8; size]).collect::<Vec<_>>());
    }
}

/// Bytes that the caches hold while some threads sleep that had work to do before.
fn cached_while_asleep(before_sleep: fn()) -> u64 {
    let barrier = Arc::new(Barrier::new(THREADS + 1));
    let sleepers: Vec<_> = (0..THREADS)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                fill_cache();
                before_sleep();
                barrier.wait();
                barrier.wait();
            })
        })
        .collect();
    barrier.wait();
    let cached = ebbtide::mem_stats().heap_cached;
    let blocked = ebbtide::free_os_memory().blocked.bytes(BlockReason::ThreadCache);
    assert!(blocked <= cached, "a release reaches all but a slot of each size: {blocked} of {cached}");
    barrier.wait();
    sleepers.into_iter().for_each(|sleeper| sleeper.join().expect("no panic"));
    cached
}

#[test]
fn a_thread_that_says_it_sleeps_caches_nothing() {
    ebbtide::set_policy(Policy::Off);
    ebbtide::flush_thread_cache();
    let own = ebbtide::mem_stats().heap_cached;
    let without = cached_while_asleep(|| {});
    let with = cached_while_asleep(ebbtide::flush_thread_cache);
    assert!(without >= own + THREADS as u64 * 200 * KIB, "{without} beside {own}");
    // What this thread and the barriers took since: some slots of a few sizes.
    assert!(with <= own + 256 * KIB, "{with} beside {own}");

    // It may be called at any time, and more than once.
    fill_cache();
    ebbtide::flush_thread_cache();
    ebbtide::flush_thread_cache();
    fill_cache();
    #[expect(deprecated, reason = "its former name still works")]
    ebbtide::idle();
}
