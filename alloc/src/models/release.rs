//! Releases beside refills, frees and changes of class.

use super::spans::{let_go, owner_beside_a_listed_span};
use super::{allocate, check, class, flush, flush_magazine, new_cache, own, settle, unit_of};
use crate::base::units::{PAGE, UnitIndex};
use crate::cache::magazine::ThreadCache;
use crate::heap::HEAP;
use crate::inspect::report::ReleaseOptions;
use crate::space::unit_table::RunKind;

/// Releases what is free in a span.
fn release_in(span: UnitIndex) {
    HEAP.releases.run_in_units(&HEAP.caches, span.0..span.0 + 1);
}

/// A cache that owns a span of 4 KiB slots of which only the last `free` are free.
fn owner_with_free_pages(free: usize) -> (&'static ThreadCache, Vec<usize>) {
    let owner = new_cache();
    let slots: Vec<_> = (0..16).map(|_| allocate(owner, class(4096))).collect();
    flush(class(4096), &slots[16 - free..]);
    (owner, slots)
}

#[test]
fn a_release_in_the_span_of_a_refill() {
    check(5, || {
        let (owner, slots) = owner_with_free_pages(2);
        let span = unit_of(slots[0]);
        let releaser = loom::thread::spawn(move || release_in(span));
        allocate(owner, class(4096));
        releaser.join().unwrap();
        assert!(HEAP.counters().pages.released_total.get() <= 2 * PAGE as u64);
        settle(&[owner]);
    });
}

#[test]
fn a_release_in_the_span_of_a_refill_and_a_foreign_free() {
    check(2, || {
        let (owner, slots) = owner_with_free_pages(1);
        let span = unit_of(slots[0]);
        let given = slots[0];
        let releaser = loom::thread::spawn(move || release_in(span));
        let other = loom::thread::spawn(move || flush(class(4096), &[given]));
        allocate(owner, class(4096));
        other.join().unwrap();
        releaser.join().unwrap();
        settle(&[owner]);
    });
}

/// The release has taken the last free slots just when the owner lets go: it must list the span.
#[test]
fn a_release_while_the_owner_lets_go() {
    check(4, || {
        let (owner, slots) = owner_with_free_pages(2);
        let span = unit_of(slots[0]);
        let releaser = loom::thread::spawn(move || release_in(span));
        let_go(owner, 4096);
        releaser.join().unwrap();
        settle(&[owner]);
    });
}

/// The release gets one of two slots of a page, another thread the other one, and lets go of a span that has no room
/// just then.
#[test]
fn a_release_that_gets_half_a_page() {
    check(3, || {
        let owner = new_cache();
        let slots: Vec<_> = (0..32).map(|_| allocate(owner, class(2048))).collect();
        let_go(owner, 2048);
        flush(class(2048), &slots[..2]);
        let span = unit_of(slots[0]);
        let releaser = loom::thread::spawn(move || release_in(span));
        own(class(2048), HEAP.caches.take_one(class(2048)).unwrap());
        releaser.join().unwrap();
        settle(&[owner]);
    });
}

/// The release measures a span of 2 KiB slots, of which one page is free, and comes to take one of 8 KiB slots: what
/// it takes for a page of two slots is part of one that is in use.
#[test]
fn a_release_in_a_span_whose_class_changes() {
    check(3, || {
        let (owner, last) = owner_beside_a_listed_span(2048);
        let span = unit_of(last);
        let live = [last, allocate(owner, class(2048))];
        let page = [allocate(owner, class(2048)), allocate(owner, class(2048))];
        flush_magazine(owner, class(2048));
        // The other pages are gone already, so that the release has two to look at.
        release_in(span);
        flush(class(2048), &page);
        let_go(owner, 2048);
        let releaser = loom::thread::spawn(move || release_in(span));
        flush(class(2048), &live);
        let slot = own(class(8192), HEAP.caches.take_one(class(8192)).unwrap());
        assert!(unit_of(slot) >= span);
        releaser.join().unwrap();
        settle(&[owner]);
    });
}

#[test]
fn two_releases_in_one_span_beside_a_refill() {
    check(2, || {
        let (owner, slots) = owner_with_free_pages(1);
        let span = unit_of(slots[0]);
        let releasers = [(); 2].map(|()| loom::thread::spawn(move || release_in(span)));
        allocate(owner, class(4096));
        releasers.into_iter().for_each(|releaser| releaser.join().unwrap());
        settle(&[owner]);
    });
}

/// A whole release, caches, spans, free runs and report, beside a thread that frees and allocates.
#[test]
fn a_whole_release_beside_a_thread() {
    check(2, || {
        let (owner, last) = owner_beside_a_listed_span(8192);
        let releaser = loom::thread::spawn(|| HEAP.release(ReleaseOptions::new()));
        flush(class(8192), &[last]);
        allocate(owner, class(8192));
        let report = releaser.join().unwrap();
        assert_eq!(report.released_bytes, HEAP.counters().pages.released_total.get());
        flush_magazine(owner, class(8192));
        settle(&[owner]);
        assert_eq!(HEAP.segments().meta(UnitIndex(0)).kind(), RunKind::Small);
    });
}
