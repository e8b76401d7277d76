//! Regions that retire pages, hand pages on, and end, beside a release.

#![allow(unsafe_code, reason = "retires pages of regions and hands them on")]

use core::ptr::NonNull;

use super::{World, check, settle};
use crate::base::units::{PAGE, UNIT, UnitIndex};
use crate::heap::HEAP;
use crate::pages::arena::Retire;

/// A region of one unit, whose pages the model does not own yet.
fn region() -> NonNull<u8> {
    let region = HEAP.pages().new_arena(UNIT).unwrap();
    let base = region.base;
    // Models end regions by `free_arena`, so that they say when.
    let world = World::current();
    if world.base.get() == 0 {
        world.base.set(HEAP.segments().address(UnitIndex(0)).as_ptr() as usize);
    }
    base
}

/// The owner begins to use pages of its region.
fn own_pages(base: NonNull<u8>, pages: core::ops::Range<usize>) {
    World::current().use_chunks(base.as_ptr() as usize + pages.start * PAGE, pages.len() * PAGE, false, true);
}

/// The owner has used pages of its region for the last time.
fn disown_pages(base: NonNull<u8>, pages: core::ops::Range<usize>) {
    World::current().use_chunks(base.as_ptr() as usize + pages.start * PAGE, pages.len() * PAGE, true, false);
}

fn retire(base: NonNull<u8>, pages: core::ops::Range<usize>) {
    disown_pages(base, pages.clone());
    // SAFETY: the model's region lives, and its owner has just given these pages up.
    unsafe { HEAP.pages().retire_pages(base, pages, Retire::Keep) };
}

fn release() {
    HEAP.releases.run_in_units(&HEAP.caches, 0..2);
}

/// Ends the model's regions, whose pages nobody uses any more, and checks the heap.
fn settle_without(regions: &[NonNull<u8>]) {
    regions.iter().for_each(|base| HEAP.pages().free_arena(*base));
    settle(&[]);
}

#[test]
fn a_region_retires_pages_beside_a_release() {
    check(4, || {
        let base = region();
        own_pages(base, 0..4);
        let releaser = loom::thread::spawn(release);
        retire(base, 0..1);
        retire(base, 2..3);
        releaser.join().unwrap();
        assert!(HEAP.counters().pages.released_total.get() <= 2 * PAGE as u64);
        settle_without(&[base]);
    });
}

/// The pages move while a release walks over both regions: it may not take them at their new place, where they are in use
/// at once.
#[test]
fn a_region_hands_pages_on_beside_a_release() {
    check(4, || {
        let [from, to] = [region(), region()];
        HEAP.os().absent_pages(to.as_ptr() as usize, UNIT);
        own_pages(from, 0..4);
        retire(from, 0..1);
        let releaser = loom::thread::spawn(release);
        disown_pages(from, 1..3);
        // SAFETY: both regions live, the owner has given the source up and has not used the target yet.
        assert!(unsafe { HEAP.pages().hand_pages_on(from, 1..3, to) });
        own_pages(to, 0..2);
        releaser.join().unwrap();
        assert!(
            HEAP.counters().pages.released_total.get() <= PAGE as u64,
            "pages that moved do not leave as well"
        );
        settle_without(&[from, to]);
    });
}

/// The region that handed its pages on ends while a release has its retired pages in hand, and its units are used again.
#[test]
fn a_region_ends_beside_a_release() {
    check(3, || {
        let [from, to] = [region(), region()];
        HEAP.os().absent_pages(to.as_ptr() as usize, UNIT);
        own_pages(from, 0..2);
        retire(from, 0..1);
        let releaser = loom::thread::spawn(release);
        disown_pages(from, 1..2);
        // SAFETY: as above.
        assert!(unsafe { HEAP.pages().hand_pages_on(from, 1..2, to) });
        own_pages(to, 0..1);
        HEAP.pages().free_arena(from);
        let next = region();
        own_pages(next, 0..16);
        releaser.join().unwrap();
        settle_without(&[to, next]);
    });
}
