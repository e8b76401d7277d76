//! Whose idle pages are: what regions retire and leave.

use core::ptr::NonNull;

use crate::base::units::{PAGE, UNIT};
use crate::heap::Heap;
use crate::inspect::report::ReleaseOptions;
use crate::os::fake::Fake;
use crate::pages::arena::Retire;

/// Bytes kept by regions that live and by those that are gone.
fn kept(heap: &Heap<Fake>, owner: u32) -> (u64, u64) {
    let mut sums = (0, 0);
    heap.pages().each_kept(&mut |kept| {
        assert!(kept.owner != 0 && kept.bytes > 0);
        let sum = if kept.lives { &mut sums.0 } else { &mut sums.1 };
        *sum += if kept.owner == owner { kept.bytes } else { 0 };
    });
    sums
}

fn region(heap: &Heap<Fake>, units: usize, owner: u32) -> NonNull<u8> {
    let base = heap.pages().new_arena(units * UNIT).expect("memory").base;
    heap.segments().meta(heap.segments().unit_of(base.as_ptr() as usize).expect("a unit")).set_owner(owner);
    base
}

#[test]
#[allow(unsafe_code, reason = "retires pages of a region")]
fn what_regions_retire_and_leave_is_theirs_until_it_is_used_or_released() {
    let heap = Heap::new(Fake::new(1 << 28), 1 << 26);
    let [first, second, nobody] = [(5, 1), (7, 2), (3, 0)].map(|(units, owner)| region(&heap, units, owner));
    assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(0, 0); 2]);
    // SAFETY: the pages lie in the region, and nobody touches them.
    unsafe { heap.pages().retire_pages(first, 3..20, Retire::Keep) };
    assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(17 * PAGE as u64, 0), (0, 0)]);
    heap.pages().free_arena(second);
    heap.pages().free_arena(nobody);
    assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(17 * PAGE as u64, 0), (0, 7 * UNIT as u64)]);
    heap.pages().free_arena(first);
    assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(0, 5 * UNIT as u64), (0, 7 * UNIT as u64)]);
    // All lie in one free run now, from whose start this takes six.
    let block = heap.pages().allocate_large(6 * UNIT, 1, false);
    assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(0, 0), (0, 6 * UNIT as u64)]);
    heap.sound(heap.pages().free_large(block));
    assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(0, 0), (0, 6 * UNIT as u64)]);
    heap.release(ReleaseOptions::default());
    assert_eq!([kept(&heap, 1), kept(&heap, 2)], [(0, 0); 2]);
    assert_eq!(heap.verify(None), Ok(()));
}
