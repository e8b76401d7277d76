//! Misuse ends with the right line: what slow paths find by themselves, and what the checks of `hardened` find.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::base::units::{PAGE, UNIT};
use crate::os::fake::Fake;
use crate::space::span::Access;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

/// The line with which `work` ends; empty if it does not end the process.
fn line(work: impl FnOnce()) -> String {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(()) => String::new(),
        Err(panic) => *panic.downcast::<String>().expect("a line of text"),
    }
}

/// What the lines are compared with.
fn expected(act: &str, addr: usize, rest: &str) -> String {
    format!("ebbtide: {act} of {addr:#x}{rest}\n")
}

#[test]
fn a_flush_finds_slots_that_are_free_already() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    let blocks: Vec<_> = (0..200).map(|_| allocate(&heap, cache, layout(64), false)).collect();
    let class = SizeClass::of(64, 8).unwrap();
    let (first, last) = (blocks[0], blocks[199]);
    let rest = " (class 64 B, span owned)";
    let in_first_word = line(|| heap.sound(heap.spans().flush(class, &[first, first, last], Access::Shared)));
    assert_eq!(in_first_word, expected("double free", first as usize, rest));
    let inside =
        line(|| heap.sound(heap.spans().flush(class, &[first, first.wrapping_add(8), last], Access::Shared)));
    assert_eq!(inside, expected("double free", first as usize, rest), "two addresses in one slot");
    let in_last_word = line(|| heap.sound(heap.spans().flush(class, &[first, last, last], Access::Shared)));
    assert_eq!(in_last_word, expected("double free", last as usize, rest));
    // The flush above gave the first back before it came to the last.
    assert_eq!(
        line(|| heap.sound(heap.spans().flush(class, &[first], Access::Shared))),
        expected("double free", first as usize, rest)
    );
}

#[test]
#[cfg(not(feature = "hardened"))]
fn a_release_that_finds_a_double_free_gives_nothing_more_back() {
    use crate::base::sync::{AtomicPtr, Ordering};
    use crate::os::fake::Call;
    use crate::{ReleaseOptions, tests::empty_cache};

    let heap = heap();
    let [cache, mine] = [0; 2].map(|_| take_cache(&heap).unwrap());
    // Holes that a release would give back.
    let small: Vec<_> = (0..4000).map(|_| allocate(&heap, mine, layout(2048), false)).collect();
    small.iter().skip(1).for_each(|block| free(&heap, mine, *block, layout(2048)));
    empty_cache(&heap, mine);
    let blocks: Vec<_> = (0..4).map(|_| allocate(&heap, cache, layout(1024), false)).collect();
    [0, 1, 1, 2].iter().for_each(|at| free(&heap, cache, blocks[*at], layout(1024)));
    let mut pointer = AtomicPtr::new(core::ptr::from_ref(cache).cast_mut());
    cache.pointer.store(&raw mut pointer, Ordering::Relaxed);
    let found = line(|| {
        heap.release(ReleaseOptions::new());
    });
    assert_eq!(found, expected("double free", blocks[1] as usize, " (class 1024 B, span owned)"));
    assert_eq!(heap.os().calls(Call::Release).len() + heap.os().calls(Call::ReleaseMany).len(), 0);
    assert!(heap.releases.lock().try_lock(heap.os()).is_some(), "the release has ended");
}

#[test]
fn a_flush_finds_addresses_of_others() {
    let heap = heap();
    let other = Box::new([0u128; 4]);
    let class = SizeClass::of(16, 8).unwrap();
    let addr = (&raw const *other) as usize;
    let found = line(|| heap.sound(heap.spans().flush(class, &[addr as *mut u8], Access::Shared)));
    assert_eq!(found, expected("free", addr, ", which was not allocated here (class 16 B, no span)"));
    let found = line(|| heap.sound(heap.spans().flush(class, &[core::ptr::null_mut()], Access::Shared)));
    assert_eq!(found, expected("free", 0, ", which was not allocated here (class 16 B, no span)"));
}

#[test]
fn large_blocks_are_freed_once_and_at_their_start() {
    let heap = heap();
    let cache = take_cache(&heap).unwrap();
    let slot = allocate(&heap, cache, layout(64), false);
    let block = heap.pages().allocate_large(3 * UNIT - PAGE, 8, false);
    let fence = heap.pages().allocate_large(UNIT, 8, false);
    let region = heap.pages().new_arena(UNIT).unwrap();
    let run = format!("(large block, run of {} B)", 3 * UNIT - PAGE);
    let no_start = ", which is not the start of a block";
    for (addr, rest) in [
        (16, ", which was not allocated here (large block, no span)".to_owned()),
        (block as usize + 8, format!("{no_start} {run}")),
        (block as usize + UNIT, format!("{no_start} {run}")),
        (region.base.as_ptr() as usize, format!("{no_start} (large block, a region)")),
        (slot as usize + 8, format!("{no_start} (large block, span owned of class 64 B)")),
        (
            slot as usize,
            " with another layout than it was allocated with (large block, span owned of class 64 B)"
                .to_owned(),
        ),
        (fence as usize + 8 * UNIT, ", which was not allocated here (large block, no span)".to_owned()),
        (fence as usize + SPACE / 2, ", which was not allocated here (large block, no span)".to_owned()),
    ] {
        assert_eq!(
            line(|| heap.sound(heap.pages().free_large(addr as *mut u8))),
            expected("free", addr, &rest)
        );
    }
    heap.sound(heap.pages().free_large(block));
    let rest = " (large block, run free)";
    assert_eq!(
        line(|| heap.sound(heap.pages().free_large(block))),
        expected("double free", block as usize, rest)
    );
    let found = line(|| _ = heap.sound(heap.pages().resize_large(block, UNIT, 8)));
    assert_eq!(found, expected("realloc", block as usize, ", which is free (large block, run free)"));
}

#[test]
fn a_block_that_waits_for_a_release_is_freed_once() {
    let heap = heap();
    let block = heap.pages().allocate_large(UNIT + PAGE, 8, false);
    let run = heap.segments().unit_of(block as usize).unwrap();
    heap.segments().meta(run).pinned.store(crate::pages::large::PINNED, Ordering::Relaxed);
    heap.sound(heap.pages().free_large(block));
    let rest = format!(" (large block, run of {} B)", UNIT + PAGE);
    assert_eq!(
        line(|| heap.sound(heap.pages().free_large(block))),
        expected("double free", block as usize, &rest)
    );
}

#[test]
fn units_are_committed_by_zone() {
    // Room for all three zones in one segment.
    let heap = Heap::new(Fake::new(512 << 20), 512 << 20);
    let region = heap.pages().new_arena(UNIT).unwrap();
    let blocks =
        [heap.pages().allocate_large(UNIT, 8, false), heap.pages().allocate_large(4 << 20, 8, false)];
    let more = heap.pages().allocate_large(200 * UNIT + 8, 8, false);
    let known = |addr: usize| heap.segments().is_committed(heap.segments().unit_of(addr).unwrap());
    for addr in [region.base.as_ptr(), blocks[0], blocks[1], more, more.wrapping_add(200 * UNIT)] {
        assert!(known(addr as usize));
        assert!(!known(addr as usize + (64 << 20)), "64 MiB behind it nothing is");
    }
    assert!(!known(blocks[1] as usize - UNIT));
}

#[cfg(feature = "hardened")]
mod hardened {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn every_wrong_free_of_a_slot_is_found() {
        let heap = heap();
        let cache = take_cache(&heap).unwrap();
        let slot = allocate(&heap, cache, layout(64), false) as usize;
        let large = heap.pages().allocate_large(2 * UNIT, 8, false) as usize;
        let region = heap.pages().new_arena(UNIT).unwrap();
        let (foreign, no_start) = (", which was not allocated here", ", which is not the start of a block");
        let other = " with another layout than it was allocated with";
        let wide = "(class 2560 B, span owned of class 64 B)";
        for (addr, size, rest) in [
            (16, 64, format!("{foreign} (class 64 B, no span)")),
            (slot + 8, 64, format!("{no_start} (class 64 B, span owned)")),
            (slot + 16, 16, format!("{no_start} (class 16 B, span owned of class 64 B)")),
            (slot, 65, format!("{other} (class 80 B, span owned of class 64 B)")),
            (slot, 2500, format!("{other} {wide}")),
            (large, 64, format!("{other} (class 64 B, run of {} B)", 2 * UNIT)),
            (large + 64, 64, format!("{no_start} (class 64 B, run of {} B)", 2 * UNIT)),
            (region.base.as_ptr() as usize, 64, format!("{no_start} (class 64 B, a region)")),
            (large + SPACE / 2, 64, format!("{foreign} (class 64 B, no span)")),
            (large, 2 * UNIT + 1, format!("{other} (large block, run of {} B)", 2 * UNIT)),
        ] {
            let found = line(|| heap.sound(heap.spans().take_back(addr as *mut u8, layout(size))));
            assert_eq!(found, expected("free", addr, &rest));
            let found = line(|| heap.sound(heap.spans().check_live(addr as *mut u8, layout(size))));
            assert_eq!(found, expected("realloc", addr, &rest));
        }
        heap.verify(Some(cache)).unwrap();
    }

    #[test]
    fn a_slot_is_freed_once_wherever_it_is() {
        let heap = heap();
        let (cache, other) = (take_cache(&heap).unwrap(), take_cache(&heap).unwrap());
        let twice = |block: *mut u8, state: &str| {
            let rest = format!("(class 64 B, {state})");
            let found = line(|| heap.sound(heap.spans().take_back(block, layout(64))));
            assert_eq!(found, expected("double free", block as usize, &format!(" {rest}")));
            let found = line(|| heap.sound(heap.spans().check_live(block, layout(64))));
            assert_eq!(found, expected("realloc", block as usize, &format!(", which is free {rest}")));
        };
        let blocks: Vec<_> = (0..1024).map(|_| allocate(&heap, cache, layout(64), false)).collect();
        free(&heap, cache, blocks[5], layout(64));
        twice(blocks[5], "span owned");
        free(&heap, other, blocks[6], layout(64));
        twice(blocks[6], "span owned");
        empty_cache(&heap, cache);
        twice(blocks[5], "span listed");
        blocks.iter().filter(|block| ![blocks[5], blocks[6]].contains(block)).for_each(|block| {
            free(&heap, cache, *block, layout(64));
        });
        empty_cache(&heap, cache);
        empty_cache(&heap, other);
        heap.release(crate::ReleaseOptions::new());
        twice(blocks[7], "run free");
        heap.verify(Some(cache)).unwrap();
    }

    #[test]
    fn of_two_frees_at_once_one_is_found() {
        let heap = heap();
        let cache = take_cache(&heap).unwrap();
        let block = allocate(&heap, cache, layout(64), false) as usize;
        let class = SizeClass::of(64, 8).unwrap();
        let barrier = Barrier::new(2);
        let free = || {
            barrier.wait();
            let found = line(|| heap.sound(heap.spans().take_back(block as *mut u8, layout(64))));
            barrier.wait();
            !found.is_empty()
        };
        for _ in 0..300 {
            let found = std::thread::scope(|scope| {
                let other = scope.spawn(free);
                [free(), other.join().unwrap()]
            });
            assert_eq!(found.iter().filter(|found| **found).count(), 1);
            heap.spans().hand_out(class, block as *mut u8);
        }
    }

    #[test]
    fn the_walk_finds_a_slot_that_is_both_free_and_live() {
        let heap = heap();
        let cache = take_cache(&heap).unwrap();
        let block = allocate(&heap, cache, layout(64), false);
        let class = SizeClass::of(64, 8).unwrap();
        heap.verify(Some(cache)).unwrap();
        heap.sound(heap.spans().flush(class, &[block], Access::Shared));
        assert_eq!(heap.verify(Some(cache)).unwrap_err().fault, crate::Fault::Bitmap);
    }
}
