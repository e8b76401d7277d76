//! Refills beside flushes of other threads into the same span.

use super::{allocate, check, class, flush, new_cache, settle};
use crate::heap::HEAP;

/// An owner whose span is all handed out, and its slots.
fn owner_of_a_span() -> (&'static crate::cache::magazine::ThreadCache, Vec<usize>) {
    let owner = new_cache();
    let slots = (0..8).map(|_| allocate(owner, class(8192))).collect();
    (owner, slots)
}

#[test]
fn a_refill_beside_a_foreign_flush() {
    check(5, || {
        let (owner, slots) = owner_of_a_span();
        let foreign = slots[..2].to_vec();
        let other = loom::thread::spawn(move || flush(class(8192), &foreign));
        allocate(owner, class(8192));
        other.join().unwrap();
        settle(&[owner]);
    });
}

#[test]
fn a_refill_beside_two_foreign_flushes() {
    check(3, || {
        let (owner, slots) = owner_of_a_span();
        let others = [slots[..2].to_vec(), slots[2..].to_vec()];
        let others = others.map(|slots| loom::thread::spawn(move || flush(class(8192), &slots)));
        allocate(owner, class(8192));
        others.into_iter().for_each(|other| other.join().unwrap());
        settle(&[owner]);
    });
}

#[test]
fn two_refills_of_one_class() {
    check(5, || {
        let (owner, slots) = owner_of_a_span();
        let taker = new_cache();
        flush(class(8192), &slots[..2]);
        let other = loom::thread::spawn(move || {
            allocate(taker, class(8192));
        });
        let current = owner.current(class(8192));
        owner.of_sole_thread().set_current(class(8192), crate::base::units::UnitIndex::NIL);
        HEAP.spans().let_go(class(8192), current);
        allocate(owner, class(8192));
        other.join().unwrap();
        settle(&[owner, taker]);
    });
}
