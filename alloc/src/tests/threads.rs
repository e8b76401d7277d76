//! Threads allocate, hand over and free, while another one releases.

use core::alloc::Layout;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::{StopOnDrop, allocate, check_identities, free, heap, put_cache, take_cache};
use crate::heap::Heap;
use crate::inspect::report::ReleaseOptions;
use crate::os::fake::Fake;

/// A block on its way to another thread.
struct Sent {
    addr: usize,
    layout: Layout,
    mark: u8,
}

fn churn(heap: &Heap<Fake>, seed: u64, out: &mpsc::Sender<Sent>, arriving: &mpsc::Receiver<Sent>) {
    let cache = take_cache(heap).unwrap();
    let mut state = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut kept: Vec<Sent> = Vec::new();
    for round in 0..6_000u64 {
        let size = [16, 48, 300, 4_000, 30_000, 100_000][random(6) as usize] + random(16) as usize;
        let layout = Layout::from_size_align(size, 8).unwrap();
        let block = allocate(heap, cache, layout, false);
        assert!(!block.is_null());
        let mark = round as u8;
        // SAFETY: the block has `size` bytes.
        unsafe { block.write_bytes(mark, size.min(64)) };
        let sent = Sent { addr: block as usize, layout, mark };
        if random(3) == 0 {
            out.send(sent).unwrap();
        } else {
            kept.push(sent);
        }
        let mut done: Vec<Sent> = arriving.try_iter().collect();
        if kept.len() > 100 {
            done.push(kept.swap_remove(random(100) as usize));
        }
        for sent in done {
            check_and_free(heap, cache, &sent);
        }
    }
    kept.iter().for_each(|sent| check_and_free(heap, cache, sent));
    put_cache(heap, cache);
}

fn check_and_free(heap: &Heap<Fake>, cache: &crate::cache::magazine::ThreadCache, sent: &Sent) {
    let block = sent.addr as *mut u8;
    // SAFETY: whoever sent the block owned it, and gave it up.
    let intact = (0..sent.layout.size().min(64)).all(|at| unsafe { block.add(at).read() } == sent.mark);
    assert!(intact, "{} bytes at {block:p} changed hands", sent.layout.size());
    free(heap, cache, block, sent.layout);
}

#[test]
fn blocks_change_hands_while_memory_is_released() {
    let heap = heap();
    let stop = AtomicBool::new(false);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel()).unzip();
    let left: Vec<Sent> = std::thread::scope(|scope| {
        let releaser = scope.spawn(|| {
            let mut releases = 0u64;
            // Relaxed: only a flag.
            while !stop.load(Ordering::Relaxed) {
                heap.release(ReleaseOptions::new());
                check_identities(&heap.snapshot());
                releases += 1;
            }
            releases
        });
        let stopping = StopOnDrop(&stop);
        let threads: Vec<_> = receivers
            .into_iter()
            .enumerate()
            .map(|(number, arriving)| {
                let (heap, out) = (&heap, senders[(number + 1) % senders.len()].clone());
                scope.spawn(move || {
                    churn(heap, number as u64 + 1, &out, &arriving);
                    arriving
                })
            })
            .collect();
        let receivers: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        drop(senders);
        drop(stopping);
        assert!(releaser.join().unwrap() > 0);
        receivers.into_iter().flatten().collect()
    });
    let cache = take_cache(&heap).unwrap();
    left.iter().for_each(|sent| check_and_free(&heap, cache, sent));
    put_cache(&heap, cache);
    heap.verify(Some(cache)).unwrap();
    let report = heap.release(ReleaseOptions::new());
    assert_eq!((report.in_use_bytes, report.blocked_bytes()), (0, 0), "{report}");
}

/// Runs for spans, huge blocks and regions, of threads that use up segments at the same time: each of these is cut from a
/// segment once, and where one must be added, that is done once for all who wait.
#[test]
fn threads_that_need_address_space_at_once_get_it() {
    const THREADS: usize = 4;
    let heap = Heap::new(Fake::new(usize::MAX), 24 << 20);
    let barrier = std::sync::Barrier::new(THREADS);
    let (heap_of_all, barrier) = (&heap, &barrier);
    let take = move |number: usize| {
        let mut runs = Vec::new();
        barrier.wait();
        for round in 0..12 {
            let size = [100_000, 2 << 20, 5 << 20][(number + round) % 3];
            let block = heap_of_all.pages().allocate_large(size, 8, false);
            assert!(!block.is_null());
            runs.push((block as usize, size));
            let arena = heap_of_all.pages().new_arena(size).expect("a region");
            runs.push((arena.base.as_ptr() as usize, arena.len));
        }
        runs
    };
    let mut runs: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|number| scope.spawn(move || take(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    runs.sort_unstable();
    assert!(runs.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "two runs overlap");
    heap.verify(None).unwrap();
    check_identities(&heap.snapshot());
}
