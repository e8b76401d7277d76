//! Allocation beside releases that run all the time: nothing that is handed out may lose its content, and the heap is
//! whole afterwards.

use core::alloc::Layout;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use super::{StopOnDrop, allocate, empty_cache, free, heap, put_cache, take_cache};
use crate::base::units::{PAGE, UNIT};
use crate::cache::magazine::ThreadCache;
use crate::heap::Heap;
use crate::inspect::report::ReleaseOptions;
use crate::os::fake::Fake;
use crate::space::span::Access;

/// Runs `work` while another thread releases without pause. It stops even if `work` panics.
fn beside_releases<R>(heap: &Heap<Fake>, work: impl FnOnce() -> R) -> R {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let releaser = scope.spawn(|| {
            heap.caches.share();
            // Relaxed: only a flag.
            while !stop.load(Ordering::Relaxed) {
                heap.release(ReleaseOptions::new());
            }
        });
        let stopping = StopOnDrop(&stop);
        let result = work();
        drop(stopping);
        // A join is what ThreadSanitizer sees; the end of the scope is not.
        releaser.join().unwrap();
        result
    })
}

#[test]
fn large_blocks_are_zero_when_asked_and_keep_what_is_written() {
    let heap = heap();
    beside_releases(&heap, || {
        for round in 0..3000 {
            let size = [16, 100, 200][round % 3] * UNIT - 1;
            let block = heap.pages().allocate_large(size, 8, true);
            let pages = || (0..size).step_by(PAGE);
            // SAFETY: the block has `size` bytes.
            let reads = |value: u8| pages().all(|at| unsafe { block.add(at).read() } == value);
            assert!(reads(0), "round {round}");
            // SAFETY: as above.
            pages().for_each(|at| unsafe { block.add(at).write(0xab) });
            std::thread::yield_now();
            assert!(reads(0xab), "round {round}");
            heap.sound(heap.pages().free_large(block));
        }
    });
}

/// Allocates, frees and empties the cache at random; returns what is kept in the end.
fn churn(heap: &Heap<Fake>, cache: &ThreadCache, layout: Layout, most: usize, seed: u64) -> Vec<*mut u8> {
    let mut kept: Vec<*mut u8> = Vec::new();
    let mut state = seed;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if kept.len() < most && state >> 40 & 1 == 0 {
            kept.push(allocate(heap, cache, layout, false));
        } else if !kept.is_empty() {
            let block = kept.swap_remove((state >> 33) as usize % kept.len());
            free(heap, cache, block, layout);
            if state >> 50 & 7 == 0 {
                empty_cache(heap, cache);
            }
        }
    }
    kept
}

fn small_blocks_beside_releases(size: usize, most: usize) {
    let heap = heap();
    let layout = Layout::from_size_align(size, 8).unwrap();
    let cache = take_cache(&heap).unwrap();
    for round in 0..25 {
        let kept = beside_releases(&heap, || {
            // The addresses leave the closure as numbers, which every thread may hold.
            churn(&heap, cache, layout, most, round)
                .into_iter()
                .map(|block| block as usize)
                .collect::<Vec<_>>()
        });
        heap.verify(Some(cache)).unwrap();
        kept.into_iter().for_each(|block| free(&heap, cache, block as *mut u8, layout));
        empty_cache(&heap, cache);
        heap.verify(Some(cache)).unwrap();
    }
    put_cache(&heap, cache);
    heap.release(ReleaseOptions::new());
    assert_eq!(heap.snapshot().heap_inuse, 0, "no span is lost");
}

#[test]
fn slots_of_a_page_beside_releases() {
    small_blocks_beside_releases(PAGE, 40);
}

#[test]
fn slots_that_straddle_pages_beside_releases() {
    small_blocks_beside_releases(5120, 20);
}

#[test]
fn many_small_slots_beside_releases() {
    small_blocks_beside_releases(32, 3000);
}

/// A first thread that has been alone keeps all of its slots when others come in the midst of its slow paths.
#[test]
fn others_come_while_the_first_thread_works_alone() {
    let layout = Layout::from_size_align(64, 8).unwrap();
    for round in 0..40 {
        let heap = heap();
        let cache = take_cache(&heap).unwrap();
        assert_eq!(heap.caches.sharing.access(), Access::Alone);
        // Blocks that the first thread leaves behind: others give them back into its words of bits.
        let left: Vec<_> = (0..500).map(|_| allocate(&heap, cache, layout, false) as usize).collect();
        let started = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                while !started.load(Ordering::Relaxed) {
                    core::hint::spin_loop();
                }
                let cache = take_cache(&heap).unwrap();
                left.iter().for_each(|block| free(&heap, cache, *block as *mut u8, layout));
                put_cache(&heap, cache);
            });
            started.store(true, Ordering::Relaxed);
            let kept = churn(&heap, cache, layout, 300, round);
            kept.into_iter().for_each(|block| free(&heap, cache, block, layout));
            other.join().unwrap();
        });
        assert_eq!(heap.caches.sharing.access(), Access::Shared);
        put_cache(&heap, cache);
        heap.verify(Some(cache)).unwrap();
        heap.release(ReleaseOptions::new());
        assert_eq!(heap.snapshot().heap_inuse, 0, "a slot was lost in round {round}");
    }
}

#[test]
fn a_deadline_leaves_free_runs_joined() {
    for nanoseconds in (0..40_000).step_by(500) {
        let heap = heap();
        heap.sound(heap.pages().free_large(heap.pages().allocate_large(30 * UNIT, 8, false)));
        let options =
            ReleaseOptions::new().max_bytes(UNIT as u64).deadline(Duration::from_nanos(nanoseconds));
        heap.release(options);
        assert_eq!(heap.verify(None), Ok(()), "after {nanoseconds} ns");
    }
}
