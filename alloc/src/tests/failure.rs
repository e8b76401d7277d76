//! The OS refuses: null or a report, never a panic, and nothing is lost.

use core::alloc::Layout;

use super::{SPACE, allocate, check_identities, free, heap, put_cache, take_cache};
use crate::heap::Heap;
use crate::os::fake::{Call, Fake};
use crate::report::ReleaseOptions;
use crate::units::UNIT;

fn layouts() -> Vec<Layout> {
    let sizes = [16, 100, 1000, 9000, 33_000, 200_000, 3 << 20, 1 << 21];
    sizes.iter().cycle().take(200).map(|size| Layout::from_size_align(*size, 8).unwrap()).collect()
}

/// Allocates, frees and releases; blocks that could not be had are skipped.
fn work(heap: &Heap<Fake>) {
    let Some(cache) = take_cache(heap) else { return };
    for round in 0..2 {
        let blocks: Vec<_> =
            layouts().into_iter().map(|layout| (allocate(heap, cache, layout, round == 1), layout)).collect();
        for (block, layout) in blocks.into_iter().filter(|(block, _)| !block.is_null()) {
            // SAFETY: the block has so many bytes.
            unsafe { block.write_bytes(0xa5, layout.size()) };
            free(heap, cache, block, layout);
        }
        heap.release(ReleaseOptions::new());
        heap.verify(Some(cache)).unwrap();
        check_identities(&heap.snapshot());
    }
    put_cache(heap, cache);
}

#[test]
fn every_call_may_fail_once_or_for_good() {
    for call in [Call::Reserve, Call::Commit, Call::Release, Call::Metadata] {
        for passing in 0..12 {
            for forever in [false, true] {
                let heap = heap();
                heap.os.refuse(call, libc::ENOMEM, passing, forever);
                work(&heap);
                heap.os.relent();
                work(&heap);
                let cache = take_cache(&heap).unwrap();
                let block = allocate(&heap, cache, Layout::from_size_align(1000, 8).unwrap(), false);
                assert!(!block.is_null(), "{call:?} after {passing}: the heap recovers");
                free(&heap, cache, block, Layout::from_size_align(1000, 8).unwrap());
                put_cache(&heap, cache);
                heap.release(ReleaseOptions::new());
                assert_eq!(heap.snapshot().heap_inuse, 0, "{call:?} after {passing}: nothing is lost");
            }
        }
    }
}

#[test]
fn exhaustion_is_null_and_ends_when_memory_is_freed() {
    let heap = Heap::new(Fake::new(8 << 20), SPACE);
    let cache = take_cache(&heap).unwrap();
    let layout = Layout::from_size_align(UNIT, 8).unwrap();
    let mut blocks = Vec::new();
    loop {
        let block = allocate(&heap, cache, layout, false);
        if block.is_null() {
            break;
        }
        blocks.push(block);
    }
    assert!(blocks.len() > 16, "{} units of 8 MiB", blocks.len());
    let small = Layout::from_size_align(64, 8).unwrap();
    assert!(allocate(&heap, cache, small, false).is_null());
    free(&heap, cache, blocks.pop().unwrap(), layout);
    assert!(!allocate(&heap, cache, small, false).is_null());
    blocks.into_iter().for_each(|block| free(&heap, cache, block, layout));
    heap.verify(Some(cache)).unwrap();
}

#[test]
fn memory_that_is_refused_costs_no_address_space() {
    let heap = heap();
    heap.os.refuse(Call::Commit, libc::ENOMEM, 0, true);
    for _ in 0..10 {
        assert!(heap.allocate_large(UNIT, 8, false).is_null());
    }
    assert_eq!(heap.os.calls(Call::Reserve).len(), 1);
}

#[test]
fn a_block_larger_than_any_zone_gets_a_segment_of_its_own() {
    let heap = Heap::new(Fake::new(usize::MAX), 5 << 30);
    let small = heap.allocate_large(UNIT, 8, false);
    let zones = heap.page_heap().zones().len();
    assert_eq!(zones, 3, "a large segment is divided");
    heap.os.refuse(Call::Commit, libc::ENOMEM, 0, true);
    // The memory is refused, but the address space is there: one zone that is large enough.
    assert!(heap.allocate_large(3 << 30, 8, false).is_null());
    assert_eq!(heap.page_heap().zones().len(), zones + 1);
    heap.free_large(small);
}

#[test]
fn odd_layouts_are_null() {
    let heap = heap();
    for (size, align) in [(isize::MAX as usize, 1), (usize::MAX / 2, 1), (1 << 62, 1 << 20), (8, 1 << 46)] {
        assert!(heap.allocate_large(size, align, false).is_null(), "{size} bytes at {align}");
    }
    let aligned = heap.allocate_large(8, 1 << 22, false);
    assert!(!aligned.is_null() && (aligned as usize).is_multiple_of(1 << 22));
    heap.free_large(aligned);
}
