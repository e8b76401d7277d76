//! What a release reaches, and what it reports.

use core::alloc::Layout;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::{allocate, check_identities, empty_cache, free, heap, take_cache};
use crate::base::units::{PAGE, UNIT};
use crate::inspect::report::{BlockReason, ReleaseOptions};
use crate::os::ThreadMark;
use crate::os::fake::Call;
use crate::space::live_bits::HARDENED;
use crate::space::size_class::SizeClass;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

#[test]
fn holes_between_live_objects_leave_page_by_page() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    let size = 512;
    let blocks: Vec<_> = (0..UNIT / size).map(|_| allocate(&heap, cache, layout(size), false)).collect();
    // One object of each 32 stays: one page of each four.
    for (_, block) in blocks.iter().enumerate().filter(|(at, _)| at % 32 != 0) {
        free(&heap, cache, *block, layout(size));
    }
    empty_cache(&heap, cache);
    let report = heap.release(ReleaseOptions::new());
    assert_eq!(report.released_bytes, (UNIT - 4 * PAGE) as u64);
    assert_eq!(report.in_use_bytes, 4 * size as u64);
    assert_eq!(report.blocked.bytes(BlockReason::LiveObjects), (4 * (PAGE - size)) as u64);
    assert_eq!(report.syscalls, 1, "the holes leave together");
    let stats = heap.snapshot();
    check_identities(&stats);
    assert_eq!((stats.heap_inuse, stats.heap_free), (4 * PAGE as u64, 0));
    heap.verify(Some(cache)).unwrap();
    // Room on resident pages is used before released pages come back.
    let again: Vec<_> = (0..4 * 7).map(|_| allocate(&heap, cache, layout(size), false)).collect();
    empty_cache(&heap, cache);
    assert_eq!(heap.snapshot().heap_inuse, 4 * PAGE as u64);
    again.iter().for_each(|block| free(&heap, cache, *block, layout(size)));
}

#[test]
fn tails_of_large_blocks_leave_and_come_back_zero() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    let block = heap.pages().allocate_large(2 * UNIT, 8, false);
    // SAFETY: the block has two units.
    unsafe { block.write_bytes(0xee, 2 * UNIT) };
    assert!(heap.sound(heap.pages().resize_large(block, UNIT + PAGE, 8)), "shrinks in place");
    let stats = heap.snapshot();
    assert_eq!((stats.heap_alloc, stats.heap_free), ((UNIT + PAGE) as u64, (UNIT - PAGE) as u64));
    let report = heap.release(ReleaseOptions::new());
    assert_eq!(report.released_bytes, (UNIT - PAGE) as u64);
    assert!(heap.sound(heap.pages().resize_large(block, 2 * UNIT, 8)), "grows in place");
    // SAFETY: the block has two units again.
    unsafe {
        assert_eq!(block.add(UNIT + PAGE - 1).read(), 0xee);
        assert_eq!(block.add(UNIT + PAGE).read(), 0);
    }
    heap.sound(heap.pages().free_large(block));
    heap.verify(Some(cache)).unwrap();
}

#[test]
fn locked_and_refused_pages_are_reported_and_nothing_is_lost() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    let block = heap.pages().allocate_large(4 * UNIT, 8, false);
    // SAFETY: the block has four units.
    unsafe { block.write_bytes(1, 4 * UNIT) };
    heap.sound(heap.pages().free_large(block));
    heap.os().lock_pages(block as usize + UNIT, 2 * PAGE);
    let report = heap.release(ReleaseOptions::new());
    assert_eq!(report.blocked.bytes(BlockReason::Locked), 2 * PAGE as u64);
    assert_eq!(report.released_bytes, (4 * UNIT - 2 * PAGE) as u64);
    assert_eq!(heap.snapshot().heap_free, 2 * PAGE as u64);
    heap.os().lock_pages(0, 0);
    heap.os().refuse(Call::Release, libc::EAGAIN, 0, true);
    let report = heap.release(ReleaseOptions::new());
    assert_eq!(report.blocked.bytes(BlockReason::Refused(libc::EAGAIN)), 2 * PAGE as u64);
    heap.os().relent();
    assert_eq!(heap.release(ReleaseOptions::new()).released_bytes, 2 * PAGE as u64);
    // What could not leave was not taken for zero.
    let zeroed = heap.pages().allocate_large(4 * UNIT, 8, true);
    // SAFETY: the block has four units.
    assert!((0..4 * UNIT).all(|at| unsafe { zeroed.add(at).read() } == 0));
    heap.sound(heap.pages().free_large(zeroed));
    heap.verify(Some(cache)).unwrap();
}

#[test]
fn bounds_stop_a_release_and_the_next_goes_on() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    let block = heap.pages().allocate_large(30 * UNIT, 8, false);
    heap.sound(heap.pages().free_large(block));
    let some = heap.release(ReleaseOptions::new().max_bytes(10 * UNIT as u64));
    assert!(some.stopped_early);
    assert_eq!(some.released_bytes, 10 * UNIT as u64);
    assert_eq!(some.blocked_bytes(), 0, "what was not looked at is not blocked");
    heap.verify(Some(cache)).unwrap();
    let none = heap.release(ReleaseOptions::new().deadline(core::time::Duration::ZERO));
    assert_eq!((none.released_bytes, none.stopped_early), (0, true));
    let rest = heap.release(ReleaseOptions::new());
    assert_eq!((rest.released_bytes, rest.stopped_early), (20 * UNIT as u64, false));
    assert_eq!(heap.os().calls(Call::Release).len(), 2, "one call for a run");
}

#[test]
fn a_release_without_the_resident_set_does_not_ask_for_it() {
    let heap = heap();
    let block = heap.pages().allocate_large(UNIT, 8, false);
    heap.sound(heap.pages().free_large(block));
    let report = heap.release(ReleaseOptions::new().without_rss());
    assert_eq!((report.rss_before, report.rss_after, report.released_bytes), (0, 0, UNIT as u64));
    assert!(heap.os().calls(Call::Rss).is_empty());
    assert!(heap.release(ReleaseOptions::new()).rss_after > 0);
}

#[test]
fn bounded_releases_walk_on_from_where_the_last_one_stopped() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    // Forty spans, each with holes between objects that stay.
    let count = 40 * UNIT / 2048;
    let blocks: Vec<_> = (0..count).map(|_| allocate(&heap, cache, layout(2048), false)).collect();
    for block in blocks.iter().enumerate().filter(|(at, _)| at % 4 != 0).map(|(_, block)| block) {
        free(&heap, cache, *block, layout(2048));
    }
    empty_cache(&heap, cache);
    let (mut last, mut rounds) = (0, 0);
    loop {
        let before = heap.os().calls(Call::Release).len();
        let report = heap.release(ReleaseOptions::new().max_bytes(8 * PAGE as u64));
        heap.verify(Some(cache)).unwrap();
        for (addr, _) in &heap.os().calls(Call::Release)[before..] {
            assert!(*addr > last, "it went back to {addr:#x} from {last:#x}");
            last = *addr;
        }
        if !report.stopped_early {
            break;
        }
        rounds += 1;
    }
    assert!(rounds > 20, "{rounds}");
    assert_eq!(heap.release(ReleaseOptions::new()).released_bytes, 0, "nothing was passed over");
    blocks.iter().step_by(4).for_each(|block| free(&heap, cache, *block, layout(2048)));
}

#[test]
fn an_os_that_takes_one_range_at_a_time_is_asked_so() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    let blocks: Vec<_> = (0..64).map(|_| allocate(&heap, cache, layout(2048), false)).collect();
    for block in blocks.iter().enumerate().filter(|(at, _)| at % 4 > 1).map(|(_, block)| block) {
        free(&heap, cache, *block, layout(2048));
    }
    empty_cache(&heap, cache);
    heap.os().refuse(Call::ReleaseMany, libc::ENOSYS, 0, true);
    let report = heap.release(ReleaseOptions::new());
    assert_eq!(report.released_bytes, 16 * PAGE as u64);
    assert!(report.syscalls > 16, "{report:?}");
    assert_eq!(report.blocked.bytes(BlockReason::Refused(libc::ENOSYS)), 0);
    heap.verify(Some(cache)).unwrap();
}

#[test]
fn pages_that_came_with_their_commit_count_as_resident() {
    let heap = heap();
    heap.os().populate();
    let cache = take_cache(&heap).unwrap();
    let blocks =
        [1000, 100_000, 3_000_000].map(|size| (allocate(&heap, cache, layout(size), false), layout(size)));
    let stats = heap.snapshot();
    check_identities(&stats);
    assert_eq!(stats.heap_released, 0, "all that is committed is resident");
    heap.verify(Some(cache)).unwrap();
    blocks.iter().for_each(|(block, layout)| free(&heap, cache, *block, *layout));
    empty_cache(&heap, cache);
    let report = heap.release(ReleaseOptions::new());
    assert_eq!(report.released_bytes, stats.heap_sys);
    heap.verify(Some(cache)).unwrap();
}

#[test]
fn the_cache_of_a_thread_that_ended_without_a_word_is_inherited() {
    let heap = heap();
    let (own, lost) = (take_cache(&heap).unwrap(), take_cache(&heap).unwrap());
    let blocks: Vec<_> = (0..50).map(|_| allocate(&heap, lost, layout(500), false)).collect();
    blocks.iter().for_each(|block| free(&heap, lost, *block, layout(500)));
    assert!(lost.held_bytes() >= 25_000);
    // Its thread local is gone: to write there would be a fault.
    lost.pointer.store(core::ptr::without_provenance_mut(64), Ordering::Relaxed);
    let mark = |thread| ThreadMark { process: 1, thread, robust_list: 1 };
    lost.owner.set(mark(-2));
    let held = lost.held_bytes();
    heap.release(ReleaseOptions::new());
    assert_eq!(lost.held_bytes(), held, "nobody knows whether its owner goes on");
    lost.owner.set(mark(-1));
    heap.release(ReleaseOptions::new());
    assert_eq!((heap.snapshot().heap_inuse, heap.snapshot().heap_free), (0, 0), "nothing is lost");
    heap.verify(Some(own)).unwrap();
    assert!(core::ptr::eq(take_cache(&heap).unwrap(), lost), "the next thread has it");
}

#[test]
fn slots_in_other_caches_are_reported() {
    let heap = heap();
    let (mine, other) = (take_cache(&heap).unwrap(), take_cache(&heap).unwrap());
    let block = allocate(&heap, other, layout(1024), false);
    free(&heap, other, block, layout(1024));
    let report = heap.release(ReleaseOptions::new());
    let held = other.held_bytes();
    assert!(held > 0);
    assert_eq!(report.blocked.bytes(BlockReason::ThreadCache), held);
    empty_cache(&heap, other);
    assert_eq!(heap.release(ReleaseOptions::new()).blocked_bytes(), 0);
    heap.verify(Some(mine)).unwrap();
}

#[test]
fn a_release_takes_all_but_the_top_of_another_threads_stacks() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    let blocks: Vec<_> = (0..64).map(|_| allocate(&heap, cache, layout(1024), false)).collect();
    blocks.iter().for_each(|block| free(&heap, cache, *block, layout(1024)));
    let held = cache.held_bytes();
    assert!(held >= 64 * 1024);
    // A thread that has the cache: its thread local, and a pop that is under way while the release works.
    let mut pointer = AtomicPtr::new(core::ptr::from_ref(cache).cast_mut());
    cache.pointer.store(&raw mut pointer, Ordering::Relaxed);
    let class = SizeClass::of(1024, 8).unwrap();
    let top = *cache.magazine(class).held().last().unwrap();
    let report = heap.release(ReleaseOptions::new());
    // SAFETY: where a cache that is detached points, there is another one.
    let closed = unsafe { &*pointer.load(Ordering::Relaxed) };
    let magazine = closed.magazine(class);
    assert_eq!((magazine.pop(), magazine.push(top)), (None, false), "the owner is sent to its slow path");
    assert_eq!(report.blocked.bytes(BlockReason::ThreadCache), 1024);
    assert_eq!(report.released_bytes, held.next_multiple_of(UNIT as u64) - PAGE as u64);
    // The pop ends only now, then a second release finds nothing new, then the owner comes back.
    assert_eq!(cache.magazine(class).pop(), Some(top));
    if HARDENED {
        heap.spans().hand_out(class, top);
    }
    assert_eq!(heap.release(ReleaseOptions::new()).released_bytes, 0);
    cache.of_sole_thread().mend();
    assert_eq!(cache.held_bytes(), 0);
    free(&heap, cache, top, layout(1024));
    heap.verify(Some(cache)).unwrap();
    cache.pointer.store(core::ptr::null_mut(), Ordering::Relaxed);
    empty_cache(&heap, cache);
    heap.release(ReleaseOptions::new());
    assert_eq!((heap.snapshot().heap_inuse, heap.snapshot().heap_free), (0, 0));
}

#[test]
fn what_a_thread_frees_before_it_allocates_is_not_used_again_by_it() {
    let heap = heap();
    let (giver, taker) = (take_cache(&heap).unwrap(), take_cache(&heap).unwrap());
    let given = allocate(&heap, giver, layout(64), false);
    free(&heap, taker, given, layout(64));
    assert_eq!(taker.held_bytes(), 0, "it went back at once");
    let own = allocate(&heap, taker, layout(64), false);
    assert!(own as usize / UNIT != given as usize / UNIT, "and the taker has a span of its own");
    free(&heap, taker, own, layout(64));
    assert!(taker.held_bytes() > 0);
    empty_cache(&heap, giver);
    empty_cache(&heap, taker);
    heap.verify(Some(taker)).unwrap();
}

/// The place in a free run is found again however long the run is.
#[test]
fn a_release_in_steps_finds_its_place_in_a_long_run() {
    let heap = heap();
    let block = heap.pages().allocate_large(300 * UNIT, 8, false);
    assert!(!block.is_null());
    heap.sound(heap.pages().free_large(block));
    let idle = heap.snapshot().heap_free;
    let (mut released, mut steps) = (0, 0);
    loop {
        let options = ReleaseOptions::new().max_bytes(3 << 20).in_steps();
        let report = heap.release(if steps == 0 { options } else { options.spare_caches() });
        (released, steps) = (released + report.released_bytes, steps + 1);
        if !report.stopped_early {
            break;
        }
    }
    assert_eq!((released, heap.snapshot().heap_free), (idle, 0), "{steps} steps");
}

/// Each step goes on where the last one stopped, whatever the program does in between, and all of them together give back
/// what one release would.
#[test]
fn a_release_in_steps_sees_everything_once() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    let size = 1024;
    let small: Vec<_> = (0..4000).map(|_| allocate(&heap, cache, layout(size), false)).collect();
    let large: Vec<_> = (0..60).map(|_| allocate(&heap, cache, layout(100_000), false)).collect();
    for (_, block) in small.iter().enumerate().filter(|(at, _)| at % 16 != 0) {
        free(&heap, cache, *block, layout(size));
    }
    // Free runs one by one, and a long one at the end.
    for (_, block) in large.iter().enumerate().filter(|(at, _)| at % 2 == 0 || *at > 40) {
        free(&heap, cache, *block, layout(100_000));
    }
    empty_cache(&heap, cache);
    let idle = heap.snapshot().heap_free;
    let (mut released, mut steps, mut looked_at) = (0, 0, 0);
    loop {
        let options = ReleaseOptions::new().max_bytes(100_000).in_steps();
        let report = heap.release(if steps == 0 { options } else { options.spare_caches() });
        heap.verify(Some(cache)).unwrap();
        (released, steps) = (released + report.released_bytes, steps + 1);
        looked_at += report.looked_at_bytes;
        if !report.stopped_early {
            break;
        }
        assert!(report.released_bytes >= 100_000, "{report}");
        // A run comes and goes where the walk is.
        let block = allocate(&heap, cache, layout(200_000), false);
        free(&heap, cache, block, layout(200_000));
    }
    assert!(steps > 20, "{steps} steps");
    // The run that came and went may be resident again.
    let left = heap.snapshot().heap_free;
    assert!(left <= 260_000, "{left} bytes of {idle} stay");
    assert!(released >= idle - left && released <= idle + steps * 260_000, "{released} of {idle}");
    assert!(looked_at <= heap.usage().runs, "no run was seen twice");
    assert_eq!(heap.snapshot().releases_total, 1);
    assert_eq!(heap.release(ReleaseOptions::new()).released_bytes, left);
}
