//! Pages that move: of regions and of large blocks, and what becomes of them where the OS refuses.

use core::ops::Range;
use core::ptr::NonNull;

use super::{check_identities, heap};
use crate::base::units::{HUGE, PAGE, UNIT};
use crate::heap::Heap;
use crate::inspect::report::ReleaseOptions;
use crate::os::fake::{Call, Fake};

/// Pages that a region hands on arrive, and whatever refuses that leaves both regions as they were.
#[test]
fn pages_are_handed_on_or_stay() {
    let [einval, enomem] = [libc::EINVAL, libc::ENOMEM];
    let heap = heap();
    let [from, to] = [20 * UNIT, 20 * UNIT].map(|bytes| {
        let region = heap.pages().new_arena(bytes).expect("memory");
        let base = region.base;
        // SAFETY: the region has so many bytes.
        unsafe { base.write_bytes(9, bytes) };
        base
    });
    let pages = 32..64;
    let (bytes, at) = (32 * PAGE, 48 * PAGE);
    // SAFETY: the place lies in the region, in which nothing else is.
    let place = unsafe { to.add(at) };
    // SAFETY: both regions live, and nobody needs what the pages hold.
    let hand_on = || unsafe { heap.pages().hand_pages_on(from, pages.clone(), place) };
    // SAFETY: inside the regions, which nobody changes meanwhile.
    let holds = |base: NonNull<u8>, pages: Range<usize>, byte: u8| unsafe {
        (pages.start * PAGE..pages.end * PAGE).step_by(97).all(|at| base.add(at).read() == byte)
    };
    // SAFETY: as above.
    unsafe { from.add(32 * PAGE).write_bytes(7, bytes) };
    let before = heap.snapshot();
    assert!(!hand_on(), "there are pages already");
    heap.os().absent_pages(place.as_ptr() as usize, bytes - PAGE);
    assert!(!hand_on(), "there is one page already");
    heap.os().absent_pages(place.as_ptr() as usize, bytes);
    for (call, errno) in [(Call::Residency, einval), (Call::Move, einval), (Call::Move, enomem)] {
        heap.os().refuse(call, errno, 0, false);
        assert!(!hand_on(), "{call:?} was refused");
    }
    assert_eq!((heap.os().refusals(), heap.os().holes()), (3, 0));
    // What the place held is not needed, and it is mapped.
    assert!(holds(to, 48..80, 0) && holds(to, 0..48, 9) && holds(to, 80..320, 9));
    assert!(holds(from, 32..64, 7) && holds(from, 64..320, 9));
    let after = heap.snapshot();
    assert_eq!((after.heap_free, after.heap_released), (before.heap_free, before.heap_released));
    heap.verify(None).unwrap();

    assert!(hand_on());
    assert!(holds(to, 48..80, 7) && holds(to, 0..48, 9) && holds(to, 80..320, 9));
    assert!(holds(from, 0..32, 9) && holds(from, 64..320, 9));
    let after = heap.snapshot();
    assert_eq!(after.heap_free, before.heap_free, "what they leave is not resident");
    assert_eq!(after.heap_released, before.heap_released + bytes as u64);
    heap.verify(None).unwrap();
    // A release finds nothing there, and a region in that place reads as zero where it says so.
    heap.pages().free_arena(from);
    let next = heap.pages().new_arena(20 * UNIT).expect("memory");
    assert_eq!(next.base, from);
    // SAFETY: the region is this test's.
    unsafe { heap.pages().zero_arena(&next, &(32 * PAGE..64 * PAGE)) };
    assert!(holds(from, 32..64, 0));
    heap.pages().free_arena(from);
    heap.pages().free_arena(to);
    heap.release(ReleaseOptions::new());
    assert_eq!(heap.snapshot().heap_free, 0);
    heap.verify(None).unwrap();
}

/// What a region cannot hand on among pages that it does goes to the OS.
#[test]
fn pages_are_handed_on_mapping_by_mapping() {
    let heap = heap();
    let [from, to] = [20 * UNIT, 20 * UNIT].map(|bytes| {
        let base = heap.pages().new_arena(bytes).expect("memory").base;
        // SAFETY: the region has so many bytes.
        unsafe { base.write_bytes(9, bytes) };
        base
    });
    heap.os().absent_pages(to.as_ptr() as usize, 20 * UNIT);
    // The second and third unit are not each in one mapping, the rest is.
    heap.os().split_mapping(from.as_ptr() as usize + UNIT + PAGE);
    heap.os().split_mapping(from.as_ptr() as usize + 2 * UNIT + PAGE);
    // SAFETY: both regions live, and nobody needs what the pages hold.
    assert!(unsafe { heap.pages().hand_pages_on(from, 0..6 * 16, to) });
    assert_eq!(heap.os().calls(Call::Move).iter().map(|call| call.1).sum::<usize>(), 4 * UNIT);
    // SAFETY: inside the regions, which nobody changes meanwhile.
    unsafe {
        assert!((0..UNIT).chain(3 * UNIT..6 * UNIT).all(|at| to.add(at).read() == 9), "moved");
        assert!((0..6 * UNIT).all(|at| from.add(at).read() == 0), "all of it left");
    }
    assert_eq!(heap.snapshot().heap_released, heap.snapshot().heap_idle);
    heap.verify(None).unwrap();
    heap.pages().free_arena(from);
    heap.pages().free_arena(to);
    heap.release(ReleaseOptions::new());
    assert_eq!((heap.snapshot().heap_inuse, heap.snapshot().heap_free), (0, 0));
}

/// A block of huge pages, and what fills it.
fn huge_block(heap: &Heap<Fake>) -> (*mut u8, usize) {
    let bytes = 6 * HUGE;
    let block = heap.pages().allocate_large(bytes, 8, false);
    // SAFETY: the block has so many bytes.
    (0..bytes).step_by(PAGE).for_each(|at| unsafe { block.add(at).write((at / PAGE % 251) as u8 | 1) });
    (block, bytes)
}

fn is_whole(block: *mut u8, bytes: usize) -> bool {
    // SAFETY: the block has so many bytes.
    (0..bytes).step_by(PAGE).all(|at| unsafe { block.add(at).read() } == (at / PAGE % 251) as u8 | 1)
}

/// A heap large enough to have a zone of huge pages.
fn divided_heap() -> Heap<Fake> {
    Heap::new(Fake::new(usize::MAX), 5 << 30)
}

#[test]
fn blocks_move_mapping_by_mapping_and_what_does_not_move_is_copied() {
    let heap = divided_heap();
    let (block, bytes) = huge_block(&heap);
    heap.os().split_mapping(block as usize + 2 * HUGE);
    heap.os().split_mapping(block as usize + 4 * HUGE + PAGE);
    let moved = heap.sound(heap.pages().move_large(block, bytes, 2 * bytes, 8));
    assert!(moved != block && is_whole(moved, bytes));
    let sizes: Vec<_> = heap.os().calls(Call::Move).iter().map(|call| call.1 / HUGE).collect();
    assert_eq!(sizes, [2, 2, 1], "the fifth is in two mappings");
    heap.verify(None).unwrap();
    check_identities(&heap.snapshot());
    let again = heap.sound(heap.pages().move_large(moved, bytes, 4 * bytes, 8));
    assert!(is_whole(again, bytes));
    heap.sound(heap.pages().free_large(again));
    heap.release(ReleaseOptions::new());
    assert_eq!((heap.snapshot().heap_inuse, heap.snapshot().heap_free), (0, 0));
    assert_eq!((heap.usage().handed, heap.usage().resident, heap.usage().runs), (0, 0, 0));
    heap.verify(None).unwrap();
}

#[test]
fn a_block_whose_move_fails_is_copied() {
    for errno in [libc::ENOMEM, libc::EFAULT, libc::EINVAL] {
        let heap = divided_heap();
        let (block, bytes) = huge_block(&heap);
        heap.os().split_mapping(block as usize + 2 * HUGE);
        heap.os().refuse(Call::Move, errno, 1, true);
        let moved = heap.sound(heap.pages().move_large(block, bytes, 2 * bytes, 8));
        assert!(is_whole(moved, bytes) && heap.os().refusals() == 1 && heap.os().holes() == 0);
        heap.verify(None).unwrap();
        heap.sound(heap.pages().free_large(moved));
        heap.release(ReleaseOptions::new());
        assert_eq!((heap.usage().handed, heap.usage().resident, heap.usage().runs), (0, 0, 0));
    }
}

/// A limit is in the way of filling the hole, for a moment.
#[test]
fn a_hole_that_cannot_be_filled_at_once_is_filled_a_little_later() {
    let heap = divided_heap();
    let (block, bytes) = huge_block(&heap);
    heap.os().lose_target_for(0, libc::ENOMEM, 3);
    let moved = heap.sound(heap.pages().move_large(block, bytes, 2 * bytes, 8));
    assert!(is_whole(moved, bytes) && heap.os().holes() == 0);
    assert_eq!(heap.os().calls(Call::Refill).len(), 4);
    heap.verify(None).unwrap();
    heap.sound(heap.pages().free_large(moved));
}

/// The place of a block is lost on the way there: the block goes elsewhere, and nobody ever touches that place.
#[test]
fn a_block_whose_new_place_is_lost_goes_to_another() {
    for (passing, refills) in [(0, libc::EEXIST), (1, libc::EEXIST), (1, libc::ENOMEM)] {
        let heap = divided_heap();
        let (block, bytes) = huge_block(&heap);
        heap.os().split_mapping(block as usize + 2 * HUGE);
        heap.os().lose_target(passing, refills);
        let moved = heap.sound(heap.pages().move_large(block, bytes, 2 * bytes, 8));
        assert!(is_whole(moved, bytes));
        assert_eq!(heap.os().holes(), 1);
        heap.verify(None).unwrap();
        check_identities(&heap.snapshot());
        let next = heap.pages().allocate_large(2 * bytes, 8, true);
        heap.sound(heap.pages().free_large(next));
        heap.sound(heap.pages().free_large(moved));
        let report = heap.release(ReleaseOptions::new());
        assert_eq!(report.blocked_bytes(), 0);
        heap.verify(None).unwrap();
        let stats = heap.snapshot();
        check_identities(&stats);
        assert_eq!((stats.heap_inuse, stats.heap_free), (0, 0));
        assert_eq!((heap.usage().handed, heap.usage().resident, heap.usage().runs), (0, 0, 0));
        assert_eq!(stats.mallocs_total, stats.frees_total);
    }
}

/// Without memory for another place the block stays where it is, whole.
#[test]
fn a_block_whose_new_place_is_lost_stays_without_memory_for_another() {
    let heap = divided_heap();
    let (block, bytes) = huge_block(&heap);
    heap.os().lose_target(0, libc::EEXIST);
    heap.os().deny_after_loss();
    assert!(heap.sound(heap.pages().move_large(block, bytes, 2 * bytes, 8)).is_null());
    assert!(is_whole(block, bytes));
    heap.verify(None).unwrap();
    heap.os().relent();
    heap.sound(heap.pages().free_large(block));
    heap.release(ReleaseOptions::new());
    assert_eq!((heap.usage().handed, heap.usage().resident, heap.usage().runs), (0, 0, 0));
}
